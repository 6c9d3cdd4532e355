"""Ages and pauses are measured by monotonic seconds, whatever happens to the clock."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bearerguard import Guard, IssuerUnavailable, TokenError
from bearerguard.errors import BearerGuardError
from bearerguard.runtime.messages import Response
from bearerguard.testing import LocalIssuer
from tests.conformance.harness import Clock
from tests.warm import recalled

HOUR = 3600


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seconds() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


@pytest.fixture
def guard(issuer: LocalIssuer, seconds: Clock) -> Iterator[Guard]:
    with issuer.guard(monotonic=seconds) as guard:
        yield guard


def asking(issuer: LocalIssuer, seconds: Clock, **options: Any) -> Guard:
    return Guard(
        issuer.issuer(introspection=issuer.introspection.options(**options)),
        transport=issuer.transport(),
        clock=issuer._clock,
        monotonic=seconds,
    )


def health(guard: Guard) -> Any:
    (found,) = guard.health()["issuers"].values()
    return found


def eventually(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refuses(guard: Guard, token: str) -> bool:
    try:
        guard.verify(token)
    except TokenError:
        return True
    return False


def threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "bearerguard-keys"}


def in_child(works: Callable[[], bool]) -> bool:
    """Return what `works` does in a forked process."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if works() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


# Clocks


@pytest.mark.parametrize("step", [-HOUR, -HOUR + 60, -7 * 24 * HOUR])
def test_a_clock_alone_that_is_set_back_prolongs_nothing(
    step: float, issuer: LocalIssuer, clock: Clock
) -> None:
    asking, warm = issuer.guard(), issuer.guard()
    stolen, remembered = issuer.key, issuer.token(claims={"iat": None})
    asking.verify(remembered)
    warm.verify(remembered)
    assert recalled(warm, b"Bearer " + remembered.encode()) is not None
    issuer.rotate(keep=False)
    clock.now += step
    assert recalled(warm, b"Bearer " + remembered.encode()) is None
    assert refuses(warm, remembered)
    assert refuses(asking, remembered)
    assert refuses(asking, issuer.token(key=stolen, claims={"iat": None}))
    introspecting = Guard(
        issuer.issuer(introspection=issuer.introspection.options()),
        transport=issuer.transport(),
        clock=clock,
    )
    with asking, warm, introspecting:
        token = issuer.opaque_token(claims={"iat": None})
        introspecting.verify(token)
        issuer.introspection.revoke(token)
        clock.now += step
        assert refuses(introspecting, token)


def test_a_small_adjustment_of_the_clock_only_costs_a_lookup(
    issuer: LocalIssuer, guard: Guard, clock: Clock
) -> None:
    token = issuer.token()
    authorization = b"Bearer " + token.encode()
    guard.verify(token)
    for step in (0, -0.5, -0.25):
        clock.now += step
        assert recalled(guard, authorization) is not None
        assert guard.verify(token).subject == "user"
    assert issuer.hits["/jwks"] == 1
    clock.now -= HOUR
    assert recalled(guard, authorization) is None  # what it rests on is looked at
    assert guard.verify(token).subject == "user"
    assert recalled(guard, authorization) is not None
    assert issuer.hits["/jwks"] == 1


# Keys (JWKS-07)


@pytest.mark.parametrize("once_each", [True, False], ids=["once each", "remembered"])
def test_keys_are_refreshed_though_the_clock_was_set_back(
    once_each: bool, issuer: LocalIssuer, guard: Guard, clock: Clock, seconds: Clock
) -> None:
    token = issuer.token(claims={"iat": None})
    guard.verify(token)
    clock.now -= HOUR
    seconds.now += 290
    guard.verify(issuer.token(claims={"iat": None}) if once_each else token)
    if (
        not once_each
    ):  # the validity of its key ends by the clock: the thread that fetched it is awake
        guard.run(guard._trust.find(issuer.url)[1].refresh())  # type: ignore[index]
    eventually(lambda: issuer.hits["/jwks"] == 2)
    eventually(lambda: health(guard)["age"] == 0)


def test_a_withdrawn_key_is_refused_after_keys_refresh_though_the_clock_was_set_back(
    issuer: LocalIssuer, guard: Guard, clock: Clock, seconds: Clock
) -> None:
    stolen = issuer.key
    guard.verify(issuer.token())
    issuer.rotate(keep=False)
    clock.now -= HOUR
    seconds.now += 300
    assert refuses(guard, issuer.token(key=stolen))
    assert not refuses(guard, issuer.token())
    assert issuer.hits["/jwks"] == 2


