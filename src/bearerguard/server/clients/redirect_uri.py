"""Redirect URIs: which may be registered, and whether one in a request matches.

Comparison is by character (RFC 9700 §2.1, OAuth 2.1 §2.3.1); only a native app's loopback address
may have any port (RFC 8252 §7.3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from urllib.parse import urlencode, urlsplit

from bearerguard.errors import ConfigurationError, quoted

_LOOPBACK_HOSTS = frozenset({"127.0.0.1", "[::1]", "localhost"})
# http, a loopback host, a port or none, then the path and query that the client registered.
_LOOPBACK = re.compile(r"(http://(?:127\.0\.0\.1|\[::1\]|localhost))(:[0-9]{1,5})?([/?].*)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_WEB = frozenset({"http", "https"})
# Schemes that a browser runs, reads or opens itself, or that the system gives to other programs. A
# code must not be sent there, and a redirect must run nothing that the client wrote. Any other
# scheme may be an app's; reversed domain names are safer (RFC 8252 §7.1), but `vscode` has none.
_NOT_OF_APPS = frozenset(
    {
        *("about", "blob", "cid", "data", "file", "filesystem", "javascript", "jar", "livescript"),
        *("mhtml", "mid", "mk", "mocha", "res", "resource", "vbscript", "view-source", "wyciwyg"),
        *("chrome", "devtools", "edge", "brave", "opera", "vivaldi", "moz-icon", "wss", "ws"),
        *("android-app", "intent", "market", "itms", "itms-apps", "itms-services", "shell"),
        *("search", "search-ms", "ftp", "ftps", "sftp", "gopher", "ldap", "ldaps", "smb", "nfs"),
        *("afp", "dav", "davs", "ssh", "telnet", "rlogin", "tn3270", "rdp", "vnc", "git", "svn"),
        *("mailto", "tel", "sms", "smsto", "mms", "callto", "facetime", "sip", "sips", "xmpp"),
        *("irc", "ircs", "news", "nntp", "snews", "feed", "webcal", "geo", "magnet", "urn", "tag"),
        *("help", "localhost", "null", "undefined"),
    }
)
# Schemes of Windows (`ms-msdt`), of extensions' pages, of nested and of misspelt web URLs.
_NOT_OF_APPS_BEGINNINGS = ("ms-", "chrome-", "moz-", "safari-", "htt", "web+", "ext+")
_NOT_OF_URIS = re.compile(r'[\x00-\x20<>"\\^`{|}\x7f]')
_MAX_LENGTH = 2000
_MAX_PORT = 65_535


def check(uri: object) -> None:
    """Raise `ConfigurationError` unless `uri` may be registered."""
    if not isinstance(uri, str):
        raise ConfigurationError("redirect_uris=: pass URIs as text")
    for is_wrong, problem in (*_OF_TEXT, *_OF_ADDRESS):
        if is_wrong(uri):
            raise ConfigurationError(f"redirect_uris=: {quoted(uri)} {problem}")


def _is_malformed(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return True
    return not _SCHEME.fullmatch(parts.scheme)


def _is_plain_http(uri: str) -> bool:
    parts = urlsplit(uri)
    host = re.sub(r":[0-9]*$", "", parts.netloc)
    return parts.scheme == "http" and host not in _LOOPBACK_HOSTS


def _is_hostless(uri: str) -> bool:
    return urlsplit(uri).scheme == "https" and not urlsplit(uri).hostname


def _is_undotted(uri: str) -> bool:
    scheme = urlsplit(uri).scheme
    return scheme not in _WEB and "." not in scheme


def _is_of_others(uri: str) -> bool:
    """Whether a scheme belongs to a browser or to the system, not to an app."""
    scheme = urlsplit(uri).scheme
    return scheme not in _WEB and (
        scheme in _NOT_OF_APPS or scheme.startswith(_NOT_OF_APPS_BEGINNINGS)
    )


def _is_not_below_slash(uri: str) -> bool:
    # Such as `localhost:8080/cb`, which lacks its scheme.
    return _is_undotted(uri) and not uri.startswith(f"{urlsplit(uri).scheme}:/")


def _is_capital(uri: str) -> bool:
    return not uri.startswith(f"{urlsplit(uri).scheme}:")


# In this order: a later check may rely on the earlier ones.
_OF_TEXT: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda uri: not 0 < len(uri) <= _MAX_LENGTH, f"is no URI of at most {_MAX_LENGTH} characters"),
    (
        lambda uri: not uri.isascii() or bool(_NOT_OF_URIS.search(uri)),
        "has characters that no URI has: percent-encode them",
    ),
    (lambda uri: "#" in uri, "has a fragment (RFC 6749 §3.1.2): remove it"),
    (lambda uri: "*" in uri, "has a wildcard: register each URI"),
    (_is_malformed, "is no absolute URI"),
    (_is_capital, "has a scheme with capital letters: write it in lower case"),
)
_OF_ADDRESS: tuple[tuple[Callable[[str], bool], str], ...] = (
    (lambda uri: "@" in urlsplit(uri).netloc, "has a user part: remove it"),
    (_is_hostless, "has no host"),
    (_is_plain_http, "is http and not loopback: use https"),
    (
        _is_of_others,
        "has a scheme that is not an app's: use https, or the app's private-use scheme",
    ),
    (
        _is_not_below_slash,
        "has no slash after its private-use scheme (RFC 8252 §7.1): write `scheme:/path`",
    ),
)


def may_be_private(scheme: str) -> bool:
    """Whether pages may have a scheme: an app's, or that of a browser extension."""
    return scheme not in _NOT_OF_APPS and not scheme.startswith("htt")


def matches(sent: str, registered: Iterable[str]) -> bool:
    """Whether a redirect URI of a request matches a registered one."""
    known = tuple(registered)
    if sent in known:
        return True
    loopback = _without_port(sent)
    return loopback is not None and any(loopback == _without_port(each) for each in known)


def are_local(registered: Iterable[str]) -> bool:
    """Whether all URIs lead to this machine, where any program may listen (RFC 8252 §8.3)."""
    return all(_LOOPBACK.fullmatch(each) for each in registered)


def _without_port(uri: str) -> str | None:
    found = _LOOPBACK.fullmatch(uri)
    if found is None or (found[2] and int(found[2][1:]) > _MAX_PORT):
        return None
    return found[1] + (found[3] or "")


def with_parameters(uri: str, parameters: Iterable[tuple[str, str]]) -> str:
    """Return `uri` with parameters appended to its query (RFC 6749 §3.1.2)."""
    joint = "" if uri.endswith(("?", "&")) else "&" if "?" in uri else "?"
    return uri + joint + urlencode(list(parameters))
