"""The server's database as the store of a guard's revocations: read, followed and appended to.

There are no notifications between processes: a guard polls the log twice a second, from the last
position that it has read. Who can write to the database can also sign tokens, so entries are not
sealed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio.to_thread

from bearerguard.errors import StoreUnavailable
from bearerguard.guard.revocation.revocation_list import Revocation, decode, encode
from bearerguard.runtime.flow import AsyncHandlers, Handlers
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.shared_log import AppendLog, ListenLog, LogPage, ReadLog
from bearerguard.server.store import revocations as rows
from bearerguard.server.store.connection import Row
from bearerguard.server.store.database import Database

_PAGE = 1000
# The identity of the log: it is always the same one.
_MARK = b"the table revocations"


class DatabaseRevocationStore:
    """The revocation store of a guard, over the database of one server."""

    secrets: Sequence[str | bytes] = ()

    def __init__(self, database: Database, issuer: str) -> None:
        self._database = database
        self._issuer = issuer

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, DatabaseRevocationStore)
            and other._database is self._database
            and other._issuer == self._issuer
        )

    def __hash__(self) -> int:
        return hash((id(self._database), self._issuer))

    def handlers(self) -> Handlers:
        """Return the handlers of a sync driver."""
        return {ReadLog: self._read, AppendLog: self._append}

    def async_handlers(self) -> AsyncHandlers:
        """Return the handlers of an async driver."""
        return {ReadLog: _in_thread(self._read), AppendLog: _in_thread(self._append)}

    @contextmanager
    def listening(self) -> Generator[Handlers]:
        """Return the handlers of the thread that follows the log."""
        yield {**self.handlers(), ListenLog: _wait}

    def close(self) -> None:
        """Do nothing: the database belongs to the server."""

    def _read(self, effect: ReadLog) -> LogPage:
        try:
            found = self._after(effect.after or "")
        except StoreUnavailable as error:
            raise StoreFailed(f"the server's database: {error}") from error
        entries: tuple[tuple[str, bytes], ...] = ()
        if found:
            # All in one entry: that halves the time in which a guard reads 10⁶ rows at its start.
            revoked = (
                Revocation(kind, issuer or self._issuer, value, before, end)
                for _, kind, issuer, value, before, end in found
            )
            entries = ((_position(found[-1]), encode(revoked)),)
        return LogPage(_MARK, entries, intact=True, more=len(found) == _PAGE)

    def _after(self, position: str) -> list[Row]:
        """Return the entries after one; all from the beginning, if the log does not have that one.

        It was removed when it expired. Or the database was restored from a backup, or has failed
        over to a standby that lacked it: then positions are assigned again.
        """
        number = int(position.partition(" ")[0] or 0)
        if number:
            found = rows.after(self._database, number - 1, _PAGE + 1)
            if found and _position(found[0]) == position:
                return found[1:]
        return rows.after(self._database, 0, _PAGE)

    def _append(self, effect: AppendLog) -> None:
        entries = [
            {
                "kind": each.kind,
                "issuer": None if each.issuer == self._issuer else each.issuer,
                "value": each.value,
                "before": each.before,
                "expires_at": each.expires_at,
            }
            for entry in effect.entries
            for each in decode(entry)
        ]
        try:
            with self._database.write() as connection:
                rows.add(connection, entries)
        except StoreUnavailable as error:
            raise StoreFailed(f"the server's database: {error}") from error


def _position(row: Row) -> str:
    return f"{row.position} {row.kind} {row.value}"


def _wait(effect: ListenLog) -> tuple[bytes, ...]:
    time.sleep(effect.wait)
    return ()


def _in_thread(handle: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def handling(effect: Any) -> Any:
        return await anyio.to_thread.run_sync(handle, effect)

    return handling