def test_an_unknown_key_is_fetched_once_while_the_clock_runs_backwards(
    issuer: LocalIssuer,
) -> None:
    times = iter(range(1_800_000_000, 0, -1))
    with issuer.guard(clock=lambda: float(next(times))) as guard:
        guard.warm()
        with pytest.raises(TokenError, match="unknown_key"):
            guard.verify(issuer.token(header={"kid": "of-nobody"}))
    assert issuer.hits["/jwks"] == 2


def test_dead_keys_are_dead_though_the_clock_was_set_back(
    issuer: LocalIssuer, guard: Guard, clock: Clock, seconds: Clock
) -> None:
    guard.verify(issuer.token(claims={"iat": None}))
    issuer.outage = True
    clock.now -= HOUR
    seconds.now += 86_400
    with pytest.raises(IssuerUnavailable):
        guard.verify(issuer.token(claims={"iat": None}))
    assert health(guard)["status"] == "dead"


def test_a_clock_set_back_does_not_prolong_the_validity_of_a_key(
    issuer: LocalIssuer, guard: Guard, clock: Clock, seconds: Clock
) -> None:
    token = issuer.token(claims={"iat": None})
    guard.verify(token)
    assert recalled(guard, b"Bearer " + token.encode()) is not None
    keys = guard._trust.find(issuer.url)[1]  # type: ignore[index]
    issuer.outage = True
    clock.now -= HOUR
    seconds.now += 290
    with pytest.raises(IssuerUnavailable):
        guard.run(keys.refresh())
    clock.now += 2
    assert recalled(guard, b"Bearer " + token.encode()) is None
    assert guard.verify(token).subject == "user"  # the issuer does not respond


def test_keys_that_are_due_make_no_request_wait_and_those_overdue_do(
    issuer: LocalIssuer, guard: Guard, seconds: Clock
) -> None:
    guard.verify(issuer.token())
    issuer.refuses = True  # so that a refresh changes nothing
    seconds.now += 299
    assert list(guard.decide([b"Bearer " + issuer.token().encode()])) == []
    eventually(lambda: health(guard)["failures"] == 1)
    seconds.now += 50
    # While it does not respond, no request waits for it.
    assert list(guard.decide([b"Bearer " + issuer.token().encode()])) == []
    assert health(guard)["status"] == "stale"


def test_requests_wait_for_overdue_keys_and_go_on_with_the_old_when_there_are_none(
    issuer: LocalIssuer, guard: Guard, seconds: Clock
) -> None:
    token = issuer.token()
    guard.verify(token)
    seconds.now += 301
    issuer.refuses = True
    for each in (token, issuer.token()):  # the first one asks, in vain
        assert guard.verify(each).subject == "user"
    assert health(guard)["failures"] >= 1


def test_health_reports_overdue_keys_and_refreshes_them(
    issuer: LocalIssuer, guard: Guard, seconds: Clock
) -> None:
    guard.warm()
    seconds.now += 301
    assert health(guard)["status"] == "stale"
    assert not guard.health()["fresh"] or issuer.hits["/jwks"] == 2
    eventually(lambda: health(guard)["status"] == "fresh")
    assert issuer.hits["/jwks"] == 2


@pytest.mark.parametrize("remembered", [True, False], ids=["remembered", "once each"])
def test_a_forked_worker_refreshes_the_keys_itself(
    remembered: bool, issuer: LocalIssuer, guard: Guard, clock: Clock, seconds: Clock
) -> None:
    token, stolen = issuer.token(), issuer.key
    guard.verify(token)
    recalled(guard, b"Bearer " + token.encode())

    def works() -> bool:
        right = threads() == set()
        right &= (
            recalled(guard, b"Bearer " + token.encode()) is None
        )  # a request has to plan the refresh
        guard.verify(token if remembered else issuer.token())
        right &= len(threads()) == 1
        issuer.rotate(keep=False)
        clock.now += 301
        seconds.now += 301
        right &= refuses(guard, token if remembered else issuer.token(key=stolen))
        return right and health(guard)["status"] == "fresh"

    assert in_child(works)


def test_an_idle_forked_worker_accepts_no_withdrawn_key(
    issuer: LocalIssuer, guard: Guard, seconds: Clock
) -> None:
    guard.verify(issuer.token())
    stolen = issuer.key
    issuer.rotate(keep=False)
    seconds.now += 301
    assert in_child(lambda: refuses(guard, issuer.token(key=stolen)))


