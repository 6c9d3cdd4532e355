"""Revoking the tokens of one tenant of an issuer that has many, through both adapters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bearerguard import ConfigurationError, Guard, Issuer, IssuerUnavailable, Revocations
from bearerguard.testing import LocalIssuer
from tests.conformance.drivers import DRIVERS, Call, Protected, Sent
from tests.conformance.harness import bearer

PATTERN = "https://id.test/{tenant}/v2"
KEYS = LocalIssuer(PATTERN, algorithm="ES256")


def url(tenant: str) -> str:
    return PATTERN.replace("{tenant}", tenant)


def issuer(tenants: Any = ("a", "b")) -> Issuer:
    return KEYS.issuer(keys=KEYS.jwks(), tenants=tenants)


@pytest.fixture(params=list(DRIVERS.values()), ids=list(DRIVERS))
def send(request: pytest.FixtureRequest) -> Callable[[Guard, str], int]:
    call: Call = request.param
    return lambda guard, token: call(Protected(guard, {}, ()), Sent(bearer(token))).status


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard(issuer(), revocations=Revocations()) as guard:
        yield guard


@pytest.mark.parametrize("warm", [True, False])
def test_revoking_a_tenants_user_concerns_no_other_tenant(
    send: Callable[[Guard, str], int], guard: Guard, *, warm: bool
) -> None:
    mine, other = KEYS.token(claims={"iss": url("a")}), KEYS.token(claims={"iss": url("b")})
    if warm:
        assert (send(guard, mine), send(guard, other)) == (200, 200)
    guard.revoke(subject="user", issuer=url("a"))
    assert (send(guard, mine), send(guard, other)) == (401, 200)


def test_a_tenants_token_is_revoked_by_itself_or_its_name(
    send: Callable[[Guard, str], int], guard: Guard
) -> None:
    first, second = (
        KEYS.token(claims={"iss": url("a")}),
        KEYS.token(claims={"iss": url("a"), "jti": "t2"}),
    )
    guard.revoke(first)
    guard.revoke(token_id="t2", issuer=url("a"))
    assert (send(guard, first), send(guard, second)) == (401, 401)
    assert send(guard, KEYS.token(claims={"iss": url("a")})) == 200


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (url("c"), "nor an allowed tenant"),
        (url("a/b"), "nor an allowed tenant"),
        ("https://id.test/a", "nor an allowed tenant"),
        (PATTERN, "has many tenants: pass the url of the one you mean"),
        (None, "has many tenants: pass the url of the one you mean"),
        (7, "issuer=: pass the issuer's url"),
    ],
)
def test_an_ambiguous_issuer_is_refused(guard: Guard, named: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        guard.revoke(subject="user", issuer=named)


def test_a_callable_that_allows_tenants_is_asked() -> None:
    allowed = {"a": True, "b": False}
    with Guard(issuer(allowed.__getitem__), revocations=Revocations()) as guard:
        guard.revoke(subject="user", issuer=url("a"))
        with pytest.raises(ConfigurationError, match="nor an allowed tenant"):
            guard.revoke(subject="user", issuer=url("b"))
        with pytest.raises(IssuerUnavailable, match="tenants= raised KeyError"):
            guard.revoke(subject="user", issuer=url("c"))
        assert set(guard.health()["issuers"]) == set()  # naming a tenant holds none


def test_an_alias_of_an_issuer_means_the_issuer(send: Callable[[Guard, str], int]) -> None:
    plain = LocalIssuer(algorithm="ES256")
    spelled = plain.issuer(aliases=["issuer.test"])
    with Guard(spelled, transport=plain.transport(), revocations=Revocations()) as guard:
        # Before: what is issued in the second after is good again.
        tokens = plain.token(), plain.token(claims={"iss": "issuer.test"})
        guard.revoke(subject="user", issuer="issuer.test")
        assert [send(guard, token) for token in tokens] == [401, 401]
