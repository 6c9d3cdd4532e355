"""What must be done now and then: removing what is over, rotating keys. Rides on requests."""

from __future__ import annotations

import logging
from collections.abc import Callable

from bearerguard.errors import BearerGuardError
from bearerguard.server.keys import KeyRing
from bearerguard.server.process_lock import ProcessLock
from bearerguard.server.settings import Settings
from bearerguard.server.store import keys as key_rows
from bearerguard.server.store.database import Database
from bearerguard.server.store.pruning import prune

_log = logging.getLogger("bearerguard.server")

_INTERVAL = 60.0
# A request that does the work is not kept for ever.
_MAX_BATCHES = 20


class Upkeep:
    """Keeps one server tidy."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._lock = ProcessLock()
        self._due_at = clock() + _INTERVAL

    def run_if_due(self) -> None:
        """Do what is due, in one thread; trouble is logged and harms no request."""
        if self._clock() < self._due_at or not self._lock.acquire(timeout=0):
            return
        try:
            self._due_at = self._clock() + _INTERVAL
            self._keys.rotate_if_due()
            self.prune()
        except BearerGuardError as error:
            _log.warning("upkeep_failed %s", error)
        finally:
            self._lock.release()

    def prune(self) -> int:
        """Remove what is over; return how many rows went."""
        total = 0
        for _ in range(_MAX_BATCHES):
            with self._database.write() as connection:
                removed = prune(connection, self._clock(), self._settings.refresh_grace)
                key_rows.remove_retired(connection, self._clock())
            total += removed
            if not removed:
                break
        return total
