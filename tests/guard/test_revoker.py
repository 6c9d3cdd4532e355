"""What `guard.revoke(...)` means, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest

from bearerguard import ConfigurationError, Principal
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.guard.revocation.revocations import SLACK
from bearerguard.guard.revocation.revoker import chosen_issuer, revocation, revocation_of

ISSUER = "https://issuer.test"
NOON = 1_800_000_000.25
LIFE = 3600.0


def make(**options: Any) -> Revocation:
    return revocation(issuer=ISSUER, now=NOON, max_token_life=LIFE, **options)


def test_a_token_is_revoked_whenever_it_was_issued() -> None:
    assert make(token_id="t1") == Revocation("token", ISSUER, "t1", None, NOON + LIFE + SLACK)


@pytest.mark.parametrize(
    ("option", "kind"), [("subject", "subject"), ("client_id", "client"), ("session_id", "session")]
)
def test_all_tokens_issued_until_now_are_revoked(option: str, kind: Any) -> None:
    before = math.floor(NOON) + 1
    assert make(**{option: "x"}) == Revocation(kind, ISSUER, "x", before, before + LIFE + SLACK)


def test_all_tokens_issued_before_a_time_are_revoked() -> None:
    past = make(subject="ada", issued_before=1_700_000_000)
    assert (past.before, past.expires_at) == (1_700_000_000.0, NOON + LIFE + SLACK)
    ahead = make(subject="ada", issued_before=NOON + 300)
    assert (ahead.before, ahead.expires_at) == (NOON + 300, NOON + 300 + LIFE + SLACK)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "pass exactly one of"),
        ({"subject": "ada", "client_id": "app"}, "pass exactly one of"),
        ({"subject": ""}, "as the token has it"),
        ({"subject": 7}, "as the token has it"),
        ({"subject": "\ud800"}, "as the token has it"),
        ({"token_id": "t1", "issued_before": 1.0}, "issued_before="),
        ({"subject": "ada", "issued_before": "now"}, "issued_before="),
        ({"subject": "ada", "issued_before": True}, "issued_before="),
        ({"subject": "ada", "issued_before": -1}, "issued_before="),
        ({"subject": "ada", "issued_before": math.nan}, "issued_before="),
        ({"subject": "ada", "issued_before": NOON + 301}, "issued_before="),
    ],
)
def test_a_mistake_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make(**options)


def test_the_token_of_a_principal_is_revoked_until_it_expires() -> None:
    def until(expires_at: float | None) -> float:
        principal = Principal(issuer=ISSUER, token_id="t1", expires_at=expires_at)
        return revocation_of(principal, now=NOON, max_token_life=LIFE).expires_at

    assert until(NOON + 60) == NOON + 60 + SLACK
    assert until(NOON + 9999) == NOON + LIFE + SLACK
    assert until(None) == NOON + LIFE + SLACK


@pytest.mark.parametrize("principal", [Principal(), Principal(issuer=ISSUER, subject="ada")])
def test_a_token_without_a_name_cannot_be_revoked(principal: Principal) -> None:
    with pytest.raises(ConfigurationError, match="no jti"):
        revocation_of(principal, now=NOON, max_token_life=LIFE)


class Issuers:
    def __init__(self, *urls: str) -> None:
        self.urls = urls

    def named(self, name: str) -> str | None:
        return name if name in self.urls else None


def test_the_issuer_is_named_where_there_are_several() -> None:
    one, two = Issuers(ISSUER), Issuers(ISSUER, "https://other.test")
    assert chosen_issuer(None, one) == ISSUER
    assert chosen_issuer(ISSUER, two) == ISSUER
    with pytest.raises(ConfigurationError, match="issuer="):
        chosen_issuer(None, two)
    with pytest.raises(ConfigurationError, match="issuer="):
        chosen_issuer("https://stranger.test", one)
