"""What the adapters know of a stream's end: how it looks to a client, and to the server.

`middleware.streams` and `middleware.chunks` end streams; a request that opens none needs neither.
"""

from __future__ import annotations

from collections.abc import Iterable

from bearerguard.errors import StreamEnded

# Under this key, an ASGI scope has a weak reference to its stream.
STREAM = "bearerguard.stream"


def may_look_complete(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a response that is cut off may look complete, given its headers.

    Server-sent events have no end, and their client connects again. Whoever has received a part of
    anything else must not take it for the whole.
    """
    names = {name.lower(): value for name, value in headers}
    is_event_stream = names.get("content-type", "").lower().startswith("text/event-stream")
    return is_event_stream and "content-length" not in names


def is_stream_end(error: BaseException) -> bool:
    """Whether an exception of an app is the end of its stream, and nothing besides.

    Frameworks make a disconnect of it. Another exception that was raised while it was handled is a
    mistake of the app's, which the server must see.
    """
    each: BaseException | None = error
    seen = set[int]()
    while each is not None and id(each) not in seen:
        if isinstance(each, StreamEnded):
            return True
        seen.add(id(each))
        if isinstance(each, BaseExceptionGroup):
            return all(map(is_stream_end, each.exceptions))
        is_disconnect = isinstance(each, OSError) or "Disconnect" in type(each).__name__
        each = each.__cause__ or (each.__context__ if is_disconnect else None)
    return False


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an end that nobody will see, and of all that it came from.

    Task groups refer to the exceptions that they raised, whose tracebacks refer to the groups. What
    a frame there holds, such as an app's generator with a connection to a database, would be closed
    when garbage is collected.
    """
    seen = set[int]()
    found: list[BaseException | None] = [error]
    while found:
        each = found.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        each.__traceback__ = None
        found += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            found += each.exceptions
