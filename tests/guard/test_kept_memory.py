"""Memory: refused tokens leave nothing behind, and what is kept of others is short."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bearerguard import BearerGuardError, Guard
from bearerguard.principal import Claims
from bearerguard.protocol import scope
from bearerguard.testing import LocalIssuer, SigningKey

REQUESTS = 60
NUMBERS = itertools.count()
# Bounded lists of what was refused remain, of some 300 bytes each.
MOST = 200_000


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


def long_scope() -> str:
    """A scope value of 9 KB, like no other."""
    first = next(NUMBERS) * 1300
    return " ".join([f"{first + number:06x}" for number in range(1300)])


def kept(work: Callable[[], object]) -> int:
    """Return how many bytes are held after sixty calls that were not before."""
    work()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(REQUESTS):
            work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def refused(guard: Guard, token: str) -> None:
    with pytest.raises(BearerGuardError):
        guard.verify(token)


@pytest.fixture
def guard(issuer: LocalIssuer) -> Iterator[Guard]:
    with issuer.guard(cache_size=1) as guard:
        guard.verify(issuer.token())
        yield guard


def test_a_forged_token_leaves_nothing(issuer: LocalIssuer, guard: Guard) -> None:
    forger = SigningKey.generate("ES256", issuer.key.kid)
    names: dict[str, Any] = {f"n{number}": 1 for number in range(60)}
    assert (
        kept(
            lambda: refused(
                guard,
                issuer.token(
                    key=forger,
                    client_id=long_scope()[:1000],
                    claims={**names, "scope": long_scope(), "roles": [uuid.uuid4().hex]},
                ),
            )
        )
        < MOST
    )


@pytest.mark.parametrize(
    "claims", [{"aud": "https://other.test"}, {"iss": "https://other.test"}, {"exp": 1}]
)
def test_a_token_that_does_not_hold_leaves_nothing(
    claims: dict[str, Any], issuer: LocalIssuer, guard: Guard
) -> None:
    assert (
        kept(lambda: refused(guard, issuer.token(claims={**claims, "scope": long_scope()}))) < MOST
    )


def test_an_opaque_token_that_is_not_active_leaves_little(issuer: LocalIssuer) -> None:
    asking = Guard(
        issuer.issuer(introspection=issuer.introspection.options()), transport=issuer.transport()
    )
    with asking:
        assert kept(lambda: refused(asking, uuid.uuid4().hex * 400)) < MOST


def test_long_values_of_genuine_tokens_are_kept_with_their_tokens_alone(
    issuer: LocalIssuer, guard: Guard
) -> None:
    def accepted() -> None:
        roles = [f"{next(NUMBERS)}" for _ in range(100)]
        principal = guard.verify(
            issuer.token(
                client_id=long_scope()[:600], claims={"scope": long_scope()[:7000], "roles": roles}
            )
        )
        assert len(principal.scopes) == 1000
        assert principal.roles == set(roles)

    assert kept(accepted) < 2 * MOST


def test_a_scope_that_a_request_asks_for_leaves_nothing() -> None:
    assert kept(lambda: scope.parse(long_scope())) < MOST


def test_the_names_of_a_large_object_leave_nothing() -> None:
    assert kept(lambda: Claims({uuid.uuid4().hex: 1 for _ in range(100)})) < MOST


def test_short_values_that_tokens_share_are_one_object(issuer: LocalIssuer, guard: Guard) -> None:
    one, two = (guard.verify(issuer.token(scopes=["read", "write"], roles=["a"])) for _ in range(2))
    assert one.scopes is two.scopes
    assert one.roles is two.roles
    assert one.client_id is two.client_id
