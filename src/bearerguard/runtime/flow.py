"""Flows: logic that says what it needs from the world and leaves the getting to a driver.

A flow is a generator that yields effects and returns a result. An effect is a frozen
value; a driver is a table from effect type to handler, one for sync and one for async
callers. What a handler raises is thrown into the flow. Knows no sockets and no protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from bearerguard.runtime.messages import Response

R = TypeVar("R")
T = TypeVar("T")


class Effect(Generic[R]):
    """Something a flow asks of the world; `R` is the type of the reply."""

    __slots__ = ()


Flow: TypeAlias = Generator[Effect[Any], Any, T]
Handlers: TypeAlias = Mapping[type[Effect[Any]], Callable[[Any], Any]]
AsyncHandlers: TypeAlias = Mapping[type[Effect[Any]], Callable[[Any], Awaitable[Any]]]


@dataclass(frozen=True, slots=True)
class Fetch(Effect[Response]):
    """Send one HTTP request and bring the whole answer; raises `FetchFailed` for none.

    `keep_alive` says that more will follow soon, and that asking twice does no harm: the
    connection may be kept, and a kept one that proves dead be replaced by another. `share` is
    the part of the transport's timeout that this one may take.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    keep_alive: bool = False
    share: float = field(default=1.0, repr=False)


@dataclass(frozen=True, slots=True)
class Once(Effect[T]):
    """Run a whole operation once for all that ask for `key` at the same time.

    `flow` starts by looking whether its work is already done: a waiter that takes over
    from a cancelled leader runs it again.
    """

    key: Hashable
    flow: Callable[[], Flow[T]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Load(Effect[bytes | None]):
    """Read what `Store` keeps under `key`, None for nothing; raises `StoreFailed`."""

    key: str


@dataclass(frozen=True, slots=True)
class Store(Effect[None]):
    """Keep `value` under `key`, where other processes find it too, for `ttl` seconds.

    Raises `StoreFailed` when it is not known to be kept.
    """

    key: str
    value: bytes = field(repr=False)
    ttl: float


@dataclass(frozen=True, slots=True)
class Sleep(Effect[None]):
    """Let time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Blocking(Effect[T]):
    """Make a call that waits for a disk or a person: in an event loop, in a thread aside."""

    call: Callable[[], T] = field(repr=False)


def ask(effect: Effect[R]) -> Generator[Effect[Any], Any, R]:
    """Yield an effect and return its reply, typed."""
    reply: R = yield effect
    return reply


def run(flow: Flow[T], handlers: Handlers) -> T:
    """Drive a flow in the calling thread."""
    try:
        effect = next(flow)
        while True:
            try:
                reply = handlers[type(effect)](effect)
            except Exception as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()


async def arun(flow: Flow[T], handlers: AsyncHandlers) -> T:
    """Drive a flow in the running event loop (asyncio or trio)."""
    try:
        effect = next(flow)
        while True:
            try:
                reply = await handlers[type(effect)](effect)
            except Exception as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(reply)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        flow.close()
