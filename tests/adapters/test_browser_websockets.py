"""WS-01: a browser's websocket carries its token, or a single-use ticket, as a subprotocol."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from bearerguard import ConfigurationError, Event, Guard, Tickets, WebSockets
from bearerguard.asgi import BearerMiddleware, issue_ticket
from bearerguard.redis import RedisStore
from bearerguard.starlette import BearerMiddleware as StarletteMiddleware
from bearerguard.starlette import require_scopes
from bearerguard.testing import LocalIssuer
from tests.chromium import pressed
from tests.redis_server import RedisServer
from tests.uvicorn_thread import running

SECRET = "s" * 32


async def ws(websocket: WebSocket) -> None:
    scope = websocket.scope
    chosen = next(iter(scope["subprotocols"]), None)
    await websocket.accept(subprotocol=chosen)
    names = [value.decode() for name, value in scope["headers"] if b"protocol" in name.lower()]
    user: Any = scope["user"]
    await websocket.send_json([user.subject, scope["subprotocols"], names])
    await websocket.close()


async def ticket(request: Request) -> JSONResponse:
    return JSONResponse({"ticket": await issue_ticket(request)})


APP = Starlette(routes=[WebSocketRoute("/ws", ws), Route("/ticket", ticket, methods=["POST"])])


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


def client(guard: Guard) -> TestClient:
    return TestClient(BearerMiddleware(APP, guard=guard))


def opened(
    api: TestClient, *subprotocols: str, headers: dict[str, str] | None = None
) -> tuple[str | None, Any]:
    """Open a websocket; return the server's subprotocol and what the app saw."""
    with api.websocket_connect(
        "/ws", subprotocols=[*subprotocols] or None, headers={**(headers or {})}
    ) as session:
        return session.accepted_subprotocol, session.receive_json()


def refused(api: TestClient, *subprotocols: str, headers: dict[str, str] | None = None) -> int:
    """Return the status of the response to a websocket that is refused."""
    from starlette.testclient import WebSocketDenialResponse

    with pytest.raises((WebSocketDenialResponse, WebSocketDisconnect)) as raised:
        opened(api, *subprotocols, headers=headers)
    status: int = getattr(raised.value, "status_code", 0) or raised.value.code
    return status


def test_WS_01_a_token_as_a_subprotocol_is_accepted_where_it_is_switched_on(
    issuer: LocalIssuer,
) -> None:
    api = client(issuer.guard(websockets=WebSockets(subprotocol=True)))
    token = issuer.token(subject="alice")
    assert opened(api, "bearer", token) == ("bearer", ["alice", [], []])
    assert refused(client(issuer.guard()), "bearer", token) == 401


@pytest.mark.parametrize("order", [("chat", "bearer", "TOKEN"), ("bearer", "TOKEN", "chat")])
def test_WS_01_other_subprotocols_of_the_app_keep_working(
    issuer: LocalIssuer, order: tuple[str, ...]
) -> None:
    api = client(issuer.guard(websockets=WebSockets(subprotocol=True)))
    token = issuer.token(subject="alice")
    offered = [token if each == "TOKEN" else each for each in order]
    assert opened(api, *offered) == ("chat", ["alice", ["chat"], ["chat"]])
    header = {"Authorization": f"Bearer {token}"}
    assert opened(api, "chat", headers=header) == ("chat", ["alice", ["chat"], ["chat"]])
    assert opened(api, headers=header) == (None, ["alice", [], []])


def test_WS_01_two_tokens_are_refused_like_a_repeated_field(issuer: LocalIssuer) -> None:
    api = client(issuer.guard(websockets=WebSockets(subprotocol=True)))
    token = issuer.token()
    assert refused(api, "bearer", token, "bearer", token) == 400
    assert refused(api, "bearer", token, headers={"Authorization": f"Bearer {token}"}) == 400


@pytest.mark.parametrize("sent", [["bearer"], ["bearer", "no-token"], ["bearer", "chat"], []])
def test_WS_01_a_subprotocol_without_a_valid_token_is_refused(
    issuer: LocalIssuer, sent: list[str]
) -> None:
    api = client(issuer.guard(websockets=WebSockets(subprotocol=True)))
    assert refused(api, *sent) == 401


