"""Discovery: from an API's URL or challenge to the endpoints of its issuer.

Protected resource metadata (RFC 9728) names the issuer, the issuer's own (RFC 8414, then
OpenID Connect Discovery) its endpoints. Nobody speaks for another: each document must name
exactly what it was asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bearerguard.client import driving
from bearerguard.errors import ConfigurationError, DiscoveryError, TokenUnavailable, quoted
from bearerguard.protocol import metadata, resource_metadata, well_known
from bearerguard.protocol.http import document, received_challenge
from bearerguard.protocol.resource_metadata import ResourceMetadata
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.flow import Fetch, Flow, arun, ask, run
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.transports.default import default_transport

T = TypeVar("T")

_UNAUTHORIZED = 401
_ACCEPT = (("accept", "application/json"),)


class _NotServed(DiscoveryError):
    """No place has metadata, not even wrong one."""


@dataclass(frozen=True, slots=True)
class Discovered:
    """An API, its issuer, and the scopes to request.

    Attributes:
        resource: its identifier, which is `resources=` of a source; empty for an API without
            metadata, whose own origin is its issuer.
        issuer: the first authorization server that it names.
        issuers: all that it names.
        scopes: the scopes that it names, or that its challenge demands.
        metadata: what the issuer publishes (RFC 8414).
    """

    resource: str
    issuer: str
    issuers: tuple[str, ...]
    scopes: tuple[str, ...]
    metadata: Mapping[str, Any] = field(repr=False)


def discover(
    url: str,
    challenges: Iterable[str] | None = None,
    *,
    transport: Transport | None = None,
) -> Discovered:
    """Return the issuer whose tokens an API accepts (RFC 9728), and the issuer's metadata.

    Args:
        url: an address of the API.
        challenges: the `WWW-Authenticate` lines of a refusal; by default, `url` is requested
            with GET and without a token.
        transport: sends the requests; an `HttpTransport` by default.

    Raises:
        ConfigurationError: the URL is not an https URL.
        DiscoveryError: metadata is missing, or names another API or issuer.
        TokenUnavailable: the API or the issuer could not be reached.
    """
    sync, _ = driving.handlers(transport or default_transport())
    return run(discovered(url, challenges), sync)


async def adiscover(
    url: str,
    challenges: Iterable[str] | None = None,
    *,
    transport: Transport | None = None,
) -> Discovered:
    """Return the issuer whose tokens an API accepts; does as `discover`."""
    _, asynchronous = driving.handlers(transport or default_transport())
    return await arun(discovered(url, challenges), asynchronous)


def secure_url(option: str, url: str, *, insecure_allow_http: bool = False) -> str:
    """Return a URL that secrets may go to; raises `ConfigurationError` for any other."""
    if not isinstance(url, str):
        raise ConfigurationError(f"{option}: pass a URL, not {type(url).__name__}")
    if metadata.is_https(url) or metadata.is_loopback_http(url):
        return url
    if insecure_allow_http and metadata.is_http(url):
        return url
    raise ConfigurationError(
        f"{option}: {quoted(url)} is no https URL, so tokens would be exposed: use https (http is"
        " for loopback addresses), or pass insecure_allow_http=True on a network you trust"
    )


def issuer_url(option: str, url: str, *, insecure_allow_http: bool = False) -> str:
    """Return an issuer identifier; raises `ConfigurationError` for any other URL."""
    mistake = metadata.issuer_mistake(url) if isinstance(url, str) else ""
    if mistake:
        raise ConfigurationError(f"{option}: {quoted(url)} {mistake}")
    if urlsplit(secure_url(option, url, insecure_allow_http=insecure_allow_http)).query:
        raise ConfigurationError(
            f"{option}: an issuer identifier has no query (RFC 8414 §2): remove it"
        )
    return url


def server_metadata(issuer: str) -> Flow[Mapping[str, Any]]:
    """Return an issuer's metadata; raises `DiscoveryError` or `TokenUnavailable`."""
    places = metadata.metadata_urls(issuer)

    def usable(body: bytes) -> Mapping[str, Any]:
        published = metadata.parse(body, issuer)
        metadata.endpoint(published, "token_endpoint", "token_endpoint=")
        return published

    return (yield from _first(places, usable))


