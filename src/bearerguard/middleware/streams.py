"""Open streams of an event loop: websockets, and responses that one body message did not finish.

Ends each when its token ends (`guard.stream_tokens`). All streams of a guard in one event loop
share a heap of deadlines, an index of what can be revoked, and one timer, which runs only while a
stream is open. It compares with the guard's clock at least twice a second, so that a clock step or
a suspended machine delays nothing. A stream is held weakly: it goes when the app drops its `send`.

For the app, the end of a stream is what a client's disconnect is: `receive` returns the disconnect,
and `send` raises `StreamEnded`, an `OSError`. Knows no framework; runs on asyncio and trio.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    MutableMapping,
)
from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from anyio.lowlevel import checkpoint, current_token

from bearerguard.errors import (
    OTHER_CALLER,
    REVOCATIONS_UNAVAILABLE,
    STATUS_UNAVAILABLE,
    Reason,
    StreamEnded,
    TokenError,
)
from bearerguard.guard.stream_tokens import Key, StreamToken, StreamTokens
from bearerguard.guard.token_cache import octets
from bearerguard.middleware.admission import Admission
from bearerguard.principal import Principal
from bearerguard.protocol import names

if TYPE_CHECKING:
    from bearerguard.guard.binding.received_request import ReceivedRequest
    from bearerguard.guard.events import Place

_log = logging.getLogger("bearerguard")

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
_Reference: TypeAlias = "weakref.ref[Stream]"

# How often the clock is looked at, in seconds, while a stream is open.
_INTERVAL = 0.5
# How many streams are ended before the loop may do something else.
_BATCH = 200
# How long a client may take to accept the end, and then the app to return, in seconds.
_PATIENCE = 5.0
_NOBODY_CAN_TELL = (REVOCATIONS_UNAVAILABLE, STATUS_UNAVAILABLE)


class Stream(ABC):
    """One open stream.

    Args:
        token: holds the stream open.
        streams: those of its event loop.
        admission: of the request.
        place: names the request in the event of its end.
    """

    __slots__ = (
        "__weakref__",
        "_admission",
        "_place",
        "ended",
        "streams",
        "token",
    )

    def __init__(
        self,
        token: StreamToken,
        streams: OpenStreams,
        admission: Admission,
        place: Callable[[], Place],
    ) -> None:
        self._admission = admission
        self._place = place
        self.token: StreamToken = token
        self.streams: OpenStreams = streams
        self.ended: Reason | None = None

    def end(self, reason: Reason) -> None:
        """End the stream; called in its event loop."""
        self.ended = reason
        self._end()
        try:
            self._admission.report_end(reason, self._place())
        except Exception:  # an app's own `describe`: the other streams must end all the same
            _log.exception("the end of a stream could not be reported")

    @abstractmethod
    def _end(self) -> None:
        """Interrupt the app, and tell the client."""

    def _stop(self) -> None:
        """Raise `StreamEnded` if it has ended."""
        if self.ended is not None:
            raise StreamEnded(self.ended)

    async def renew(self, token: str | bytes, request: ReceivedRequest) -> Principal:
        """Let a newer token of the same caller hold the stream open; see `reauthenticate`."""
        guard = self._admission.guard
        principal = await guard.averify(token, request)
        self._stop()
        unfit = _unfit(principal, self.token.principal)
        if unfit is not None:
            place = self._place()
            guard.report(OTHER_CALLER.code, f"{place}: {unfit}", place=place)
            raise TokenError(OTHER_CALLER, unfit, issuer=principal.issuer)
        self.streams.remove(self)
        self.token = guard.stream_token(principal, [b"Bearer " + octets(token)])
        self.streams.add(self)
        return principal


class MessageStream(Stream):
    """A stream of messages that the app sends through the server's `send`."""

    __slots__ = ("_send", "_waiting")

    def __init__(self, send: Send, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._send = send
        # Several tasks of an app may send, and wait for the client.
        self._waiting = set[anyio.CancelScope]()

    async def _relay(self, message: Message) -> None:
        """Send a message of the app, until the stream ends: a client that does not read blocks."""
        self._stop()
        with anyio.CancelScope() as sending:
            self._waiting.add(sending)
            try:
                await self._send(message)
            finally:
                self._waiting.discard(sending)
        if sending.cancelled_caught:
            self._stop()

    def _interrupt(self) -> None:
        for each in self._waiting:
            each.cancel()


class ResponseStream(MessageStream):
    """A response that was not finished by its first body message."""

    __slots__ = ("_is_event_stream",)

    def __init__(self, *arguments: Any, is_event_stream: bool) -> None:
        super().__init__(*arguments)
        self._is_event_stream = is_event_stream

    async def send(self, message: Message) -> None:
        """Send a message of the app."""
        await self._relay(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.streams.remove(self)

    def _end(self) -> None:
        # A message that waits for the client cannot be followed by another, and what was cut off
        # in the middle must not look complete: then the app returns, and the server aborts.
        if self._waiting:
            self._interrupt()
        elif self._is_event_stream:
            self.streams.spawn(self._finish)

    async def _finish(self) -> None:
        """Complete the response; the server then tells the app of a disconnect."""
        with anyio.move_on_after(_PATIENCE):
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})