def test_WS_01_a_token_in_the_url_is_not_read(issuer: LocalIssuer) -> None:
    api = client(issuer.guard(websockets=WebSockets(subprotocol=True, tickets=Tickets())))
    query = f"/ws?access_token={issuer.token()}"
    with pytest.raises(WebSocketDisconnect), api.websocket_connect(query):
        pass


@pytest.mark.parametrize("sent", [["bearer", "t", "\udce9"], ["bearer-ticket", "\udce9"], ["€"]])
def test_WS_01_a_subprotocol_that_no_encoding_has_is_refused_too(
    issuer: LocalIssuer, sent: list[str]
) -> None:
    """Servers decode the field, some of them with surrogates for octets outside ASCII."""

    async def handshake() -> list[Any]:
        options, messages = WebSockets(subprotocol=True, tickets=Tickets()), list[Any]()
        scope = {"type": "websocket", "path": "/ws", "headers": [], "subprotocols": sent}

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            messages.append(message)

        await BearerMiddleware(APP, guard=issuer.guard(websockets=options))(scope, receive, send)
        return messages

    assert [each["type"] for each in asyncio.run(handshake())] == ["websocket.close"]


@pytest.fixture(params=["memory", "redis"])
def tickets(request: pytest.FixtureRequest) -> Iterator[list[Tickets]]:
    """What two workers have: one in memory is for one worker alone."""
    if request.param == "memory":
        yield [Tickets()] * 2
        return
    redis: RedisServer = request.getfixturevalue("redis")
    stores = [RedisStore(redis.url, secret=SECRET) for _ in range(2)]
    yield [Tickets(store, secret=SECRET) for store in stores]
    for store in stores:
        store.close()


