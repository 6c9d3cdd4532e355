"""The versions of what processes keep in memory, so that a change is seen at once in all of them.

Triggers of the tables give a new random number to every change, also to one by a process of another
version, by hand, or after a backup was restored.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import select

from bearerguard.server.store.connection import Executes, Prepared
from bearerguard.server.store.database import Database
from bearerguard.server.store.schema import changes

# In the order of their names: that of the fields below.
_ALL = Prepared(select(changes.c.version).order_by(changes.c.name))


class Stored(NamedTuple):
    """The versions of the clients, with their secrets and origins, and of the signing keys."""

    clients: int
    keys: int


def stored(connection: Executes) -> Stored:
    """Return the versions that a transaction sees."""
    return Stored(*connection.execute(_ALL).scalars())


class Versions:
    """The versions in one database, read once for each request."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._request = threading.local()

    def current(self) -> Stored:
        """Return the versions; within `once`, those of the first call."""
        known: Stored | None = getattr(self._request, "known", None)
        if known is None:
            known = stored(self._database)
            if getattr(self._request, "once", False):
                self._request.known = known
        return known

    def forget(self) -> None:
        """Let the next `current` read them again, after this request has changed something."""
        self._request.known = None

    @contextmanager
    def once(self) -> Generator[None]:
        """Read the versions once within the block, in this thread."""
        self._request.once = True
        try:
            yield
        finally:
            self._request.once, self._request.known = False, None
