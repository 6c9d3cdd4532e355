"""Validation of claims that usual tokens do not have."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import TokenError, TokenExpired
from bearerguard.protocol import jwt_claims
from bearerguard.protocol.jose import jwt
from bearerguard.testing import LocalIssuer

NOW = 1_800_000_000.5
EXPECTED = jwt_claims.Expected(frozenset({"api"}))
LEAST = {"iss": "i", "aud": "api", "exp": 1_800_000_060}
NO_DATES = [True, False, "1800000060", [], {}, 2**53 + 1, -(2**53) - 1, float("nan"), float("inf")]


def reason(**change: Any) -> str:
    with pytest.raises(TokenError) as caught:
        jwt_claims.bearer({**LEAST, **change}, EXPECTED, NOW)
    return caught.value.reason.code


@pytest.mark.parametrize("name", ["exp", "nbf", "iat", "auth_time"])
@pytest.mark.parametrize("value", NO_DATES, ids=repr)
def test_a_date_of_another_type_is_refused(name: str, value: object) -> None:
    assert reason(**{name: value}) == "bad_claim"


@pytest.mark.parametrize("text", ["2027-01-15T08:00:00Z", "2027-01-15T08:00:00.000Z"])
def test_JWT_09_the_time_of_sign_in_may_be_a_date_as_AD_FS_writes_it(text: str) -> None:
    found = jwt_claims.bearer({**LEAST, "auth_time": text}, EXPECTED, NOW)
    assert found.auth_time == 1_800_000_000


@pytest.mark.parametrize(
    "text",
    ["2027-02-30T08:00:00Z", "2027-01-15T08:00:00", "2027-01-15", "2027-01-15T08:00:00+01:00", "Z"],
)
def test_JWT_09_no_other_text_is_a_time_of_sign_in(text: str) -> None:
    assert reason(auth_time=text) == "bad_claim"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_JWT_09_no_other_date_is_a_text(name: str) -> None:
    assert reason(**{name: "2027-01-15T08:00:00Z"}) == "bad_claim"


@pytest.mark.parametrize(("name", "ahead"), [("nbf", 30), ("iat", 300)])
@pytest.mark.parametrize("kind", [int, float])
def test_a_start_may_be_as_far_ahead_as_clocks_drift(name: str, ahead: int, kind: type) -> None:
    for date in (-1, 0, NOW - 1, NOW, NOW + ahead - 1):
        jwt_claims.bearer({**LEAST, name: kind(date)}, EXPECTED, NOW)
    assert reason(**{name: kind(NOW + ahead + 1)}) == "not_yet_valid"


@pytest.mark.parametrize("kind", [int, float])
def test_an_expired_token_is_accepted_within_the_leeway(kind: type) -> None:
    jwt_claims.bearer({**LEAST, "exp": kind(NOW - 29)}, EXPECTED, NOW)
    for date in (NOW - 31, 1, 0, -1):
        with pytest.raises(TokenExpired):
            jwt_claims.bearer({**LEAST, "exp": kind(date)}, EXPECTED, NOW)


def test_a_malformed_expiry_is_reported_first_and_a_passed_one_last() -> None:
    ahead = NOW + 3600
    assert reason(exp=True, nbf=ahead) == reason(exp="x", iat=ahead) == "bad_claim"
    assert reason(exp=1, nbf=ahead) == reason(exp=1, iat=ahead) == "not_yet_valid"


def test_a_clock_before_1970_breaks_nothing() -> None:
    jwt_claims.check(LEAST, EXPECTED, -1.0)


@pytest.mark.parametrize(
    ("change", "client_id"),
    [
        ({"client_id": "c", "azp": "z"}, "c"),
        ({"client_id": "", "azp": "z"}, "z"),
        ({"azp": "z"}, "z"),
        ({"azp": 1}, None),
        ({"client_id": ""}, None),
    ],
)
def test_the_client_is_named_by_client_id_else_azp(
    change: dict[str, Any], client_id: str | None
) -> None:
    assert jwt_claims.bearer({**LEAST, **change}, EXPECTED, NOW).client_id == client_id


def test_the_repr_of_a_parsed_token_is_empty() -> None:
    token = LocalIssuer(algorithm="ES256").token(subject="ada")
    shown = repr(jwt.parse(token.encode()))
    assert shown == "SignedToken()"


def test_a_token_that_is_too_long_is_not_parsed() -> None:
    token = LocalIssuer(algorithm="ES256").token().encode()
    assert jwt.parse(token, len(token)).claims["sub"] == "user"
    with pytest.raises(TokenError, match=r"longer than .* bytes.*max_token_bytes="):
        jwt.parse(token, len(token) - 1)
    with pytest.raises(TokenError, match="longer than 16384 bytes"):
        jwt.parse(b"x" * 16_385)
