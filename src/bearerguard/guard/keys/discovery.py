"""Finding what an issuer publishes about itself (RFC 8414, OpenID Connect Discovery; DISC-01).

`protocol.well_known` tries one location after another; this file says which locations a guard
tries, and which of the discovered URLs may be fetched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bearerguard.errors import quoted
from bearerguard.guard.config.issuer import Issuer
from bearerguard.protocol import metadata, well_known
from bearerguard.runtime.fetching.watch import Watch, unwatched
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import FetchFailed

T = TypeVar("T")


def discover(issuer: Issuer, parse: Callable[[bytes, str], T], watch: Watch = unwatched) -> Flow[T]:
    """Return what `parse` finds in the issuer's metadata, given the body and the issuer.

    `parse` raises ValueError for a document without it; then the next location is tried. `watch`
    watches each fetch. Raises `FetchFailed` if every location fails.
    """
    given = issuer.discovery_url
    if given is None:
        places = metadata.metadata_urls(issuer.url)
        return (yield from well_known.first(places, lambda body: parse(body, issuer.url), watch))

    def configured(body: bytes) -> T:
        return parse(body, metadata.publisher(body, issuer.url))

    return (yield from well_known.first((given,), configured, watch))


def jwks_uri(body: bytes, issuer: str) -> str:
    """Return the `jwks_uri` of metadata that `issuer` published; raises ValueError for none."""
    return metadata.endpoint(metadata.parse(body, issuer), "jwks_uri", "jwks_uri=")


def check_endpoint(issuer: Issuer, name: str, url: str, option: str) -> None:
    """Raise `FetchFailed` for a URL in metadata that must not be fetched.

    That is plain http, or an address of this machine in the metadata of another machine.
    """
    if not issuer.may_fetch(url):
        raise FetchFailed(
            f"its {name} {quoted(url)} is no https URL: let the issuer publish one (behind a proxy"
            f" it must know its https address), or pass {option}"
        )
    if metadata.leads_here(url, issuer.discovery_url or issuer.url):
        raise FetchFailed(
            f"its {name} {quoted(url)} leads to this machine, where the issuer is not: let the"
            f" issuer publish another, or pass {option}"
        )
