"""What is asked of a store that workers share to know what was revoked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from bearerguard.runtime.flow import AsyncHandlers, Handlers


class RevocationStore(Protocol):
    """What workers share; `bearerguard.redis.RedisStore` is one."""

    @property
    def secrets(self) -> Sequence[str | bytes]:
        """What seals the entries, oldest to newest; nothing if no stranger can write them."""
        ...

    def handlers(self) -> Handlers:
        """Return what answers `ReadLog` and `AppendLog` in a thread.

        With `secrets`, `MarkLog`, `CutLog` and `RingLog` too.
        """
        ...

    def async_handlers(self) -> AsyncHandlers:
        """Return what answers them in an event loop."""
        ...

    def listening(self) -> AbstractContextManager[Handlers]:
        """Return what answers them and `ListenLog` in one thread, inside the block."""
        ...

    def close(self) -> None:
        """Close what is idle."""
        ...