def issued(api: TestClient, token: str) -> str:
    response = api.post("/ticket", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200
    found: str = response.json()["ticket"]
    return found


def test_WS_01_a_ticket_opens_one_websocket_on_any_worker(
    issuer: LocalIssuer, tickets: list[Tickets]
) -> None:
    first, second = (client(issuer.guard(websockets=WebSockets(tickets=each))) for each in tickets)
    token = issuer.token(subject="alice")
    one = issued(first, token)
    assert opened(second, "bearer-ticket", one) == ("bearer-ticket", ["alice", [], []])
    assert refused(second, "bearer-ticket", one) == 401
    assert refused(first, "bearer-ticket", one) == 401
    assert refused(first, "bearer-ticket", "made-up") == 401
    assert refused(first, "bearer", token) == 401  # only what is switched on
    assert first.post("/ticket").status_code == 401


def test_WS_01_a_ticket_is_over_after_its_seconds(issuer: LocalIssuer) -> None:
    now = [0.0]
    tickets = Tickets(seconds=10, monotonic=lambda: now[0])
    api = client(issuer.guard(websockets=WebSockets(tickets=tickets)))
    one, other = issued(api, issuer.token()), issued(api, issuer.token())
    now[0] = 9.9
    assert opened(api, "bearer-ticket", one)
    now[0] = 10
    assert refused(api, "bearer-ticket", other) == 401


def test_WS_01_a_ticket_in_redis_is_over_after_its_seconds(
    issuer: LocalIssuer, redis: RedisServer
) -> None:
    store = RedisStore(redis.url, secret=SECRET)
    guard = issuer.guard(websockets=WebSockets(tickets=Tickets(store, secret=SECRET, seconds=0.2)))
    api = client(guard)
    token = issuer.token()
    one = issued(api, token)
    with redis.client() as stored:
        content = b"".join(stored.get(key) + key for key in stored.keys())  # noqa: SIM118
    assert content
    assert token.encode() not in content
    assert one.encode() not in content
    time.sleep(0.3)
    assert refused(api, "bearer-ticket", one) == 401
    store.close()


def test_WS_01_a_ticket_outlives_neither_its_token_nor_a_change_of_the_secret(
    issuer: LocalIssuer, redis: RedisServer
) -> None:
    store = RedisStore(redis.url, secret=SECRET)
    before, after = (Tickets(store, secret=each * 32) for each in "ab")
    one = issued(client(issuer.guard(websockets=WebSockets(tickets=before))), issuer.token())
    api = client(issuer.guard(websockets=WebSockets(tickets=after)))
    assert refused(api, "bearer-ticket", one) == 401
    store.close()


def test_WS_01_without_the_store_of_the_tickets_there_is_503(
    issuer: LocalIssuer, redis: RedisServer
) -> None:
    store = RedisStore(redis.url, secret=SECRET, timeout=0.5)
    guard = issuer.guard(websockets=WebSockets(tickets=Tickets(store, secret=SECRET)))
    redis.kill()
    assert refused(client(guard), "bearer-ticket", "any") == 503
    store.close()


def test_WS_01_tickets_in_memory_are_bounded(
    issuer: LocalIssuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bearerguard.guard.config.websockets._MAX_TICKETS", 2)
    monkeypatch.setattr("bearerguard.guard.config.websockets._SHARE", 1)
    now = [0.0]
    tickets = Tickets(monotonic=lambda: now[0])
    api = client(issuer.guard(websockets=WebSockets(tickets=tickets)))
    for _ in range(2):
        issued(api, issuer.token())
    with pytest.raises(Exception, match="too many tickets"):
        issued(api, issuer.token())
    now[0] = 30
    assert issued(api, issuer.token())


def test_WS_01_only_pages_of_the_named_origins_open_a_websocket(issuer: LocalIssuer) -> None:
    events: list[Event] = []
    options = WebSockets(subprotocol=True, origins=["https://app.example.com"])
    guard = issuer.guard(websockets=options, on_event=events.append)
    api, token = client(guard), issuer.token(subject="alice")
    for headers in (
        {},
        {"Origin": "https://app.example.com"},
        {"Origin": "HTTPS://App.example.com"},
    ):
        assert opened(api, "bearer", token, headers=headers)[0] == "bearer"
    assert refused(api, "bearer", token, headers={"Origin": "https://evil.example"}) == 403
    assert refused(api, "bearer", token, headers={"Origin": "null"}) == 403
    assert [each.code for each in events[-2:]] == ["origin_refused"] * 2
    assert "'https://evil.example'" in events[-2].detail
    assert "add it to WebSockets(origins=)" in events[-2].detail


def test_WS_01_the_log_says_why_a_ticket_is_refused(issuer: LocalIssuer) -> None:
    events: list[Event] = []
    options = WebSockets(tickets=Tickets())
    api = client(issuer.guard(websockets=options, on_event=events.append))
    assert refused(api, "bearer-ticket", "planted-7f3a") == 401
    assert events[-1].code == "bad_ticket"
    assert events[-1].detail == (
        "the ticket is unknown, was used or is over: get a new one for each websocket, and share"
        " Tickets(store) among the workers"
    )


@pytest.mark.parametrize(
    "sent",
    [
        ["bearer", "TOKEN"],
        ["chat", "bearer", "TOKEN"],
        ["Bearer.TOKEN"],
        ["access_token", "TOKEN"],
        ["TOKEN"],
    ],
    ids=lambda sent: sent[0],
)
@pytest.mark.parametrize("optional", [False, True])
def test_WS_01_the_log_says_how_a_token_that_came_as_a_subprotocol_is_read(
    issuer: LocalIssuer, sent: list[str], optional: bool
) -> None:
    events: list[Event] = []
    guard = issuer.guard(on_event=events.append)

    @require_scopes("read")
    async def guarded(websocket: WebSocket) -> None:
        await websocket.accept()

    app = Starlette(routes=[WebSocketRoute("/ws", guarded if optional else ws)])
    api = TestClient(StarletteMiddleware(app, guard=guard, optional=optional))
    token = issuer.token()
    assert refused(api, *[each.replace("TOKEN", token) for each in sent]) == 401
    assert events[-1].code == "missing_credentials"
    assert "pass websockets=WebSockets(subprotocol=True) to the Guard" in events[-1].detail
    assert '["bearer", token]' in events[-1].detail
    assert token not in str(events)


def test_WS_01_the_log_says_how_a_ticket_is_read(issuer: LocalIssuer) -> None:
    events: list[Event] = []
    for options in (None, WebSockets(subprotocol=True)):
        api = client(issuer.guard(on_event=events.append, websockets=options))
        assert refused(api, "bearer-ticket", "planted-7f3a") == 401
        assert "pass websockets=WebSockets(tickets=Tickets(...)) to the Guard" in events[-1].detail
    assert "planted" not in str(events)


def test_WS_01_other_subprotocols_are_taken_for_no_token(issuer: LocalIssuer) -> None:
    events: list[Event] = []
    api = client(issuer.guard(on_event=events.append))
    assert refused(api, "graphql-transport-ws", "chat") == 401
    assert events[-1].detail.startswith("the request has no Authorization header; if the client")


# What a type checker would refuse.
_WebSockets: Any = WebSockets
_Tickets: Any = Tickets
_guard: Any = LocalIssuer().guard


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: _WebSockets(subprotocol="yes"), "subprotocol=.*True or False"),
        (lambda: _WebSockets(tickets=True), r"tickets=.*Tickets\("),
        (lambda: _WebSockets(origins="https://a.example"), "origins=.*a list"),
        (lambda: _WebSockets(origins=["https://a.example/"]), "origins=.*without a path"),
        (lambda: _Tickets(seconds=31), "seconds=.*30 at most"),
        (lambda: _Tickets(seconds=True), "seconds=.*a number"),
        (lambda: _Tickets(secret=SECRET), "secret=.*for a store"),
        (lambda: _Tickets(object(), secret=SECRET), "RedisStore"),
        (lambda: _guard(websockets=True), r"websockets=.*WebSockets\("),
        (lambda: _guard(stream_grace=-1), "stream_grace="),
        (lambda: _guard(stream_until_expiry=1), "stream_until_expiry="),
        (
            lambda: _guard(stream_grace=1, stream_until_expiry=False),
            "stream_grace=.*stream_until_expiry=False",
        ),
    ],
)
def test_malformed_options_are_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_tickets_in_a_store_need_a_secret(redis: RedisServer) -> None:
    store = RedisStore(redis.url, secret=SECRET)
    with pytest.raises(ConfigurationError, match="secret="):
        Tickets(store)
    store.close()


