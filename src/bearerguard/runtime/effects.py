"""Effects that few flows have: a shared store, a pause, a call that blocks.

Apart from `flow`, since a guard without them need not import them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from bearerguard.runtime.flow import Effect

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Load(Effect[bytes | None]):
    """Return the value that `Store` stored under `key`, or None; raises `StoreFailed`."""

    key: str


@dataclass(frozen=True, slots=True)
class Store(Effect[None]):
    """Store `value` under `key` for `ttl` seconds, for other processes too.

    Raises `StoreFailed` when the store did not acknowledge it.
    """

    key: str
    value: bytes = field(repr=False)
    ttl: float


@dataclass(frozen=True, slots=True)
class Insert(Effect[bool]):
    """Note `key` for `ttl` seconds, for other processes too; whether it was not noted before.

    Of any number of callers at the same time, exactly one gets True. Raises `StoreFailed` when
    the store did not acknowledge it.
    """

    key: str
    ttl: float


@dataclass(frozen=True, slots=True)
class Take(Effect[bytes | None]):
    """Remove the value that `Store` stored under `key`, and return it, or None for none.

    It is atomic: of several processes that ask, one gets the value. Raises `StoreFailed`.
    """

    key: str


@dataclass(frozen=True, slots=True)
class Sleep(Effect[None]):
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Blocking(Effect[T]):
    """Make a call that blocks, for a disk or a person; an async driver makes it in a thread."""

    call: Callable[[], T] = field(repr=False)
