"""One `Revocations` in several guards: beside a server, with their own clocks and events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bearerguard import ConfigurationError, Event, Guard, Revocations, TokenError
from bearerguard.redis import RedisStore
from bearerguard.server import AuthorizationServer, StoreUnavailable
from bearerguard.testing import LocalIssuer
from tests.redis_server import RedisServer

SECRET = "s" * 32
URL = "https://api.example.com"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[AuthorizationServer]:
    server = AuthorizationServer(URL, store=f"sqlite:///{tmp_path / 'auth.db'}", secret=SECRET)
    yield server
    server.close()


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


def entries(guard: Guard) -> int:
    found: int = guard.health()["revocations"]["entries"]
    return found


def test_the_revocations_that_were_given_serve_beside_a_server(
    server: AuthorizationServer,
) -> None:
    revocations = Revocations(max_staleness=60)
    with Guard(server.issuer(), revocations=revocations) as guard:
        guard.warm()
        assert revocations.health().status == "fresh"
        server.revoke_user(user_id="ada")
        assert revocations.health().entries == entries(guard) == 1
        guard.revoke(subject="eve")
        assert len(revocations.current) == 2
        with Guard(server.issuer()) as other:  # reads the database, where both are
            other.warm()
            assert entries(other) == 2


def test_two_guards_beside_one_server_share_revocations_and_its_log(
    server: AuthorizationServer,
) -> None:
    revocations = Revocations()
    one = Guard(server.issuer(), revocations=revocations)
    two = Guard(server.issuer(), revocations=revocations)
    with one, two:
        two.warm()
        server.revoke_user(user_id="ada")
        assert entries(one) == entries(two) == 1
        assert revocations._forwarding._logs == ()  # the log is the store itself


def test_revocations_of_a_guard_without_the_server_are_refused_beside_it(
    server: AuthorizationServer, issuer: LocalIssuer
) -> None:
    revocations = Revocations()
    first = issuer.guard(revocations=revocations)
    with pytest.raises(ConfigurationError, match="make the guard beside the server first"):
        Guard(server.issuer(), revocations=revocations)
    first.verify(issuer.token())
    other = Revocations()
    with Guard(server.issuer(), revocations=other), issuer.guard(revocations=other) as second:
        second.verify(issuer.token())
        second.revoke(subject="user")
        with pytest.raises(TokenError, match="revoked"):
            second.verify(issuer.token())


def test_each_guard_reports_to_its_own_events_and_goes_by_its_own_clock(
    redis: RedisServer, issuer: LocalIssuer
) -> None:
    revocations = Revocations(
        RedisStore(redis.url, secret=SECRET, timeout=0.2), max_staleness=1000, max_token_life=7200
    )
    events: dict[str, list[Event]] = {"present": [], "ahead": []}
    now = {"present": time.time(), "ahead": time.time() + 1800}

    def guard(name: str) -> Guard:
        options: dict[str, Any] = {"clock": lambda: now[name], "on_event": events[name].append}
        return issuer.guard(revocations=revocations, **options)

    with guard("present") as present, guard("ahead") as ahead:
        token = issuer.token(expires_in=3000)
        present.verify(token)
        ahead.verify(token)
        now["ahead"] += 999
        ahead.verify(token)
        assert ahead.health()["revocations"]["status"] in {"fresh", "stale"}
        assert present.health()["revocations"]["status"] == "fresh"
        redis.kill()
        deadline = time.monotonic() + 20
        while not all(any(_is_outage(event) for event in each) for each in events.values()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        present.verify(token)


def _is_outage(event: Event) -> bool:
    return event.code == "revocations_unavailable"


def test_a_list_that_is_no_longer_trusted_is_dead_and_not_absent(
    server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise StoreUnavailable("down")

    with Guard(server.issuer(), revocations=Revocations(max_staleness=0.6)) as guard:
        assert guard.health()["revocations"]["status"] == "absent"
        guard.warm()
        monkeypatch.setattr(server.database, "execute", fail)
        time.sleep(1.5)  # the follower, that reads twice a second, has noticed
        assert guard.health()["revocations"]["status"] == "dead"
    assert guard.health()["revocations"]["status"] == "absent"  # closed
