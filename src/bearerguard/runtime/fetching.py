"""What sends requests, and what every table of handlers begins with, in both worlds.

Knows neither the guard nor the client, who add what else they ask for.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.flow import Fetch, Once
from bearerguard.runtime.messages import Response
from bearerguard.runtime.single_flight import AsyncSingleFlight, SingleFlight

Table: TypeAlias = dict[type[Any], Any]


class Transport(Protocol):
    """Answers `Fetch`, in a thread and in an event loop; `HttpTransport` is one."""

    def fetch(self, request: Fetch) -> Response:
        """Answer, or raise `FetchFailed`."""
        ...

    async def afetch(self, request: Fetch) -> Response:
        """Answer, or raise `FetchFailed`."""
        ...


def default_transport(headers: object = None, *, setting: str = "headers") -> Transport:
    """Return the transport of whoever was given none.

    `headers` are what it sends besides, as a setting has them: a dict, or text of one
    `Name: value` a line, since values have commas in them. Raises `ConfigurationError` naming
    the setting, and no value.
    """
    from bearerguard.transports.http import HttpTransport  # noqa: PLC0415 - built lazily by design

    if headers is None or headers == "":
        return HttpTransport()
    try:
        given: Any = _lines(headers) if isinstance(headers, str) else headers
        return HttpTransport(headers=given)
    except ConfigurationError as error:
        raise ConfigurationError(f"{setting}: {error}") from None


def _lines(text: str) -> list[tuple[str, str]]:
    lines = [line.strip().partition(":") for line in text.splitlines() if line.strip()]
    if not all(colon for _, colon, _ in lines):
        raise ConfigurationError("give one `Name: value` a line")
    return [(name, value.strip()) for name, _, value in lines]


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
