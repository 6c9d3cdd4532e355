"""The tokens of open streams: until when a websocket or a long response may go on.

A stream must not outlive the token that opened it: it ends when a new request with that token
would be refused because the token has expired, was revoked or is not valid by a status list, or get
503 because nobody can tell. Owns that rule. Knows no event loop and no adapter: they ask `ending`,
and are told of changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable
from typing import Protocol, TypeAlias

from bearerguard.errors import EXPIRED, REVOCATIONS_UNAVAILABLE, REVOKED, Reason
from bearerguard.guard import revocation
from bearerguard.principal import Principal

Key: TypeAlias = tuple[str, str, str]
"""Names what may end a stream: the key of a revocation, or of a status list."""

OnChange: TypeAlias = Callable[[Collection[Key] | None], None]
"""Is told the keys of what has changed; None if each open stream must be checked."""


class StreamStatus(Protocol):
    """The status of one token in a list of its issuer."""

    @property
    def key(self) -> Key:
        """The key of the list."""
        ...

    def ending(self) -> Reason | None:
        """Return why its streams must end now, None if they may go on."""
        ...


class Statuses(Protocol):
    """The status lists of a guard's issuers."""

    def lost(self, of_open: Container[Key]) -> Collection[Key]:
        """Return which lists nobody can tell a status by, among those `of_open` streams."""
        ...

    def watch(self, watcher: Callable[[Collection[Key]], None], /) -> None:
        """Call `watcher` with the key of each list that arrives, in any thread."""


class StreamToken:
    """The token that holds a stream open.

    Attributes:
        principal: who bears it.
        deadline: when its streams end, in Unix seconds; infinite for none.
        key_id: the `kid` of the key that signed it, if it is known.
        status: its status in a list of its issuer, if it has one.
        checked: the list of revocations against which it was last checked.
    """

    __slots__ = ("checked", "deadline", "key_id", "principal", "status")

    def __init__(
        self,
        principal: Principal,
        deadline: float,
        key_id: str | None,
        status: StreamStatus | None = None,
    ) -> None:
        self.principal: Principal = principal
        self.deadline: float = deadline
        self.key_id: str | None = key_id
        self.status: StreamStatus | None = status
        self.checked: object = None


class StreamTokens:
    """The rule of one guard.

    Args:
        clock: returns Unix seconds.
        revocations: the guard's.
        statuses: the status lists of the issuers; None if none has any.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        revocations: revocation.GuardRevocations | None,
        statuses: Statuses | None,
    ) -> None:
        self.clock: Callable[[], float] = clock
        self._revocations = revocations
        self._statuses = statuses

    def ending(self, token: StreamToken) -> Reason | None:
        """Return why a stream must end now, None if it may go on."""
        now = self.clock()
        if now >= token.deadline:
            return EXPIRED
        if token.status is not None and (reason := token.status.ending()) is not None:
            return reason
        revocations = self._revocations
        if revocations is None:
            return None
        # Read before the check: what is added during it is a change of its own.
        current = revocations.current
        if token.checked is not current:
            if current.covers(token.principal, token.key_id):
                return REVOKED
            token.checked = current
        return None if now < revocations.trusted_until else REVOCATIONS_UNAVAILABLE

    @property
    def is_trusted(self) -> bool:
        """Whether the list of revocations is recent enough to be used."""
        return self._revocations is None or self.clock() < self._revocations.trusted_until

    def keys(self, token: StreamToken) -> Iterable[Key]:
        """Return the keys of all that may end a stream of this token before its deadline."""
        found: list[Key] = []
        if self._revocations is not None:
            from bearerguard.guard.revocation.revocation_list import keys_of  # noqa: PLC0415 - few

            found += keys_of(token.principal, token.key_id)
        if token.status is not None:
            found.append(token.status.key)
        return found

    def lost(self, of_open: Container[Key]) -> Collection[Key]:
        """Return the keys of status lists that nobody can read any more, among `of_open` streams.

        To be called again and again while a stream is open: it has the lists refreshed.
        """
        return () if self._statuses is None else self._statuses.lost(of_open)

    def on_change(self, watcher: OnChange) -> None:
        """Call `watcher`, a bound method held weakly, after each change, in any thread."""
        if self._revocations is not None:
            self._revocations.watch_changes(watcher)
        if self._statuses is not None:
            self._statuses.watch(watcher)
