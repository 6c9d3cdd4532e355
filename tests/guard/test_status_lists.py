"""Status lists in the guard: how long one is used, who fetches it, and what it costs."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest

from bearerguard import (
    ConfigurationError,
    Event,
    FetchRecord,
    Guard,
    HttpTransport,
    Introspection,
    Issuer,
    IssuerUnavailable,
    KeyPolicy,
    Revocations,
    StatusUnavailable,
    TokenError,
)
from bearerguard.errors import Refusal
from bearerguard.protocol import status_list
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Request, Response
from bearerguard.testing import Clock, LocalIssuer
from bearerguard.testing.loopback import serving
from tests.conformance.harness import NOON
from tests.warm import recalled

PATH = "/statuslists/1"


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=Clock(NOON))


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def guard(issuer: LocalIssuer, events: list[Event]) -> Generator[Guard]:
    with guarding(issuer, on_event=events.append) as made:
        yield made


def guarding(issuer: LocalIssuer, *, policy: KeyPolicy | None = None, **options: Any) -> Guard:
    chosen = {"transport": issuer.transport(), "clock": issuer.clock, **options}
    trusted = issuer.issuer(
        status_lists=[issuer.status_list.uri], key_policy=policy or KeyPolicy(refresh=100)
    )
    return Guard(trusted, **chosen)


def token(issuer: LocalIssuer, index: int = 7) -> str:
    return issuer.token(claims=issuer.status_list.reference(index))


def code(guard: Guard, sent: str) -> str:
    try:
        guard.verify(sent)
    except (Refusal, IssuerUnavailable) as error:
        return error.reason.code
    return "valid"


# Its health


def health(guard: Guard) -> dict[str, Any]:
    whole = guard.health()
    (found,) = whole["status_lists"].values()
    assert whole["ready"]
    assert found["fresh"] or not whole["fresh"]
    return dict(found)


def test_health_says_whether_the_lists_that_tokens_name_can_be_fetched(
    issuer: LocalIssuer, guard: Guard
) -> None:
    guard.warm()
    assert guard.health()["status_lists"] == {}
    issuer.outage = True
    assert code(guard, token(issuer)) == "status_unavailable"
    first = health(guard)
    assert first["status"] == "dead"
    assert (first["ready"], first["fresh"], first["failures"]) == (False, False, 1)
    assert first["last_error"] == {"kind": "status", "at": NOON}
    assert (first["last_success"], first["age"], first["statuses"]) == (None, None, 0)
    issuer.outage = False
    issuer.clock.advance(5)
    assert code(guard, token(issuer)) == "valid"
    issuer.clock.advance(2)
    found = health(guard)
    assert (found["status"], found["ready"], found["fresh"]) == ("fresh", True, True)
    assert (found["issuer"], found["failures"], found["statuses"]) == (issuer.url, 0, 1000)
    assert (found["age"], found["last_success"]) == (2, NOON + 5)
    assert len(found["latencies"]) == 2
    assert guard.health()["fresh"]


def test_health_tells_a_list_that_nobody_needs_from_one_that_fails(
    issuer: LocalIssuer, guard: Guard
) -> None:
    sent = token(issuer)
    assert code(guard, sent) == "valid"
    issuer.outage = True
    issuer.clock.advance(58)
    assert code(guard, sent) == "valid"
    with pytest.raises(StatusUnavailable):
        guard.run(lists(guard)[0].refresh())
    assert health(guard)["status"] == "stale"
    assert code(guard, sent) == "valid"
    issuer.clock.advance(2)
    assert code(guard, sent) == "status_unavailable"
    assert health(guard)["status"] == "dead"
    issuer.clock.advance(100)
    assert (health(guard)["status"], health(guard)["fresh"]) == ("unused", True)


# How long a list is used


@pytest.mark.parametrize(
    ("attributes", "seconds"),
    [
        ({"ttl": 60}, 60),
        ({"ttl": 60, "cache_control": "max-age=5"}, 60),  # the token's claims override HTTP's
        ({"ttl": 60, "expires_in": 20}, 50),  # with the leeway of 30 s
        ({"ttl": 600, "expires_in": None}, 600),
        ({"ttl": 0.001}, 1),
        ({"ttl": 10**9}, 1000),  # KeyPolicy(max_age=)
        ({"ttl": None}, 100),  # KeyPolicy(refresh=)
        ({"ttl": None, "cache_control": "max-age=40"}, 40),
        ({"ttl": None, "cache_control": "max-age=4000"}, 100),
        ({"ttl": None, "expires_in": 20, "cache_control": "max-age=5"}, 50),
    ],
    ids=str,
)
def test_TSL_01_a_list_is_used_until_its_ttl_or_exp(
    issuer: LocalIssuer, attributes: dict[str, Any], seconds: float
) -> None:
    for name, value in attributes.items():
        setattr(issuer.status_list, name, value)
    with guarding(issuer, policy=KeyPolicy(refresh=100, max_age=1000)) as guard:
        sent, issuer.status_list[7] = token(issuer), 0
        assert code(guard, sent) == "valid"
        guard.close()  # nothing is refreshed ahead: what is left is the age of the list
        issuer.status_list[7] = 1
        issuer.clock.advance(seconds - 0.01)
        assert code(guard, sent) == "valid"
        issuer.clock.advance(0.02)
        assert code(guard, sent) == "status_not_valid"


def test_TSL_01_a_warm_token_is_refused_when_its_list_reaches_its_age(
    issuer: LocalIssuer, guard: Guard
) -> None:
    sent = token(issuer)
    assert code(guard, sent) == "valid"
    header = f"Bearer {sent}"
    assert recalled(guard, header)
    issuer.status_list[7] = 1
    issuer.clock.advance(60)
    assert recalled(guard, header) is None
    assert code(guard, sent) == "status_not_valid"


def test_TSL_01_a_newer_list_ends_warm_tokens_at_once_and_spares_the_others(
    issuer: LocalIssuer, guard: Guard
) -> None:
    revoked, other = token(issuer, 7), token(issuer, 8)
    assert {code(guard, each) for each in (revoked, other)} == {"valid"}
    assert recalled(guard, f"Bearer {revoked}")
    issuer.status_list[7] = 1
    refresh(guard, issuer)
    assert recalled(guard, f"Bearer {revoked}") is None
    assert recalled(guard, f"Bearer {other}") is None  # its status is checked again …
    fetched = issuer.hits[PATH]
    assert code(guard, revoked) == "status_not_valid"
    assert code(guard, other) == "valid"
    assert recalled(guard, f"Bearer {other}")  # … without a fetch, and then it is warm again
    assert issuer.hits[PATH] == fetched


def test_a_token_that_is_valid_again_passes(issuer: LocalIssuer, guard: Guard) -> None:
    issuer.status_list.bits = 2
    issuer.status_list[7] = 2
    sent = token(issuer)
    assert code(guard, sent) == "status_not_valid"
    issuer.status_list[7] = 0
    refresh(guard, issuer)
    assert code(guard, sent) == "valid"


def refresh(guard: Guard, issuer: LocalIssuer) -> None:
    """Have the thread refresh the list, as it does when the time has come."""
    cache = lists(guard)[0]
    before = issuer.hits[PATH]
    issuer.clock.advance(57)  # it is due after 80 to 95 % of a minute
    guard.run(cache.refresh())
    assert issuer.hits[PATH] == before + 1


def lists(guard: Guard) -> list[Any]:
    statuses = guard._trust.statuses
    assert statuses is not None
    return list(statuses._all())


# Refreshing ahead


def test_a_list_in_use_is_refreshed_ahead_by_the_thread() -> None:
    """By the real clock: the list has a ttl of 1.2 s, and is fetched again before that."""
    issuer = LocalIssuer(algorithm="ES256")
    issuer.status_list.ttl = 1.2
    with guarding(issuer) as guard:
        sent = token(issuer)
        waited: list[float] = []
        began = time.monotonic()
        while time.monotonic() - began < 4:
            asked = time.perf_counter()
            assert code(guard, sent) == "valid"
            waited.append(time.perf_counter() - asked)
            time.sleep(0.01)
        assert 3 <= issuer.hits[PATH] <= 6
        issuer.status_list[7] = 1
        began = time.monotonic()
        while code(guard, sent) == "valid":
            assert time.monotonic() - began < 10, "the change was never noticed"
            time.sleep(0.01)
        print(f"revoked in the list, refused after {time.monotonic() - began:.2f} s (ttl 1.2 s)")


def test_a_list_that_no_token_uses_is_not_refreshed(issuer: LocalIssuer, guard: Guard) -> None:
    sent = token(issuer)
    assert code(guard, sent) == "valid"
    refresh(guard, issuer)
    cache = lists(guard)[0]
    assert cache.next_refresh() is None
    issuer.clock.advance(57)
    guard.run(cache.refresh())
    assert issuer.hits[PATH] == 2
    assert code(guard, sent) == "valid"  # it is used again, and planned
    assert cache.next_refresh() == 0.0


def test_the_clock_set_back_prolongs_no_list(issuer: LocalIssuer) -> None:
    monotonic = Clock(1000.0)
    with guarding(issuer, monotonic=monotonic) as guard:
        sent = token(issuer)
        assert code(guard, sent) == "valid"
        issuer.status_list[7] = 1
        issuer.clock.advance(-200 + 59)
        monotonic.advance(59)
        assert code(guard, sent) == "valid"
        issuer.clock.advance(2)
        monotonic.advance(2)
        assert code(guard, sent) == "status_not_valid"


def test_a_child_process_plans_the_refresh_again(issuer: LocalIssuer, guard: Guard) -> None:
    sent = token(issuer)
    assert code(guard, sent) == "valid"
    assert recalled(guard, f"Bearer {sent}")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            was_warm = recalled(guard, f"Bearer {sent}") is not None
            passed = code(guard, sent) == "valid"
            planned = lists(guard)[0]._is_planned
            os.write(writing, bytes([was_warm, passed, planned, issuer.hits[PATH]]))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    assert os.read(reading, 9) == bytes([False, True, True, 1])
    os.close(reading)
    assert os.waitpid(child, 0)[1] == 0


# Failures


def test_TSL_01_an_outage_is_bridged_until_the_ttl_then_503(
    issuer: LocalIssuer, guard: Guard, events: list[Event]
) -> None:
    sent = token(issuer)
    assert code(guard, sent) == "valid"
    issuer.outage = True
    issuer.clock.advance(59)
    assert code(guard, sent) == "valid"
    issuer.clock.advance(1)
    with pytest.raises(StatusUnavailable) as caught:
        guard.verify(sent)
    assert caught.value.retry_after == 1
    assert caught.value.temporary
    assert "status 503" in str(caught.value)
    assert [each.code for each in events[-2:]] == ["status_list_failed", "status_unavailable"]
    issuer.outage = False
    issuer.clock.advance(1)
    assert code(guard, sent) == "valid"
    assert events[-1].code == "status_list_restored"


def test_TSL_01_an_issuer_that_is_down_is_asked_less_and_less_often(
    issuer: LocalIssuer, guard: Guard
) -> None:
    guard.warm()
    issuer.outage = True
    sent = token(issuer)
    for _ in range(600):  # ten minutes, a request a second
        assert code(guard, sent) == "status_unavailable"
        issuer.clock.advance(1)
    assert issuer.hits[PATH] <= 26  # 1, 2, 4, 8, 16 and then every 30 s
    issuer.outage = False
    issuer.clock.advance(30)
    assert code(guard, sent) == "valid"


def test_TSL_01_a_hundred_requests_at_once_cause_one_fetch(
    issuer: LocalIssuer, guard: Guard
) -> None:
    guard.warm()
    issuer.delay = 0.1
    found: list[str] = []
    sent = [token(issuer, index) for index in range(100)]
    threads = [
        threading.Thread(target=lambda each=each: found.append(code(guard, each))) for each in sent
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, issuer.hits[PATH]) == (["valid"] * 100, 1)


def test_TSL_01_tasks_at_once_cause_one_fetch(issuer: LocalIssuer, guard: Guard) -> None:
    async def ask() -> None:
        async with anyio.create_task_group() as tasks:
            for index in range(50):
                tasks.start_soon(guard.averify, token(issuer, index))

    guard.warm()
    issuer.delay = 0.05
    anyio.run(ask)
    assert issuer.hits[PATH] == 1


def test_TSL_01_the_key_of_a_list_may_be_rotated(issuer: LocalIssuer, guard: Guard) -> None:
    sent = token(issuer)
    assert code(guard, sent) == "valid"
    issuer.rotate()  # the list is signed with a key that the guard does not know yet
    issuer.clock.advance(61)
    assert code(guard, sent) == "valid"
    assert issuer.hits["/jwks"] == 2
    assert code(guard, token(issuer)) == "valid"


def test_TSL_01_a_list_ends_with_the_key_that_signed_it(issuer: LocalIssuer) -> None:
    issuer.status_list.ttl = 80_000
    with guarding(issuer) as guard:
        first = issuer.key
        issuer.rotate()
        sent = token(issuer)
        issuer.status_list.key = first
        assert code(guard, sent) == "valid"
        issuer.status_list.key = None
        assert first.kid is not None
        issuer.remove(first.kid)
        issuer.status_list[7] = 1
        issuer.clock.advance(101)  # the keys are fetched again
        assert code(guard, sent) == "status_not_valid"
        assert issuer.hits[PATH] == 2


def test_TSL_01_a_list_that_a_withdrawn_key_signed_says_nothing(issuer: LocalIssuer) -> None:
    with guarding(issuer, revocations=Revocations()) as guard:
        first = issuer.key
        issuer.rotate()
        issuer.status_list.key = first
        guard.revoke(key_id=first.kid)
        assert code(guard, token(issuer)) == "status_unavailable"
        issuer.status_list.key = None
        issuer.clock.advance(2)
        assert code(guard, token(issuer)) == "valid"


def test_a_list_is_checked_before_revocations_and_both_refuse(issuer: LocalIssuer) -> None:
    with guarding(issuer, revocations=Revocations()) as guard:
        sent = token(issuer)
        assert code(guard, sent) == "valid"
        guard.revoke(sent)
        assert code(guard, sent) == "revoked"
        assert code(guard, token(issuer, 8)) == "valid"


def test_an_introspected_token_is_refused_when_a_newer_list_says_so(issuer: LocalIssuer) -> None:
    trusted = issuer.issuer(
        status_lists=[issuer.status_list.uri],
        introspection=issuer.introspection.options(cache_ttl=3600),
    )
    with Guard(trusted, transport=issuer.transport(), clock=issuer.clock) as guard:
        sent = issuer.opaque_token(claims=issuer.status_list.reference(7))
        plain = issuer.opaque_token()
        assert {code(guard, each) for each in (sent, plain)} == {"valid"}
        asked = issuer.hits["/introspect"]
        assert recalled(guard, f"Bearer {sent}")
        issuer.status_list[7] = 1
        refresh(guard, issuer)
        assert recalled(guard, f"Bearer {plain}")
        assert recalled(guard, f"Bearer {sent}") is None
        assert code(guard, sent) == "status_not_valid"
        assert issuer.hits["/introspect"] == asked  # the response is cached


def test_a_tenant_has_lists_of_its_own() -> None:
    keys = LocalIssuer("https://id.test/{tenant}", algorithm="ES256", clock=Clock(NOON))
    asked: list[str] = []

    class Lists:
        def fetch(self, request: Fetch) -> Response:
            asked.append(request.url)
            keys.status_list.claims = {"sub": request.url}
            return Response(200, (), keys.status_list.token(keys.key).encode())

        async def afetch(self, request: Fetch) -> Response:
            return self.fetch(request)

    pattern = keys.issuer(
        keys=keys.jwks(),
        tenants=["a", "b"],
        status_lists=["https://id.test/{tenant}/lists/*"],
    )
    with Guard(pattern, transport=Lists(), clock=keys.clock) as guard:

        def of(tenant: str, uri: str) -> str:
            reference = {"status_list": {"idx": 1, "uri": uri}}
            return keys.token(claims={"iss": f"https://id.test/{tenant}", "status": reference})

        assert code(guard, of("a", "https://id.test/a/lists/1")) == "valid"
        assert code(guard, of("a", "https://id.test/b/lists/1")) == "bad_status"
        assert code(guard, of("b", "https://id.test/b/lists/1")) == "valid"
    assert asked == ["https://id.test/a/lists/1", "https://id.test/b/lists/1"]


def test_lists_not_used_lately_are_dropped_and_fetched_again() -> None:
    issuer = LocalIssuer(algorithm="ES256", clock=Clock(NOON))
    fetched: list[str] = []

    class Lists:
        def fetch(self, request: Fetch) -> Response:
            fetched.append(request.url)
            issuer.status_list.claims = {"sub": request.url}
            return Response(200, (), issuer.status_list.token(issuer.key).encode())

        async def afetch(self, request: Fetch) -> Response:
            return self.fetch(request)

    trusted = issuer.issuer(keys=issuer.jwks(), status_lists=["https://issuer.test/lists/*"])
    with Guard(trusted, transport=Lists(), clock=issuer.clock) as guard:
        for number in range(300):
            reference = {"idx": 1, "uri": f"https://issuer.test/lists/{number}"}
            assert code(guard, issuer.token(claims={"status": {"status_list": reference}})) == (
                "valid"
            )
        assert len(lists(guard)) <= 128
    assert len(fetched) == 300


# Over HTTP: a server that is hostile or broken


def _slow(_request: Request) -> Response:
    time.sleep(1)
    return Response(200)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (lambda _: Response(302, (("Location", "https://evil.test/"),)), "redirect"),
        (lambda _: Response(404), "404"),
        (lambda _: Response(200, (), b"x" * 2**20), "bytes"),
        (lambda _: Response(200, (), bytes(range(256))), "JWT"),
        (lambda _: Response(200, (), b"a.b.c"), "base64url"),
        (lambda _: Response(200, (("Content-Encoding", "gzip"),), b"garbage"), "Content-Encoding"),
        (lambda _: None, "closed"),
        (_slow, "timed out"),
    ],
    ids=["redirect", "404", "huge", "binary", "no JWT", "bad gzip", "closed", "slow"],
)
def test_TSL_01_a_server_that_is_broken_is_503(
    response: Callable[[Request], Response | None], said: str
) -> None:
    issuer, asked = LocalIssuer(algorithm="ES256"), list[Request]()

    def counted(request: Request) -> Response | None:
        asked.append(request)
        return response(request)

    with serving(counted) as url, HttpTransportOf(0.5) as transport:
        issuer.url = url
        uri = f"{url}{PATH}"
        trusted = issuer.issuer(keys=issuer.jwks(), status_lists=[uri])
        events: list[Event] = []
        with Guard(trusted, transport=transport, on_event=events.append) as guard:
            assert code(guard, token(issuer)) == "status_unavailable"
            before = len(asked)
            assert code(guard, token(issuer)) == "status_unavailable"
            assert len(asked) == before > 0, "the second was not answered at once"
    assert said in events[0].detail
    assert uri in events[0].detail


class HttpTransportOf:
    def __init__(self, timeout: float) -> None:
        self._transport = HttpTransport(timeout=timeout)

    def __enter__(self) -> HttpTransport:
        return self._transport

    def __exit__(self, *_: object) -> None:
        self._transport.close()


@pytest.mark.no_cover
def test_TSL_01_a_list_of_a_million_tokens_is_fetched_over_http() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    seeded = random.Random(20)
    statuses = [seeded.randrange(2) for _ in range(10**6)]
    issuer.status_list.claims = {"status_list": status_list.encode(statuses)}
    with issuer.serve():
        uri = issuer.status_list.uri
        seen: list[FetchRecord] = []

        class Observer:
            def decided(self, _record: object) -> None: ...

            def fetched(self, record: FetchRecord) -> None:
                seen.append(record)

        with Guard(issuer.issuer(status_lists=[uri]), observers=[Observer()]) as guard:
            for index in (0, 1, 2, 3, 999_998, 999_999):
                expected = "status_not_valid" if statuses[index] else "valid"
                assert code(guard, token(issuer, index)) == expected
            assert code(guard, token(issuer, 10**6)) == "bad_status"
    mine = [record for record in seen if record.target == "status_list"]
    assert [(record.result, record.status, record.url) for record in mine] == [("ok", 200, uri)]
    assert mine[0].octets is not None
    print(f"a list of 1,000,000 statuses: {mine[0].octets} octets, {mine[0].seconds * 1000:.0f} ms")


def test_the_request_asks_for_a_status_list_token(issuer: LocalIssuer) -> None:
    asked: list[Fetch] = []

    class Recording:
        def fetch(self, request: Fetch) -> Response:
            asked.append(request)
            return issuer.transport().fetch(request)

        async def afetch(self, request: Fetch) -> Response:
            return self.fetch(request)

    with guarding(issuer, transport=Recording()) as guard:
        assert code(guard, token(issuer)) == "valid"
    assert (asked[-1].method, asked[-1].headers) == (
        "GET",
        (("accept", "application/statuslist+jwt"),),
    )


# What an operator sees


def test_a_refusal_says_which_status_it_is_and_nothing_of_the_token(
    issuer: LocalIssuer, guard: Guard, events: list[Event]
) -> None:
    issuer.status_list.bits = 4
    for status, name in ((1, "INVALID"), (2, "SUSPENDED"), (13, "13, whose meaning the issuer")):
        issuer.status_list[status] = status
        assert code(guard, token(issuer, status)) == "status_not_valid"
        assert name in events[-1].detail
        assert issuer.status_list.uri in events[-1].detail
        issuer.clock.advance(61)


def test_an_explanation_has_the_status(issuer: LocalIssuer, guard: Guard) -> None:
    def explained(sent: str) -> tuple[str, str]:
        found = next(each for each in guard.explain(sent).checks if each.name == "status")
        return found.status, found.actual

    assert explained(token(issuer)) == ("passed", "VALID")
    assert explained(issuer.token()) == ("passed", "the token names no list")
    assert explained(issuer.token(claims={"sub": 7})) == ("not reached", "")
    issuer.status_list[7] = 1
    issuer.clock.advance(61)
    status, actual = explained(token(issuer))
    assert (status, "INVALID" in actual) == ("failed", True)
    issuer.outage = True
    issuer.clock.advance(61)
    assert explained(token(issuer))[0] == "failed"
    with Guard(
        issuer.issuer(keys=issuer.jwks()), transport=issuer.transport(), clock=issuer.clock
    ) as plain:
        assert "status" not in [each.name for each in plain.explain(token(issuer)).checks]


def test_a_revocation_of_a_token_needs_no_status_list(issuer: LocalIssuer) -> None:
    with guarding(issuer, revocations=Revocations()) as guard:
        guard.warm()
        first, second = token(issuer), token(issuer, 8)
        issuer.outage = True
        guard.revoke(first)
        assert code(guard, issuer.token()) == "valid"  # the key is known by now
        guard.revoke(second)
        issuer.outage = False
        issuer.clock.advance(2)
        assert {code(guard, each) for each in (first, second)} == {"revoked"}


# Configuration

URL = "https://id.example.com"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"status_lists": "https://id.example.com/lists/*"}, "status_lists=: pass a list"),
        ({"status_lists": [7]}, "status_lists=: pass a list"),
        ({"status_lists": ["*"]}, "no URL with a path"),
        ({"status_lists": ["https://*/lists"]}, "no URL with a path"),
        ({"status_lists": ["http://id.example.com/lists/*"]}, "no https URL"),
        ({"status_lists": ["http://127.0.0.1/lists/*"]}, "no https URL"),
        ({"require_status": True}, "pass status_lists="),
        ({"require_status": "yes"}, "require_status=: pass True or False"),
        (
            {"status_lists": ["https://id.example.com/l"], "shared_secret": "s" * 64},
            "shared_secret=",
        ),
    ],
    ids=str,
)
def test_a_mistake_in_an_option_is_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace("*", r"\*")):
        Issuer(URL, audience="api", **options)


def test_the_options_are_read_from_the_environment() -> None:
    guard = Guard.from_env(
        {
            "BEARERGUARD_ISSUER": URL,
            "BEARERGUARD_AUDIENCE": "api",
            "BEARERGUARD_STATUS_LISTS": f"{URL}/a,{URL}/b/*",
            "BEARERGUARD_REQUIRE_STATUS": "true",
        }
    )
    issuer = guard.issuers[0]
    assert (issuer.status_lists, issuer.require_status) == ((f"{URL}/a", f"{URL}/b/*"), True)


def test_a_guard_without_lists_holds_nothing_for_them() -> None:
    with Guard(Issuer(URL, audience="api")) as guard:
        assert guard._trust.statuses is None
    how = Introspection(client_id="api", client_secret="s" * 16)
    assert Issuer(URL, audience="api", introspection=how).status_lists == ()


def test_a_token_error_names_the_issuer_and_its_hint(issuer: LocalIssuer) -> None:
    trusted = issuer.issuer(
        status_lists=[issuer.status_list.uri],
        require_status=True,
        hints={"bad_status": "ask the identity team"},
    )
    with (
        Guard(trusted, transport=issuer.transport(), clock=issuer.clock) as guard,
        pytest.raises(TokenError, match="ask the identity team") as caught,
    ):
        guard.verify(issuer.token())
    assert caught.value.issuer == issuer.url


# What happens between two steps


def test_an_issuer_without_lists_beside_one_with_lists_is_not_affected() -> None:
    clock = Clock(NOON)
    listing = LocalIssuer("https://a.test", algorithm="ES256", clock=clock)
    other = LocalIssuer("https://b.test", algorithm="ES256", clock=clock)

    class Both:
        def fetch(self, request: Fetch) -> Response:
            of = listing if request.url.startswith(listing.url) else other
            return of.transport().fetch(request)

        async def afetch(self, request: Fetch) -> Response:
            return self.fetch(request)

    issuers = (
        listing.issuer(status_lists=[listing.status_list.uri], require_status=True),
        other.issuer(introspection=other.introspection.options()),
    )
    with Guard(*issuers, transport=Both(), clock=clock) as guard:
        elsewhere = other.status_list.reference(7)
        other.status_list[7] = 1
        assert code(guard, other.token(claims=elsewhere)) == "valid"
        assert code(guard, other.opaque_token(claims=elsewhere)) == "valid"
        assert code(guard, listing.token(claims=elsewhere)) == "bad_status"
        assert code(guard, token(listing)) == "valid"
        assert code(guard, listing.token()) == "bad_status"


def test_a_transport_that_raises_anything_is_503_and_named_by_its_kind(
    issuer: LocalIssuer, events: list[Event]
) -> None:
    class Failing:
        def fetch(self, request: Fetch) -> Response:
            if PATH in request.url:
                raise KeyError("a secret")
            return issuer.transport().fetch(request)

        async def afetch(self, request: Fetch) -> Response:
            return self.fetch(request)

    with guarding(issuer, transport=Failing(), on_event=events.append) as guard:
        assert code(guard, token(issuer)) == "status_unavailable"
    assert events[-2].detail == f"{issuer.status_list.uri}: KeyError was raised"


def test_a_request_that_takes_over_a_fetch_finds_that_it_is_done(
    issuer: LocalIssuer, guard: Guard
) -> None:
    assert code(guard, token(issuer)) == "valid"
    guard.run(lists(guard)[0]._first_fetch())
    assert issuer.hits[PATH] == 1


def test_a_key_without_an_id_may_sign_a_list(issuer: LocalIssuer) -> None:
    issuer.rename(None)
    with guarding(issuer, revocations=Revocations()) as guard:
        assert code(guard, token(issuer)) == "valid"


def test_a_token_with_a_status_outlives_the_refresh_of_its_key(
    issuer: LocalIssuer, guard: Guard
) -> None:
    issuer.status_list.ttl = 50_000
    sent = token(issuer)
    assert code(guard, sent) == "valid"
    for _ in range(5):
        issuer.clock.advance(101)  # the keys are due, and then overdue
        assert code(guard, sent) == "valid"
    assert issuer.hits[PATH] == 1
    issuer.rotate(keep=False)
    issuer.clock.advance(101)
    assert code(guard, sent) == "unknown_key"  # a withdrawn key ends what it has signed


def test_an_introspected_token_that_was_refused_is_refused_again(issuer: LocalIssuer) -> None:
    trusted = issuer.issuer(
        status_lists=[issuer.status_list.uri], introspection=issuer.introspection.options()
    )
    issuer.status_list[7] = 1
    with Guard(trusted, transport=issuer.transport(), clock=issuer.clock) as guard:
        sent = issuer.opaque_token(claims=issuer.status_list.reference(7))
        assert [code(guard, sent) for _ in range(3)] == ["status_not_valid"] * 3
        assert recalled(guard, f"Bearer {sent}") is None
        assert issuer.hits["/introspect"] == 1
        found = {each.name: each.status for each in guard.explain(sent).checks}
        assert found["status"] == "failed"


def test_a_list_that_was_dropped_while_it_is_used_plans_nothing(
    issuer: LocalIssuer, guard: Guard
) -> None:
    assert code(guard, token(issuer)) == "valid"
    cache = lists(guard)[0]
    cache.retire()
    cache.unschedule()
    assert code(guard, token(issuer)) == "valid"
    assert cache.next_refresh() is None
