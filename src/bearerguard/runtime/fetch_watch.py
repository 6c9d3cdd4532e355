"""Watching one fetch: an interface that flows call, and observers of the guard implement.

Knows neither the guard nor who wants to know.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

from bearerguard.runtime.messages import Response


class FetchWatch:
    """Watches a fetch, from the request to the content that was read; this class does nothing.

    Used in a `with` block, which an exception leaves if the fetch gave nothing usable.

    Attributes:
        response: set by whoever fetches, once it has arrived.
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
"""Returns what watches a fetch of this URL."""


def unwatched(_url: str) -> FetchWatch:
    """Watch nothing."""
    return FetchWatch()
