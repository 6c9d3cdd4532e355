"""The log of revocations, as a guard beside the server reads it, follows it and appends to it.

No bell rings in other processes: a guard there looks twice a second, by a key that grows. The
database is as trusted as whoever signs the tokens, so nothing in the log is sealed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio.to_thread

from bearerguard.flow import AsyncHandlers, Handlers
from bearerguard.guard.revocation_list import Revocation
from bearerguard.messages import StoreFailed
from bearerguard.server.store import revocations as rows
from bearerguard.server.store.database import Database, StoreUnavailable
from bearerguard.shared_log import AppendLog, ListenLog, LogPage, ReadLog

_PAGE = 1000
# The table never loses what is not over: it is one log for ever.
_MARK = b"the table revocations"


class EmbeddedLog:
    """The store of the revocations of a guard: the database of one server."""

    secrets: Sequence[str | bytes] = ()

    def __init__(self, database: Database, issuer: str) -> None:
        self._database = database
        self._issuer = issuer

    def handlers(self) -> Handlers:
        """Return what answers in a thread."""
        return {ReadLog: self._read, AppendLog: self._append}

    def async_handlers(self) -> AsyncHandlers:
        """Return what answers in an event loop."""
        return {ReadLog: _in_thread(self._read), AppendLog: _in_thread(self._append)}

    @contextmanager
    def listening(self) -> Generator[Handlers]:
        """Return what answers, and waits, in one thread."""
        yield {**self.handlers(), ListenLog: _wait}

    def close(self) -> None:
        """Leave the database open: it is the server's."""

    def _read(self, effect: ReadLog) -> LogPage:
        try:
            with self._database.read() as connection:
                found = rows.after(connection, int(effect.after or 0), _PAGE)
        except StoreUnavailable as error:
            raise StoreFailed(f"the server's database: {error}") from error
        entries = tuple((str(row.position), self._entry(row)) for row in found)
        return LogPage(_MARK, entries, intact=True, more=len(found) == _PAGE)

    def _entry(self, row: Any) -> bytes:
        issuer = self._issuer if row.issuer is None else row.issuer
        return Revocation(row.kind, issuer, row.value, row.before, row.expires_at).encode()

    def _append(self, effect: AppendLog) -> None:
        revoked = [Revocation.decode(entry) for entry in effect.entries]
        entries = [
            {
                "kind": each.kind,
                "issuer": None if each.issuer == self._issuer else each.issuer,
                "value": each.value,
                "before": each.before,
                "expires_at": each.expires_at,
            }
            for each in revoked
        ]
        try:
            with self._database.write() as connection:
                rows.add(connection, entries)
        except StoreUnavailable as error:
            raise StoreFailed(f"the server's database: {error}") from error


def _wait(effect: ListenLog) -> tuple[bytes, ...]:
    time.sleep(effect.wait)
    return ()


def _in_thread(handle: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def handling(effect: Any) -> Any:
        return await anyio.to_thread.run_sync(handle, effect)

    return handling
