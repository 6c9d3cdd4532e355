"""Cookies of the server's own pages: not readable by scripts, not sent over plain HTTP.

With https, their names have the prefix `__Host-`, so that no other host can set them (RFC 6265bis
§4.1.3.2). Only a server on loopback may do without.

A name ends with a digest of the issuer: browsers send a host's cookies to all of its ports and
paths (RFC 6265 §8.5), where another issuer may be.
"""

from __future__ import annotations

from hashlib import sha256
from urllib.parse import urlsplit

from bearerguard.runtime.messages import Request


class Cookies:
    """Reads and writes the cookies of one issuer.

    Args:
        issuer: its URL, https, or http on loopback.
    """

    def __init__(self, issuer: str) -> None:
        self._secure = urlsplit(issuer).scheme == "https"
        self._prefix = "__Host-" if self._secure else ""
        self._suffix = sha256(issuer.encode()).hexdigest()[:12]

    def full_name(self, name: str) -> str:
        """Return the name that a cookie of this issuer has in the browser."""
        return f"{self._prefix}{name}_{self._suffix}"

    def read(self, request: Request, name: str) -> str | None:
        """Return a cookie's value; None if it is absent, or sent with two values."""
        wanted = self.full_name(name).encode()
        found: set[bytes] = set()
        for field in request.values(b"cookie"):
            for pair in field.split(b";"):
                key, equals, value = pair.strip().partition(b"=")
                if equals and key == wanted:
                    found.add(value.strip())
        if len(found) != 1:
            return None
        return found.pop().decode("ascii", "replace")

    def write(self, name: str, value: str, *, max_age: int | None = None) -> tuple[str, str]:
        """Return the header that sets a cookie; without `max_age` it is a session cookie."""
        age = "" if max_age is None else f"; Max-Age={max_age}"
        secure = "; Secure" if self._secure else ""
        # Lax: apps on other sites send their users here by links.
        attributes = f"; Path=/{age}{secure}; HttpOnly; SameSite=Lax"
        return "Set-Cookie", f"{self.full_name(name)}={value}{attributes}"

    def clear(self, name: str) -> tuple[str, str]:
        """Return the header that removes a cookie."""
        return self.write(name, "", max_age=0)