def endpoint(document: Mapping[str, Any], name: str, *, insecure_allow_http: bool = False) -> str:
    """Return one of the endpoints of an issuer.

    Raises `DiscoveryError` when it is missing, is plain http, or is an endpoint on this machine
    that a remote issuer names.
    """
    issuer, found = document["issuer"], document.get(name)
    if not isinstance(found, str):
        raise DiscoveryError(f"{issuer} has no {name}")
    try:
        url = secure_url(name, found, insecure_allow_http=insecure_allow_http)
    except ConfigurationError as error:
        raise DiscoveryError(str(error)) from None
    if metadata.leads_here(url, issuer):
        raise DiscoveryError(
            f"{issuer} names {quoted(url)} as its {name}, which leads to this machine: it is not"
            " asked"
        )
    return url


def protected_resource(url: str, challenges: Iterable[str] = ()) -> Flow[ResourceMetadata]:
    """Return the metadata of the API behind `url` (RFC 9728).

    `challenges` are the `WWW-Authenticate` lines of a refusal; the `resource_metadata` in
    them is where to look, and otherwise the well-known places are.
    """
    found = (
        each.parameters["resource_metadata"]
        for each in received_challenge.parse(challenges)
        if each.scheme in {"bearer", "dpop"} and "resource_metadata" in each.parameters
    )
    given = next(found, None)
    if given is None:
        places = resource_metadata.metadata_urls(url)
    else:
        places = (_same_security("resource_metadata", given, url),)
    try:
        return (yield from _first(places, lambda body: resource_metadata.parse(body, url)))
    except _NotServed as missing:
        if given is None:
            raise
        raise DiscoveryError(str(missing)) from None  # it is served where the API says, or nowhere


def discovered(url: str, challenges: Iterable[str] | None) -> Flow[Discovered]:
    """Return the issuer of an API, as `discover` does."""
    secure_url("url", url)
    if challenges is None:
        answer = yield from _fetched(url)
        refused = answer.status == _UNAUTHORIZED
        lines = [value for name, value in answer.headers if name.lower() == "www-authenticate"]
        challenges = lines if refused else ()
    lines = list(challenges)
    try:
        found = yield from protected_resource(url, lines)
    except _NotServed as missing:
        return (yield from _of_origin(url, missing))
    if not found.authorization_servers:
        raise DiscoveryError(f"{found.resource} names no authorization server")
    issuer = _same_security("authorization_servers", found.authorization_servers[0], url)
    if urlsplit(issuer).query:
        raise DiscoveryError(f"authorization_servers: {quoted(issuer)} has a query (RFC 8414 §2)")
    document = yield from server_metadata(issuer)
    demanded = received_challenge.find(received_challenge.parse(lines), "bearer", "dpop")
    scope = () if demanded is None else tuple(demanded.parameters.get("scope", "").split())
    servers = found.authorization_servers
    return Discovered(found.resource, issuer, servers, scope or found.scopes, document)


def _of_origin(url: str, missing: DiscoveryError) -> Flow[Discovered]:
    """Return the issuer at an API's own origin, as MCP servers of 2025-03-26 have it.

    Raises `missing` where there is none either.
    """
    issuer = resource_metadata.origin(url)
    try:
        document = yield from server_metadata(issuer)
    except (DiscoveryError, TokenUnavailable):
        raise missing from None
    return Discovered("", issuer, (issuer,), (), document)


def _same_security(option: str, given: str, url: str) -> str:
    """Return a URL that an API names; refuse plain http where the API itself has https."""
    if metadata.is_https(given) or (
        metadata.is_loopback_http(given) and not metadata.is_https(url)
    ):
        return given
    raise DiscoveryError(f"{option}: {quoted(given)} is no https URL")


def _first(places: Iterable[str], parse: Callable[[bytes], T]) -> Flow[T]:
    """Return the parsed document of the first place that has one."""
    try:
        return (yield from well_known.first(places, parse))
    except well_known.NothingServed as error:
        if error.temporary or error.was_unreachable:
            raise unavailable(error) from None
        kind = _NotServed if error.kind == "status" else DiscoveryError
        raise kind(f"no metadata was found: {error}") from None


def unavailable(error: FetchFailed) -> TokenUnavailable:
    """Return the error of a token request whose fetch failed."""
    pause = error.retry_after if isinstance(error, well_known.NothingServed) else 1.0
    return TokenUnavailable(str(error), pause, temporary=error.temporary)


def _fetched(url: str) -> Flow[Response]:
    try:
        answer = yield from ask(Fetch("GET", url, _ACCEPT))
    except FetchFailed as error:
        raise unavailable(error) from None
    if document.is_unavailable(answer):
        raise TokenUnavailable(f"{url}: status {answer.status}", document.retry_after(answer))
    return answer
