"""Authorization server metadata (RFC 8414, OpenID Connect Discovery): where it is, parsing it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from bearerguard.errors import quoted
from bearerguard.protocol.http import document
from bearerguard.runtime.addresses import is_loopback, may_be_this_machine

OAUTH_PATH = "/.well-known/oauth-authorization-server"  # RFC 8414 §3
OPENID_PATH = "/.well-known/openid-configuration"  # OpenID Connect Discovery §4

_DEFAULT_PORT = r"^(http://[^/]*(?=:80(?:/|$))|https://[^/]*(?=:443(?:/|$)))(:\d+)(.*)$"


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Return the URLs where an issuer's metadata may be, in the order in which to ask.

    RFC 8414 §3.1 inserts the well-known part after the host; OpenID Connect Discovery §4 appends
    it, and some servers insert OpenID's as well (RFC 8414 §5). They differ for an issuer with a
    path.
    """
    parts = urlsplit(issuer)
    path = parts.path.removesuffix("/")
    found = (OAUTH_PATH + path, path + OPENID_PATH, OPENID_PATH + path)
    return tuple(
        urlunsplit((parts.scheme, parts.netloc, place, "", "")) for place in dict.fromkeys(found)
    )


def parse(body: bytes, issuer: str) -> dict[str, Any]:
    """Return the metadata that `issuer` published.

    Raises ValueError for another document: its issuer must be identical (RFC 8414 §3.3).
    """
    published: dict[str, Any] = document.loads_object(body)
    named = published.get("issuer")
    if named is None:
        raise ValueError("it names no issuer")
    if named != issuer:
        raise ValueError(
            f"its issuer is {quoted(named)}, not {quoted(issuer)}{hint(named, issuer)}"
        )
    return published


def publisher(body: bytes, token_issuer: str) -> str:
    """Return the issuer that a configured document must name, for tokens of `token_issuer`.

    AD FS has one name for logins and puts another into access tokens, its `access_token_issuer`
    ([MS-OIDCE] §2.2.3.2). Only a document whose URL is configured may name it.
    """
    published = document.loads_object(body)
    named = published.get("issuer")
    if published.get("access_token_issuer") == token_issuer and isinstance(named, str):
        return named
    return token_issuer


def hint(named: object, wanted: str) -> str:
    """Return in which spelling alone two identifiers differ, "" where they differ in more.

    They are different issuers nevertheless: identifiers are compared character by
    character (RFC 8414 §3.3, RFC 9207 §2.4).
    """
    if not isinstance(named, str):
        return ""
    for what, alike in _SPELLINGS.items():
        if alike(named) == alike(wanted):
            return f", which differs only by {what}"
    for alike in _SPELLINGS.values():
        named, wanted = alike(named), alike(wanted)
    return ", which differs only in spelling" if named == wanted else ""


_SPELLINGS: Mapping[str, Callable[[str], str]] = {
    "the final /": lambda name: name.rstrip("/"),
    "upper and lower case": str.lower,
    "the default port": lambda name: re.sub(_DEFAULT_PORT, r"\1\3", name),
    "percent-encoding": unquote,
    "http and https": lambda name: re.sub("^http:", "https:", name),
}


def issuer_mistake(url: str) -> str:
    """Return why a URL is not an issuer identifier, and the right one; "" if it may be one.

    The identifier is the `issuer` of the metadata, neither the URL of the metadata nor one of the
    endpoints in it.
    """
    if "@" in url.partition("://")[2].partition("/")[0]:
        return ""  # refused elsewhere, without quoting the password
    if url != url.strip():
        return "has a space at its beginning or end: remove it"
    if "://" not in url and not re.match(_OTHER_SCHEME, url):
        return f"has no scheme: write {quoted('https://' + url)}"
    found = re.fullmatch(_WELL_KNOWN, url)
    if found is not None:
        return _of_well_known(found[1], found[2], (found[3] or "").rstrip("/"))
    found = re.fullmatch(_ENDPOINT, url)
    if found is None:
        return ""
    named = found[1] + ("/v2.0" if _ENTRA in found[1] and "v2.0" in url else "")
    return f"is an endpoint of an issuer: pass the issuer itself, perhaps {quoted(named)}"


def _of_well_known(before: str, document: str, after: str) -> str:
    if document not in _DOCUMENTS:
        return f"is a document of an issuer, not the issuer: pass {quoted(before)}"
    issuer = quoted(before + after)
    return f"is the URL of an issuer's metadata: pass the issuer itself, {issuer}"


# A URI such as urn:example, and no host with its port.
_OTHER_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]*:(?![0-9])"
# What stands before and after a well-known part, and its name (RFC 8615 §3).
_WELL_KNOWN = r"(https?://.*?)/\.well-known/([^/?#]*)(/[^?#]*)?/?"
_DOCUMENTS = frozenset({OAUTH_PATH.rpartition("/")[2], OPENID_PATH.rpartition("/")[2]})
_ENTRA = "//login.microsoftonline."
# The endpoints of Keycloak, Entra ID, Okta, Auth0, Duende and others below their issuers.
_NAMES = (
    "(?:auth|authorize|certs|device|introspect|introspection|jwks|keys|logout|revoke|token"
    "|userinfo)"
)
_ENDPOINT = (
    r"(https?://.*?)(?:"
    r"/protocol/openid-connect(?:/.*)?"
    rf"|/(?:oauth2?|connect)(?:/v\d(?:\.\d)?)?/{_NAMES}/?"
    r"|/discovery(?:/v2\.0)?/keys"
    rf"|/v1/{_NAMES}"
    r")"
)


def endpoint(published: Mapping[str, Any], name: str, option: str) -> str:
    """Return the URL that metadata has under `name`.

    Raises ValueError where there is none, so that the next well-known place is asked; the text
    names the option by which an operator can give the URL instead.
    """
    url = published.get(name)
    if not isinstance(url, str):
        raise ValueError(f"it has no {name}: pass {option}")  # noqa: TRY004 - one error for a bad document
    return url


def is_https(url: str) -> bool:
    """Whether `url` is an https URL with a host and without a fragment or user."""
    return _fits(url, "https")


def is_loopback_http(url: str) -> bool:
    """Whether `url` is an http URL that never leaves this machine."""
    return _fits(url, "http") and is_loopback(urlsplit(url).hostname or "")


def leads_here(url: str, issuer: str) -> bool:
    """Whether a `url` in the metadata of a remote `issuer` leads to this machine.

    Only an issuer on this machine may name an endpoint on it: with a remote one, secrets would be
    sent to whatever listens here.
    """
    here = may_be_this_machine(urlsplit(url).hostname or "")
    return here and not is_loopback(urlsplit(issuer).hostname or "")


def is_http(url: str) -> bool:
    """Whether `url` is a plain http URL."""
    return _fits(url, "http")


def _fits(url: str, scheme: str) -> bool:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return (
        parts.scheme == scheme
        and bool(parts.hostname)
        and not parts.fragment
        and "@" not in parts.netloc
        and url.isascii()
        and not any(character <= " " for character in url)
    )
