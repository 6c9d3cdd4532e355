"""Watching one fetch: an interface that flows call and the guard's observers implement.

Knows neither the guard nor its observers.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

from bearerguard.runtime.messages import Response


class FetchWatch:
    """Watches a fetch, from the request to the parsed content; this class does nothing.

    Used in a `with` block. An exception leaves the block if the fetch returned nothing usable.

    Attributes:
        response: the response; the block sets it when it has arrived.
    """

    __slots__ = ("response",)

    def __init__(self) -> None:
        self.response: Response | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Note the end of the fetch."""


Watch: TypeAlias = Callable[[str], FetchWatch]
"""Returns the `FetchWatch` of a fetch from this URL."""


def unwatched(_url: str) -> FetchWatch:
    """Watch nothing."""
    return FetchWatch()
