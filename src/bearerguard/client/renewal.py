"""Renewing a stored token once among all processes that share the storage.

A renewal holds the lock of the storage. It reads the token again, since another process may have
renewed it. Then it requests a token from the source, and stores it before anybody uses it. A
failure is shared as a token is. A token that could not be stored is not lost: the next renewal
stores it first, since its refresh token is the only valid one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from bearerguard.client.backoff import SharedFailure
from bearerguard.client.sources.token_source import TokenSource
from bearerguard.client.storages.storage import Storage
from bearerguard.client.token import Lease, Token, lease
from bearerguard.errors import LoginRequired, StorageError, TokenUnavailable
from bearerguard.runtime.flow import Flow


@dataclass(frozen=True, slots=True)
class _Unkept:
    """A new token that could not be stored, and the value that it should have replaced."""

    instead: bytes | None = field(repr=False)
    token: Token
    lease: Lease


class Renewal:
    """Renews the token under `key`; run by one thread at a time in each process."""

    def __init__(
        self,
        storage: Storage,
        key: str,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._storage = storage
        self._key = key
        self._clock = clock
        self._monotonic = monotonic
        self._unkept: _Unkept | None = None
        self._failure = SharedFailure(storage, key, clock)

    def is_other(self, held: Lease, replaced: str) -> bool:
        """Whether a lease is valid and its access token differs from `replaced`."""
        is_valid = held.is_valid(self._monotonic(), self._clock())
        return held.token.access_token != replaced and is_valid

    def kept(self) -> Token | None:
        """Return the stored token; None if it is absent or unreadable: a login replaces it."""
        return _readable(self._storage.load(self._key))

    def renewed(self, source: TokenSource, replaced: str) -> Flow[Lease]:
        """Return a lease on another token than `replaced`.

        Blocks for the storage and its lock: run it in a thread of its own.
        """
        found = self._found(self._storage.load(self._key), replaced)
        if found is not None:
            return found
        self._raise_shared()
        with self._storage.locked(self._key):
            kept = self._store_unstored()
            found = self._found(kept, replaced)
            if found is not None:
                return found
            self._raise_shared()
            return (yield from self._asked(source, kept))

    def replaced(self, source: TokenSource) -> Flow[Lease]:
        """Return a lease on a new token, whatever is stored; blocks as `renewed` does."""
        with self._storage.locked(self._key):
            return (yield from self._asked(source, self._store_unstored()))

    def leased(self, token: Token) -> Lease:
        """Return a lease on a token, starting now."""
        return lease(token, now=self._clock(), monotonic=self._monotonic())

    def _raise_shared(self) -> None:
        failure = self._failure.current()
        if failure is not None:
            raise failure

    def put(self, token: Token) -> Lease:
        """Store a token, whatever is stored; return the lease on it."""
        new = self.leased(token)
        with self._storage.locked(self._key):
            self._unkept = None
            self._keep(self._storage.load(self._key), token, new)
        return new

    def clear(self) -> Token | None:
        """Remove the stored token, and return it."""
        with self._storage.locked(self._key):
            self._unkept = None
            kept = self._storage.load(self._key)
            if kept is not None and not self._storage.swap(self._key, kept, None):
                raise self._changed()
            with suppress(StorageError):  # it expires by itself
                self._failure.end()
        return None if kept is None else _readable(kept)

    def _found(self, kept: bytes | None, replaced: str) -> Lease | None:
        token = _read(kept)
        if token is None:
            return None
        found = self.leased(token)
        return found if self.is_other(found, replaced) else None

    def _asked(self, source: TokenSource, kept: bytes | None) -> Flow[Lease]:
        """Request a token from the source, under the lock, and store it."""
        previous = _read(kept)
        try:
            token = yield from source.token(previous)
        except LoginRequired:
            self._drop(kept, previous)
            raise
        except TokenUnavailable as failure:
            # A lasting failure (a certificate, a host name) may concern this process alone.
            if failure.temporary:
                with suppress(StorageError):  # the failure itself says more
                    self._failure.begin(failure)
            raise
        new = self.leased(token)
        self._keep(kept, token, new)
        return new

    def _keep(self, expected: bytes | None, token: Token, new: Lease) -> None:
        try:
            swapped = self._storage.swap(self._key, expected, token.to_bytes())
        except StorageError:
            self._unkept = _Unkept(expected, token, new)
            raise
        if not swapped:
            raise self._changed()
        with suppress(StorageError):  # it expires by itself
            self._failure.end()

    def _store_unstored(self) -> bytes | None:
        """Return the stored value, after storing a token that could not be stored before."""
        unkept, kept = self._unkept, self._storage.load(self._key)
        if unkept is None:
            return kept
        if kept == unkept.instead:
            self._keep(kept, unkept.token, unkept.lease)
            kept = unkept.token.to_bytes()
        self._unkept = None  # stored now, or replaced by another process
        return kept

    def _drop(self, kept: bytes | None, previous: Token | None) -> None:
        """Remove a refused refresh token; the access token is used until it expires."""
        if previous is not None and previous.refresh_token is not None:
            without = replace(previous, refresh_token=None).to_bytes()
            if not self._storage.swap(self._key, kept, without):
                raise self._changed()

    def _changed(self) -> StorageError:
        return StorageError(
            f"{self._storage.name}: another program changed the stored token in spite of the"
            " lock: try again"
        )


def _read(kept: bytes | None) -> Token | None:
    return None if kept is None else Token.from_bytes(kept)


def _readable(kept: bytes | None) -> Token | None:
    try:
        return _read(kept)
    except StorageError:
        return None
