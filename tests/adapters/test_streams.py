"""STREAM-01: what a token has opened ends when the token does, on asyncio and on trio."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import current_token
from starlette.responses import StreamingResponse

from bearerguard import (
    ConfigurationError,
    Event,
    Guard,
    Issuer,
    IssuerUnavailable,
    Principal,
    Revocations,
    TokenError,
)
from bearerguard.asgi import BearerMiddleware, reauthenticate
from bearerguard.errors import StreamEnded
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.middleware.streams import OpenStreams, open_streams
from bearerguard.redis import RedisStore
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Response
from bearerguard.testing import LocalIssuer
from tests.conformance.harness import NOON, Clock
from tests.redis_server import RedisServer

pytestmark = pytest.mark.anyio
App = Callable[[Any, Any, Any], Awaitable[None]]
_SECONDS = 10


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


class Client:
    """What a server does for one connection: hands messages to the app, and keeps what it sends."""

    def __init__(self, middleware: App, scope: dict[str, Any]) -> None:
        self._middleware = middleware
        self.scope = scope
        self.sent: list[Any] = []
        self.raised: BaseException | None = None
        self.returned = anyio.Event()
        self._to_app, self._incoming = anyio.create_memory_object_stream[Any](100)
        self._news = anyio.Event()
        self.reads = anyio.Event()
        self.reads.set()

    async def put(self, message: dict[str, Any]) -> None:
        await self._to_app.send(message)

    async def run(self) -> None:
        try:
            await self._middleware(self.scope, self._receive, self._send)
        except Exception as error:
            self.raised = error
        self.returned.set()
        self._notify()
        self.close()

    def close(self) -> None:
        self._to_app.close()
        self._incoming.close()

    async def _receive(self) -> Any:
        return await self._incoming.receive()

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self._to_app.send_nowait({"type": "http.disconnect"})
        self._notify()

    def _notify(self) -> None:
        self._news.set()
        self._news = anyio.Event()

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(_SECONDS):
            while not condition():
                with anyio.move_on_after(0.02):
                    await self._news.wait()

    def types(self) -> list[str]:
        return [each["type"] for each in self.sent]


def connection(kind: str, token: str | None) -> dict[str, Any]:
    headers = [] if token is None else [(b"authorization", b"Bearer " + token.encode())]
    scope: dict[str, Any] = {"type": kind, "path": "/stream", "headers": headers}
    return scope | ({"method": "GET"} if kind == "http" else {"subprotocols": list[str]()})


@contextlib.asynccontextmanager
async def connected(app: App, guard: Guard, token: str | None, kind: str, **options: Any) -> Any:
    async with anyio.create_task_group() as tasks:
        client = Client(BearerMiddleware(app, guard=guard, **options), connection(kind, token))
        if kind == "websocket":
            await client.put({"type": "websocket.connect"})
        tasks.start_soon(client.run)
        try:
            yield client
        finally:
            tasks.cancel_scope.cancel()
            client.close()


async def start(send: Any, media_type: bytes, *others: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", media_type), *others]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


def chunk(body: bytes = b"x", *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Seen:
    """What an app noticed."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.errors: list[BaseException] = []


def events(seen: Seen) -> App:
    """Return an app that sends one event, and then waits for what the server tells it."""

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await start(send, b"text/event-stream; charset=utf-8")
        await send(chunk())
        seen.messages.append(await receive())
        try:
            await send(chunk())
        except OSError as error:
            seen.errors.append(error)
            raise

    return app


