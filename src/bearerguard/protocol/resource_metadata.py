"""Protected resource metadata (RFC 9728): which authorization servers an API accepts.

Where the document of an API is, what it contains, and how one that was received is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bearerguard.errors import quoted
from bearerguard.protocol.http import document

PATH = "/.well-known/oauth-protected-resource"  # RFC 9728 §3


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """What an API publishes about itself (RFC 9728 §2)."""

    resource: str
    authorization_servers: tuple[str, ...]
    scopes: tuple[str, ...]


def metadata_url(resource: str) -> str:
    """Return the URL of the metadata of a resource: well-known part after the host (RFC 9728 §3.1).

    A path that is only a slash is dropped; a query is kept.
    """
    parts = urlsplit(resource)
    path = "" if parts.path == "/" else parts.path
    return urlunsplit((parts.scheme, parts.netloc, PATH + path, parts.query, ""))


def metadata_urls(url: str) -> tuple[str, ...]:
    """Return the URLs where the metadata of an API may be: for its path, then for its host."""
    parts = urlsplit(url)
    path = parts.path.removesuffix("/")
    places = dict.fromkeys((PATH + path, PATH))
    return tuple(urlunsplit((parts.scheme, parts.netloc, each, "", "")) for each in places)


def build(
    resource: str,
    *,
    authorization_servers: Iterable[str],
    scopes: Iterable[str] = (),
    members: Mapping[str, Any],
) -> bytes:
    """Return the metadata document of a resource, without empty members (RFC 9728 §3.2).

    `members` are further ones, by their names in RFC 9728 §2. Tokens are accepted in the
    `Authorization` field alone.
    """
    content = {
        "resource": resource,
        "authorization_servers": [*authorization_servers],
        "scopes_supported": [*scopes],
        "bearer_methods_supported": ["header"],
        **members,
    }
    return json.dumps({name: value for name, value in content.items() if value}).encode()


def parse(body: bytes, url: str) -> ResourceMetadata:
    """Return the metadata of the API behind `url`.

    Raises ValueError for another document: its `resource` must have the origin of `url` and be a
    prefix of its path (RFC 9728 §3.3), or one API could get tokens that are meant for another.
    """
    published = document.loads_object(body)
    resource = published.get("resource")
    if not isinstance(resource, str) or not _covers(resource, url):
        raise ValueError(f"its resource is another one: {quoted(resource)}")
    return ResourceMetadata(
        resource,
        _texts(published.get("authorization_servers")),
        _texts(published.get("scopes_supported")),
    )


def origin(url: str) -> str:
    """Return scheme, host and port of a URL, without the port that its scheme implies."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    named = f"[{host}]" if ":" in host else host
    port = parts.port
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{named}" + ("" if port in {None, usual} else f":{port}")


def _covers(resource: str, url: str) -> bool:
    try:
        if origin(resource) != origin(url):
            return False
    except ValueError:
        return False
    stem = urlsplit(resource).path.removesuffix("/")
    return f"{urlsplit(url).path.removesuffix('/')}/".startswith(f"{stem}/")


def _texts(given: object) -> tuple[str, ...]:
    return tuple(each for each in given if isinstance(each, str)) if isinstance(given, list) else ()
