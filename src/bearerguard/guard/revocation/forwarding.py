"""What embedded servers wrote down as revoked, carried into the store that workers share.

A server's commands, and other processes of it, write into its database alone: whoever follows
the shared store hears of that from a guard beside the server, which looks twice a second. An
entry goes once for all, since whoever comes second finds it in the list already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from bearerguard.guard.revocation.revocation_list import Revocation, decode
from bearerguard.runtime.flow import Flow, Handlers
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.shared_log import ReadLog

IsKnown: TypeAlias = Callable[[Revocation], bool]
Publish: TypeAlias = Callable[[Sequence[Revocation]], Flow[None]]


class Forwarding:
    """One process's places in the logs of the servers beside its guard.

    `is_known` says whether a revocation would tell the other workers nothing; `publish` tells
    them, or raises `StoreFailed`.
    """

    def __init__(self) -> None:
        self._logs: tuple[_Log, ...] = ()
        self._failed = False

    def add(self, source: Handlers) -> None:
        """Forward the log that `source` reads in a thread too."""
        self._logs = (*self._logs, _Log(source))

    def forward(self, is_known: IsKnown, publish: Publish) -> Flow[None]:
        """Publish what was appended since the last time and is not known; for a thread.

        Raises `StoreFailed`; nothing is passed over then.
        """
        for log in self._logs:
            yield from log.forward(is_known, publish)

    def attempt(self, is_known: IsKnown, publish: Publish) -> Flow[str]:
        """Do as `forward`; return what failed, once until it has gone well again."""
        failed, trouble = self._failed, ""
        try:
            yield from self.forward(is_known, publish)
        except StoreFailed as error:
            trouble = str(error)
        self._failed = bool(trouble)
        return "" if failed else trouble


class _Log:
    """A place in one log."""

    def __init__(self, source: Handlers) -> None:
        self._read = source[ReadLog]
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
