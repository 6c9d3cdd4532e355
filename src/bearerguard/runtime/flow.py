"""Flows: logic without I/O, which a sync or an async driver runs.

A flow is a generator that yields effects and returns a result. An effect is a frozen value that
names an operation with I/O. A driver has a table from effect type to handler, one for sync and one
for async callers, and sends each handler's result into the flow; what a handler raises is thrown
into it. Knows no sockets and no protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from bearerguard.runtime.messages import Response

R = TypeVar("R")
T = TypeVar("T")


class Effect(Generic[R]):
    """An operation that a flow asks its driver for; `R` is the type of the result."""

    __slots__ = ()


Flow: TypeAlias = Generator[Effect[Any], Any, T]
Handlers: TypeAlias = Mapping[type[Effect[Any]], Callable[[Any], Any]]
AsyncHandlers: TypeAlias = Mapping[type[Effect[Any]], Callable[[Any], Awaitable[Any]]]


@dataclass(frozen=True, slots=True)
class Fetch(Effect[Response]):
    """Send one HTTP request and return the whole response; raises `FetchFailed`.

    Attributes:
        method: `GET` or `POST`.
        url: the absolute URL.
        headers: pairs of name and value.
        body: the octets of the body.
        keep_alive: whether the connection may be reused. Only for requests that may be sent
            twice: a reused connection may turn out to be dead.
        share: the part of the transport's timeout that this request may take, up to 1.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    keep_alive: bool = False
    share: float = field(default=1.0, repr=False)


@dataclass(frozen=True, slots=True)
class Once(Effect[T]):
    """Run an operation once for all callers that ask for `key` at the same time.

    `flow` must begin by checking whether its work is already done: a waiter that takes over from
    a cancelled leader runs it again.
    """

    key: Hashable
    flow: Callable[[], Flow[T]] = field(repr=False)


def ask(effect: Effect[R]) -> Generator[Effect[Any], Any, R]:
    """Yield an effect and return its result, with its type."""
    result: R = yield effect
    return result


def run(flow: Flow[T], handlers: Handlers) -> T:
    """Run a flow in the calling thread."""
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
    """Run a flow in the running event loop (asyncio or trio)."""
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
