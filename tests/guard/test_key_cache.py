"""Keys: fetched once, refreshed ahead, kept in an outage. The clock is set, nothing is patched."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bearerguard import Guard, Issuer, IssuerUnavailable, Response, TokenError
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.guard.keys.refetch_budget import Backoff, RefetchBudget
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Request
from bearerguard.testing import LocalIssuer
from tests.conformance.harness import Clock
from tests.warm import recalled

HERD = 100


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


@pytest.fixture
def guard(issuer: LocalIssuer) -> Iterator[Guard]:
    with issuer.guard() as guard:
        yield guard


def keys_of(guard: Guard, issuer: LocalIssuer) -> KeyCache:
    trusted = guard._trust.find(issuer.url)
    assert trusted is not None
    return trusted[1]


def status(guard: Guard) -> Any:
    (health,) = guard.health()["issuers"].values()
    return health["status"]


def test_a_herd_of_threads_costs_one_fetch(issuer: LocalIssuer, guard: Guard) -> None:
    issuer.delay = 0.05
    token = issuer.token()
    with ThreadPoolExecutor(HERD) as pool:
        assert len(set(pool.map(guard.verify, [token] * HERD))) == 1
    assert issuer.hits["/jwks"] == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_herd_of_tasks_costs_one_fetch_though_its_leader_is_cancelled(
    backend: str, issuer: LocalIssuer, guard: Guard
) -> None:
    issuer.delay = 1.0  # so that the leader is cancelled long before its response
    token, answered = issuer.token(), []

    async def follow() -> None:
        answered.append(await guard.averify(token))

    async def main() -> None:
        async with anyio.create_task_group() as group, anyio.create_task_group() as leading:
            leading.start_soon(guard.averify, token)
            await anyio.sleep(0.05)
            for _ in range(HERD):
                group.start_soon(follow)
            await anyio.sleep(0.05)
            leading.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert len(answered) == HERD
    assert issuer.hits["/jwks"] == 1  # the cancelled one was cut short during discovery


def test_a_herd_in_an_outage_gets_one_answer(issuer: LocalIssuer, guard: Guard) -> None:
    issuer.outage, issuer.delay = True, 0.05
    token, failed = issuer.token(), []

    async def follow() -> None:
        try:
            await guard.averify(token)
        except IssuerUnavailable as error:
            failed.append(error.retry_after)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(HERD):
                group.start_soon(follow)

    anyio.run(main)
    assert failed == [1] * HERD
    assert sum(issuer.hits.values()) == 2  # both places of the metadata, once


def test_a_herd_of_threads_in_an_outage_shares_the_failure(
    issuer: LocalIssuer, guard: Guard
) -> None:
    issuer.refuses, issuer.delay = True, 0.05
    token = issuer.token()

    def attempt(_: int) -> int:
        with pytest.raises(IssuerUnavailable) as caught:
            guard.verify(token)
        return caught.value.retry_after

    with ThreadPoolExecutor(20) as pool:
        assert set(pool.map(attempt, range(20))) == {1}


def test_pauses_after_failures_double_up_to_the_cool_down(
    issuer: LocalIssuer, guard: Guard, clock: Clock
) -> None:
    issuer.outage = True
    pauses = []
    for _ in range(8):
        with pytest.raises(IssuerUnavailable) as caught:
            guard.verify(issuer.token())
        pauses.append(caught.value.retry_after)
        before = issuer.hits.total()
        with pytest.raises(IssuerUnavailable):  # at once, without asking again
            guard.verify(issuer.token())
        assert issuer.hits.total() == before
        clock.now += caught.value.retry_after
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    issuer.outage = False
    assert guard.verify(issuer.token()).subject == "user"
    assert status(guard) == "fresh"


@pytest.mark.parametrize(
    ("cache_control", "earliest", "latest"),
    [
        (None, 240, 285),
        ("max-age=100", 80, 95),
        ("public, MAX-AGE=100, must-revalidate", 80, 95),
        ("max-age=0", 24, 28.5),  # not below the cool-down
        ("max-age=99999", 240, 285),  # not above keys_refresh
        ("s-maxage=100", 240, 285),
        ("no-store", 240, 285),
    ],
)
def test_keys_are_due_when_the_issuer_says_within_bounds(
    cache_control: str | None,
    earliest: float,
    latest: float,
    issuer: LocalIssuer,
    guard: Guard,
) -> None:
    issuer.cache_control = cache_control
    guard.warm()
    due = keys_of(guard, issuer).next_refresh()
    assert due is not None
    assert earliest <= due <= latest


def test_a_request_for_keys_that_are_due_does_not_wait(
    issuer: LocalIssuer, guard: Guard, clock: Clock
) -> None:
    token = issuer.token()
    guard.verify(token)
    clock.now += 290
    issuer.delay = 0.3
    for fresh in (token, issuer.token()):
        effects = list(guard.decide([b"Bearer " + fresh.encode()]))
        assert effects == []  # no effect was performed
    issuer.delay = 0
    _until(lambda: issuer.hits["/jwks"] == 2)


def test_the_background_refresh_sees_a_removed_key(
    issuer: LocalIssuer, guard: Guard, clock: Clock
) -> None:
    token = issuer.token()
    guard.verify(token)
    issuer.rotate(keep=False)
    clock.now += 290
    assert guard.verify(token).subject == "user"  # the refresh that it caused is under way
    _until(lambda: issuer.hits["/jwks"] == 2)
    _until(lambda: recalled(guard, b"Bearer " + token.encode()) is None)
    with pytest.raises(TokenError, match="unknown_key"):
        guard.verify(token)


def test_the_background_refresh_goes_on_through_an_outage(
    issuer: LocalIssuer, guard: Guard, clock: Clock
) -> None:
    token = issuer.token(expires_in=90_000)
    guard.verify(token)
    issuer.outage = True
    clock.now += 290
    guard.verify(token)
    _until(lambda: status(guard) == "stale")
    clock.now += 2
    assert guard.verify(token).subject == "user"
    issuer.outage = False
    _until(lambda: status(guard) == "fresh", meanwhile=lambda: _turn(clock, guard, token))
    clock.now += 86_400
    assert status(guard) == "dead"
    assert guard.health()["fresh"] is False


def _turn(clock: Clock, guard: Guard, token: str) -> None:
    clock.now += 1
    guard.verify(token)


def _until(met: Callable[[], bool], meanwhile: Callable[[], object] = lambda: None) -> None:
    deadline = time.monotonic() + 10
    while not met():
        assert time.monotonic() < deadline
        meanwhile()
        time.sleep(0.01)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps).map(str.encode))
def test_any_octets_for_a_jwks_keep_the_old_keys(
    issuer: LocalIssuer, guard: Guard, clock: Clock, garbage: bytes
) -> None:
    issuer.garbage = None
    guard.verify(issuer.token())
    issuer.garbage = garbage
    clock.now += 300
    guard.warm()
    assert guard.verify(issuer.token()).subject == "user"
    with issuer.guard() as cold, pytest.raises(IssuerUnavailable):
        cold.verify(issuer.token())


class Answers:
    """A transport that responds from a table, and otherwise as the issuer does."""

    def __init__(self, issuer: LocalIssuer, table: dict[str, Response | Exception]) -> None:
        self.table = table
        self.asked: list[str] = []
        self._issuer = issuer

    def fetch(self, request: Fetch) -> Response:
        path = request.url.removeprefix(self._issuer.url)
        self.asked.append(path)
        answer = self.table.get(path) or self._issuer.handle(Request("GET", path))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


OAUTH = "/.well-known/oauth-authorization-server"
OPENID = "/.well-known/openid-configuration"


@pytest.mark.parametrize(
    ("table", "asked"),
    [
        ({}, [OAUTH, "/jwks"]),
        ({OAUTH: Response(404)}, [OAUTH, OPENID, "/jwks"]),
        ({OAUTH: Response(200, body=b"<html>")}, [OAUTH, OPENID, "/jwks"]),
        ({OAUTH: Response(200, body=b'{"issuer":"https://evil"}')}, [OAUTH, OPENID, "/jwks"]),
        ({OAUTH: Response(302, (("Location", "/x"),))}, [OAUTH, OPENID, "/jwks"]),
    ],
)
def test_metadata_is_requested_at_both_well_known_places(
    table: dict[str, Response | Exception], asked: list[str], issuer: LocalIssuer
) -> None:
    transport = Answers(issuer, table)
    with issuer.guard(transport=transport) as guard:
        assert guard.verify(issuer.token()).subject == "user"
    assert transport.asked == asked


def _metadata(issuer: LocalIssuer, jwks_uri: str) -> Response:
    return Response(200, body=json.dumps({"issuer": issuer.url, "jwks_uri": jwks_uri}).encode())


@pytest.mark.parametrize(
    "jwks_uri", ["http://issuer.test/jwks", "http://127.0.0.1/jwks", "file:///jwks", "jwks"]
)
def test_metadata_cannot_lead_away_from_https(jwks_uri: str, issuer: LocalIssuer) -> None:
    transport = Answers(issuer, {OAUTH: _metadata(issuer, jwks_uri)})
    with (
        issuer.guard(transport=transport) as guard,
        pytest.raises(IssuerUnavailable, match=r"no https URL.*pass (endpoint|jwks_uri)="),
    ):
        guard.verify(issuer.token())


@pytest.mark.parametrize("answer", [Response(302), Response(500), RuntimeError("a bug of theirs")])
def test_a_failure_of_the_transport_is_not_the_fault_of_the_token(
    answer: Response | Exception, issuer: LocalIssuer
) -> None:
    transport = Answers(issuer, {"/jwks": answer})
    with issuer.guard(transport=transport) as guard, pytest.raises(IssuerUnavailable):
        guard.verify(issuer.token())


def test_metadata_may_stand_elsewhere(issuer: LocalIssuer) -> None:
    transport = Answers(issuer, {"/meta": _metadata(issuer, f"{issuer.url}/jwks")})
    trusted = issuer.issuer(discovery_url=f"{issuer.url}/meta")
    with Guard(trusted, transport=transport, clock=issuer._clock) as guard:
        guard.verify(issuer.token())
    assert transport.asked == ["/meta", "/jwks"]


def test_an_issuer_may_move_its_keys(issuer: LocalIssuer, clock: Clock) -> None:
    transport = Answers(issuer, {})
    with issuer.guard(transport=transport) as guard:
        guard.warm()
        transport.table["/jwks"] = Response(410)
        clock.now += 300
        guard.warm()  # fails, and forgets where the keys were
        old = issuer.handle(Request("GET", "/jwks"))
        transport.table[OAUTH] = _metadata(issuer, f"{issuer.url}/new")
        transport.table["/new"] = old
        clock.now += 300
        guard.warm()
        assert transport.asked[-2:] == [OAUTH, "/new"]
        assert status(guard) == "fresh"
        clock.now += 86_400
        guard.warm()
        assert transport.asked[-2:] == [OAUTH, "/new"]  # looked up anew once a day


def test_a_fetch_that_began_before_the_token_came_is_not_enough(
    issuer: LocalIssuer, clock: Clock
) -> None:
    """The key was published between the response to a fetch under way and its arrival."""
    started, go = threading.Event(), threading.Event()

    class Slow(Answers):
        def fetch(self, request: Fetch) -> Response:
            answer = super().fetch(request)
            if self.asked.count("/jwks") == 2 and not go.is_set():
                started.set()
                go.wait(10)
            return answer

    with issuer.guard(transport=Slow(issuer, {})) as guard, ThreadPoolExecutor(1) as pool:
        guard.verify(issuer.token())
        bogus = pool.submit(guard.verify, issuer.token(header={"kid": "bogus"}))
        started.wait(10)
        issuer.rotate()
        clock.now += 1
        threading.Timer(0.05, go.set).start()
        assert guard.verify(issuer.token()).subject == "user"
        assert isinstance(bogus.exception(10), TokenError)


def test_a_leader_does_not_fetch_again_after_the_keys_came(
    issuer: LocalIssuer, guard: Guard
) -> None:
    loading = keys_of(guard, issuer).load()
    once: Any = next(loading)
    guard.warm()  # in another thread or event loop, at the same moment
    guard.run(once.flow())
    guard.run(keys_of(guard, issuer).refresh())  # is not due
    assert issuer.hits["/jwks"] == 1


def test_an_empty_refetch_budget_after_failures_is_503(
    issuer: LocalIssuer, guard: Guard, clock: Clock
) -> None:
    guard.verify(issuer.token())
    unknown = issuer.token(header={"kid": "unknown"}, expires_in=9999)
    clock.now += 31
    issuer.outage = True
    waits = []
    for _ in range(4):
        with pytest.raises(IssuerUnavailable) as caught:
            guard.verify(unknown)
        waits.append(caught.value.retry_after)
        clock.now += caught.value.retry_after if len(waits) < 4 else 0
    assert waits == [1, 2, 4, 23]  # three grants, and the next when the cool-down is over
    assert issuer.hits["/jwks"] == 1 + 1  # the known place; then it is looked for anew
    assert "another unknown key was requested shortly before" in str(caught.value)


def test_static_keys_never_fetch_and_are_healthy(issuer: LocalIssuer, clock: Clock) -> None:
    trusted = issuer.issuer(keys=issuer.jwks())
    with Guard(trusted, transport=issuer.transport(), clock=clock) as guard:
        guard.warm()
        token = issuer.token(expires_in=10**7)
        assert guard.verify(token).subject == "user"
        clock.now += 10**6
        assert recalled(guard, b"Bearer " + token.encode()) is not None
        with pytest.raises(TokenError, match="unknown_key"):
            guard.verify(issuer.token(header={"kid": "other"}))
        assert status(guard) == "static"
        assert guard.health()["fresh"] is True
    assert not issuer.hits


def test_a_snapshot_of_keys_is_immutable_and_keys_of_an_old_one_are_not_remembered(
    issuer: LocalIssuer, guard: Guard, clock: Clock
) -> None:
    guard.verify(issuer.token())
    (_, keys) = guard._trust.find(issuer.url) or (None, None)
    assert keys is not None
    before = keys._snapshot
    assert before is not None
    ((header, selected),) = keys._selections[1].items()
    ((key, validity),) = before.validities.items()
    clock.now += 10**5
    guard.run(keys.refresh())
    assert keys._snapshot is not before
    assert before.validities == {key: validity}  # a refresh replaces it whole
    assert keys.selected(header) is None  # of the keys before
    keys.remember(header, key, selected)
    assert keys.selected(header) is selected  # the issuer still has the key
    keys.begin_in_child()
    assert keys.selected(header) is selected
    issuer.rotate(keep=False)
    clock.now += 10**5
    guard.run(keys.refresh())
    keys.remember(header, key, selected)
    assert keys.selected(header) is None  # withdrawn meanwhile


def test_warming_fails_softly(issuer: LocalIssuer, guard: Guard) -> None:
    issuer.refuses = True
    guard.warm()
    anyio.run(guard.awarm)
    assert guard.health()["issuers"][issuer.url]["failures"] == 1
    assert status(guard) == "absent"


def test_a_key_of_one_issuer_verifies_no_token_of_another(clock: Clock) -> None:
    one = LocalIssuer("https://one.test", algorithm="ES256", clock=clock)
    two = LocalIssuer("https://two.test", algorithm="ES256", clock=clock)

    class Both(Answers):
        def fetch(self, request: Fetch) -> Response:
            asked = one if request.url.startswith(one.url) else two
            return asked.handle(Request("GET", request.url))

    guard = Guard(one.issuer(), two.issuer(), transport=Both(one, {}), clock=clock)
    with guard:
        assert guard.verify(one.token()).issuer == one.url
        assert guard.verify(two.token()).issuer == two.url
        with pytest.raises(TokenError, match="bad_signature"):
            guard.verify(two.token(claims={"iss": one.url}))
        with pytest.raises(TokenError, match="unknown_issuer"):
            guard.verify(one.token(claims={"iss": "https://three.test"}))


def test_the_budget_and_the_backoff_survive_a_clock_that_is_set_back() -> None:
    budget, backoff = RefetchBudget(30), Backoff(30)
    assert [budget.take(10_000) for _ in range(4)] == [True, True, True, False]
    assert budget.wait(10_000) == 30
    assert budget.wait(0) <= 30
    for _ in range(40):
        backoff.failed(10_000)
    assert backoff.wait(0) <= 30
    assert budget.take(10_000 + 30)


def test_a_cached_token_does_not_outlive_its_expiry(
    issuer: LocalIssuer, guard: Guard, clock: Clock
) -> None:
    token = issuer.token(expires_in=10)
    guard.verify(token)
    clock.now += 40
    with pytest.raises(TokenError, match="expired"):
        guard.verify(token)


def test_a_loopback_issuer_needs_no_option() -> None:
    local = LocalIssuer(algorithm="ES256")
    with local.serve() as url, Guard(Issuer(url, audience=local.audience)) as guard:
        assert guard.verify(local.token()).issuer == url
