"""Observers, of a guard and of a server alike: what is accepted as one, and how all are called.

Knows no record, and nothing of what is observed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from logging import Logger
from typing import Generic, TypeVar

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.reporting.log_lines import LineLimit

_LINE_INTERVAL = 60.0

# Upper bounds of histograms, in seconds, for requests to a server: a token without a write takes
# about a millisecond, a password some 50, and a locked database seconds.
REQUEST_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)

T = TypeVar("T")


class ObserverList(Generic[T]):
    """The observers of one guard or server; false if there are none.

    Args:
        observers: as passed.
        monotonic: returns seconds that clock changes do not affect.
        log: the logger that reports an observer that raises, at most once a minute.
    """

    def __init__(self, observers: Iterable[T], monotonic: Callable[[], float], log: Logger) -> None:
        self._observers = tuple(observers)
        self.monotonic = monotonic
        self._log = log
        self._lines = LineLimit(monotonic, burst=1, interval=_LINE_INTERVAL)

    def __bool__(self) -> bool:
        return bool(self._observers)

    def call(self, report: Callable[[T], object]) -> None:
        """Call `report` with each observer; an exception is logged."""
        for observer in self._observers:
            try:
                report(observer)
            except Exception:
                self._failed(observer)

    def _failed(self, observer: T) -> None:
        left_out = self._lines.admit(type(observer).__qualname__)
        if left_out is not None:
            more = f" (and {left_out} times more since the last line)" if left_out else ""
            self._log.exception("observers=: %s raised%s", type(observer).__name__, more)


def check(observers: object, methods: tuple[str, ...], example: str) -> None:
    """Raise `ConfigurationError` unless these are observers that have all `methods`."""
    known = observers if isinstance(observers, tuple | list) else ()
    if (not known and observers not in ((), [])) or not all(
        _has_methods(each, methods) for each in known
    ):
        named = " and ".join((", ".join(methods[:-1]), methods[-1]))
        raise ConfigurationError(
            f"observers=: pass a list of observers, such as [{example}()]: each has the"
            f" methods {named}"
        )


def _has_methods(value: object, methods: tuple[str, ...]) -> bool:
    return not isinstance(value, type) and all(
        callable(getattr(value, name, None)) for name in methods
    )