def test_a_ticket_is_issued_to_an_admitted_request_alone(issuer: LocalIssuer) -> None:
    unguarded = TestClient(APP)
    with pytest.raises(ConfigurationError, match="BearerMiddleware"):
        unguarded.post("/ticket")
    with pytest.raises(ConfigurationError, match="WebSockets"):
        issued(client(issuer.guard()), issuer.token())


_PAGE = """<!doctype html><button>open</button><pre></pre><script>
document.querySelector("button").onclick = () => {
  const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws", ["bearer", "TOKEN"])
  socket.onmessage = event => document.querySelector("pre").append(socket.protocol, event.data)
  socket.onclose = event => document.querySelector("pre").append(" closed ", event.code)
}
</script>"""


def test_WS_01_a_page_in_chromium_opens_a_websocket_with_its_token(
    issuer: LocalIssuer, tmp_path: Path
) -> None:
    token = issuer.token(subject="alice")

    async def page(_request: Request) -> HTMLResponse:
        return HTMLResponse(_PAGE.replace("TOKEN", token))

    guard = issuer.guard(websockets=WebSockets(subprotocol=True))
    routes = [WebSocketRoute("/ws", ws), Route("/", page)]
    app = BearerMiddleware(Starlette(routes=routes), guard=guard, exclude=["/"])
    with running(app) as url:
        seen = pressed(f"{url}/", "button", "closed", tmp_path)
    assert 'bearer["alice",[],[]] closed 1000' in seen
