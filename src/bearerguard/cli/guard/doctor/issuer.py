"""The examination of an issuer: what it publishes about itself, its keys and its endpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bearerguard.cli.guard.doctor import keys, web
from bearerguard.cli.guard.doctor.exchange import Exchange, Requester
from bearerguard.cli.guard.doctor.finding import Finding, Rule
from bearerguard.errors import quoted
from bearerguard.guard.config.issuer import Issuer
from bearerguard.protocol import metadata, names, pkce
from bearerguard.protocol.http import document
from bearerguard.runtime.messages import FetchFailed

WELL_KNOWN = "/.well-known/"

PLACES = Rule(
    "discovery.places",
    "the metadata at a well-known place of the issuer",
    "publish the metadata there, or pass jwks_uri= or discovery_url= to the Issuer",
    "RFC 8414 §3, OpenID Connect Discovery §4",
)
NAME = Rule(
    "discovery.issuer",
    "metadata whose `issuer` is the issuer, character by character",
    "configure the issuer exactly as the metadata and the `iss` of its tokens name it",
    "RFC 8414 §3.3, RFC 9207 §2.4",
)
SAME = Rule(
    "discovery.same",
    "the same endpoints in each of the issuer's documents",
    "publish one document at all places",
    "RFC 8414 §5",
)
KEYS_URI = Rule(
    "discovery.jwks_uri",
    "a jwks_uri with https, or introspection of all tokens",
    "publish jwks_uri in the metadata, or pass jwks_uri= to the Issuer",
    "RFC 8414 §2",
)
ENDPOINTS = Rule(
    "metadata.endpoints",
    "https URLs of the issuer itself",
    "let the issuer know its public https address (behind a proxy: forward host and scheme)",
    "RFC 9700 §2.6, RFC 8414 §2",
)
PKCE = Rule(
    "metadata.pkce",
    "code_challenge_methods_supported has S256 and not plain",
    "enable PKCE with S256, publish it, and disable plain",
    "RFC 9700 §2.1.1, RFC 8414 §2",
)
IMPLICIT = Rule(
    "metadata.implicit",
    "no response type that puts an access token into a URL",
    "disable the implicit grant: use the authorization code with PKCE",
    "RFC 9700 §2.1.2",
)
PASSWORD = Rule(
    "metadata.password",
    "no grant by which an app sees the user's password",
    "disable the grant `password`: use the authorization code with PKCE",
    "RFC 9700 §2.4",
)
RESPONSE_ISSUER = Rule(
    "metadata.iss",
    "authorization_response_iss_parameter_supported is true",
    "send `iss` in authorization responses and publish that",
    "RFC 9700 §4.4.2.1, RFC 9207 §3",
)
SENDER = Rule(
    "metadata.sender",
    "tokens can be bound to a client's key, by DPoP or mutual TLS",
    "enable DPoP (RFC 9449) or mutual TLS (RFC 8705): a token that leaks is worthless then",
    "RFC 9700 §2.2.1",
)
METADATA_CACHING = Rule(
    "caching.metadata",
    "Cache-Control: max-age of the metadata, up to a day",
    "send Cache-Control: max-age=3600",
    "RFC 9111 §5.2.2.1",
)
KEYS_CACHING = Rule(
    "caching.jwks",
    "Cache-Control: max-age of the keys, shorter than their announcement before they sign",
    "send Cache-Control: max-age=3600, and publish a new key for longer before it signs",
    "RFC 9111 §5.2.2.1, RFC 7517 §5",
)
CORS = Rule(
    "cors.metadata",
    "pages of every origin may read the metadata and the keys",
    "send Access-Control-Allow-Origin: * with these public documents, if apps in browsers log in",
    "RFC 9700 §2.6, Fetch §3.2",
)
TOKEN_CORS = Rule(
    "cors.token",
    "only pages of registered origins may call the token endpoint",
    "allow registered origins, and never credentials",
    "RFC 9700 §2.6, Fetch §3.2",
)
INTROSPECTION = Rule(
    "introspection.authentication",
    "an introspection request without client credentials gets 401",
    "require client authentication at the introspection endpoint",
    "RFC 7662 §2.1, §4",
)
_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "jwks_uri", "introspection_endpoint")
_OK, _BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 400, 401, 403, 404
_SERVER_ERROR = 500
_ORIGIN = ("Origin", web.FOREIGN_ORIGIN)
_JSON = ("Accept", names.JSON)
_FORM = ("Content-Type", "application/x-www-form-urlencoded")
_MAX_PARENTS = 3


@dataclass(frozen=True, slots=True)
class Discovered:
    """What an issuer's well-known URLs respond with.

    Attributes:
        url: the issuer, as the user gave it.
        places: the exchange with each place.
        published: the metadata, of whatever issuer, or None.
        source: the place that the metadata is from.
    """

    url: str
    places: tuple[Exchange, ...]
    published: Mapping[str, Any] | None
    source: Exchange | None

    @property
    def name(self) -> str:
        """The issuer's name: its own, or the user's if it has none."""
        named = None if self.published is None else self.published.get("issuer")
        return named if isinstance(named, str) else self.url


def discovered(requester: Requester, url: str, guard: Issuer | None = None) -> Discovered:
    """Request the metadata at each well-known place of an issuer.

    A URL that is a well-known place itself is requested alone.
    """
    configured = None if guard is None else guard.discovery_url
    wanted = metadata.metadata_urls(url)
    if configured is not None:
        wanted = (configured,)
    elif WELL_KNOWN in url:
        wanted = (url,)
    places = tuple(requester.get(each, _JSON, _ORIGIN) for each in wanted)
    found = [(each, published) for each in places if (published := _published(each)) is not None]
    # The document of this issuer comes first, whatever the order of the places.
    found.sort(key=lambda pair: pair[1]["issuer"] != url)
    source, content = found[0] if found else (None, None)
    return Discovered(url, places, content, source)


def _published(exchange: Exchange) -> dict[str, Any] | None:
    if exchange.status != _OK:
        return None
    try:
        content = document.loads_object(exchange.body)
    except ValueError:
        return None
    return content if isinstance(content.get("issuer"), str) else None


def parent(requester: Requester, url: str) -> Discovered | None:
    """Return what is discovered at a shorter path: the issuer of one of its own endpoints."""
    stem = url.partition("?")[0].rstrip("/")
    for _ in range(_MAX_PARENTS):
        stem = stem.rpartition("/")[0]
        if urlsplit(stem).netloc == "":
            return None
        found = discovered(requester, stem)
        if found.published is not None:
            return found
    return None


def findings(
    requester: Requester, found: Discovered, guard: Issuer | None = None
) -> Iterator[Finding]:
    """Examine an issuer whose metadata was requested."""
    yield from web.transport_security(requester, found.url)
    content, source = found.published, found.source
    if content is None and guard is not None and not _is_discovered(guard):
        yield PLACES.ok("no metadata, and the guard needs none")
        yield from _keys(requester, {}, found, guard)
        return
    yield from _places(found)
    yield from _names(requester, found)
    if content is None or source is None:
        return
    yield from web.clock(source, None if guard is None else guard.leeway)
    yield from _same(found)
    yield from endpoints(content, found.name)
    yield from advertised(content)
    yield from web.caching(METADATA_CACHING, "the metadata", source)
    yield from _keys(requester, content, found, guard)
    yield from _introspection(requester, content, found)
    yield from _token_endpoint(requester, content, found)
    yield from web.plain_http(requester, source.url)


def _is_discovered(guard: Issuer) -> bool:
    return guard.static_keys is None and guard.jwks_uri is None


def _places(found: Discovered) -> Iterator[Finding]:
    if WELL_KNOWN in found.url and found.published is not None:
        named = quoted(found.published["issuer"])
        yield NAME.problem(
            "this is the URL of the metadata, and not the issuer", f"pass {named} as the issuer"
        )
        return
    held = [each for each in found.places if _published(each) is not None]
    for each in found.places:
        text = f"{each.url}: {_held(each)}"
        if each in held:
            yield PLACES.ok(text)
        elif held:
            yield PLACES.note(text, "nothing: one place is enough")
        else:
            yield PLACES.problem(text)


def _held(exchange: Exchange) -> str:
    if exchange.failure is not None:
        return str(exchange.failure).removeprefix(f"{exchange.url}: ")
    assert exchange.response is not None  # noqa: S101 - for the type checker
    refused = document.unserved(exchange.url, exchange.response)
    if refused is not None:
        return str(refused).removeprefix(f"{exchange.url}: ")
    try:
        content = document.loads_object(exchange.body)
    except ValueError as error:
        return str(error)
    if not isinstance(content.get("issuer"), str):
        return "JSON that names no issuer"
    return f"the metadata of {quoted(content['issuer'])}"


def _names(requester: Requester, found: Discovered) -> Iterator[Finding]:
    if WELL_KNOWN in found.url:
        return
    source = found.source
    if source is None:
        above = parent(requester, found.url)
        if above is not None:
            yield NAME.problem(
                f"{quoted(found.url)} is a URL below the issuer {quoted(above.name)}",
                f"pass {quoted(above.name)} as the issuer",
            )
        return
    try:
        metadata.parse(source.body, found.url)
    except ValueError as error:
        yield NAME.problem(str(error))
    else:
        yield NAME.ok(f"the metadata names {quoted(found.url)}")


def _same(found: Discovered) -> Iterator[Finding]:
    documents = [content for each in found.places if (content := _published(each)) is not None]
    differing = [
        name for name in _ENDPOINTS if len({str(each.get(name)) for each in documents}) > 1
    ]
    if differing:
        yield SAME.warning(f"the documents differ in {', '.join(differing)}")


def endpoints(content: Mapping[str, Any], issuer: str) -> Iterator[Finding]:
    """Check the URLs of the metadata."""
    urls = {
        name: value
        for name, value in content.items()
        if name.endswith(("_endpoint", "jwks_uri")) and isinstance(value, str)
    }
    bad = [name for name, url in urls.items() if not _may_be_fetched(url, issuer)]
    for name in bad[:5]:
        yield ENDPOINTS.problem(f"{quoted(name)} is {quoted(urls[name])}")
    if not bad:
        yield ENDPOINTS.ok(f"{len(urls)} endpoints, all by https or on this machine")


def _may_be_fetched(url: object, issuer: str) -> bool:
    """Whether metadata of an issuer may name this endpoint, by the guard's and client's rule."""
    if not isinstance(url, str) or metadata.leads_here(url, issuer):
        return False
    if metadata.is_https(url):
        return True
    return metadata.is_loopback_http(url) and metadata.is_loopback_http(issuer)


def may_be_requested(url: object, found: Discovered) -> bool:
    """Whether the doctor may send requests to an endpoint of the metadata.

    A remote server may give itself a name on this machine: where it was found counts as well.
    """
    return all(_may_be_fetched(url, each) for each in (found.url, found.name))


def advertised(content: Mapping[str, Any]) -> Iterator[Finding]:
    """Check what the metadata advertises (RFC 9700)."""
    if "authorization_endpoint" in content:
        yield from _pkce(_names_of(content, "code_challenge_methods_supported"))
        types = _names_of(content, "response_types_supported")
        implicit = [each for each in types if "token" in each.split()]
        if implicit:
            yield IMPLICIT.warning(f"response_types_supported has {quoted(implicit)}")
        else:
            yield IMPLICIT.ok("no response type with an access token")
        if content.get("authorization_response_iss_parameter_supported") is True:
            yield RESPONSE_ISSUER.ok("responses name the issuer")
        else:
            yield RESPONSE_ISSUER.note("responses do not name the issuer")
    grants = _names_of(content, "grant_types_supported")
    if "password" in grants:
        yield PASSWORD.warning("grant_types_supported has password")
    elif grants:
        yield PASSWORD.ok(f"the grants are {quoted(', '.join(grants))}")
    bound = "dpop_signing_alg_values_supported" in content or (
        content.get("tls_client_certificate_bound_access_tokens") is True
    )
    if bound:
        yield SENDER.ok("tokens can be bound by DPoP or mutual TLS")
    else:
        yield SENDER.note("neither DPoP nor mutual TLS is advertised")


def _pkce(methods: Sequence[str]) -> Iterator[Finding]:
    if "plain" in methods:
        report = PKCE.warning if pkce.METHOD in methods else PKCE.problem
        yield report(f"code_challenge_methods_supported is {quoted(methods)}")
    elif pkce.METHOD in methods:
        yield PKCE.ok("PKCE with S256 alone")
    else:
        yield PKCE.warning("no code_challenge_methods_supported: clients take that as no PKCE")


def _names_of(content: Mapping[str, Any], name: str) -> list[str]:
    value = content.get(name)
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _keys(
    requester: Requester, content: Mapping[str, Any], found: Discovered, guard: Issuer | None
) -> Iterator[Finding]:
    configured = None if guard is None else guard.jwks_uri
    uri = configured or content.get("jwks_uri")
    if guard is not None and guard.static_keys is not None:
        return
    if uri is None:
        yield KEYS_URI.warning("the metadata has no jwks_uri: tokens can be introspected only")
        return
    if configured is None and not may_be_requested(uri, found):
        yield KEYS_URI.problem(f"jwks_uri is {quoted(uri)}")
        return
    exchange = requester.get(str(uri), _JSON, _ORIGIN)
    refused = exchange.failure or _unserved(exchange)
    if refused is not None:
        yield KEYS_URI.problem(str(refused))
        return
    yield KEYS_URI.ok(f"{web.shown_url(exchange.url)} responds")
    yield from keys.findings(
        exchange.body,
        requester.clock(),
        advertised=_names_of(content, "id_token_signing_alg_values_supported"),
        accepted=None if guard is None else guard.accepted_algorithms,
    )
    yield from web.caching(KEYS_CACHING, "the JWK Set", exchange)
    readable = [web.allows_origin(each) != "" for each in (found.source, exchange) if each]
    if all(readable):
        yield CORS.ok("pages may read the metadata and the keys")
    else:
        yield CORS.note("pages of other origins cannot read the metadata or the keys")


def _unserved(exchange: Exchange) -> FetchFailed | None:
    return None if exchange.response is None else document.unserved(exchange.url, exchange.response)


def _introspection(
    requester: Requester, content: Mapping[str, Any], found: Discovered
) -> Iterator[Finding]:
    url = content.get("introspection_endpoint")
    if not may_be_requested(url, found):
        return
    # Not a real token: the endpoint must refuse the client before it looks at the token.
    exchange = requester.send("POST", str(url), [_FORM, _JSON], b"token=doctor")
    if exchange.failure is not None:
        yield INTROSPECTION.problem(str(exchange.failure), "make the endpoint reachable")
    elif exchange.status in {_UNAUTHORIZED, _FORBIDDEN}:
        yield INTROSPECTION.ok(f"without credentials: status {exchange.status}")
    elif exchange.status == _OK:
        yield INTROSPECTION.problem("anybody may introspect tokens: status 200")
    elif exchange.status == _BAD_REQUEST:
        yield INTROSPECTION.note(
            "without credentials: status 400, which also means a malformed request"
        )
    else:
        yield INTROSPECTION.warning(
            f"status {exchange.status}",
            "repair the introspection endpoint, or remove it from the metadata",
        )


def _token_endpoint(
    requester: Requester, content: Mapping[str, Any], found: Discovered
) -> Iterator[Finding]:
    url = content.get("token_endpoint")
    if not may_be_requested(url, found):
        return
    exchange = web.preflight(requester, str(url), "POST", "content-type")
    allowed = web.allows_origin(exchange)
    if exchange.failure is not None:
        yield TOKEN_CORS.problem(str(exchange.failure), "make the endpoint reachable")
    elif web.is_reflected_with_cookies(exchange):
        yield TOKEN_CORS.problem("any page may call it with the user's cookies")
    elif allowed:
        yield TOKEN_CORS.note(
            f"Access-Control-Allow-Origin is {quoted(allowed)} for an origin of no client",
            "allow registered origins alone; without cookies this is harmless",
        )
    else:
        yield TOKEN_CORS.ok("pages of unknown origins may not call it")
