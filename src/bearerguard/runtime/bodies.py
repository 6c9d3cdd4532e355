"""Reading a request's body from an ASGI or a WSGI server, up to a limit.

Knows no endpoint: the caller sets the limit, and responds to a body that exceeds it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

# The longest body that is read before the app reads it, in bytes.
MAX_BODY_BYTES = 4 * 1024 * 1024
_MAX_DIGITS = 20  # Python refuses to parse a number of thousands of digits


async def asgi_body(receive: Callable[[], Awaitable[Any]], most: int) -> bytes | None:
    """Return the body, or its beginning if it has more than `most` bytes.

    None where the client has disconnected.
    """
    chunks: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk = message.get("body", b"")
        chunks.append(chunk)
        length += len(chunk)
        if length > most or not message.get("more_body", False):
            return b"".join(chunks)


def wsgi_body(environ: Mapping[str, Any], most: int) -> bytes | None:
    """Return the body, None when it has more than `most` bytes."""
    announced = environ.get("CONTENT_LENGTH") or ""
    if announced.isdecimal():
        if len(announced) > _MAX_DIGITS or int(announced) > most:
            return None
        content: bytes = environ["wsgi.input"].read(int(announced))
        return content
    if not environ.get("wsgi.input_terminated"):
        return b""  # without a length, reading might never end (PEP 3333)
    content = environ["wsgi.input"].read(most + 1)
    return None if len(content) > most else content
