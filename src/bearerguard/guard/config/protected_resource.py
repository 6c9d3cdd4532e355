"""What an API publishes about itself: `Guard(resource=...)` (RFC 9728 §2).

Owns the checks, and what is derived from the issuers where nothing is passed. The document is made
in `guard.resource_metadata`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any
from urllib.parse import urlsplit

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.issuer import Issuer
from bearerguard.principal import Claims
from bearerguard.protocol import metadata
from bearerguard.protocol.resource_metadata import PATH
from bearerguard.protocol.scope import is_scope_token

# The characters of a URI (RFC 3986 §2): a challenge has it in a quoted string.
_URI = re.compile(r"https?://[!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]+", re.IGNORECASE)
# Members that have an argument, or that follow from what the guard does.
_OWN = frozenset(
    {
        *("resource", "authorization_servers", "scopes_supported", "bearer_methods_supported"),
        *("resource_name", "resource_documentation", "resource_policy_uri", "resource_tos_uri"),
    }
)


@dataclass(frozen=True, slots=True)
class ProtectedResource:
    """An API as it describes itself to clients (RFC 9728 §2): `Guard(resource=...)`.

    Args:
        url: its identifier, the URL by which clients know it, path included; tokens are requested
            for it (RFC 8707). It is published as it is written here.
        scopes: the scopes that a client asks for first; by default those that the guard and its
            middleware require of every request.
        name: its name for people.
        documentation: the URL of a page for developers.
        policy: the URL of a page about what clients may do with its data.
        terms: the URL of its terms of service.
        authorization_servers: the issuers where clients get tokens; by default those of the guard.
            An issuer with `tenants=` is not among them.
        members: further members, by their names in RFC 9728 §2 or as registered later.

    Raises:
        ConfigurationError: a value is malformed.
    """

    url: str
    _: KW_ONLY
    scopes: Sequence[str] = ()
    name: str | None = None
    documentation: str | None = None
    policy: str | None = None
    terms: str | None = None
    authorization_servers: Sequence[str] = ()
    members: Mapping[str, Any] = field(default_factory=Claims)

    def __post_init__(self) -> None:
        mistake = _mistake(self.url)
        if mistake:
            raise ConfigurationError(f"resource=: {mistake}")
        for option in ("scopes", "authorization_servers"):
            given = getattr(self, option)
            if not isinstance(given, list | tuple) or not all(isinstance(x, str) for x in given):
                raise ConfigurationError(f"ProtectedResource({option}=): pass a list of text")
            object.__setattr__(self, option, tuple(given))
        malformed = [each for each in self.scopes if not is_scope_token(each)]
        if malformed:
            raise ConfigurationError(
                f"ProtectedResource(scopes=): {quoted(malformed[0])} is no scope: it is printable"
                " ASCII without space, quote or backslash (RFC 6749 §3.3)"
            )
        for server in self.authorization_servers:
            if not _is_url(server) or metadata.issuer_mistake(server):
                raise ConfigurationError(
                    f"ProtectedResource(authorization_servers=): {quoted(server)} is no issuer:"
                    " pass its URL as its metadata names it (RFC 8414 §2)"
                )
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise ConfigurationError("ProtectedResource(name=): pass a name for people")
        for option in ("documentation", "policy", "terms"):
            page = getattr(self, option)
            if page is not None and not _is_url(page):
                raise ConfigurationError(
                    f"ProtectedResource({option}=): {quoted(page)} is no URL: pass that of a page"
                )
        object.__setattr__(self, "members", _checked_members(self.members))


def protected_resource(resource: object, issuers: Sequence[Issuer]) -> ProtectedResource | None:
    """Return what a guard publishes, None for nothing.

    Without `resource`, it is the audience of the issuers, if they have one alone and it is a URL.
    Raises `ConfigurationError` for a URL that clients could not use.
    """
    if resource is False:
        return None
    if resource is None:
        return _derived(issuers)
    if not isinstance(resource, str | ProtectedResource):
        raise ConfigurationError(
            'resource=: pass the API\'s URL, such as "https://api.example.com/v1", or'
            " ProtectedResource(...), or False for no metadata"
        )
    chosen = resource if isinstance(resource, ProtectedResource) else ProtectedResource(resource)
    if not _is_allowed(chosen.url, issuers):
        raise ConfigurationError(
            f"resource=: {quoted(chosen.url)} is no https URL, so tokens would be exposed: use"
            " https (http is for loopback addresses, and for issuers with insecure_allow_http=True)"
        )
    if not authorization_servers(chosen, issuers):
        raise ConfigurationError(
            "resource=: none of the issuers can be named to clients: pass"
            " ProtectedResource(authorization_servers=[...]), the URLs where clients get tokens"
        )
    return chosen


def authorization_servers(
    resource: ProtectedResource, issuers: Iterable[Issuer]
) -> tuple[str, ...]:
    """Return the issuers that clients are told of.

    Tenants are left out: who they are is nobody's business, and there may be thousands.
    """
    given = tuple(resource.authorization_servers)
    return given or tuple(
        each.url for each in issuers if each.tenants is None and _is_url(each.url)
    )


def _derived(issuers: Sequence[Issuer]) -> ProtectedResource | None:
    audiences = {name for each in issuers for name in each.audience}
    url = audiences.pop()
    if audiences or _mistake(url) or not _is_allowed(url, issuers):
        return None
    derived = ProtectedResource(url)
    return derived if authorization_servers(derived, issuers) else None


def _mistake(url: object) -> str:
    """Return why a value is not the identifier of an API (RFC 9728 §1.2), "" if it may be one."""
    if not isinstance(url, str):
        return f"pass the API's URL, not {type(url).__name__}"
    if "@" in url.partition("://")[2].partition("/")[0]:  # without quoting the password
        return "remove the user and the password from this URL: it is published"
    if not _is_url(url):
        return f"{quoted(url)} is no URL: pass that of the API, such as https://api.example.com/v1"
    if "#" in url:
        return f"{quoted(url)} has a fragment: remove it (RFC 9728 §1.2)"
    if PATH in url:
        return f"{quoted(url)} is where its metadata is: pass the URL of the API itself"
    return ""


def _is_url(url: object) -> bool:
    if not isinstance(url, str) or not _URI.fullmatch(url):
        return False
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return bool(parts.hostname)


def _is_allowed(url: str, issuers: Iterable[Issuer]) -> bool:
    return (
        metadata.is_https(url)
        or metadata.is_loopback_http(url)
        or any(each.insecure_allow_http for each in issuers)
    )


def _checked_members(members: object) -> Claims:
    if not isinstance(members, Mapping) or not all(isinstance(name, str) for name in members):
        raise ConfigurationError(
            "ProtectedResource(members=): pass a dict from names of RFC 9728 §2 to values"
        )
    own = sorted(_OWN & members.keys())
    if own:
        raise ConfigurationError(
            f"ProtectedResource(members=): {own[0]} has an argument of its own, or is what the"
            " guard does: leave it out"
        )
    held = Claims(members)
    try:
        json.dumps(held.to_dict())
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"ProtectedResource(members=): no JSON: {error}") from None
    return held
