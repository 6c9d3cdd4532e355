"""The interfaces of shared stores: for cached values, for used proofs, and for revocations.

`bearerguard.redis.RedisStore` implements all; so may any object with these methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from bearerguard.runtime.flow import AsyncHandlers, Handlers


class SharedStore(Protocol):
    """A store of values that workers share; it performs the effects `Load` and `Store`."""

    def handlers(self) -> Handlers:
        """Return the handlers of its effects for a thread."""
        ...

    def async_handlers(self) -> AsyncHandlers:
        """Return the handlers of its effects for an event loop."""
        ...


class ReplayStore(Protocol):
    """A store of what may be used once, which workers share; it performs the effect `Insert`.

    A handler returns whether the key was not there before, and raises `StoreFailed` when the store
    gives no usable reply: the request gets 503 then.
    """

    @property
    def prefix(self) -> str:
        """What all its keys begin with."""
        ...

    def handlers(self) -> Handlers:
        """Return the handlers of its effects for a thread."""
        ...

    def async_handlers(self) -> AsyncHandlers:
        """Return the handlers of its effects for an event loop."""
        ...


class RevocationStore(Protocol):
    """A log of revocations that workers share; it performs the effects of `runtime.shared_log`.

    A table of handlers maps the type of an effect to a callable that takes the effect and returns
    the reply. A handler raises `StoreFailed` when the store gives no usable reply; if that lasts
    for `max_staleness`, requests get 503.

    Effects of every store: `ReadLog` and `AppendLog`, and in the thread that listens also
    `ListenLog`. With `secrets`, entries are sealed and numbered, and a loss is detected; this also
    requires `MarkLog`, `CutLog` and `NotifyLog`.
    """

    @property
    def secrets(self) -> Sequence[str | bytes]:
        """The secrets under which entries are sealed, newest first, of at least 32 bytes each.

        Empty for a store that only trusted processes can write: entries are plain then.
        """
        ...

    def handlers(self) -> Handlers:
        """Return the handlers for a thread."""
        ...

    def async_handlers(self) -> AsyncHandlers:
        """Return the handlers for an event loop, asyncio's or trio's; each must not block it."""
        ...

    def listening(self) -> AbstractContextManager[Handlers]:
        """Return the handlers for the one thread that listens, `ListenLog` included.

        They are used inside the `with` block, by that thread alone.
        """
        ...

    def close(self) -> None:
        """Close idle connections; the store may be used again."""
        ...
