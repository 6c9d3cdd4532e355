"""Name resolution within a deadline, for threads and for tasks.

`getaddrinfo` can be neither interrupted nor given a timeout, so a resolver that hangs would hold
its caller. It runs in a few daemon threads of this process instead, and callers wait for them no
longer than their deadline. Callers that ask for one name share one lookup, and a queued lookup is
dropped when nobody waits for it: a resolver that hangs for everybody holds these few threads only.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

Addresses: TypeAlias = tuple[str, ...]

_MAX_THREADS = 8


class ResolvingTimedOut(TimeoutError):
    """The resolver returned no address within the deadline."""


class _Lookup:
    """One call of `getaddrinfo`, and its waiting callers."""

    def __init__(self, host: str, port: int) -> None:
        self.key = (host, port)
        self.waiting = 0
        self.done = threading.Event()
        self.listeners: list[Callable[[], object]] = []
        self._addresses: Addresses = ()
        self._error: Exception | None = None

    def run(self) -> None:
        host, port = self.key
        try:
            if host.lower().rstrip(".").endswith(".invalid"):  # RFC 6761 §6.4: there is none
                raise socket.gaierror(socket.EAI_NONAME, "no name ends so")  # noqa: TRY301 - one way out
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            self._addresses = tuple(dict.fromkeys(_address(each[4]) for each in found))
        except Exception as error:  # raised to the callers that wait
            self._error = error

    def result(self) -> Addresses:
        """Return the addresses; an error has the host as its `filename`."""
        error = self._error
        if isinstance(error, socket.gaierror):
            named = socket.gaierror(*error.args)
            named.filename = self.key[0]
            raise named from None
        if error is not None:
            raise error
        return self._addresses


class Resolver:
    """The lookups of this process."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start empty: a forked child has none of its parent's threads."""
        self._lock = threading.Lock()
        self._lookups: dict[tuple[str, int], _Lookup] = {}
        self._queue: deque[_Lookup] = deque()
        self.threads: int = 0

    def resolve(self, host: str, port: int, seconds: float) -> Addresses:
        """Return the addresses of a host, the preferred first; raises OSError or UnicodeError."""
        lookup = self._join(host, port)
        try:
            if not lookup.done.wait(seconds):
                raise ResolvingTimedOut
            return lookup.result()
        finally:
            self._leave(lookup)

    async def aresolve(self, host: str, port: int) -> Addresses:
        """Do as `resolve`; the caller sets a deadline by cancelling."""
        import anyio  # noqa: PLC0415 - only async callers pay for it
        from anyio.lowlevel import current_token  # noqa: PLC0415 - as above

        native: Any = current_token().native_token
        # Two names for one method, of asyncio's loop and of trio's token.
        notify = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
        done = anyio.Event()
        lookup = self._join(host, port)
        try:
            with self._lock:
                if lookup.done.is_set():
                    return lookup.result()
                lookup.listeners.append(lambda: notify(done.set))
            await done.wait()
            return lookup.result()
        finally:
            self._leave(lookup)

    def _join(self, host: str, port: int) -> _Lookup:
        with self._lock:
            lookup = self._lookups.get((host, port))
            if lookup is None:
                lookup = self._lookups[host, port] = _Lookup(host, port)
                self._queue.append(lookup)
                if self.threads < _MAX_THREADS:
                    self._start()
            lookup.waiting += 1
        return lookup

    def _start(self) -> None:
        name = "bearerguard-resolver"
        threading.Thread(target=self._work, args=(self._lock,), name=name, daemon=True).start()
        self.threads += 1

    def _leave(self, lookup: _Lookup) -> None:
        with self._lock:
            lookup.waiting -= 1
            if not lookup.waiting and lookup in self._queue:
                self._queue.remove(lookup)
                del self._lookups[lookup.key]

    def _work(self, lock: threading.Lock) -> None:
        while True:
            with lock:
                if not self._queue:
                    self.threads -= 1
                    return
                lookup = self._queue.popleft()
            lookup.run()
            with lock:
                self._lookups.pop(lookup.key, None)
                lookup.done.set()
                listeners = lookup.listeners
            for notify in listeners:
                with suppress(RuntimeError):  # its event loop is closed
                    notify()


def _address(place: tuple[Any, ...]) -> str:
    """Return the address in a socket address, with its zone if it has one (RFC 4007)."""
    has_zone = len(place) == 4 and place[3] and "%" not in str(place[0])  # noqa: PLR2004 - that of IPv6 has a scope
    return f"{place[0]}%{place[3]}" if has_zone else str(place[0])


RESOLVER = Resolver()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=RESOLVER.begin)