@pytest.mark.parametrize("once_each", [True, False])
def test_a_closed_guard_that_is_used_again_refreshes_its_keys(
    once_each: bool, issuer: LocalIssuer, guard: Guard, seconds: Clock
) -> None:
    token, stolen, of_others = issuer.token(), issuer.key, threads()
    guard.verify(token)
    guard.close()
    eventually(lambda: not threads() - of_others)
    guard.verify(token)
    assert len(threads() - of_others) == 1
    issuer.rotate(keep=False)
    seconds.now += 301
    assert refuses(guard, issuer.token(key=stolen) if once_each else token)


def test_workers_forked_together_do_not_refresh_at_the_same_moment(
    issuer: LocalIssuer, guard: Guard
) -> None:
    keys = guard._trust.find(issuer.url)[1]  # type: ignore[index]
    guard.run(keys.refresh())  # of none that there are
    guard.warm()
    due = keys.next_refresh()
    assert due is not None

    def earlier() -> bool:
        mine = keys.next_refresh()
        return mine is not None and 0.7 * due < mine < due

    assert in_child(earlier)
    assert keys.next_refresh() == due


def test_a_request_that_waited_for_overdue_keys_does_not_fetch_them_again(
    issuer: LocalIssuer, guard: Guard, seconds: Clock
) -> None:
    guard.warm()
    seconds.now += 301
    keys = guard._trust.find(issuer.url)[1]  # type: ignore[index]
    waiting = keys.candidates("ES256", issuer.key.kid)
    once: Any = next(waiting)
    guard.warm()  # in another thread or event loop, at the same moment
    assert issuer.hits["/jwks"] == 2
    assert guard.run(once.flow()) == -math.inf
    assert issuer.hits["/jwks"] == 2


def test_static_keys_are_never_refreshed(issuer: LocalIssuer) -> None:
    of_others = threads()
    with Guard(issuer.issuer(keys=issuer.jwks()), clock=issuer._clock) as guard:
        guard.verify(issuer.token())
        guard.close()
        guard.verify(issuer.token())
        assert not threads() - of_others


# Introspection


def test_a_clock_set_back_does_not_prolong_a_cached_response(
    issuer: LocalIssuer, clock: Clock, seconds: Clock
) -> None:
    with asking(issuer, seconds) as guard:
        token = issuer.opaque_token(claims={"iat": None})
        guard.verify(token)
        assert recalled(guard, b"Bearer " + token.encode()) is not None
        issuer.introspection.revoke(token)
        clock.now -= HOUR
        assert guard.verify(token).subject == "user"  # within its time
        assert recalled(guard, b"Bearer " + token.encode()) is not None
        seconds.now += 60
        clock.now += 60
        assert recalled(guard, b"Bearer " + token.encode()) is None
        assert refuses(guard, token)


def test_a_clock_set_back_does_not_prolong_a_stale_response(
    issuer: LocalIssuer, clock: Clock, seconds: Clock
) -> None:
    with asking(issuer, seconds, stale_ttl=120) as guard:
        token = issuer.opaque_token(claims={"iat": None})
        guard.verify(token)
        issuer.outage = True
        clock.now -= HOUR
        seconds.now += 61
        assert guard.verify(token).subject == "user"
        seconds.now += 119
        with pytest.raises(IssuerUnavailable):
            guard.verify(token)


def test_a_clock_set_back_prolongs_neither_a_refusal_nor_an_open_breaker(
    issuer: LocalIssuer, clock: Clock, seconds: Clock
) -> None:
    with asking(issuer, seconds) as guard:
        assert refuses(guard, "made-up")
        asked = issuer.hits["/introspect"]
        clock.now -= HOUR
        seconds.now += 10
        assert refuses(guard, "made-up")
        assert issuer.hits["/introspect"] == asked + 1
        issuer.outage = True
        for _ in range(3):
            with pytest.raises(IssuerUnavailable):
                guard.verify(issuer.opaque_token(claims={"iat": None}))
        issuer.outage = False
        clock.now -= HOUR
        seconds.now += 1
        assert guard.verify(issuer.opaque_token(claims={"iat": None})).subject == "user"


def test_an_old_endpoint_is_discovered_again_after_the_clock_was_set_back(
    issuer: LocalIssuer, clock: Clock, seconds: Clock
) -> None:
    place = "/.well-known/oauth-authorization-server"
    with asking(issuer, seconds) as guard:
        guard.verify(issuer.opaque_token(claims={"iat": None}))
        found = issuer.hits[place]
        clock.now -= HOUR
        seconds.now += 86_400
        guard.verify(issuer.opaque_token(claims={"iat": None}))
        assert issuer.hits[place] == found + 1


# What an endpoint says of one token alone


