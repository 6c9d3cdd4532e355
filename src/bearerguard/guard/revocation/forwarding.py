"""Forwarding: revocations in the database of an embedded server go to the store of the workers.

A server's commands and its other processes write to its database alone. A guard beside the server
reads that log twice a second and publishes what the shared store lacks. Each entry is published
once: the other guards beside the server find it in the list already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from bearerguard.guard.revocation.revocation_list import Revocation, decode
from bearerguard.guard.stores import RevocationStore
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.shared_log import ReadLog

IsKnown: TypeAlias = Callable[[Revocation], bool]
Publish: TypeAlias = Callable[[Sequence[Revocation]], Flow[None]]


class Forwarding:
    """How far one process has read the logs of the servers beside its guards.

    `is_known` says whether the shared list has a revocation already; `publish` appends
    revocations to the shared store, and raises `StoreFailed` on failure.
    """

    def __init__(self) -> None:
        self._logs: tuple[_Log, ...] = ()
        self._failed = False

    def add(self, store: RevocationStore) -> None:
        """Forward the log of `store` too, once however often it is added."""
        if all(log.store != store for log in self._logs):
            self._logs = (*self._logs, _Log(store))

    def forward(self, is_known: IsKnown, publish: Publish) -> Flow[None]:
        """Publish what was appended since the last time and is not known; for a thread.

        Raises `StoreFailed`; the next call starts where this one failed.
        """
        for log in self._logs:
            yield from log.forward(is_known, publish)

    def attempt(self, is_known: IsKnown, publish: Publish) -> Flow[str]:
        """Do what `forward` does; return the cause of a failure, once for each outage, else ""."""
        failed, cause = self._failed, ""
        try:
            yield from self.forward(is_known, publish)
        except StoreFailed as error:
            cause = str(error)
        self._failed = bool(cause)
        return "" if failed else cause


class _Log:
    """How far one log was read."""

    def __init__(self, store: RevocationStore) -> None:
        self.store = store
        self._read = store.handlers()[ReadLog]
        self._position: str | None = None

    def forward(self, is_known: IsKnown, publish: Publish) -> Flow[None]:
        more = True
        while more:
            page = self._read(ReadLog(self._position))
            found = [each for _, entry in page.entries for each in decode(entry)]
            missing = [each for each in found if not is_known(each)]
            if missing:
                yield from publish(missing)
            if page.entries:
                self._position = page.entries[-1][0]
            more = page.more
