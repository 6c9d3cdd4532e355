"""What sends requests, and what every table of handlers begins with, in both worlds.

Knows neither the guard nor the client, who add what else they ask for.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from bearerguard.errors import ConfigurationError
from bearerguard.flow import Fetch, Once
from bearerguard.messages import Response
from bearerguard.single_flight import AsyncSingleFlight, SingleFlight

Table: TypeAlias = dict[type[Any], Any]


class Transport(Protocol):
    """Answers `Fetch`, in a thread and in an event loop; `HttpTransport` is one."""

    def fetch(self, request: Fetch) -> Response:
        """Answer, or raise `FetchFailed`."""
        ...

    async def afetch(self, request: Fetch) -> Response:
        """Answer, or raise `FetchFailed`."""
        ...


def default_transport() -> Transport:
    """Return the transport of whoever was given none."""
    from bearerguard.transports.http import HttpTransport  # noqa: PLC0415 - built lazily by design

    return HttpTransport()


def tables(transport: Transport) -> tuple[Table, Table]:
    """Return the tables of a synchronous and of an asynchronous driver, to be added to.

    They answer `Fetch` and `Once`. Raises `ConfigurationError` for what is no transport.
    """
    for method in ("fetch", "afetch"):
        if not callable(getattr(transport, method, None)):
            raise ConfigurationError(
                f"transport=: pass an HttpTransport, or an object with fetch and afetch: {method}"
                " is missing"
            )
    threads, tasks = SingleFlight(), AsyncSingleFlight()
    sync: Table = {Fetch: transport.fetch}
    sync[Once] = lambda effect: threads.once(effect, sync)
    asynchronous: Table = {Fetch: transport.afetch}
    asynchronous[Once] = lambda effect: tasks.once(effect, asynchronous)
    return sync, asynchronous
