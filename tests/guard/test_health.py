"""The health of a guard: what is ready, what is fresh, and how it becomes so without requests."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from bearerguard import (
    Guard,
    Issuer,
    IssuerUnavailable,
    KeyPolicy,
    Response,
    Revocations,
)
from bearerguard.redis import RedisStore
from bearerguard.testing import LocalIssuer
from tests.conformance.harness import Clock
from tests.redis_server import RedisServer

SECRET = "s" * 32


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def keys(guard: Guard) -> dict[str, Any]:
    (found,) = guard.health()["issuers"].values()
    return dict(found)


def failing(guard: Guard, issuer: LocalIssuer) -> None:
    """Let one refresh of the keys fail."""
    issuer.outage = True
    with pytest.raises(IssuerUnavailable):
        guard.verify(issuer.token(header={"kid": "unknown"}))


def test_a_guard_without_keys_is_not_ready_and_its_health_fetches_them(issuer: LocalIssuer) -> None:
    with issuer.guard() as guard:
        first = guard.health()
        assert (first["ready"], first["fresh"]) == (False, False)
        assert first["issuers"][issuer.url]["status"] == "absent"
        eventually(lambda: guard.health()["ready"])
        assert guard.health()["fresh"]


def test_a_guard_that_started_in_an_outage_becomes_ready_without_a_request() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    issuer.outage = True
    with issuer.guard() as guard:
        guard.warm()
        assert keys(guard)["failures"] == 1
        issuer.outage = False
        eventually(lambda: guard.health()["ready"])


def test_stale_keys_are_ready_and_not_fresh(issuer: LocalIssuer) -> None:
    with issuer.guard() as guard:
        guard.warm()
        failing(guard, issuer)
        health = guard.health()
        assert (health["ready"], health["fresh"]) == (True, False)
        found = keys(guard)
        assert (found["status"], found["ready"], found["fresh"]) == ("stale", True, False)
        assert guard.verify(issuer.token()).subject == "user"


def test_dead_keys_are_not_ready_and_recover_without_a_request(
    issuer: LocalIssuer, clock: Clock
) -> None:
    policy = KeyPolicy(refresh=60, max_age=600)
    trusted = issuer.issuer(key_policy=policy)
    with Guard(trusted, transport=issuer.transport(), clock=clock) as guard:
        guard.warm()
        issuer.outage = True
        clock.now += 601
        health = guard.health()
        assert (health["ready"], keys(guard)["status"]) == (False, "dead")
        with pytest.raises(IssuerUnavailable):
            guard.verify(issuer.token())
        issuer.outage = False
        clock.now += 60
        eventually(lambda: guard.health()["ready"])


def test_health_says_when_and_why_the_last_fetch_failed_and_how_long_fetches_took(
    issuer: LocalIssuer, clock: Clock
) -> None:
    with issuer.guard() as guard:
        guard.warm()
        succeeded = clock.now
        assert keys(guard)["last_success"] == succeeded
        assert keys(guard)["last_error"] is None
        clock.now += 5
        failing(guard, issuer)
        found = keys(guard)
    assert found["last_error"] == {"kind": "status", "at": succeeded + 5}
    assert found["last_success"] == succeeded
    assert len(found["latencies"]) == 2
    assert found["age"] == 5


def test_health_is_ready_for_json_and_names_no_secret(issuer: LocalIssuer, clock: Clock) -> None:
    secret = issuer.introspection.client_secret
    trusted = issuer.issuer(introspection=issuer.introspection.options())
    with Guard(
        trusted, transport=issuer.transport(), clock=clock, revocations=Revocations()
    ) as guard:
        guard.verify(issuer.opaque_token())
        issuer.outage = True
        with pytest.raises(IssuerUnavailable):
            guard.verify(issuer.opaque_token())
        text = json.dumps(guard.health())
    assert secret not in text
    assert json.loads(text)["introspection"][issuer.url]["last_error"]["kind"] == "status"


def test_at_most_five_latencies_are_kept_the_newest_first(
    issuer: LocalIssuer, clock: Clock
) -> None:
    taken = iter(range(1, 100))

    class Slow:
        def fetch(self, request: Any) -> Response:
            clock.now += next(taken)
            return issuer.transport().fetch(request)

        afetch = fetch

    trusted = issuer.issuer(introspection=issuer.introspection.options())
    with Guard(trusted, transport=Slow(), clock=clock) as guard:  # type: ignore[arg-type]
        for _ in range(7):
            guard.verify(issuer.opaque_token())
        (found,) = guard.health()["introspection"].values()
    assert found["latencies"] == (8, 7, 6, 5, 4)


def test_introspection_that_is_down_is_not_fresh_and_leaves_the_guard_ready(
    issuer: LocalIssuer,
) -> None:
    trusted = issuer.issuer(introspection=issuer.introspection.options(), tokens="opaque")
    with Guard(trusted, transport=issuer.transport()) as guard:
        assert guard.health()["ready"]
        assert keys(guard)["status"] == "unused"
        issuer.introspection.response = Response(503)
        for _ in range(4):
            with pytest.raises(IssuerUnavailable):
                guard.verify(issuer.opaque_token())
        health = guard.health()
        (found,) = health["introspection"].values()
        assert (health["ready"], health["fresh"]) == (True, False)
        assert (found["status"], found["ready"], found["fresh"]) == ("down", False, False)
        assert found["last_error"]["kind"] == "status"
        assert found["last_success"] is None


def test_an_introspection_endpoint_that_cannot_be_discovered_says_why(issuer: LocalIssuer) -> None:
    issuer.outage = True
    trusted = issuer.issuer(introspection=issuer.introspection.options(), tokens="opaque")
    with Guard(trusted, transport=issuer.transport()) as guard:
        guard.warm()
        (found,) = guard.health()["introspection"].values()
    assert found["last_error"]["kind"] == "status"


def test_static_keys_are_always_ready_and_fresh(issuer: LocalIssuer) -> None:
    trusted = Issuer(issuer.url, audience="api", keys=issuer.jwks())
    with Guard(trusted) as guard:
        health = guard.health()
    assert (health["ready"], health["fresh"]) == (True, True)
    assert health["issuers"][issuer.url]["status"] == "static"


def test_tenants_affect_neither(issuer: LocalIssuer) -> None:
    tenant = LocalIssuer("https://id.test/acme", algorithm="ES256")
    pattern = Issuer("https://id.test/{tenant}", audience=tenant.audience, tenants=["acme"])
    tenant.outage = True
    with Guard(pattern, transport=tenant.transport()) as guard:
        with pytest.raises(IssuerUnavailable):
            guard.verify(tenant.token())
        health = guard.health()
    assert (health["ready"], health["fresh"]) == (True, True)
    assert health["issuers"][tenant.url]["ready"] is False


def test_revocations_that_were_not_read_are_not_ready_and_are_read_without_a_request(
    issuer: LocalIssuer, redis: RedisServer
) -> None:
    revocations = Revocations(RedisStore(redis.url, secret=SECRET))
    trusted = Issuer(issuer.url, audience="api", keys=issuer.jwks())
    with Guard(trusted, revocations=revocations) as guard:
        health = guard.health()
        assert (health["ready"], health["revocations"]["status"]) == (False, "absent")
        eventually(lambda: guard.health()["ready"])
        found = guard.health()["revocations"]
        assert found["last_success"] is not None
        assert found["latencies"]
        redis.kill()
        eventually(lambda: not guard.health()["fresh"])
        health = guard.health()
        assert (health["ready"], health["revocations"]["status"]) == (True, "stale")
        assert health["revocations"]["last_error"]["kind"] == "store"
