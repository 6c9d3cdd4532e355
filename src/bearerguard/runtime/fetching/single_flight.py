"""Single-flight: the handlers of `Once`, for threads and for tasks.

One caller leads and runs the whole operation; the others wait and get its result or its error. When
the leader is cancelled, a waiter takes over. No lock or event outlives its process or event loop.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from bearerguard.runtime.flow import AsyncHandlers, Handlers, Once, arun, run

if TYPE_CHECKING:
    import anyio

E = TypeVar("E")


class _Flight(Generic[E]):
    """An operation under way; `landed` stays False when its leader is cancelled."""

    __slots__ = ("done", "error", "landed", "result")

    def __init__(self, done: E) -> None:
        self.done = done
        self.landed = False
        self.result: Any = None
        self.error: Exception | None = None

    def outcome(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.result


class SingleFlight:
    """Handles `Once` for threads."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight[threading.Event]] = {}

    def once(self, effect: Once[Any], handlers: Handlers) -> Any:
        """Run the operation, or wait for the caller that does; return its result."""
        if self._pid != os.getpid():
            self._renew()  # flights of the parent process never land in this one
        while True:
            with self._lock:
                flight = self._flights.get(effect.key)
                if flight is None:
                    mine = self._flights[effect.key] = _Flight(threading.Event())
                    break
            flight.done.wait()
            if flight.landed:
                return flight.outcome()
        try:
            mine.result = run(effect.flow(), handlers)
            mine.landed = True
        except Exception as error:
            mine.error, mine.landed = error, True
        finally:
            with self._lock:
                del self._flights[effect.key]
            mine.done.set()
        return mine.outcome()


class AsyncSingleFlight:
    """Handles `Once` for tasks, in any number of event loops."""

    def __init__(self) -> None:
        self._loops: WeakKeyDictionary[object, dict[Hashable, _Flight[anyio.Event]]] = (
            WeakKeyDictionary()
        )

    async def once(self, effect: Once[Any], handlers: AsyncHandlers) -> Any:
        """Run the operation, or wait for the caller that does; return its result."""
        import anyio  # noqa: PLC0415 - only async callers pay for its import
        from anyio.lowlevel import current_token  # noqa: PLC0415 - as above

        flights = self._loops.setdefault(current_token().native_token, {})
        while (flight := flights.get(effect.key)) is not None:
            await flight.done.wait()
            if flight.landed:
                return flight.outcome()
        mine = flights[effect.key] = _Flight(anyio.Event())
        try:
            mine.result = await arun(effect.flow(), handlers)
            mine.landed = True
        except Exception as error:
            mine.error, mine.landed = error, True
        finally:
            del flights[effect.key]
            mine.done.set()
        return mine.outcome()
