"""Observers: one record for each decision and for each fetch of a guard, for metrics and traces.

A record names issuers as they are configured, and codes from fixed sets, so that it can label a
metric. It never holds a token, a subject, a claim, a path or a query.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable
from urllib.parse import urlsplit

from bearerguard.protocol.http import document
from bearerguard.protocol.introspection import IntrospectionFailed
from bearerguard.runtime.fetching.watch import FetchWatch, Watch, unwatched
from bearerguard.runtime.messages import FetchFailed, StoreFailed
from bearerguard.runtime.reporting import observing

if TYPE_CHECKING:
    from bearerguard.guard.records import DecisionRecord, FetchRecord, FetchTarget

_log = logging.getLogger("bearerguard")

# Upper bounds for histograms, in seconds: from a token in the cache (some 10 µs) to an issuer that
# times out; of fetches those that OpenTelemetry's conventions name for HTTP clients.
DECISION_BUCKETS = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025),
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
FETCH_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)

Health: TypeAlias = Callable[[], Mapping[str, Any]]
"""Returns what `Guard.health` does."""


class Observer(Protocol):
    """Receives the records of a guard, in the thread or task that decides: it must be quick.

    An exception is logged, at most once a minute, and changes no decision.
    """

    def decided(self, record: DecisionRecord) -> None:
        """Note a decision."""
        ...

    def fetched(self, record: FetchRecord) -> None:
        """Note a fetch."""
        ...


@runtime_checkable
class HealthObserver(Protocol):
    """An observer that also reads the guard's health, for example for gauges."""

    def attached(self, health: Health) -> None:
        """Note how to read the health of a guard that has this observer; the guard calls it once.

        `health` is a bound method: hold it weakly, as `AttachedGuards` does, or it keeps the guard
        alive.
        """
        ...


class AttachedGuards:
    """The guards whose health an observer reads; held weakly."""

    def __init__(self) -> None:
        self._guards: tuple[weakref.WeakMethod[Health], ...] = ()

    def add(self, health: Health) -> None:
        """Add another guard, by the bound method that returns its health."""
        alive = [each for each in self._guards if each() is not None]
        self._guards = (*alive, weakref.WeakMethod(health))

    def healths(self) -> Iterator[Mapping[str, Any]]:
        """Read the health of each guard that is still used."""
        for each in self._guards:
            health = each()
            if health is not None:
                yield health()


class Observers(observing.ObserverList[Observer]):
    """The observers of one guard.

    Args:
        observers: as passed.
        monotonic: returns seconds that clock changes do not affect.

    Attributes:
        configured: returns the configured issuer that a name or a tenant belongs to.
    """

    def __init__(
        self, observers: Iterable[Observer] = (), monotonic: Callable[[], float] = lambda: 0.0
    ) -> None:
        super().__init__(observers, monotonic, _log)
        self.configured: Callable[[str], str | None] = lambda name: name

    def attach(self, health: Health) -> None:
        """Pass the guard's health to the observers that read it."""
        for observer in self._observers:
            if isinstance(observer, HealthObserver):
                observer.attached(health)

    def decided(self, record: DecisionRecord) -> None:
        """Report a decision."""
        self.call(lambda observer: observer.decided(record))

    def fetched(self, record: FetchRecord) -> None:
        """Report a fetch."""
        self.call(lambda observer: observer.fetched(record))

    def watch(self, target: FetchTarget, issuer: str | None, method: str | None = "GET") -> Watch:
        """Return a `Watch` of the fetches of one target."""
        if not self._observers:
            return unwatched
        named = None if issuer is None else self.configured(issuer)
        return lambda url: _Recorder(self, target, named, method, url)


class _Recorder(FetchWatch):
    """Makes the record of one fetch."""

    __slots__ = ("_began", "_issuer", "_method", "_observers", "_target", "_url")

    def __init__(
        self,
        observers: Observers,
        target: FetchTarget,
        issuer: str | None,
        method: str | None,
        url: str,
    ) -> None:
        super().__init__()
        self._observers = observers
        self._target: FetchTarget = target
        self._issuer = issuer
        self._method = method
        self._url = url
        self._began = observers.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            return  # the flow was closed
        from bearerguard.guard.records import FetchRecord  # noqa: PLC0415 - few guards make them

        response = self.response
        status = None if response is None else response.status
        if status is None and isinstance(error, FetchFailed):
            status = error.status
        self._observers.fetched(
            FetchRecord(
                target=self._target,
                result="ok" if error is None else "failed",
                error=None if error is None else error_kind(error),
                issuer=self._issuer,
                method=self._method,
                url=_without_secrets(self._url),
                status=status,
                octets=None if response is None else len(response.body),
                seconds=self._observers.monotonic() - self._began,
            )
        )


def error_kind(error: BaseException) -> str:
    """Return why a fetch failed, as `FetchRecord.error` has it."""
    if isinstance(error, FetchFailed):
        return error.kind or "other"
    if isinstance(error, StoreFailed):
        return "store"
    if isinstance(error, IntrospectionFailed):
        return error.kind
    if isinstance(error, document.NotJson):
        return "not_json"
    return "content" if isinstance(error, ValueError) else "other"


def _without_secrets(url: str) -> str | None:
    if not url:
        return None
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}{parts.path}"


def check_observers(observers: object) -> None:
    """Raise `ConfigurationError` unless these are observers."""
    observing.check(observers, ("decided", "fetched"), "PrometheusObserver")