class WebSocketStream(MessageStream):
    """An open websocket, from its handshake on."""

    __slots__ = ("_closed", "_receive", "_running")

    def __init__(self, receive: Receive, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._receive = receive
        self._running = anyio.CancelScope()
        self._closed = anyio.Event()

    async def run(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], scope: Any) -> None:
        """Run the app until it returns; one that does not notice the end is cancelled."""
        self.streams.add(self)
        try:
            with self._running:
                await app(scope, self.receive, self.send)
        finally:
            self.streams.remove(self)
            if self.ended is not None:  # the server aborts what returns before it is closed
                await self._closed.wait()

    async def receive(self) -> Message:
        """Return the client's next message, or a disconnect when the stream has ended."""
        if self.ended is None:
            with anyio.CancelScope() as receiving:
                self._waiting.add(receiving)
                try:
                    return await self._receive()
                finally:
                    self._waiting.discard(receiving)
        await checkpoint()  # an app that receives again and again must not block the event loop
        return {"type": "websocket.disconnect", **self._reason}

    async def send(self, message: Message) -> None:
        """Send a message of the app."""
        await self._relay(message)
        if message["type"] == "websocket.close":
            self.streams.remove(self)

    def _end(self) -> None:
        self._interrupt()
        self.streams.spawn(self._close)

    async def _close(self) -> None:
        try:
            with anyio.move_on_after(_PATIENCE):
                await self._send({"type": "websocket.close", **self._reason})
        finally:
            self._closed.set()
        await anyio.sleep(_PATIENCE)
        self._running.cancel()

    @property
    def _reason(self) -> dict[str, Any]:
        ended = self.ended
        code = names.TRY_AGAIN_LATER if ended in _NOBODY_CAN_TELL else names.POLICY_VIOLATION
        return {"code": code, "reason": "" if ended is None else ended.description}


