"""How the client's flows are driven: which handler answers which effect, in both worlds.

A storage waits for disks and other processes, and a login for a person: in an event loop such
calls are made in a thread aside, and given up when the task is cancelled.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

from bearerguard.errors import ConfigurationError
from bearerguard.flow import AsyncHandlers, Blocking, Fetch, Handlers, Once, Sleep
from bearerguard.messages import Response
from bearerguard.single_flight import AsyncSingleFlight, SingleFlight


class Transport(Protocol):
    """Answers `Fetch`, in a thread and in an event loop; `HttpTransport` is one."""

    def fetch(self, request: Fetch) -> Response:
        """Answer, or raise `FetchFailed`."""
        ...

    async def afetch(self, request: Fetch) -> Response:
        """Answer, or raise `FetchFailed`."""
        ...


def default_transport() -> Transport:
    """Return the transport of a client that was given none."""
    from bearerguard.transports.http import HttpTransport  # noqa: PLC0415 - built lazily by design

    return HttpTransport()


def handlers(transport: Transport) -> tuple[Handlers, AsyncHandlers]:
    """Return the tables of the synchronous and of the asynchronous driver."""
    for method in ("fetch", "afetch"):
        if not callable(getattr(transport, method, None)):
            raise ConfigurationError(
                f"transport=: pass an HttpTransport, or an object with fetch and afetch: {method}"
                " is missing"
            )
    threads, tasks = SingleFlight(), AsyncSingleFlight()
    sync: dict[type[Any], Any] = {
        Fetch: transport.fetch,
        Sleep: lambda effect: time.sleep(effect.seconds),
        Blocking: lambda effect: effect.call(),
    }
    sync[Once] = lambda effect: threads.once(effect, sync)
    asynchronous: dict[type[Any], Any] = {
        Fetch: transport.afetch,
        Sleep: _asleep,
        Blocking: _aside,
    }
    asynchronous[Once] = lambda effect: tasks.once(effect, asynchronous)
    return sync, asynchronous


async def _asleep(effect: Sleep) -> None:
    import anyio  # noqa: PLC0415 - only async callers pay for its import

    await anyio.sleep(effect.seconds)


async def _aside(effect: Blocking[Any]) -> Any:
    from anyio import to_thread  # noqa: PLC0415

    return await to_thread.run_sync(effect.call, abandon_on_cancel=True)
