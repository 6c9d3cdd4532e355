"""Transports, and the handlers that every driver has: `Fetch` and `Once`, sync and async.

Knows neither the guard nor the client, which add handlers of their own.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.fetching.single_flight import AsyncSingleFlight, SingleFlight
from bearerguard.runtime.flow import Fetch, Once
from bearerguard.runtime.messages import Response

Table: TypeAlias = dict[type[Any], Any]


class Transport(Protocol):
    """Sends the requests of a guard or a client; `HttpTransport` is one.

    Implement both methods to send requests in another way. Each takes a `Fetch`, which has
    `method`, `url`, `headers` and `body`, and returns the whole `Response`, redirects included.
    """

    def fetch(self, request: Fetch) -> Response:
        """Return the response, from any thread; raise `FetchFailed` when there is none."""
        ...

    async def afetch(self, request: Fetch) -> Response:
        """Do as `fetch`, from any event loop."""
        ...


def tables(transport: Transport) -> tuple[Table, Table]:
    """Return the handlers of `Fetch` and `Once` for a sync and for an async driver.

    The caller adds its own. Raises `ConfigurationError` for an object that is no transport.
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