@pytest.mark.parametrize("status", [200, 301, 400, 403, 413, 414, 422, 431])
def test_tokens_of_strangers_do_not_stop_others_and_are_introspected_less_and_less(
    status: int, issuer: LocalIssuer, clock: Clock, seconds: Clock
) -> None:
    blocked = Response(status, (("Content-Type", "text/html"),), b"<html>blocked</html>")
    inner = issuer.introspection.handle

    def firewall(request: Any, url: str, key: Any) -> Response:
        return blocked if b"passwd" in request.body else inner(request, url, key)

    issuer.introspection.handle = firewall  # type: ignore[method-assign]
    with asking(issuer, seconds) as guard:
        guard.warm()
        for number in range(10):
            with pytest.raises(IssuerUnavailable):
                guard.verify(f"UNION/SELECT/{number}/etc/passwd")
            assert guard.verify(issuer.opaque_token()).subject == "user"
        assert guard.health()["fresh"]
        asked = issuer.hits["/introspect"]
        for _ in range(120):  # one token, again and again
            seconds.now += 1
            with pytest.raises(IssuerUnavailable):
                guard.verify("UNION/SELECT/etc/passwd")
        assert issuer.hits["/introspect"] - asked <= 12
        assert guard.health()["fresh"]
        assert guard.verify(issuer.opaque_token()).subject == "user"


def test_a_token_that_is_objected_to_no_longer_passes(issuer: LocalIssuer, seconds: Clock) -> None:
    with asking(issuer, seconds) as guard:
        token = issuer.opaque_token()
        issuer.introspection.response = Response(403)
        for wait in (1, 1, 1, 2, 4):
            with pytest.raises(IssuerUnavailable) as refused:
                guard.verify(token)
            assert refused.value.retry_after == wait
            seconds.now += wait
        issuer.introspection.response = None
        assert guard.verify(token).subject == "user"


def test_an_objection_does_not_hide_an_endpoint_that_is_down(
    issuer: LocalIssuer, seconds: Clock
) -> None:
    with asking(issuer, seconds) as guard:
        for status in (503, 403, 429, 403, 404, 401):
            issuer.introspection.response = Response(status)
            with pytest.raises(IssuerUnavailable):
                guard.verify(issuer.opaque_token())
        (found,) = guard.health()["introspection"].values()
        assert found["status"] == "down"


def test_an_endpoint_that_redirects_is_discovered_again_but_not_for_each_token(
    issuer: LocalIssuer, seconds: Clock
) -> None:
    place = "/.well-known/oauth-authorization-server"
    with asking(issuer, seconds) as guard:
        issuer.introspection.response = Response(301)
        for number in range(20):
            with pytest.raises(IssuerUnavailable):
                guard.verify(f"token-{number}")
        assert issuer.hits[place] == 2
        seconds.now += 30
        for number in range(20):
            with pytest.raises(IssuerUnavailable):
                guard.verify(f"other-{number}")
        assert issuer.hits[place] == 3


def test_a_token_of_an_unsupported_kind_is_not_introspected_again_and_again(
    issuer: LocalIssuer, seconds: Clock
) -> None:
    issuer.introspection.supports_jwts = False
    guard = Guard(
        issuer.issuer(introspection=issuer.introspection.options(stale_ttl=60), tokens="opaque"),
        transport=issuer.transport(),
        clock=issuer._clock,
        monotonic=seconds,
    )
    with guard:
        guard.warm()
        token = issuer.token()
        for _ in range(3):
            with pytest.raises(TokenError, match="does not introspect tokens of this kind"):
                guard.verify(token)
        assert issuer.hits["/introspect"] == 1
        assert guard.health()["fresh"]


@pytest.mark.parametrize(
    "token",
    ["x" * 16_385, "a." * 9000, "\x00", "\udcff", "ü", "a\r\nb", "=", "", "..", "....", "a b"],
)
def test_malformed_tokens_are_refused_and_sent_nowhere(
    token: str, issuer: LocalIssuer, seconds: Clock
) -> None:
    def route(_token: str) -> str:
        raise AssertionError("it was shown to route_opaque=")

    routed = Guard(issuer.issuer(introspection=issuer.introspection.options()), route_opaque=route)
    with routed, pytest.raises(TokenError):
        routed.verify(token)
    with asking(issuer, seconds) as guard:
        guard.warm()
        for _ in range(4):
            with pytest.raises(BearerGuardError) as refused:
                guard.verify(token)
            assert isinstance(refused.value, TokenError)
        assert guard.verify(issuer.opaque_token()).subject == "user"
        assert guard.health()["fresh"]
