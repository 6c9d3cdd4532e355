"""Back-channel logout, through both adapters."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio
import httpx2
import pytest
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from bearerguard import ConfigurationError, Event, Guard, Revocations, TokenError
from bearerguard.backchannel import BackchannelLogout
from bearerguard.flask import BearerGuard
from bearerguard.protocol.events.logout_token import EVENT
from bearerguard.redis import RedisStore
from bearerguard.starlette import BearerMiddleware
from bearerguard.testing import LocalIssuer, SigningKey
from tests.adapters import posting
from tests.adapters.posting import Post, Reply
from tests.conformance.harness import NOON, Clock, with_claims
from tests.processes import START_SECONDS, free_port
from tests.redis_server import RedisServer

FORM = "application/x-www-form-urlencoded"


POSTS: dict[str, Post] = {
    "asgi": partial(posting.post_asgi, kind=FORM),
    "wsgi": partial(posting.post_wsgi, kind=FORM),
}


@pytest.fixture(params=list(POSTS.values()), ids=list(POSTS))
def post(request: pytest.FixtureRequest) -> Post:
    found: Post = request.param
    return found


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def guard(issuer: LocalIssuer, events: list[Event]) -> Guard:
    return issuer.guard(revocations=Revocations(), on_event=events.append)


@pytest.fixture
def logout(guard: Guard) -> BackchannelLogout:
    return BackchannelLogout(guard, client_id="app")


def logout_token(issuer: LocalIssuer, **changed: Any) -> str:
    usual: dict[str, Any] = {
        "aud": "app",
        "client_id": None,
        "events": {EVENT: {}},
        "expires_in": 120,
        "header": {"typ": "logout+jwt"},
    }
    return issuer.token(**with_claims({**usual, **changed}))


def form(token: str) -> bytes:
    return urlencode({"logout_token": token}).encode()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def accepts(guard: Guard, token: str) -> bool:
    try:
        guard.verify(token)
    except TokenError as refusal:
        return refusal.reason.code != "revoked"
    return True


@pytest.mark.parametrize("typ", ["logout+jwt", "JWT", None])
def test_a_logout_by_sub_revokes_all_tokens_of_the_user(
    post: Post, guard: Guard, issuer: LocalIssuer, logout: BackchannelLogout, typ: str | None
) -> None:
    mine, other = issuer.token(claims={"sid": "s1"}), issuer.token(subject="eve")
    assert accepts(guard, mine)
    status, headers, body = post(logout, form(logout_token(issuer, header={"typ": typ})))
    assert (status, body) == (200, b"")
    assert headers["cache-control"] == "no-store"
    assert not accepts(guard, mine)
    assert accepts(guard, other)


def test_a_logout_by_sid_spares_the_other_sessions(
    post: Post, guard: Guard, issuer: LocalIssuer, logout: BackchannelLogout
) -> None:
    assert post(logout, form(logout_token(issuer, sid="s1")))[0] == 200
    assert not accepts(guard, issuer.token(claims={"sid": "s1"}))
    assert accepts(guard, issuer.token(claims={"sid": "s2"}))
    assert not accepts(guard, issuer.token())  # it may be of the session that ended
    assert accepts(guard, issuer.token(subject="eve"))


def test_a_logout_token_may_have_a_sid_without_a_sub(
    post: Post, guard: Guard, issuer: LocalIssuer, logout: BackchannelLogout
) -> None:
    assert post(logout, form(logout_token(issuer, sub=None, sid="s1")))[0] == 200
    assert not accepts(guard, issuer.token(claims={"sid": "s1"}))
    assert accepts(guard, issuer.token())


def test_tokens_of_a_later_login_are_valid(
    post: Post, guard: Guard, issuer: LocalIssuer, logout: BackchannelLogout, clock: Clock
) -> None:
    token = logout_token(issuer)
    clock.now += 5
    assert post(logout, form(token))[0] == 200
    assert accepts(guard, issuer.token())  # was issued after the logout, before it arrived
    assert not accepts(guard, issuer.token(claims={"iat": NOON}))


def test_a_logout_token_is_accepted_once(
    post: Post, issuer: LocalIssuer, logout: BackchannelLogout, events: list[Event]
) -> None:
    body = form(logout_token(issuer))
    assert post(logout, body)[0] == 200
    assert post(logout, body)[0] == 400
    assert events[-1].detail == "it was used before"


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "other"},
        {"nonce": "n"},
        {"events": None},
        {"jti": None},
        {"sub": None},
        {"iat": None},
        {"exp": NOON - 31},
        {"iss": "https://stranger.test"},
        {"header": {"typ": "at+jwt"}},
        {"header": {"typ": "logout+jwt", "alg": "none"}},
        {"header": {"typ": "logout+jwt", "alg": 7}},
        {"header": {"typ": "logout+jwt", "kid": "unknown"}},
        {"key": SigningKey.generate("ES256", "key-1")},
    ],
    ids=str,
)
def test_no_other_token_logs_anyone_out(
    post: Post,
    guard: Guard,
    issuer: LocalIssuer,
    logout: BackchannelLogout,
    changed: dict[str, Any],
) -> None:
    status, headers, body = post(logout, form(logout_token(issuer, **changed)))
    assert status == 400
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "application/json"
    assert json.loads(body) == {
        "error": "invalid_request",
        "error_description": "The logout token is invalid",
    }
    assert accepts(guard, issuer.token())


def test_a_logout_token_is_never_an_access_token(
    post: Post, guard: Guard, issuer: LocalIssuer, logout: BackchannelLogout
) -> None:
    token = logout_token(issuer, aud=["app", issuer.audience], sub="eve")
    assert post(logout, form(token))[0] == 200
    forged = logout_token(issuer, aud=issuer.audience, events=None, client_id="app")
    for each in (token, forged):
        with pytest.raises(TokenError, match="typ"):
            guard.verify(each)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FORM),
        (b"logout_token=", FORM),
        (b"logout_token=a&logout_token=b", FORM),
        (b"logout_token=garbage", FORM),
        (b"logout_token=%FF%FF", FORM),
        (b"\xff", FORM),
        (b"a=1&" * 200, FORM),
        (b"logout_token=" + b"a" * 70_000, FORM),
        (b'{"logout_token": "x"}', "application/json"),
        (b"logout_token=x", None),
    ],
    ids=range(10),
)
def test_a_malformed_logout_request_is_400(
    post: Post, logout: BackchannelLogout, body: bytes, kind: str | None
) -> None:
    assert post(logout, body, kind=kind)[0] == 400


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_another_method_is_not_allowed(post: Post, logout: BackchannelLogout, method: str) -> None:
    status, headers, _ = post(logout, b"", method=method, kind=None)
    assert (status, headers["allow"]) == (405, "POST")


def assert_unavailable(reply: Reply) -> None:
    status, headers, body = reply
    assert status == 503
    assert int(headers["retry-after"]) >= 1
    assert headers["cache-control"] == "no-store"
    assert json.loads(body)["error"] == "temporarily_unavailable"


def test_a_logout_is_503_while_revocations_are_unavailable(
    post: Post, issuer: LocalIssuer, events: list[Event]
) -> None:
    store = RedisStore(f"redis://127.0.0.1:{free_port()}", secret="s" * 32)
    with issuer.guard(revocations=Revocations(store), on_event=events.append) as guard:
        logout = BackchannelLogout(guard, client_id="app")
        assert_unavailable(post(logout, form(logout_token(issuer))))
    assert "logout_failed" in [event.code for event in events]


def test_a_logout_that_the_store_refuses_is_503_and_may_be_repeated(
    post: Post, issuer: LocalIssuer, redis: RedisServer
) -> None:
    body = form(logout_token(issuer))
    store = RedisStore(redis.url, secret="s" * 32)
    with issuer.guard(revocations=Revocations(store)) as guard:
        guard.warm()
        logout = BackchannelLogout(guard, client_id="app")
        with redis.client() as client:
            client.config_set("maxmemory", 1)  # it refuses what is written, and reads go on
            assert_unavailable(post(logout, body))
            assert accepts(guard, issuer.token())
            client.config_set("maxmemory", 0)
        assert post(logout, body)[0] == 200
        assert not accepts(guard, issuer.token())
        assert post(logout, body)[0] == 400


def test_every_worker_refuses_users_of_whose_logout_one_was_notified(
    post: Post, issuer: LocalIssuer, redis: RedisServer
) -> None:
    with ExitStack() as stack:
        guards = [
            stack.enter_context(
                issuer.guard(revocations=Revocations(RedisStore(redis.url, secret="s" * 32)))
            )
            for _ in range(3)
        ]
        mine, other = issuer.token(claims={"sid": "s1"}), issuer.token(claims={"sid": "s2"})
        for guard in guards:
            assert accepts(guard, mine)
        body = form(logout_token(issuer, sid="s1"))
        assert post(BackchannelLogout(guards[0], client_id="app"), body)[0] == 200
        assert not accepts(guards[0], mine)
        for guard in guards[1:]:
            eventually(lambda guard=guard: not accepts(guard, mine))  # type: ignore[misc]
            assert accepts(guard, other)
            # … and none of them takes the same logout token again.
            assert post(BackchannelLogout(guard, client_id="app"), body)[0] == 400


def test_a_logout_is_503_while_the_issuers_keys_are_unavailable(
    post: Post, issuer: LocalIssuer, logout: BackchannelLogout
) -> None:
    issuer.outage = True
    assert_unavailable(post(logout, form(logout_token(issuer))))


def test_keys_are_fetched_once_however_many_logouts_wait_for_them(
    issuer: LocalIssuer, guard: Guard, logout: BackchannelLogout
) -> None:
    issuer.delay = 0.2
    bodies = [form(logout_token(issuer, sub=f"user-{number}")) for number in range(50)]
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda body=body: found.append(POSTS["wsgi"](logout, body)[0]))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 50
    assert issuer.hits["/jwks"] == 1
    assert not accepts(guard, issuer.token(subject="user-49"))


def test_an_algorithm_that_the_issuer_may_not_use_logs_no_one_out(
    post: Post, issuer: LocalIssuer, clock: Clock
) -> None:
    only = issuer.issuer(algorithms=["RS256"])
    with Guard(only, transport=issuer.transport(), clock=clock, revocations=Revocations()) as guard:
        logout = BackchannelLogout(guard, client_id="app")
        assert post(logout, form(logout_token(issuer)))[0] == 400
    public = issuer.key.jwk()["x"]
    forged = logout_token(issuer, key=SigningKey("HS256", issuer.key.kid, public.encode()))
    with issuer.guard(revocations=Revocations()) as guard:
        assert post(BackchannelLogout(guard, client_id="app"), form(forged))[0] == 400


def test_a_tenants_logout_concerns_no_other_tenant(post: Post, clock: Clock) -> None:
    keys = LocalIssuer("https://id.test/{tenant}", algorithm="ES256", clock=clock)
    pattern = keys.issuer(keys=keys.jwks(), tenants=["a", "b"])
    with Guard(pattern, clock=clock, revocations=Revocations()) as guard:
        logout = BackchannelLogout(guard, client_id=["other", "app"])
        sent = logout_token(keys, iss="https://id.test/a")
        assert post(logout, form(sent))[0] == 200
        assert not accepts(guard, keys.token(claims={"iss": "https://id.test/a"}))
        assert accepts(guard, keys.token(claims={"iss": "https://id.test/b"}))
        assert post(logout, form(logout_token(keys, iss="https://id.test/c")))[0] == 400


def test_a_logout_token_with_a_distant_expiry_is_not_remembered_for_ever(
    post: Post, guard: Guard, issuer: LocalIssuer, logout: BackchannelLogout, clock: Clock
) -> None:
    body = form(logout_token(issuer, expires_in=10**9))
    assert post(logout, body)[0] == 200
    clock.now += 90_000  # longer than any token lives, so it harms none
    assert post(logout, form(logout_token(issuer, sub="eve")))[0] == 200
    assert guard.health()["revocations"]["entries"] == 2  # eve's tokens, and her logout token
    assert post(logout, body)[0] == 200
    assert accepts(guard, issuer.token())


def test_a_client_that_goes_away_gets_no_response(logout: BackchannelLogout) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(logout.asgi, {"type": "http", "method": "POST", "headers": []}, receive, send)
    assert sent == []


def test_a_websocket_is_closed(logout: BackchannelLogout) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    anyio.run(logout.asgi, {"type": "websocket", "headers": []}, receive, send)
    anyio.run(logout.asgi, {"type": "lifespan"}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_mistake_in_an_option_is_named(guard: Guard, issuer: LocalIssuer) -> None:
    nobody: Any = None
    with pytest.raises(ConfigurationError, match="guard="):
        BackchannelLogout(nobody, client_id="app")
    with issuer.guard() as without, pytest.raises(ConfigurationError, match="revocations="):
        BackchannelLogout(without, client_id="app")
    for wrong in ("", [], [""], None, {"app": 1}):
        with pytest.raises(ConfigurationError, match="client_id="):
            BackchannelLogout(guard, client_id=wrong)  # type: ignore[arg-type]


def test_the_app_of_the_documentation_responds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE_SECRET", "s" * 32)
    page = (Path(__file__).parents[2] / "docs" / "logout.md").read_text()
    block, mounting = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": __name__}
    exec(block, names)
    garbage = {"logout_token": "garbage"}
    with names["guard"], TestClient(names["app"]) as client:
        assert client.post("/logout/", data=garbage).json()["error"] == "invalid_request"
        assert client.get("/other").status_code == 401
    names["app"] = Flask(__name__)
    exec(mounting, names)
    transport = httpx2.WSGITransport(app=names["application"])
    with httpx2.Client(transport=transport, base_url="http://api.test") as wsgi_client:
        assert wsgi_client.post("/logout/", data=garbage).status_code == 400


@pytest.mark.parametrize("length", ["65537", "9" * 30, "9" * 5000])
def test_a_body_that_is_too_long_is_not_read(logout: BackchannelLogout, length: str) -> None:
    class Unread(io.BytesIO):
        def read(self, *_: Any) -> bytes:
            raise AssertionError

    started: list[Any] = []
    environ = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": FORM, "CONTENT_LENGTH": length}
    logout.wsgi({**environ, "wsgi.input": Unread()}, lambda *given: started.extend(given))
    assert started[0] == "400 Bad Request"


def test_a_body_without_a_length_is_read_where_it_ends(
    guard: Guard, issuer: LocalIssuer, logout: BackchannelLogout
) -> None:
    body = io.BytesIO(form(logout_token(issuer)))
    environ = {"REQUEST_METHOD": "POST", "CONTENT_TYPE": FORM, "wsgi.input": body}
    started: list[Any] = []
    logout.wsgi(dict(environ), lambda *given: started.extend(given))
    assert started[0] == "400 Bad Request"
    logout.wsgi({**environ, "wsgi.input_terminated": True}, lambda *given: started.extend(given))
    assert started[2] == "200 OK"
    assert not accepts(guard, issuer.token())


def test_it_is_mounted_outside_the_guard_in_starlette_and_flask(
    guard: Guard, issuer: LocalIssuer, logout: BackchannelLogout, clock: Clock
) -> None:
    starlette_app = Starlette(
        routes=[Mount("/logout", logout.asgi), Route("/", lambda _: PlainTextResponse("hello"))],
        middleware=[Middleware(BearerMiddleware, guard=guard, exclude=("/logout", "/logout/"))],
    )
    flask_app = Flask(__name__)
    flask_app.add_url_rule("/", view_func=lambda: "hello")
    BearerGuard(flask_app, guard=guard)
    mounted = DispatcherMiddleware(flask_app.wsgi_app, {"/logout": logout.wsgi})
    for client in (
        TestClient(starlette_app),
        httpx2.Client(transport=httpx2.WSGITransport(app=mounted), base_url="http://api.test"),
    ):
        with client:
            headers = {"Authorization": f"Bearer {issuer.token()}"}
            assert client.get("/", headers=headers).status_code == 200
            response = client.post("/logout/", data={"logout_token": logout_token(issuer)})
            assert (response.status_code, response.headers["cache-control"]) == (200, "no-store")
            assert client.get("/", headers=headers).status_code == 401
        clock.now += 5
    with pytest.raises(ConfigurationError, match="revocations="):
        BackchannelLogout(issuer.guard(), client_id="app")
    with pytest.raises(ConfigurationError, match="client_id="):
        BackchannelLogout(guard, client_id="")


def test_what_a_withdrawn_key_signed_logs_nobody_out(
    post: Post, issuer: LocalIssuer, guard: Guard, logout: BackchannelLogout, events: list[Event]
) -> None:
    """Its keys are cached still: whoever has the leaked key ends no session with it."""
    with guard:
        assert post(logout, form(logout_token(issuer, sub="grace")))[0] == 200
        access = issuer.token(subject="ada")
        leaked = logout_token(issuer, sub="ada")
        withdrawn = issuer.key.kid
        issuer.rotate()
        renewed = issuer.token(subject="ada")
        guard.revoke(key_id=withdrawn)
        status, _, body = post(logout, form(leaked))
        assert (status, json.loads(body)["error"]) == (400, "invalid_request")
        assert events[-1].code == "bad_logout_token"
        assert "withdrawn" in events[-1].detail
        guard.verify(renewed)
        with pytest.raises(TokenError, match="revoked"):
            guard.verify(access)
        assert post(logout, form(logout_token(issuer, sub="ada")))[0] == 200
