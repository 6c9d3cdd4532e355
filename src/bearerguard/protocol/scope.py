"""Scopes: space-delimited, case-sensitive sets of scope-tokens (RFC 6749 §3.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

OFFLINE_ACCESS = "offline_access"
"""Asks for a refresh token (OpenID Connect Core §11): for an issuer, and never for an API."""

# scope-token = 1*( %x21 / %x23-5B / %x5D-7E )
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")


def is_scope_token(text: str) -> bool:
    """Whether `text` is one scope as RFC 6749 §3.3 spells it."""
    return _SCOPE_TOKEN.fullmatch(text) is not None


def parse(text: str) -> frozenset[str]:
    """Split a `scope` value; order and repetition carry no meaning."""
    return frozenset(filter(None, text.split(" ")))


@lru_cache(1024)
def remembered(text: str) -> tuple[str, frozenset[str]]:
    """Return one object for all equal texts, and their scopes.

    For a short `scope` value that an issuer signed: its tokens have few different ones. Not for
    values that anybody can send, since they are kept.
    """
    return text, parse(text)


def build(scopes: Iterable[str]) -> str:
    """Join scopes in the order given, each once."""
    return " ".join(dict.fromkeys(scopes))


def granted(claims: Mapping[str, Any]) -> frozenset[str]:
    """Read the scopes of a token from `scope`, else `scp`: a string or an array of strings.

    Raises ValueError when the claim is anything else.
    """
    value = claims.get("scope")
    if value is None:
        value = claims.get("scp")
    if isinstance(value, str):
        return parse(value)
    if value is None:
        return frozenset()
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return frozenset(filter(None, value))
    raise ValueError("scope is neither a string nor an array of strings")
