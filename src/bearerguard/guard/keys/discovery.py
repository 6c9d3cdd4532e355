"""Finding what an issuer publishes about itself (RFC 8414, then OpenID Connect Discovery).

One flow for all who look for an endpoint; what they look for is theirs to parse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bearerguard.guard.config.issuer import Issuer
from bearerguard.protocol import metadata, well_known
from bearerguard.runtime.flow import Flow

T = TypeVar("T")


def discover(issuer: Issuer, parse: Callable[[bytes, str], T]) -> Flow[T]:
    """Return what `parse` finds in the issuer's metadata, given the body and the issuer.

    `parse` raises ValueError for a document that does not say it; then the next place is
    tried. Raises `FetchFailed` when no place says it.
    """
    given = issuer.discovery_url
    if given is None:
        places = metadata.metadata_urls(issuer.url)
        return (yield from well_known.first(places, lambda body: parse(body, issuer.url)))

    def configured(body: bytes) -> T:
        return parse(body, metadata.publisher(body, issuer.url))

    return (yield from well_known.first((given,), configured))
