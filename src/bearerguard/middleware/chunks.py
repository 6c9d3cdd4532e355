"""The body of a WSGI response that is sent in parts: it ends when the request's token ends.

The token is checked after each part that the app yields, so that nothing is sent after its end. A
thread that waits in the app for its next part cannot be interrupted: such a stream ends with that
part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from bearerguard.errors import Reason, StreamEnded
from bearerguard.guard.stream_tokens import StreamToken, StreamTokens


class Chunks:
    """The parts of a body, as an app yields them.

    Args:
        body: what the app returned.
        tokens: the guard's rule.
        token: returns the token that holds the response open; called for the second part.
        ended: is told why the response was ended, and returns whether it may look complete.
    """

    __slots__ = ("_body", "_count", "_ended", "_held", "_iterator", "_token", "_tokens")

    def __init__(
        self,
        body: Iterable[bytes],
        tokens: StreamTokens,
        token: Callable[[], StreamToken],
        ended: Callable[[Reason], bool],
    ) -> None:
        self._body = body
        self._tokens = tokens
        self._token = token
        self._ended = ended
        self._iterator: Iterator[bytes] | None = None
        self._held: StreamToken | None = None
        self._count = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """Return the next part.

        Raises `StreamEnded` when the token has ended: the server aborts the response, and the
        client sees that it is incomplete.
        """
        if self._iterator is None:
            self._iterator = iter(self._body)
        part = next(self._iterator)
        self._count += 1
        if self._count == 1:
            return part
        if self._held is None:
            self._held = self._token()
        reason = self._tokens.ending(self._held)
        if reason is None:
            return part
        if self._ended(reason):
            raise StopIteration
        raise StreamEnded(reason)

    def close(self) -> None:
        """Close what the app returned (PEP 3333)."""
        close: Any = getattr(self._body, "close", None)
        if close is not None:
            close()
