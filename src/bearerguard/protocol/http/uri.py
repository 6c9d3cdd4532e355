"""Normalising URIs for comparison (RFC 3986 §6.2.2 and §6.2.3), and for nothing else.

A normalised URI is never sent or fetched: a token's `aud` and a request's URL keep the spelling
that was registered.
"""

from __future__ import annotations

import re

# RFC 3986 appendix B, without the fragment; `urlsplit` would drop an empty query.
_PARTS = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?", re.DOTALL)
_ENCODED = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def normalized(uri: str) -> str:
    """Return one spelling for all equivalent spellings of an absolute URI.

    The case of scheme and host, percent-encoding, dot segments, an empty path and a default
    port make no difference; a slash at the end of a path does, and so does a query.
    """
    found = _PARTS.match(uri)
    assert found is not None, "all of it may be empty"  # noqa: S101 - for the type checker
    given, authority, path, query = found.groups()
    scheme, path = (given or "").lower(), _decoded(path)
    result = scheme + ":"
    if authority is not None:
        path = _without_dots(path) or "/"
        result += "//" + _authority(authority, scheme)
    elif path.startswith("/"):
        path = _without_dots(path)
        if path.startswith("//"):
            path = "/." + path  # else its beginning would be an authority (RFC 3986 §4.2)
    return result + path + ("" if query is None else "?" + _decoded(query))


def _authority(authority: str, scheme: str) -> str:
    user, at, place = authority.rpartition("@")
    host, colon, port = place.rpartition(":")
    has_port = colon and (not port or port.isdecimal())
    if not has_port or (":" in host and not host.endswith("]")):
        host, port = place, ""  # an IPv6 address has colons of its own
    # Decoding may yield capital letters, and percent-encodings are written in capitals.
    host = _decoded(_decoded(host).lower())
    shown = "" if port in {"", _DEFAULT_PORTS.get(scheme)} else ":" + port
    return _decoded(user) + at + host + shown


def _decoded(text: str) -> str:
    """Decode unreserved characters, and write the other encodings in capitals (§6.2.2.1-2)."""
    return _ENCODED.sub(_octet, text)


def _octet(found: re.Match[str]) -> str:
    letter = chr(int(found[1], 16))
    return letter if letter in _UNRESERVED else found[0].upper()


def _without_dots(path: str) -> str:
    """Remove `.` and `..` from an absolute path (§5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in {".", ".."}:
        kept.append("")
    return "/".join(kept)
