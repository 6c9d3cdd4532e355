"""SECURITY.md gives figures: they are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from bearerguard import Issuer
from bearerguard.guard import token_cache

ROOT = Path(__file__).resolve().parent.parent
TEXT = " ".join((ROOT / "SECURITY.md").read_text().split())


def _figure(pattern: str) -> int:
    found = re.search(pattern, TEXT)
    assert found is not None
    return int(found[1])


def test_how_many_credentials_are_kept_in_clear() -> None:
    assert _figure(r"The last (\d+) credentials at most") == token_cache._MAX_RECENT
    page = (ROOT / "docs" / "security.md").read_text()
    assert f"The last {token_cache._MAX_RECENT} credentials at most" in page
    cache = token_cache.TokenCache(10, lambda: 0.0)
    assert cache._max_recent == 10  # "cache_size= below that lowers the number too"


def test_how_long_a_withdrawn_key_is_accepted() -> None:
    issuer = Issuer("https://id.example.com", audience="api")
    assert _figure(r"`KeyPolicy.refresh`, (\d+) s") == issuer.key_policy.refresh
    assert "`KeyPolicy.max_age` old (a day by default)" in TEXT
    assert issuer.key_policy.max_age == 24 * 3600
