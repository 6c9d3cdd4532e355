"""Redirect URIs: which may be registered, and whether one that was sent is one of them.

Comparison is by letter (RFC 9700 §2.1, OAuth 2.1 §2.3.1); a native app's loopback address
alone may come with any port (RFC 8252 §7.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlencode, urlsplit

from bearerguard.errors import ConfigurationError, quoted

_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "[::1]", "localhost"})
# http, a loopback host, a port or none, then whatever the client registered.
_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]|localhost))(:[0-9]{1,5})?([/?].*)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_MAX_LENGTH = 2000
_MAX_PORT = 65_535


def check(uri: object) -> None:
    """Raise `ConfigurationError` unless `uri` may be registered."""
    problem = _problem(uri)
    if problem:
        raise ConfigurationError(f"redirect_uris=: {quoted(uri)} {problem}")


def _problem(uri: object) -> str:
    if not isinstance(uri, str) or not 0 < len(uri) <= _MAX_LENGTH:
        return f"is no URI of at most {_MAX_LENGTH} characters"
    if not uri.isascii() or any(each <= " " or each in '<>"\\^`{|}\x7f' for each in uri):
        return "has characters that no URI has: percent-encode them"
    if "#" in uri:
        return "has a fragment (RFC 6749 §3.1.2): remove it"
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return "is no URI"
    if not parts.scheme or not _SCHEME.fullmatch(parts.scheme):
        return "is not absolute: begin with a scheme"
    if "@" in parts.netloc:
        return "has a user part: remove it"
    if parts.scheme == "https":
        return "" if parts.hostname else "has no host"
    if parts.scheme == "http":
        if parts.netloc.rpartition(":")[0] in _LOOPBACK_HOSTS or parts.netloc in _LOOPBACK_HOSTS:
            return ""
        return "is plain http beyond loopback: use https"
    if "." not in parts.scheme:
        return "has a private scheme without a dot (RFC 8252 §7.1): use a reversed domain name"
    return ""


def matches(sent: str, registered: Iterable[str]) -> bool:
    """Whether a redirect URI that was sent is a registered one."""
    known = tuple(registered)
    if sent in known:
        return True
    loopback = _without_port(sent)
    return loopback is not None and any(loopback == _without_port(each) for each in known)


def _without_port(uri: str) -> str | None:
    found = _LOOPBACK.fullmatch(uri)
    if found is None or (found[2] and int(found[2][1:]) > _MAX_PORT):
        return None
    return found[1] + (found[3] or "")


def with_parameters(uri: str, parameters: Iterable[tuple[str, str]]) -> str:
    """Return `uri` with parameters added to its query, which is kept (RFC 6749 §4.1.2)."""
    joint = "" if uri.endswith(("?", "&")) else "&" if "?" in uri else "?"
    return uri + joint + urlencode(list(parameters))
