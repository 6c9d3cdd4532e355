"""The connections of one process, of which each transaction takes one.

SQLAlchemy's pool watches each connection that is taken, to return it if that is forgotten; for a
statement of some microseconds, that is most of its cost. Here whoever takes one returns it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import Empty, LifoQueue
from typing import Any

from bearerguard.errors import StoreUnavailable


class Pooled:
    """An open connection of a pool.

    Attributes:
        driver: the driver's connection.
        losses: how many connections the pool had lost when it was opened.
    """

    __slots__ = ("driver", "losses")

    def __init__(self, driver: Any, losses: int) -> None:
        self.driver: Any = driver
        self.losses: int = losses


class Pool:
    """At most `most` connections, of which the one that was returned last is taken first.

    Args:
        connect: returns a new connection of the driver.
        most: how many may be open.
        wait: seconds for which `take` waits for one.

    Attributes:
        pid: the process that it belongs to; a child that was forked leaves it alone.
        has_worked: whether the database has been read or written with one of its connections.
    """

    def __init__(self, connect: Callable[[], Any], *, most: int, wait: float) -> None:
        self.pid: int = os.getpid()
        self.has_worked: bool = False
        self._connect = connect
        self._wait = wait
        self._losses = 0
        self._closed = False
        # None stands for a connection that may be opened.
        self._free: LifoQueue[Pooled | None] = LifoQueue()
        for _ in range(most):
            self._free.put(None)

    @property
    def free(self) -> int:
        """How many connections could be taken now; others may take them at the same moment."""
        return self._free.qsize()

    def take(self) -> Pooled:
        """Return a connection that nobody else uses; raises `StoreUnavailable` if all are used."""
        try:
            found = self._free.get(timeout=self._wait)
        except Empty:
            raise StoreUnavailable("all connections to the database are in use") from None
        try:
            if found is not None and found.losses == self._losses:
                return found
            if found is not None:
                # Opened before one was lost: the server may have been restarted since.
                found.driver.close()
            losses = self._losses
            return Pooled(self._connect(), losses)
        except BaseException:
            self._free.put(None)
            raise

    def give_back(self, pooled: Pooled) -> None:
        """Let others take a connection."""
        self._free.put(pooled)
        if self._closed:
            self._close_idle()

    def lose(self, pooled: Pooled) -> None:
        """Close a connection that is lost; those that are open now are not used again."""
        self._losses += 1
        try:
            pooled.driver.close()
        finally:
            self._free.put(None)

    def close(self) -> None:
        """Close the connections that are idle, and each of the others when it is returned."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        places = 0
        try:
            while True:
                idle = self._free.get_nowait()
                places += 1
                if idle is not None:
                    idle.driver.close()
        except Empty:
            pass
        finally:
            for _ in range(places):
                self._free.put(None)