def download(seen: Seen, *headers: tuple[bytes, bytes]) -> App:
    """Return an app that sends without end."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await start(send, b"application/octet-stream", *headers)
        try:
            while True:
                await send(chunk())
                await anyio.sleep(0.005)
        except OSError as error:
            seen.errors.append(error)
            raise

    return app


def echo(seen: Seen) -> App:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            message = await receive()
            seen.messages.append(message)
            if message["type"] == "websocket.disconnect":
                with pytest.raises(StreamEnded, match="was ended"):
                    await send({"type": "websocket.send", "text": "late"})
                return
            await send({"type": "websocket.send", "text": message["text"]})

    return app


async def test_STREAM_01_server_sent_events_end_cleanly_when_the_token_expires(
    issuer: LocalIssuer, clock: Clock
) -> None:
    seen = Seen()
    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(events(seen), guard, token, "http") as client:
        await client.until(lambda: len(client.sent) == 2)
        clock.now = NOON + 89.9  # 30 s of leeway
        await anyio.sleep(0.6)
        assert not seen.messages
        clock.now = NOON + 90
        await client.until(client.returned.is_set)
    assert client.sent[2] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert seen.messages == [{"type": "http.disconnect"}]
    assert len(client.sent) == 3
    assert "expired" in str(seen.errors)
    assert client.raised is None


@pytest.mark.parametrize("headers", [[], [(b"content-length", b"1000000")]])
async def test_STREAM_01_a_download_is_cut_off_and_never_looks_complete(
    issuer: LocalIssuer, clock: Clock, headers: list[tuple[bytes, bytes]]
) -> None:
    seen = Seen()
    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(download(seen, *headers), guard, token, "http") as client:
        await client.until(lambda: len(client.sent) > 3)
        clock.now = NOON + 90
        await client.until(client.returned.is_set)
    assert all(each["more_body"] for each in client.sent[1:])
    assert client.raised is None  # it returns without completing the response: the server aborts
    assert isinstance(seen.errors[0], StreamEnded)


async def test_STREAM_01_a_download_that_the_client_does_not_read_ends(
    issuer: LocalIssuer, clock: Clock
) -> None:
    seen = Seen()
    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(download(seen), guard, token, "http") as client:
        await client.until(lambda: len(client.sent) > 3)
        client.reads = anyio.Event()
        await anyio.sleep(0.05)
        clock.now = NOON + 90
        await client.until(client.returned.is_set)
    assert isinstance(seen.errors[0], StreamEnded)


async def test_STREAM_01_a_websocket_is_closed_by_1008_when_the_token_expires(
    issuer: LocalIssuer, clock: Clock
) -> None:
    seen = Seen()
    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(echo(seen), guard, token, "websocket") as client:
        await client.put({"type": "websocket.receive", "text": "hello"})
        await client.until(lambda: "websocket.send" in client.types())
        clock.now = NOON + 90
        await client.until(lambda: client.returned.is_set() and len(client.sent) == 3)
    told = {"code": 1008, "reason": "The access token expired"}
    assert client.sent[2] == {"type": "websocket.close", **told}
    assert seen.messages[-1] == {"type": "websocket.disconnect", **told}
    assert client.raised is None


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize("how", ["token", "subject", "client_id", "key_id"])
async def test_STREAM_01_a_revocation_ends_the_streams_of_its_tokens_and_no_others(
    issuer: LocalIssuer, clock: Clock, kind: str, how: str
) -> None:
    guard = issuer.guard(clock=clock, revocations=Revocations())
    claims = {"sub": "alice", "client_id": "app", "jti": "1"}
    token = issuer.token(claims=claims)
    other = issuer.token(claims={"sub": "bob", "client_id": "other", "jti": "2"})
    make = echo if kind == "websocket" else events
    seen, seen_by_other = Seen(), Seen()
    named: Any = {
        "token": {"token": token},
        "subject": {"subject": "alice"},
        "client_id": {"client_id": "app"},
        "key_id": {"key_id": issuer.key.kid},
    }[how]
    async with (
        connected(make(seen), guard, token, kind) as client,
        connected(make(seen_by_other), guard, other, kind) as other_client,
    ):
        await client.until(lambda: client.sent and other_client.sent)
        await guard.arevoke(**named)
        await client.until(client.returned.is_set)
        await anyio.sleep(0.02)
        assert other_client.returned.is_set() == (how == "key_id")
    if kind == "websocket":
        assert client.sent[-1]["reason"] == "The access token was revoked"


async def test_STREAM_01_a_stream_that_two_revocations_concern_ends_once(
    issuer: LocalIssuer, clock: Clock
) -> None:
    reported: list[Event] = []
    revocations, seen = Revocations(), Seen()
    guard = issuer.guard(clock=clock, revocations=revocations, on_event=reported.append)
    claims = {"sub": "alice", "client_id": "app"}
    until = NOON + 1, NOON + 9999
    both = [
        Revocation("subject", issuer.url, "alice", *until),
        Revocation("client", issuer.url, "app", *until),
    ]
    async with connected(echo(seen), guard, issuer.token(claims=claims), "websocket") as client:
        await client.until(lambda: client.sent)
        await guard.arevoke(subject="bob")  # which concerns no stream
        await anyio.sleep(0.02)
        assert not client.returned.is_set()
        await anyio.to_thread.run_sync(revocations.add, both)
        await client.until(client.returned.is_set)
    assert client.types() == ["websocket.accept", "websocket.close"]
    assert [each.code for each in reported].count("stream_ended") == 1


async def test_STREAM_01_an_app_that_receives_after_the_end_is_told_again(
    issuer: LocalIssuer, clock: Clock
) -> None:
    received: list[Any] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        received.extend([await receive(), await receive()])

    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(app, guard, token, "websocket") as client:
        await client.until(lambda: client.sent)
        clock.now = NOON + 90
        await client.until(client.returned.is_set)
    told = {"code": 1008, "reason": "The access token expired"}
    assert received == [{"type": "websocket.disconnect", **told}] * 2


async def test_STREAM_01_a_token_revoked_before_the_stream_is_watched_ends_it(
    issuer: LocalIssuer, clock: Clock
) -> None:
    guard = issuer.guard(clock=clock, revocations=Revocations())
    token = issuer.token()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await guard.arevoke(token)  # the request was admitted a moment ago
        await start(send, b"text/event-stream")
        await send(chunk())
        assert (await receive())["type"] == "http.disconnect"

    async with connected(app, guard, token, "http") as client:
        await client.until(client.returned.is_set)
    assert client.raised is None


async def test_STREAM_01_a_grace_lengthens_a_stream(issuer: LocalIssuer, clock: Clock) -> None:
    seen = Seen()
    guard, token = issuer.guard(clock=clock, stream_grace=100), issuer.token(expires_in=60)
    async with connected(events(seen), guard, token, "http") as client:
        await client.until(lambda: len(client.sent) == 2)
        clock.now = NOON + 189
        await anyio.sleep(0.6)
        assert not seen.messages
        clock.now = NOON + 190
        await client.until(client.returned.is_set)


async def test_STREAM_01_a_guard_may_let_streams_outlive_their_tokens_by_name(
    issuer: LocalIssuer, clock: Clock
) -> None:
    token = issuer.token(expires_in=60)
    for kind, make in (("http", events), ("websocket", echo)):
        for revocations in (None, Revocations()):
            clock.now = NOON
            guard = issuer.guard(clock=clock, stream_until_expiry=False, revocations=revocations)
            async with connected(make(Seen()), guard, token, kind) as client:
                await client.until(lambda: client.sent)
                clock.now = NOON + 10_000
                await anyio.sleep(0.6)
                assert not client.returned.is_set()
                if revocations is not None:  # a revocation still counts
                    clock.now = NOON
                    await guard.arevoke(token)
                    await client.until(client.returned.is_set)


async def test_a_websocket_that_nothing_ends_ends_with_its_app(
    issuer: LocalIssuer, clock: Clock
) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    guard = issuer.guard(clock=clock, stream_until_expiry=False)
    async with connected(app, guard, issuer.token(), "websocket") as client:
        await client.until(client.returned.is_set)
    assert client.raised is None
    assert client.types() == ["websocket.accept", "websocket.close"]


async def test_STREAM_01_an_app_that_does_not_notice_is_cancelled(
    issuer: LocalIssuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bearerguard.middleware.streams._PATIENCE", 0.1)
    cancelled = anyio.Event()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            await anyio.sleep(_SECONDS)
        except anyio.get_cancelled_exc_class():
            cancelled.set()
            raise

    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(app, guard, token, "websocket") as client:
        await client.until(lambda: client.sent)
        clock.now = NOON + 90
        await client.until(client.returned.is_set)
    assert cancelled.is_set()
    assert client.raised is None
    assert client.types() == ["websocket.accept", "websocket.close"]


async def test_STREAM_01_a_connection_prolongs_itself_by_a_newer_token_of_the_same_caller(
    issuer: LocalIssuer, clock: Clock
) -> None:
    failures: list[TokenError] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            try:
                principal = await reauthenticate(scope, message["text"])
            except TokenError as error:
                failures.append(error)
                await send({"type": "websocket.send", "text": "no"})
            else:
                assert scope["user"] is scope["auth"] is scope["state"]["principal"] is principal
                await send({"type": "websocket.send", "text": principal.subject})

    guard = issuer.guard(clock=clock)
    claims = {"sub": "alice", "client_id": "app", "scope": "read"}
    token = issuer.token(expires_in=60, claims=claims)
    async with connected(app, guard, token, "websocket") as client:
        for wrong in (
            {"sub": "bob"},
            {"client_id": "other"},
            {"scope": "write"},
            {"aud": "https://other.example"},
        ):
            refused = issuer.token(claims={**claims, **wrong})
            await client.put({"type": "websocket.receive", "text": refused})
        await client.until(lambda: len(client.sent) == 5)
        assert [each.reason.code for each in failures] == ["other_caller"] * 3 + ["wrong_audience"]
        newer = issuer.token(expires_in=600, claims={**claims, "scope": "read write"})
        await client.put({"type": "websocket.receive", "text": newer})
        await client.until(lambda: client.sent[-1].get("text") == "alice")
        clock.now = NOON + 100
        await anyio.sleep(0.6)
        assert not client.returned.is_set()
        clock.now = NOON + 630
        await client.until(client.returned.is_set)


async def test_STREAM_01_streams_end_by_503_s_rule_when_nobody_can_tell_what_was_revoked(
    redis: RedisServer,
) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    store = RedisStore(redis.url, secret="s" * 32, timeout=0.5)
    seen, revocations = Seen(), Revocations(store, max_staleness=1)
    guard = issuer.guard(revocations=revocations)
    async with connected(echo(seen), guard, issuer.token(), "websocket") as client:
        await client.until(lambda: client.sent)
        redis.kill()
        await client.until(client.returned.is_set)
    assert client.sent[-1]["code"] == 1013
    guard.close()


async def test_STREAM_01_streams_end_when_the_list_of_revocations_grows_too_old(
    redis: RedisServer, clock: Clock
) -> None:
    issuer = LocalIssuer(algorithm="ES256", clock=clock)
    store = RedisStore(redis.url, secret="s" * 32, timeout=60)
    guard = issuer.guard(clock=clock, revocations=Revocations(store, max_staleness=300))
    token = issuer.token(expires_in=3600)
    async with connected(echo(Seen()), guard, token, "websocket") as client:
        await client.until(lambda: client.sent)
        redis.signal(signal.SIGSTOP)  # it answers nothing, and no failure is seen yet
        clock.now = NOON + 301
        await client.until(client.returned.is_set)
        redis.signal(signal.SIGCONT)
    assert client.sent[-1]["code"] == 1013
    guard.close()


async def test_STREAM_01_finished_and_abandoned_streams_leave_nothing_behind(
    issuer: LocalIssuer, clock: Clock
) -> None:
    guard = issuer.guard(clock=clock, revocations=Revocations())
    assert guard.stream_tokens is not None
    streams = open_streams(guard.stream_tokens)

    async def finishing(_scope: Any, _receive: Any, send: Any) -> None:
        await start(send, b"text/plain")
        await send(chunk())
        await send(chunk())
        assert len(streams) == 1
        await send({"type": "http.response.body"})
        assert len(streams) == 0

    async def abandoning(_scope: Any, _receive: Any, send: Any) -> None:
        await start(send, b"text/plain")
        await send(chunk())  # and no last one, as after a client's disconnect

    async def failing(_scope: Any, _receive: Any, send: Any) -> None:
        await start(send, b"text/plain")
        await send(chunk())
        raise ValueError("of the app")

    async def closing(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert len(streams) == 1
        await send({"type": "websocket.close"})
        assert len(streams) == 0

    for app, kind in ((finishing, "http"), (abandoning, "http"), (closing, "websocket")):
        async with connected(app, guard, issuer.token(), kind) as client:
            await client.until(client.returned.is_set)
        assert client.raised is None
    async with connected(failing, guard, issuer.token(), "http") as client:
        await client.until(client.returned.is_set)
    assert isinstance(client.raised, ValueError)
    del client
    gc.collect()
    await anyio.sleep(0.6)
    assert len(streams) == 0
    assert not streams._by_key
    assert not streams._open


async def test_STREAM_01_a_request_without_a_token_is_no_stream(
    issuer: LocalIssuer, clock: Clock
) -> None:
    guard = issuer.guard(clock=clock)
    assert guard.stream_tokens is not None
    seen = Seen()
    for kind, make in (("http", events), ("websocket", echo)):
        async with connected(make(seen), guard, None, kind, optional=True) as client:
            await client.until(lambda: client.sent)
            assert len(open_streams(guard.stream_tokens)) == 0


async def test_STREAM_01_many_streams_end_in_batches_and_finished_ones_are_forgotten(
    issuer: LocalIssuer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bearerguard.middleware.streams._BATCH", 3)
    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    assert guard.stream_tokens is not None
    streams = open_streams(guard.stream_tokens)

    async def finishing(_scope: Any, _receive: Any, send: Any) -> None:
        await start(send, b"text/plain")
        for more in (True, False):
            await send(chunk(more=more))

    for _ in range(20):
        async with connected(finishing, guard, token, "http") as client:
            await client.until(client.returned.is_set)
    seen = Seen()
    async with contextlib.AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(connected(events(seen), guard, token, "http"))
            for _ in range(10)
        ]
        await clients[-1].until(lambda: len(streams) == 10)
        await clients[0].until(lambda: len(streams._deadlines) <= 23)
        clock.now = NOON + 90
        for client in clients:
            await client.until(client.returned.is_set)
    assert len(seen.errors) == 10


async def test_STREAM_01_a_long_list_of_revocations_is_compared_with_each_stream(
    issuer: LocalIssuer, clock: Clock
) -> None:
    revocations = Revocations()
    guard, seen = issuer.guard(clock=clock, revocations=revocations), Seen()
    many = [
        Revocation("subject", issuer.url, f"user-{number}", NOON + 1, NOON + 9999)
        for number in range(100)
    ]
    other = issuer.token(claims={"sub": "nobody"})
    async with (
        connected(events(seen), guard, issuer.token(claims={"sub": "user-7"}), "http") as client,
        connected(events(Seen()), guard, other, "http") as kept,
    ):
        await client.until(lambda: client.sent and kept.sent)
        await anyio.to_thread.run_sync(revocations.add, many)
        await client.until(client.returned.is_set)
        assert not kept.returned.is_set()


async def test_STREAM_01_a_websocket_whose_client_does_not_read_ends(
    issuer: LocalIssuer, clock: Clock
) -> None:
    failures: list[BaseException] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "text": "x"})
                await anyio.sleep(0.005)
        except StreamEnded as error:
            failures.append(error)
            raise ExceptionGroup("of a task group", [error]) from None

    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(app, guard, token, "websocket") as client:
        await client.until(lambda: len(client.sent) > 2)
        client.reads = anyio.Event()
        await anyio.sleep(0.05)
        clock.now = NOON + 90
        await client.until(lambda: failures)
        client.reads.set()
        await client.until(client.returned.is_set)
    assert client.raised is None
    assert client.sent[-1]["code"] == 1008


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_STREAM_01_every_task_of_an_app_that_waits_for_a_client_is_told_of_the_end(
    issuer: LocalIssuer, clock: Clock, kind: str
) -> None:
    told: list[str] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        message: dict[str, Any] = chunk()
        if kind == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            message = {"type": "websocket.send", "text": "x"}
        else:
            await start(send, b"application/octet-stream")

        async def sending(name: str) -> None:
            try:
                while True:
                    await send(message)
                    await anyio.sleep(0.005)
            except StreamEnded:
                told.append(name)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sending, "one")
            tasks.start_soon(sending, "other")

    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(app, guard, token, kind) as client:
        await client.until(lambda: len(client.sent) > 4)
        client.reads = anyio.Event()
        await anyio.sleep(0.05)
        clock.now = NOON + 90
        with anyio.fail_after(2):  # before any patience ends
            await client.until(lambda: len(told) == 2)
        client.reads.set()
        await client.until(client.returned.is_set)
    assert sorted(told) == ["one", "other"]
    assert client.raised is None


async def test_STREAM_01_an_app_is_told_of_the_end_also_while_its_client_does_not_read(
    issuer: LocalIssuer, clock: Clock
) -> None:
    seen, guard, token = Seen(), issuer.guard(clock=clock), issuer.token(expires_in=60)

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        seen.messages.append(await receive())

    async with connected(app, guard, token, "websocket") as client:
        await client.until(lambda: client.sent)
        client.reads = anyio.Event()
        clock.now = NOON + 90
        with anyio.fail_after(2):  # before any patience ends
            await client.until(lambda: seen.messages)
        assert not client.returned.is_set()  # the server aborts what returns before it is closed
        client.reads.set()
        await client.until(client.returned.is_set)
    assert seen.messages[0]["code"] == client.sent[-1]["code"] == 1008


# On trio, a generator that nobody has closed is a mistake of the app's.
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_STREAM_01_what_a_response_has_open_when_its_stream_ends_is_closed_at_once(
    issuer: LocalIssuer, clock: Clock
) -> None:
    closed = anyio.Event()

    async def parts() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
                await anyio.sleep(0.005)
        finally:
            closed.set()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # It sends in a task group, to which the exception and its traceback refer.
        await StreamingResponse(parts())(scope, receive, send)

    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    gc.disable()
    try:
        async with connected(app, guard, token, "http") as client:
            await client.until(lambda: len(client.sent) > 2)
            clock.now = NOON + 90
            await client.until(client.returned.is_set)
            with anyio.fail_after(2):
                await closed.wait()
    finally:
        gc.enable()
    assert client.raised is None


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("refused")])
async def test_STREAM_01_a_server_that_refuses_the_end_does_not_stop_the_others(
    issuer: LocalIssuer, clock: Clock, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    guard, seen = issuer.guard(clock=clock), Seen()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def failing(message: Any) -> None:
            if message["body" if "body" in message else "type"] == b"":
                raise error
            await send(message)

        await BearerMiddleware(events(seen), guard=guard)(scope, receive, failing)

    token = issuer.token(expires_in=60)
    outer = issuer.guard(clock=clock, stream_until_expiry=False)
    async with connected(app, outer, token, "http") as client:
        await client.until(lambda: len(client.sent) == 2)
        clock.now = NOON + 90
        await anyio.sleep(0.7)
        refused = "the server refused the end of a stream" in caplog.text
        assert refused == isinstance(error, RuntimeError)
        await client.put({"type": "http.disconnect"})
        await client.until(client.returned.is_set)
    assert seen.messages == [{"type": "http.disconnect"}]


async def test_an_exception_of_a_websockets_app_is_the_servers(
    issuer: LocalIssuer, clock: Clock
) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise ValueError("of the app") from KeyError()

    async with connected(app, issuer.guard(clock=clock), issuer.token(), "websocket") as client:
        await client.until(client.returned.is_set)
    assert isinstance(client.raised, ValueError)


async def test_STREAM_01_a_token_that_comes_too_late_prolongs_nothing(
    issuer: LocalIssuer, clock: Clock
) -> None:
    late: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        try:
            await reauthenticate(scope, issuer.token(expires_in=900))
        except StreamEnded as error:
            late.append(error)

    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(app, guard, token, "websocket") as client:
        await client.until(lambda: client.sent)
        clock.now = NOON + 90
        await client.until(client.returned.is_set)
    assert len(late) == 1


async def test_what_is_no_stream_cannot_be_prolonged(issuer: LocalIssuer) -> None:
    with pytest.raises(ConfigurationError, match="no open stream"):
        await reauthenticate({"type": "http"}, issuer.token())


def test_STREAM_01_a_loop_that_was_closed_with_streams_open_is_left_alone(
    issuer: LocalIssuer,
) -> None:
    guard = issuer.guard(revocations=Revocations())
    assert guard.stream_tokens is not None
    tokens = guard.stream_tokens

    async def made() -> OpenStreams:
        return open_streams(tokens)

    loop = asyncio.new_event_loop()
    streams = loop.run_until_complete(made())
    child = os.fork()
    if child == 0:  # which shares the parent's loop, but not its streams
        streams._changed(None)
        os._exit(len(loop._ready))  # type: ignore[attr-defined]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    loop.close()
    guard.revoke(subject="alice")
    streams._changed(None)
    del loop
    gc.collect()
    streams._changed(None)
    held: list[Any] = []

    async def in_trio() -> None:
        held.extend([await made(), current_token().native_token])

    anyio.run(in_trio, backend="trio")
    held[0]._changed(None)
    del held[1]
    gc.collect()
    held[0]._changed(None)


def test_STREAM_01_a_token_can_be_revoked_when_the_loop_of_its_streams_is_gone(
    issuer: LocalIssuer,
) -> None:
    guard, token = issuer.guard(revocations=Revocations()), issuer.token()

    async def opened() -> None:
        async with connected(events(Seen()), guard, token, "http") as client:
            await client.until(lambda: len(client.sent) == 2)

    asyncio.run(opened())
    gc.collect()
    guard.revoke(token)
    with pytest.raises(TokenError, match="revoked"):
        guard.verify(token)


def test_the_leeway_of_a_tenant_that_nobody_can_name_is_none(clock: Clock) -> None:
    def fails(_tenant: str) -> bool:
        raise OSError("the database is away")

    issuer = Issuer("https://{tenant}.example", audience="https://api.test", tenants=fails)
    guard = Guard(issuer, clock=clock)
    held = guard.stream_token(Principal(issuer="https://a.example", expires_at=NOON), [])
    assert held.deadline == NOON
    unknown = guard.stream_token(Principal(issuer="https://other.test", expires_at=NOON), [])
    assert unknown.deadline == NOON


@pytest.mark.parametrize("kind", ["alone", "in a group"])
async def test_STREAM_01_a_mistake_that_an_app_makes_when_its_stream_ends_is_the_servers(
    issuer: LocalIssuer, clock: Clock, kind: str
) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await start(send, b"application/octet-stream")
        try:
            while True:
                await send(chunk())
                await anyio.sleep(0.005)
        except OSError as ended:
            if kind == "in a group":
                raise ExceptionGroup("of two tasks", [ended, KeyError("mistake")]) from None
            dict[str, str]()["mistake"]

    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(app, guard, token, "http") as client:
        await client.until(lambda: len(client.sent) > 2)
        clock.now = NOON + 90
        await client.until(client.returned.is_set)
    assert isinstance(client.raised, KeyError if kind == "alone" else ExceptionGroup)


async def test_STREAM_01_a_disconnect_that_a_framework_makes_of_the_end_is_no_mistake(
    issuer: LocalIssuer, clock: Clock
) -> None:
    class ClientDisconnect(Exception):
        pass

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await start(send, b"application/octet-stream")
        try:
            while True:
                await send(chunk())
                await anyio.sleep(0.005)
        except OSError as ended:
            try:
                raise ClientDisconnect  # noqa: TRY301 - as Starlette does
            except ClientDisconnect as implied:
                raise ExceptionGroup("of two tasks", [implied, ended]) from None

    guard, token = issuer.guard(clock=clock), issuer.token(expires_in=60)
    async with connected(app, guard, token, "http") as client:
        await client.until(lambda: len(client.sent) > 2)
        clock.now = NOON + 90
        await client.until(client.returned.is_set)
    assert client.raised is None


async def test_STREAM_01_an_end_that_cannot_be_reported_keeps_no_other_stream_open(
    issuer: LocalIssuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    class Nameless(BearerMiddleware):
        def describe(self, scope: Any) -> Any:
            raise LookupError(scope["path"])

    guard, token, first, other = (
        issuer.guard(clock=clock),
        issuer.token(expires_in=60),
        Seen(),
        Seen(),
    )
    async with anyio.create_task_group() as tasks:
        clients = [
            Client(kind(events(seen), guard=guard), connection("http", token))
            for kind, seen in ((Nameless, first), (BearerMiddleware, other))
        ]
        for client in clients:
            tasks.start_soon(client.run)
            await client.until(lambda client=client: len(client.sent) == 2)  # type: ignore[misc]
        clock.now = NOON + 90
        for client in clients:
            await client.until(client.returned.is_set)
    assert "could not be reported" in caplog.text
    assert [len(each.messages) for each in (first, other)] == [1, 1]


# Status lists


@pytest.fixture
def listing(issuer: LocalIssuer, clock: Clock) -> Generator[Guard]:
    """A guard of an issuer with a status list."""
    with listing_guard(issuer, clock) as guard:
        yield guard


def listing_guard(issuer: LocalIssuer, clock: Any, **options: Any) -> Guard:
    trusted = issuer.issuer(status_lists=[issuer.status_list.uri])
    return Guard(trusted, transport=issuer.transport(), clock=clock, **options)


def with_status(issuer: LocalIssuer, index: int) -> str:
    return issuer.token(claims=issuer.status_list.reference(index), expires_in=9000)


async def refreshed(guard: Guard, clock: Clock, seconds: float = 57) -> None:
    """Have the list refreshed as the thread does, 80 to 95 % of a minute later."""
    clock.now += seconds
    statuses = guard._trust.statuses
    assert statuses is not None
    (cache,) = statuses._all()
    with contextlib.suppress(IssuerUnavailable):
        await anyio.to_thread.run_sync(guard.run, cache.refresh())


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_TSL_01_a_newer_status_list_ends_the_streams_that_it_revokes_and_no_others(
    issuer: LocalIssuer, listing: Guard, clock: Clock, kind: str
) -> None:
    make, seen, others = echo if kind == "websocket" else events, Seen(), Seen()
    async with (
        connected(make(seen), listing, with_status(issuer, 7), kind) as client,
        connected(make(others), listing, with_status(issuer, 8), kind) as other,
        connected(make(others), listing, issuer.token(), kind) as without_status,
    ):
        await client.until(lambda: client.sent and other.sent and without_status.sent)
        issuer.status_list[7] = 1
        await anyio.sleep(0.6)
        assert not client.returned.is_set()
        await refreshed(listing, clock)
        await client.until(client.returned.is_set)
        await anyio.sleep(0.02)
        assert not other.returned.is_set()
        assert not without_status.returned.is_set()
    if kind == "websocket":
        assert client.sent[-1]["code"] == 1008
        assert client.sent[-1]["reason"] == "The access token is revoked or suspended"


async def test_TSL_01_the_list_of_an_open_stream_is_refreshed_though_no_request_uses_it(
    issuer: LocalIssuer, listing: Guard, clock: Clock
) -> None:
    seen = Seen()
    async with connected(echo(seen), listing, with_status(issuer, 7), "websocket") as client:
        await client.until(lambda: client.sent)
        for _ in range(3):
            await refreshed(listing, clock)
        issuer.status_list[7] = 1
        await refreshed(listing, clock)
        await client.until(client.returned.is_set)
    assert issuer.hits["/statuslists/1"] == 5
    statuses = listing._trust.statuses
    assert statuses is not None
    (cache,) = statuses._all()
    await refreshed(listing, clock)
    assert cache.next_refresh() is None  # nobody uses it any more


async def test_TSL_01_streams_end_by_503_s_rule_when_the_status_list_is_lost(
    issuer: LocalIssuer, listing: Guard, clock: Clock
) -> None:
    seen = Seen()
    async with connected(echo(seen), listing, with_status(issuer, 7), "websocket") as client:
        await client.until(lambda: client.sent)
        issuer.outage = True
        await refreshed(listing, clock)  # the list may still be used
        await anyio.sleep(0.6)
        issuer.outage = False
        await refreshed(listing, clock, 2)
        clock.now += 61  # too old now, but nobody has failed to fetch another
        await anyio.sleep(0.6)
        assert not client.returned.is_set()
        await refreshed(listing, clock, 0)
        await anyio.sleep(0.6)
        assert not client.returned.is_set()
        issuer.outage = True
        await refreshed(listing, clock, 61)
        await client.until(client.returned.is_set)
    assert client.sent[-1]["code"] == 1013
    assert "at the moment" in client.sent[-1]["reason"]


async def test_TSL_01_a_status_list_ends_streams_that_may_outlive_their_tokens(
    issuer: LocalIssuer, clock: Clock
) -> None:
    seen = Seen()
    with listing_guard(issuer, clock, stream_until_expiry=False) as guard:
        async with connected(echo(seen), guard, with_status(issuer, 7), "websocket") as client:
            await client.until(lambda: client.sent)
            issuer.status_list[7] = 1
            await refreshed(guard, clock)
            await client.until(client.returned.is_set)
    assert client.sent[-1]["code"] == 1008


async def test_TSL_01_a_stream_ends_within_the_time_for_which_its_list_is_cached() -> None:
    """By the real clock, with the thread that refreshes: the list has a ttl of 1 s."""
    issuer, seen = LocalIssuer(algorithm="ES256"), Seen()
    issuer.status_list.ttl = 1
    with listing_guard(issuer, time.time) as guard:
        async with connected(echo(seen), guard, with_status(issuer, 7), "websocket") as client:
            await client.until(lambda: client.sent)
            issuer.status_list[7] = 1
            began = time.monotonic()
            await client.until(client.returned.is_set)
            took = time.monotonic() - began
    print(f"revoked in the list, stream ended after {took:.2f} s (ttl 1 s)")
    assert client.sent[-1]["code"] == 1008


async def test_TSL_01_the_list_of_an_open_stream_is_never_dropped_for_others(clock: Clock) -> None:
    issuer, seen = LocalIssuer(algorithm="ES256", clock=clock), Seen()
    uri = "https://issuer.test/lists/{}".format

    class Lists:
        def fetch(self, request: Fetch) -> Response:
            issuer.status_list.claims = {"sub": request.url}
            return Response(200, (), issuer.status_list.token(issuer.key).encode())

        async def afetch(self, request: Fetch) -> Response:
            return self.fetch(request)

    def token(number: int) -> str:
        return issuer.token(claims={"status": {"status_list": {"idx": 7, "uri": uri(number)}}})

    trusted = issuer.issuer(keys=issuer.jwks(), status_lists=["https://issuer.test/lists/*"])
    with Guard(trusted, transport=Lists(), clock=clock) as guard:
        statuses = guard._trust.statuses
        assert statuses is not None
        async with connected(echo(seen), guard, token(0), "websocket") as client:
            await client.until(lambda: client.sent)
            (cache,) = statuses._all()
            for number in range(1, 300):
                guard.verify(token(number))
            assert cache not in statuses._all()
            issuer.status_list[7] = 1
            clock.now += 57
            guard.run(cache.refresh())
            await client.until(client.returned.is_set)
            with pytest.raises(TokenError, match="INVALID"):  # by the same list: it was kept
                guard.verify(token(0))


def test_TSL_01_a_list_may_arrive_when_the_loop_of_its_streams_is_gone(
    issuer: LocalIssuer, clock: Clock
) -> None:
    token = with_status(issuer, 7)

    async def opened() -> None:
        async with connected(events(Seen()), guard, token, "http") as client:
            await client.until(lambda: len(client.sent) == 2)

    with listing_guard(issuer, clock) as guard:
        asyncio.run(opened())
        gc.collect()
        issuer.status_list[7] = 1
        asyncio.run(refreshed(guard, clock))
        with pytest.raises(TokenError, match="INVALID"):
            guard.verify(token)


async def test_a_stream_whose_status_nobody_can_place_ends_with_its_token(clock: Clock) -> None:
    """The function that names tenants fails, or the list was dropped since the request."""
    issuer, allowed = LocalIssuer(algorithm="ES256", clock=clock), True

    def tenants(_name: str) -> bool:
        if not allowed:
            raise OSError("the application's database is away")
        return True

    pattern = Issuer(
        "https://id.test/{tenant}",
        audience="api",
        tenants=tenants,
        keys=issuer.jwks(),
        status_lists=["https://id.test/{tenant}/list"],
    )
    reference = {"status": {"status_list": {"idx": 7, "uri": "https://id.test/a/list"}}}
    caller = Principal(issuer="https://id.test/a", expires_at=NOON, claims=reference)
    with Guard(pattern, clock=clock) as guard:
        placed = guard.stream_token(caller, [])
        assert placed.status is not None
        assert placed.status.ending() is None  # its list is yet to be fetched
        assert placed.status.key == ("status_list", "https://id.test/a", "https://id.test/a/list")
        elsewhere = Principal(issuer="https://id.test/b", expires_at=NOON, claims=reference)
        assert guard.stream_token(elsewhere, []).status is None
        foreign = Principal(issuer="https://other.test", expires_at=NOON, claims=reference)
        assert guard.stream_token(foreign, []).status is None
        allowed = False
        other = Principal(issuer="https://id.test/c", expires_at=NOON, claims=reference)
        assert guard.stream_token(other, []).status is None
