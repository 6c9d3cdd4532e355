"""Validation of logout tokens (OpenID Connect Back-Channel Logout)."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import TokenError
from bearerguard.errors import BAD_LOGOUT_TOKEN
from bearerguard.protocol.events import logout_token
from bearerguard.protocol.events.logout_token import EVENT, Logout

NOON = 1_800_000_000.0
CLAIMS: dict[str, Any] = {
    "iss": "https://issuer.test",
    "aud": "app",
    "iat": NOON,
    "exp": NOON + 120,
    "jti": "l1",
    "sub": "ada",
    "sid": "s1",
    "events": {EVENT: {}},
}


def parse(now: float = NOON, **changed: Any) -> Logout:
    claims = {name: value for name, value in {**CLAIMS, **changed}.items() if value is not None}
    return logout_token.parse(claims, ["app", "its other name"], 30, now)


def test_a_logout_token_names_a_session_a_subject_or_both() -> None:
    assert parse() == Logout("ada", "s1", "l1", NOON, NOON + 120)
    assert parse(sid=None, aud=["other", "app"]) == Logout("ada", None, "l1", NOON, NOON + 120)
    assert parse(sub=None) == Logout(None, "s1", "l1", NOON, NOON + 120)
    assert "ada" not in repr(parse())


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": None},
        {"aud": "other"},
        {"aud": ["other"]},
        {"aud": {"app": 1}},
        {"aud": 7},
        {"events": None},
        {"events": [EVENT]},
        {"events": {}},
        {"events": {EVENT: True}},
        {"nonce": "n"},
        {"nonce": ""},
        {"sub": None, "sid": None},
        {"sub": 7},
        {"sid": ""},
        {"jti": None},
        {"jti": 7},
        {"iat": None},
        {"iat": True},
        {"iat": "soon"},
        {"iat": NOON + 301},
        {"exp": None},
        {"exp": 1e300},
        {"exp": NOON - 30},
    ],
)
def test_any_other_logout_token_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(TokenError) as raised:
        parse(**changed)
    assert raised.value.reason == BAD_LOGOUT_TOKEN


def test_an_expired_logout_token_is_accepted_within_the_leeway() -> None:
    assert parse(NOON + 149).token_id == "l1"
    with pytest.raises(TokenError):
        parse(NOON + 150)


@pytest.mark.parametrize("typ", [None, "JWT", "logout+jwt", "application/Logout+JWT"])
def test_a_logout_token_may_name_its_type(typ: str | None) -> None:
    logout_token.check_type(typ)


@pytest.mark.parametrize("typ", ["at+jwt", "dpop+jwt", "", "logout"])
def test_a_logout_token_of_another_type_is_refused(typ: str) -> None:
    with pytest.raises(TokenError, match="its typ is"):
        logout_token.check_type(typ)
