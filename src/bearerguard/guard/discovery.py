"""Finding what an issuer publishes about itself (RFC 8414, then OpenID Connect Discovery).

One flow for all who look for an endpoint; what they look for is theirs to parse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bearerguard.flow import Fetch, Flow, ask
from bearerguard.guard.issuer import Issuer
from bearerguard.messages import FetchFailed
from bearerguard.protocol import metadata

T = TypeVar("T")

_OK = 200
_ACCEPT = (("accept", "application/json"),)


def discover(issuer: Issuer, parse: Callable[[bytes, str], T]) -> Flow[T]:
    """Return what `parse` finds in the issuer's metadata, given the body and the issuer.

    `parse` raises ValueError for a document that does not say it; then the next place is
    tried. Raises `FetchFailed` when no place says it.
    """
    given = issuer.discovery_url
    problem = ""
    for url in metadata.metadata_urls(issuer.url) if given is None else (given,):
        answer = yield from ask(Fetch("GET", url, _ACCEPT))
        if answer.status != _OK:
            problem = f"{url}: status {answer.status}"
            continue
        try:
            return parse(answer.body, issuer.url)
        except ValueError as error:
            problem = f"{url}: {error}"
    raise FetchFailed(problem)
