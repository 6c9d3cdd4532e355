"""A guard with revocations: what it refuses, sync and async, and without a trusted list."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from bearerguard import (
    ConfigurationError,
    Event,
    Guard,
    IssuerUnavailable,
    Request,
    RevocationFailed,
    Revocations,
    TokenError,
    Unavailable,
)
from bearerguard.errors import REVOCATIONS_UNAVAILABLE, REVOKED, RevocationsUnavailable
from bearerguard.redis import RedisStore
from bearerguard.runtime.flow import run
from bearerguard.testing import LocalIssuer
from tests.conformance.harness import Clock
from tests.processes import free_port
from tests.redis_server import RedisServer
from tests.warm import recalled

SECRET = "s" * 32


@pytest.fixture(scope="module")
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


@pytest.fixture(params=["sync", "async"])
def verify(request: pytest.FixtureRequest) -> Callable[[Guard, str], Any]:
    if request.param == "sync":
        return Guard.verify
    return lambda guard, token: anyio.run(guard.averify, token)


@pytest.fixture
def shared(redis: RedisServer) -> Iterator[Callable[..., Revocations]]:
    made: list[Revocations] = []

    def shared(**options: Any) -> Revocations:
        store = RedisStore(redis.url, secret=SECRET, timeout=0.5)
        made.append(Revocations(store, **options))
        return made[-1]

    yield shared
    for each in made:
        each.close()


def credentials(token: str) -> str:
    return f"Bearer {token}"


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_revoked_token_is_refused_cold_and_warm(
    issuer: LocalIssuer, verify: Callable[[Guard, str], Any]
) -> None:
    events: list[Event] = []
    with issuer.guard(revocations=Revocations(), on_event=events.append) as guard:
        warm, cold, other = issuer.token(), issuer.token(claims={"jti": "t1"}), issuer.token()
        verify(guard, warm)
        verify(guard, other)
        guard.revoke(warm)
        guard.revoke(token_id="t1")
        for token in (warm, cold, warm):
            with pytest.raises(TokenError) as raised:
                verify(guard, token)
            assert raised.value.reason == REVOKED
            assert recalled(guard, credentials(token)) is None
        assert verify(guard, other).subject == "user"
    assert [event.code for event in events if event.code != "keys_fetched"] == ["revoked"] * 3


def test_after_a_revocation_each_token_is_checked_once(issuer: LocalIssuer) -> None:
    with issuer.guard(revocations=Revocations()) as guard:
        token = issuer.token()
        principal = guard.verify(token)
        assert recalled(guard, credentials(token)) == principal
        guard.revoke(subject="someone else")
        assert recalled(guard, credentials(token)) is None
        assert guard.verify(token) is principal
        assert recalled(guard, credentials(token)) == principal


def test_revoking_twice_is_no_error(issuer: LocalIssuer) -> None:
    with issuer.guard(revocations=Revocations()) as guard:
        token = issuer.token()
        anyio.run(guard.arevoke, token)
        guard.revoke(token.encode())
        with pytest.raises(TokenError):
            guard.verify(token)


def test_an_opaque_token_without_an_expiry_stays_revoked() -> None:
    clock = Clock()
    local = LocalIssuer(algorithm="ES256", clock=clock)
    how = local.issuer(introspection=local.introspection.options())
    memory = Revocations(max_token_life=3600)
    with Guard(how, transport=local.transport(), clock=clock, revocations=memory) as guard:
        token = local.opaque_token(claims={"exp": None, "jti": "t1"})
        guard.verify(token)
        guard.revoke(token)
        for seconds, reason in ((0, "revoked"), (4200, "lives_too_long"), (86_400, "lives")):
            clock.now += seconds
            guard.revoke(subject="another")  # what is over is forgotten then
            with pytest.raises(TokenError, match=reason):
                guard.verify(token)
        with pytest.raises(TokenError, match="lives_too_long"):
            guard.verify(local.opaque_token(claims={"exp": None, "iat": None}))


def test_a_token_of_others_cannot_be_revoked(issuer: LocalIssuer) -> None:
    with issuer.guard(revocations=Revocations()) as guard:
        for token in (LocalIssuer(algorithm="ES256").token(), issuer.token(expires_in=-60), "x"):
            with pytest.raises(TokenError):
                guard.revoke(token)
        assert guard.health()["revocations"]["entries"] == 0


def test_a_mistake_in_revoking_is_named(issuer: LocalIssuer) -> None:
    with issuer.guard() as guard, pytest.raises(ConfigurationError, match="revocations="):
        guard.revoke(token_id="t1")
    with issuer.guard(revocations=Revocations()) as guard:
        with pytest.raises(ConfigurationError, match="not both"):
            guard.revoke(issuer.token(), subject="user")
        with pytest.raises(ConfigurationError, match="pass exactly one of"):
            guard.revoke()
        misspelt: dict[str, Any] = {"subject": "user", "issued_befor": 7}
        with pytest.raises(ConfigurationError, match="there is no issued_befor="):
            guard.revoke(**misspelt)
        with pytest.raises(ConfigurationError, match="pass the token as it is sent"):
            guard.revoke(guard.verify(issuer.token()))  # type: ignore[arg-type]
        assert guard.health()["revocations"]["entries"] == 0
        with pytest.raises(ConfigurationError, match="issuer="):
            guard.revoke(token_id="t1", issuer="https://stranger.test")
    wrong: Any = "redis://127.0.0.1"
    with pytest.raises(ConfigurationError, match="revocations="):
        issuer.guard(revocations=wrong)


def test_a_guard_without_a_store_is_healthy(issuer: LocalIssuer) -> None:
    with issuer.guard(revocations=Revocations()) as guard:
        guard.warm()
        guard.revoke(token_id="t1")
        health = guard.health()
        assert health["fresh"]
        assert health["ready"]
        found = health["revocations"]
        assert (found["status"], found["entries"], found["age"]) == ("local", 1, None)


def test_a_store_that_was_never_read_lets_no_token_through(
    issuer: LocalIssuer, verify: Callable[[Guard, str], Any]
) -> None:
    store = RedisStore(f"redis://127.0.0.1:{free_port()}", secret=SECRET)
    events: list[Event] = []
    with issuer.guard(revocations=Revocations(store), on_event=events.append) as guard:
        guard.warm()  # reports, and raises nothing
        anyio.run(guard.awarm)
        token = issuer.token()
        for _ in range(2):
            with pytest.raises(RevocationsUnavailable):
                verify(guard, token)
        request = Request("GET", "/", (("Authorization", credentials(token)),))
        assert run(guard.authenticate(request), guard._handlers) == Unavailable(
            1, REVOCATIONS_UNAVAILABLE
        )
        with pytest.raises(RevocationFailed):
            guard.revoke(token)
        assert not guard.health()["fresh"]
        assert guard.health()["revocations"]["status"] == "absent"
    assert "revocations_unavailable" in {event.code for event in events}


def test_two_guards_share_revocations(
    issuer: LocalIssuer, shared: Callable[..., Revocations]
) -> None:
    with issuer.guard(revocations=shared()) as one, issuer.guard(revocations=shared()) as two:
        one.warm()
        anyio.run(two.awarm)
        token = issuer.token()
        two.verify(token)
        assert two.health()["revocations"]["status"] == "fresh"
        anyio.run(one.arevoke, token)
        eventually(lambda: recalled(two, credentials(token)) is None)
        with pytest.raises(TokenError):
            two.verify(token)


def test_a_warm_token_is_503_when_the_list_is_too_old(
    redis: RedisServer, issuer: LocalIssuer, shared: Callable[..., Revocations]
) -> None:
    offset = 0.0
    revocations = shared(max_staleness=60)
    clock = lambda: time.time() + offset  # noqa: E731 - it is turned below
    with issuer.guard(revocations=revocations, clock=clock) as guard:
        token = issuer.token()
        principal = guard.verify(token)
        redis.signal(signal.SIGSTOP)
        time.sleep(1.2)  # a round, and its timeout
        offset = 50.0
        assert recalled(guard, credentials(token)) == principal
        offset = 61.0
        assert recalled(guard, credentials(token)) is None
        for _ in range(2):
            with pytest.raises(IssuerUnavailable):
                guard.verify(token)
        redis.signal(signal.SIGCONT)
        eventually(lambda: guard.health()["revocations"]["status"] == "fresh")
        assert guard.verify(token) is principal
        assert recalled(guard, credentials(token)) == principal


def test_closing_ends_following_and_the_next_request_reads_again(
    issuer: LocalIssuer, shared: Callable[..., Revocations]
) -> None:
    guard = issuer.guard(revocations=shared())
    token = issuer.token()
    guard.verify(token)
    guard.close()
    assert guard.health()["revocations"]["status"] == "absent"
    assert recalled(guard, credentials(token)) is None
    assert guard.verify(token).subject == "user"
    guard.close()


@pytest.mark.parametrize("opaque", [True, False], ids=["introspected", "signed"])
def test_a_token_without_iat_passes_only_without_revocations(
    issuer: LocalIssuer, opaque: bool
) -> None:
    introspection = issuer.introspection.options() if opaque else None
    token = (
        issuer.opaque_token(claims={"iat": None}) if opaque else issuer.token(claims={"iat": None})
    )

    def guard(**options: Any) -> Guard:
        known = issuer.issuer(introspection=introspection)
        return Guard(known, transport=issuer.transport(), **options)

    assert guard().verify(token).subject == "user"
    with pytest.raises(TokenError, match="must have iat: have the issuer add it"):
        guard(revocations=Revocations()).verify(token)