class PartsStream(Stream):
    """The body of a response that a framework sends, as the app yields its parts."""

    __slots__ = ("_may_look_complete", "_waiting")

    def __init__(self, *arguments: Any, may_look_complete: bool) -> None:
        super().__init__(*arguments)
        self._may_look_complete = may_look_complete
        self._waiting: anyio.CancelScope | None = None

    async def parts(self, body: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """Yield the parts until the token ends; then stop, or raise `StreamEnded`."""
        iterator = aiter(body)
        self.streams.add(self)
        try:
            # It may have ended while the client read: then no further part is waited for.
            while self.ended is None:
                found: list[bytes] = []
                with anyio.CancelScope() as waiting:
                    self._waiting = waiting
                    try:
                        found.append(await anext(iterator))
                    except StopAsyncIteration:
                        return
                    finally:
                        self._waiting = None
                if self.ended is None:
                    yield found[0]
        finally:
            self.streams.remove(self)
        if not self._may_look_complete:
            self._stop()

    def _end(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()


async def parts_until_ended(
    body: AsyncIterable[bytes],
    tokens: StreamTokens,
    token: Callable[[], StreamToken],
    admission: Admission,
    place: Callable[[], Place],
    *,
    may_look_complete: bool,
) -> AsyncGenerator[bytes]:
    """Yield the parts of a body until the token of its request ends."""
    # Here, as the response may have been made in a thread without the event loop.
    streams = open_streams(tokens)
    stream = PartsStream(token(), streams, admission, place, may_look_complete=may_look_complete)
    async with aclosing(stream.parts(body)) as parts:
        async for part in parts:
            yield part


class OpenStreams:
    """The open streams of one guard in one event loop; used in that loop alone, but `_changed`.

    Args:
        tokens: the guard's rule.
        loop: the running event loop.
    """

    def __init__(self, tokens: StreamTokens, loop: _AsyncioLoop | _TrioLoop) -> None:
        self._tokens = tokens
        self._loop = loop
        self._pid = os.getpid()
        self._open: dict[_Reference, Iterable[Key]] = {}
        self._by_key: dict[Key, set[_Reference]] = {}
        self._deadlines: list[tuple[float, int, _Reference]] = []
        self._numbers = itertools.count()
        self._gone: list[_Reference] = []
        self._due: deque[_Reference] = deque()
        self._has_timer = False
        self.spawn: Callable[[Callable[[], Awaitable[None]]], None] = loop.spawn
        tokens.on_change(self._changed)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, stream: Stream) -> None:
        """Watch a stream; one whose token has ended meanwhile is ended at once."""
        self._forget_gone()
        reference = weakref.ref(stream, self._gone.append)
        token = stream.token
        keys = self._open[reference] = self._tokens.keys(token)
        for key in keys:
            self._by_key.setdefault(key, set()).add(reference)
        heapq.heappush(self._deadlines, (token.deadline, next(self._numbers), reference))
        if self._tokens.ending(token) is not None:
            self._due.append(reference)
            self._loop.later(0, self._end_due)
        if not self._has_timer:
            self._start_timer()

    def remove(self, stream: Stream) -> None:
        """Watch a stream no longer."""
        self._remove(weakref.ref(stream))

    def _remove(self, reference: _Reference) -> None:
        for key in self._open.pop(reference, ()):
            found = self._by_key[key]
            found.discard(reference)
            if not found:
                del self._by_key[key]

    def _forget_gone(self) -> None:
        """Forget the streams that the app dropped: garbage may be collected in any thread."""
        while self._gone:
            self._remove(self._gone.pop())

    def _start_timer(self) -> None:
        self._has_timer = True
        left = self._deadlines[0][0] - self._tokens.clock() if self._deadlines else _INTERVAL
        self._loop.later(max(0.0, min(_INTERVAL, left)), self._on_timer)

    def _on_timer(self) -> None:
        self._has_timer = False
        self._forget_gone()
        now, deadlines = self._tokens.clock(), self._deadlines
        if not self._tokens.is_trusted:
            self._due.extend(self._open)
        for key in self._tokens.lost(self._by_key):
            self._due.extend(self._by_key[key])
        while deadlines and deadlines[0][0] <= now:
            self._due.append(heapq.heappop(deadlines)[2])
        self._end_due()
        if not self._due and not len(self._open) <= len(deadlines) <= 2 * len(self._open) + _BATCH:
            self._renew_deadlines()
        if self._open and not self._has_timer:
            self._start_timer()

    def _renew_deadlines(self) -> None:
        """Forget the deadlines of streams that are over; the clock may have been set back, too."""
        self._deadlines = [
            (each.token.deadline, next(self._numbers), reference)
            for reference in self._open
            if (each := reference()) is not None
        ]
        heapq.heapify(self._deadlines)

    def _end_due(self) -> None:
        """End the streams that are due, and whose token has ended indeed."""
        for _ in range(min(_BATCH, len(self._due))):
            reference = self._due.popleft()
            stream = reference()
            if stream is None or reference not in self._open:
                continue
            reason = self._tokens.ending(stream.token)
            if reason is not None:
                self._remove(reference)
                stream.end(reason)
        if self._due:
            self._loop.later(0, self._end_due)

    def _changed(self, revoked: Collection[Key] | None) -> None:
        """Check the streams that a change concerns; called in any thread."""
        if self._pid != os.getpid():
            return  # they are the parent's
        if revoked is not None:
            if len(revoked) > len(self._by_key):
                revoked = None
            elif not any(key in self._by_key for key in revoked):
                return
        self._loop.from_thread(partial(self._check, revoked))

    def _check(self, revoked: Collection[Key] | None) -> None:
        if revoked is None:
            self._due.extend(self._open)
        else:
            for key in revoked:
                self._due.extend(self._by_key.get(key, ()))
        self._end_due()


class _AsyncioLoop:
    """What streams need of asyncio. It holds the loop weakly: a registry has it as a key."""

    def __init__(self, loop: Any) -> None:
        self._reference = weakref.ref(loop)
        self._tasks = set[Any]()

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        self._loop.call_later(seconds, call)

    def from_thread(self, call: Callable[[], object]) -> None:
        loop = self._reference()
        if loop is None:
            return
        with suppress(RuntimeError):  # it was closed with streams open, and they with it
            loop.call_soon_threadsafe(call)

    def spawn(self, function: Callable[[], Awaitable[None]]) -> None:
        # The loop holds its tasks weakly.
        task = self._loop.create_task(_guarded(function))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def _loop(self) -> Any:
        return self._reference()


class _TrioLoop:
    """What streams need of trio: tasks of its own, which end with the run."""

    def __init__(self, token: Any) -> None:
        import trio  # noqa: PLC0415 - it runs

        self._trio = trio
        self._reference = weakref.ref(token)

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        async def wait() -> None:
            await anyio.sleep(seconds)
            call()

        self._trio.lowlevel.spawn_system_task(wait)

    def from_thread(self, call: Callable[[], object]) -> None:
        token = self._reference()
        if token is None:
            return
        try:
            token.run_sync_soon(call)
        except self._trio.RunFinishedError:
            return  # with all its streams

    def spawn(self, function: Callable[[], Awaitable[None]]) -> None:
        self._trio.lowlevel.spawn_system_task(_guarded, function)


async def _guarded(function: Callable[[], Awaitable[None]]) -> None:
    try:
        await function()
    except OSError:
        return  # the client has gone
    except Exception:
        _log.warning("the server refused the end of a stream", exc_info=True)


_registry: weakref.WeakKeyDictionary[
    StreamTokens, weakref.WeakKeyDictionary[object, OpenStreams]
] = weakref.WeakKeyDictionary()


def open_streams(tokens: StreamTokens) -> OpenStreams:
    """Return the open streams of a guard in the running event loop."""
    loops = _registry.setdefault(tokens, weakref.WeakKeyDictionary())
    native = current_token().native_token
    streams = loops.get(native)
    if streams is None:
        is_trio = type(native).__module__.startswith("trio")
        loop = _TrioLoop(native) if is_trio else _AsyncioLoop(native)
        streams = loops[native] = OpenStreams(tokens, loop)
    return streams


def _unfit(principal: Principal, before: Principal) -> str | None:
    """Return why a newer token cannot hold a stream open instead of the one before."""
    if _caller(principal) != _caller(before):
        return "the token is of another caller than the one that opened the stream"
    if before.scopes - principal.scopes or before.roles - principal.roles:
        return "the token lacks scopes or roles of the one that opened the stream"
    return None


def _caller(principal: Principal) -> tuple[str | None, ...]:
    return principal.issuer, principal.subject, principal.client_id
