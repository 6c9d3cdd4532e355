"""How the guard's flows are driven: which handler answers which effect, in both worlds."""

from __future__ import annotations

from typing import Any, Protocol

from bearerguard.errors import ConfigurationError
from bearerguard.flow import AsyncHandlers, Fetch, Handlers, Once
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
    """Return the transport of a guard that was given none."""
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
    sync: dict[type[Any], Any] = {Fetch: transport.fetch}
    sync[Once] = lambda effect: threads.once(effect, sync)
    asynchronous: dict[type[Any], Any] = {Fetch: transport.afetch}
    asynchronous[Once] = lambda effect: tasks.once(effect, asynchronous)
    return sync, asynchronous


def close(transport: object) -> None:
    """Close what a transport keeps open for threads, if it keeps anything."""
    end = getattr(transport, "close", None)
    if end is not None:
        end()


async def aclose(transport: object) -> None:
    """Close what a transport keeps open for the running event loop too."""
    end = getattr(transport, "aclose", None)
    if end is not None:
        await end()
