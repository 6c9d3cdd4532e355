"""What every framework does alike: a test for each behaviour, run once for each framework.

The rows of the conformance table are in `test_conformance`. Here are the features that reach across
frameworks, and what a framework might lose of a refusal or a response by its own ways.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

import tests.django_project  # noqa: F401 - before anything that reads Django's settings
from bearerguard import (
    DecisionRecord,
    Event,
    FetchRecord,
    Guard,
    Issuer,
    Revocations,
    scopes,
    step_up,
)
from bearerguard.cli import app as command_line
from bearerguard.middleware.app_guard import guard_at
from bearerguard.testing import Clock, LocalIssuer, trusted

# isort: split
from django.conf import settings
from django.core.cache import caches
from django.test.utils import override_settings

from tests.adapters.frameworks import ALONE, FRAMEWORKS, WHOLE, Served
from tests.conformance.drivers import Received, Sent
from tests.conformance.scenario import challenge_parameters
from tests.uvicorn_thread import running

ISSUER = LocalIssuer(algorithm="ES256")
PREFLIGHT = (("Origin", b"https://app.test"), ("Access-Control-Request-Method", b"GET"))
# Their routes make the body of a refusal, as their users expect of all errors.
OWN_BODY = {"litestar", *(each for each in FRAMEWORKS if "ninja" in each or "rest" in each)} - {
    "rest framework",
    "ninja",
}

# Those behind middleware of Django.
DJANGOS = [each for each in FRAMEWORKS if "django" in each or "rest" in each or "ninja" in each]
# Those with websockets.
SOCKETS = ("starlette", "fastapi", "fastapi alone", "quart", "litestar")

# Where the metadata of the API `https://api.test` is, which every challenge names (PRM-03).
METADATA_URL = "https://api.test/.well-known/oauth-protected-resource"

every = pytest.mark.parametrize("framework", FRAMEWORKS)
whole = pytest.mark.parametrize("framework", WHOLE)


def get(
    served: Served, target: str, token: str | None = None, method: str = "GET", **headers: bytes
) -> Received:
    sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if token is not None:
        sent.append(("Authorization", f"Bearer {token}".encode()))
    return served.call(Sent(sent, method=method, target=target))


def token(*names: str, **claims: Any) -> str:
    return ISSUER.token(scopes=names, subject="ada", **claims)


def check_refusal(received: Received, status: int, **expected: str) -> None:
    """Check the status and the parameters of the one challenge."""
    assert received.status == status, received.body
    assert received.values("cache-control") == ["no-store"]
    parameters = challenge_parameters(received.one("www-authenticate"))
    parameters.pop("error_description", None)
    assert parameters == {"realm": "api", **expected, "resource_metadata": METADATA_URL}


@every
def test_a_good_token_passes_and_the_route_knows_the_caller(framework: str) -> None:
    with ISSUER.guard() as guard, FRAMEWORKS[framework](guard) as served:
        received = get(served, "/who", token())
    assert received.status == 200
    assert b"ada" in received.body


@every
def test_a_response_has_the_expiry_and_stays_private(framework: str) -> None:
    with ISSUER.guard() as guard, FRAMEWORKS[framework](guard) as served:
        received = get(served, "/who", token())
    if framework in ALONE and framework != "fastapi alone":
        # Only the middleware of Django sees their responses: the documentation says so.
        assert received.values("access-token-expires-in") == []
        return
    assert 0 < int(received.one("access-token-expires-in")) <= 3600
    assert "private" in received.one("cache-control")


@every
def test_no_token_and_a_bad_token_are_refused_with_the_challenge(framework: str) -> None:
    with ISSUER.guard() as guard, FRAMEWORKS[framework](guard) as served:
        check_refusal(get(served, "/who"), 401)
        expired = token(expires_in=-600)
        check_refusal(get(served, "/who", expired), 401, error="invalid_token")
        check_refusal(get(served, "/who", "a b"), 400, error="invalid_request")


@every
def test_what_guard_and_route_require_is_one_requirement(framework: str) -> None:
    with ISSUER.guard(require=scopes("read")) as guard, FRAMEWORKS[framework](guard) as served:
        weak = {"error": "insufficient_scope", "scope": "read write"}
        check_refusal(get(served, "/write", token("read")), 403, **weak)
        check_refusal(
            get(served, "/write"), 401, scope="read" if framework in WHOLE else "read write"
        )
        assert get(served, "/write", token("read", "write")).status == 200
        assert get(served, "/who", token("write")).status == 403


@every
def test_STEP_01_a_route_demands_a_recent_or_a_strong_login(framework: str) -> None:
    now = ISSUER.clock()
    login = {"acr": "phr", "auth_time": int(now)}
    old, weak = {**login, "auth_time": int(now) - 1000}, {**login, "acr": "pwd"}
    demanded = {
        "error": "insufficient_user_authentication",
        "acr_values": "phr phrh",
        "max_age": "300",
    }
    with ISSUER.guard() as guard, FRAMEWORKS[framework](guard) as served:
        assert get(served, "/fresh", token("write", claims=login)).status == 200
        for claims in (old, weak, {}):
            refused = get(served, "/fresh", token("write", claims=claims))
            check_refusal(refused, 401, **demanded)
            if refused.one("content-type") == "application/problem+json":
                body = json.loads(refused.body)
                assert (body["acr_values"], body["max_age"]) == ("phr phrh", 300)
        refused = get(served, "/fresh", token(claims=old))
        check_refusal(refused, 401, **demanded, scope="write")
        refused = get(served, "/fresh", token(claims=login))
        check_refusal(refused, 403, error="insufficient_scope", scope="write")


@every
def test_STEP_01_a_login_becomes_too_old_for_a_token_that_is_used_all_the_time(
    framework: str,
) -> None:
    clock = Clock(1_800_000_000.0)
    issuer = LocalIssuer(algorithm="ES256", clock=clock)
    bearing = issuer.token(subject="ada", claims={"auth_time": int(clock())})
    guard = issuer.guard(require=step_up(max_age=300))
    with guard, FRAMEWORKS[framework](guard) as served:
        for _ in range(3):
            assert get(served, "/who", bearing).status == 200
        clock.advance(331)
        refused = get(served, "/who", bearing)
    check_refusal(refused, 401, error="insufficient_user_authentication", max_age="300")


@every
def test_SCOPE_01_a_scope_counts_for_those_that_it_implies(framework: str) -> None:
    implies = {"admin": ["publish"], "publish": ["write", "read"]}
    with (
        ISSUER.guard(require=scopes("read"), implies=implies) as guard,
        FRAMEWORKS[framework](guard) as served,
    ):
        for _ in range(2):  # the second time, the token is cached
            assert get(served, "/write", token("admin")).status == 200
        weak = {"error": "insufficient_scope", "scope": "read write"}
        check_refusal(get(served, "/write", token("read")), 403, **weak)


@every
def test_a_role_that_is_missing_is_named_to_the_operator_alone(framework: str) -> None:
    events: list[Event] = []
    with ISSUER.guard(on_event=events.append) as guard, FRAMEWORKS[framework](guard) as served:
        refused = get(served, "/boss", token("read"))
        assert refused.status == 403
        assert b"boss" not in refused.body
        assert get(served, "/boss", token(roles=["boss"])).status == 200
    (event,) = [each for each in events if each.code == "requirement_unmet"]
    assert "role 'boss'" in event.detail


@every
def test_an_issuer_that_is_down_is_503_and_never_401(framework: str) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    issuer.outage = True
    with issuer.guard() as guard, FRAMEWORKS[framework](guard) as served:
        received = get(served, "/who", issuer.token())
    assert received.status == 503
    assert int(received.one("retry-after")) >= 1
    assert received.values("www-authenticate") == []
    assert received.values("cache-control") == ["no-store"]


@every
def test_an_optional_route_has_the_anonymous_caller_and_refuses_a_bad_token(framework: str) -> None:
    with ISSUER.guard() as guard, FRAMEWORKS[framework](guard) as served:
        bare = get(served, "/maybe")
        assert (bare.status, bare.body.strip(b'"')) == (200, b"")
        assert b"ada" in get(served, "/maybe", token()).body
        check_refusal(get(served, "/maybe", "a.b.c"), 401, error="invalid_token")


@every
def test_an_excluded_route_has_the_anonymous_caller_whatever_is_sent(framework: str) -> None:
    with ISSUER.guard() as guard, FRAMEWORKS[framework](guard) as served:
        for sent in (None, "a.b.c", token()):
            received = get(served, "/open", sent)
            assert (received.status, received.body.strip(b'"')) == (200, b"")
            assert received.values("access-token-expires-in") == []


@every
def test_head_has_the_status_and_the_headers_of_get(framework: str) -> None:
    names = ("www-authenticate", "cache-control", "access-token-expires-in", "vary")
    now = ISSUER.clock()
    with ISSUER.guard(clock=lambda: now) as guard, FRAMEWORKS[framework](guard) as served:
        for sent, status in ((None, 401), ("a.b.c", 401), (token(), 200)):
            answers = [get(served, "/who", sent, method) for method in ("GET", "HEAD")]
            assert [each.status for each in answers] == [status, status]
            found, expected = ([each.values(name) for name in names] for each in answers)
            assert found == expected


@whole
def test_a_preflight_never_reaches_a_route_and_passes_where_that_was_asked_for(
    framework: str,
) -> None:
    events: list[Event] = []
    with ISSUER.guard(on_event=events.append) as guard:
        with WHOLE[framework](guard) as served:
            received = served.call(Sent([*PREFLIGHT], method="OPTIONS", target="/who"))
        if framework in {"flask", "quart"}:  # their own response, which no view has made
            assert received.status == 200
            assert "allow" in dict(received.headers)
        else:
            assert received.status == 401
            assert [each.code for each in events if each.code == "preflight_refused"]
            with WHOLE[framework](guard, pass_preflights=True) as served:
                passed = served.call(Sent([*PREFLIGHT], method="OPTIONS", target="/who"))
            # REST framework asks the permissions of the view then.
            assert (passed.status == 401) is (framework == "rest framework")


@every
def test_a_body_of_the_apps_own_refuses(framework: str) -> None:
    def denial_body(decision: Any) -> tuple[str, bytes]:
        return "text/plain", f"no: {decision.status}".encode()

    with (
        ISSUER.guard(denial_body=denial_body) as guard,
        FRAMEWORKS[framework](guard) as served,
    ):
        received = get(served, "/who")
        refused_by_route = get(served, "/write", token())
    check_refusal(received, 401)
    is_own = framework in OWN_BODY
    assert (received.body == b"no: 401") is not is_own
    by_route_is_own = is_own or framework in {"rest framework", "ninja"}
    assert (refused_by_route.body == b"no: 403") is not by_route_is_own


@every
def test_a_refusal_names_the_request(framework: str) -> None:
    events: list[Event] = []
    with ISSUER.guard(on_event=events.append) as guard, FRAMEWORKS[framework](guard) as served:
        for target, sent in (("/who", None), ("/who", "a.b.c"), ("/write", token())):
            events.clear()
            get(served, target, sent, X_Request_ID=b"request-7")
            (event,) = [each for each in events if each.code != "keys_fetched"]
            assert event.details["method"] == "GET"
            assert event.details["request_id"] == "request-7"
            assert event.details["route"] == target  # the template, where one has parameters


@every
def test_the_operator_reads_what_a_request_has_instead_of_a_token(framework: str) -> None:
    events: list[Event] = []
    with ISSUER.guard(on_event=events.append) as guard, FRAMEWORKS[framework](guard) as served:
        assert get(served, "/write").status == 401
        assert get(served, "/write", Authorization=b"Token secret-7").status == 401
    bare, other = [each.detail for each in events if each.code == "missing_credentials"]
    assert "no Authorization header" in bare
    assert "WSGIPassAuthorization On" in bare
    assert "the scheme Token" in other
    assert "secret-7" not in other


class Recorder:
    def __init__(self) -> None:
        self.decisions: list[DecisionRecord] = []

    def decided(self, record: DecisionRecord) -> None:
        self.decisions.append(record)

    def fetched(self, record: FetchRecord) -> None: ...


@every
def test_observers_count_requests_and_refusals_by_routes_alike(framework: str) -> None:
    recorder = Recorder()

    def counted(target: str, sent: str | None) -> list[tuple[str, str, str | None]]:
        recorder.decisions.clear()
        get(served, target, sent)
        return [(each.kind, each.result, each.reason) for each in recorder.decisions]

    passed = ("request", "allow", None)
    bare = ("request", "allow", "missing_credentials")
    with ISSUER.guard(observers=[recorder]) as guard, FRAMEWORKS[framework](guard) as served:
        good = token()
        assert counted("/who", good) == counted("/who", good) == [passed]
        assert counted("/who", "a.b.c") == [("request", "deny", "malformed_token")]
        assert counted("/write", good) == [passed, ("route", "deny", "insufficient_scope")]
        assert counted("/maybe", None) == [bare]
        assert counted("/open", None) == counted("/open", good) == []
        refused = "missing_credentials"
        assert counted("/write", None) == (
            [("request", "deny", refused)]
            if framework in WHOLE
            else [bare, ("route", "deny", refused)]
        )


@every
def test_a_token_that_is_revoked_is_refused_at_the_next_request(framework: str) -> None:
    with (
        ISSUER.guard(revocations=Revocations()) as guard,
        FRAMEWORKS[framework](guard) as served,
    ):
        known = ISSUER.token(claims={"jti": framework})
        assert get(served, "/who", known).status == 200
        guard.revoke(token_id=framework)
        check_refusal(get(served, "/who", known), 401, error="invalid_token")


@every
def test_trusted_takes_the_app_itself(framework: str) -> None:
    guard = Guard(Issuer("https://id.example.com", audience="https://api.example.com"))
    with guard, FRAMEWORKS[framework](guard) as served:
        with trusted(served.app) as issuer:
            known = issuer.token(scopes=["write"], subject="ada")
            received = get(served, "/write", known)
        assert received.status == 200
        assert b"ada" in received.body


@every
def test_inspect_finds_the_guard_of_the_app(
    framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ISSUER.guard() as guard, FRAMEWORKS[framework](guard) as served:
        module: Any = ModuleType("an_api")
        module.app = served.app
        monkeypatch.setitem(sys.modules, "an_api", module)
        assert guard_at("an_api:app").guard is guard


@pytest.fixture(scope="module")
def served_issuer() -> Iterator[LocalIssuer]:
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.serve():
        yield issuer


@every
def test_doctor_finds_no_problem_of_an_api(
    framework: str, served_issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BEARERGUARD_ISSUER", "BEARERGUARD_AUDIENCE"):  # a guard that doctor would compare
        monkeypatch.delenv(name, raising=False)
    apps: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await apps[0](scope, receive, send)

    with running(app) as url:
        # Where routes alone authenticate, the app has to serve the metadata itself.
        resource: Any = f"{url}/who" if framework in WHOLE else False
        guard = served_issuer.guard(require=scopes("read"), resource=resource)
        with guard, FRAMEWORKS[framework](guard) as served:
            apps.append(served.asgi)
            done = CliRunner().invoke(command_line, ["doctor", f"{url}/who", "--json"])
    assert done.exit_code == 0, done.output
    (report,) = json.loads(done.stdout)["reports"]
    assert report["counts"]["problem"] == report["counts"]["warning"] == 0, report["findings"]
    checks = {each["check"] for each in report["findings"] if each["severity"] == "ok"}
    assert {"challenge.absent", "challenge.invalid", "challenge.head", "caching.refusal"} <= checks
    published = {"resource.metadata", "resource.challenge", "resource.servers"}
    assert published & checks == (published if framework in WHOLE else set())


@pytest.mark.parametrize("framework", DJANGOS)
def test_the_cache_of_django_serves_no_token_that_was_revoked(framework: str) -> None:
    cache = "django.middleware.cache.CacheMiddleware"
    guard = ISSUER.guard(revocations=Revocations())
    with (
        guard,
        FRAMEWORKS[framework](guard) as served,
        override_settings(MIDDLEWARE=[cache, *settings.MIDDLEWARE]),
    ):
        caches["default"].clear()
        known = ISSUER.token(claims={"jti": framework})
        assert get(served, "/who", known).status == 200
        assert get(served, "/who").status == 401
        guard.revoke(token_id=framework)
        check_refusal(get(served, "/who", known), 401, error="invalid_token")


def connect(app: Any, sent: str | None, **extensions: Any) -> list[Any]:
    """Open the websocket `/live` as a server would; return what the app sends."""
    headers = [] if sent is None else [(b"authorization", f"Bearer {sent}".encode())]
    scope = {
        "type": "websocket",
        "scheme": "wss",
        "http_version": "1.1",
        "path": "/live",
        "raw_path": b"/live",
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "subprotocols": [],
        "extensions": extensions,
    }
    received: list[Any] = []
    waiting = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        if not waiting:
            await anyio.sleep_forever()
        return waiting.pop()

    async def send(message: Any) -> None:
        received.append(message)

    anyio.run(app, scope, receive, send)
    return received


@pytest.mark.parametrize(
    "framework", ["starlette", "fastapi", "fastapi alone", "quart", "litestar"]
)
def test_a_websocket_is_accepted_or_refused_before_it_is_accepted(framework: str) -> None:
    with ISSUER.guard() as guard, FRAMEWORKS[framework](guard) as served:
        messages = connect(served.app, token("write"))
        assert [each["type"] for each in messages] == [
            "websocket.accept",
            "websocket.send",
            "websocket.close",
        ]
        assert messages[1]["text"] == "ada"
        for sent, status in ((None, 401), ("a b", 400), ("a.b.c", 401), (token(), 403)):
            (closed,) = connect(served.app, sent)
            assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
            start, *_ = connect(served.app, sent, **{"websocket.http.response": {}})
            assert (start["type"], start["status"]) == ("websocket.http.response.start", status)
            assert any(name.lower() == b"www-authenticate" for name, _ in start["headers"])


@pytest.mark.parametrize("framework", SOCKETS)
def test_STEP_01_a_websocket_whose_login_does_not_suffice_is_refused(framework: str) -> None:
    now = int(ISSUER.clock())
    needed = step_up(max_age=300)
    with ISSUER.guard(require=needed) as guard, FRAMEWORKS[framework](guard) as served:
        fresh, old = (token("write", claims={"auth_time": now - age}) for age in (0, 1000))
        assert connect(served.app, fresh)[1]["text"] == "ada"
        (closed,) = connect(served.app, old)
        assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
        start, *_ = connect(served.app, old, **{"websocket.http.response": {}})
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
        sent = {name.lower(): value for name, value in start["headers"]}
        assert b'error="insufficient_user_authentication"' in sent[b"www-authenticate"]
        assert b'max_age="300"' in sent[b"www-authenticate"]
