"""The examination of an API: how it refuses, what it says of itself, and what is in front of it.

Only GET, HEAD and OPTIONS are sent, without a token or with a text that is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit, urlunsplit

from bearerguard.cli.doctor import web
from bearerguard.cli.doctor.exchange import Exchange, Observer
from bearerguard.cli.doctor.finding import Finding, Rule
from bearerguard.errors import quoted
from bearerguard.guard.config.issuer import Issuer
from bearerguard.protocol import metadata, names, resource_metadata
from bearerguard.protocol.http import challenge, document
from bearerguard.protocol.http.challenge import ReceivedChallenge
from bearerguard.protocol.http.expiry import EXPOSED_HEADERS

ABSENT = Rule(
    "challenge.absent",
    "a request without a token gets 401 with a Bearer or DPoP challenge",
    "put the guard in front of this route, and let the proxy pass WWW-Authenticate on",
    "RFC 6750 §3, RFC 9110 §11.6.1",
)
PARAMETERS = Rule(
    "challenge.parameters",
    "a challenge with a realm or another parameter, and no error for a missing token",
    'send realm="…" and, with a token alone, error="…"',
    "RFC 6750 §3, §3.1",
)
INVALID = Rule(
    "challenge.invalid",
    "a text that is no token gets 401 with error=invalid_token",
    "put the guard in front of this route",
    "RFC 6750 §3.1",
)
MALFORMED = Rule(
    "challenge.malformed",
    "malformed credentials get 400 with error=invalid_request",
    "parse the Authorization field by its grammar, and never answer 500",
    "RFC 6750 §2.1, §3.1",
)
QUERY = Rule(
    "challenge.query",
    "a token in the URL is ignored",
    "read tokens from the Authorization field alone: URLs are logged",
    "RFC 9700 §4.3.2, RFC 6750 §5.3",
)
HEAD = Rule(
    "challenge.head",
    "HEAD is refused as GET is, without a body",
    "guard HEAD as GET",
    "RFC 9110 §9.3.2",
)
SLASH = Rule(
    "redirects.slash",
    "the API answers at this URL, and no redirect eats a POST or drops the token",
    "document the URL with the spelling that is not redirected, or turn such redirects off",
    "RFC 9110 §15.4",
)
PLAIN = Rule(
    "redirects.http",
    "port 80 is closed: a client that uses http has sent the token in the clear already",
    "close port 80 for the API's host, or answer 403 there",
    "RFC 6750 §5.3",
)
RESOURCE = Rule(
    "resource.metadata",
    "protected resource metadata whose `resource` is this API's URL",
    "serve the metadata: pass resource= to the guard",
    "RFC 9728 §3, §3.3",
)
NAMED = Rule(
    "resource.challenge",
    "the challenge names the metadata",
    "pass resource= to the guard: challenges then have resource_metadata",
    "RFC 9728 §5.1",
)
SERVERS = Rule(
    "resource.servers",
    "authorization servers that are reachable and name themselves so",
    "put the issuer into authorization_servers exactly as its metadata names it",
    "RFC 9728 §2, RFC 8414 §3.3",
)
METHODS = Rule(
    "resource.methods",
    "bearer_methods_supported is header alone",
    "leave query and body out",
    "RFC 9728 §2, RFC 9700 §4.3.2",
)
KNOWN = Rule(
    "guard.agreement",
    "the guard's issuer and audience are those that the API publishes",
    "make audience= and resource= of the guard the same, and issue tokens for it",
    "RFC 9728 §2, RFC 8707 §2",
)
PREFLIGHT = Rule(
    "cors.preflight",
    "a preflight is answered without a token, and allows the Authorization field by name",
    "put the CORS middleware in front of the guard, and allow the origins of your pages",
    "Fetch §3.2.2, §4.8",
)
EXPOSED = Rule(
    "cors.exposed",
    "pages can read the challenge, the expiry and Retry-After",
    f"send Access-Control-Expose-Headers: {', '.join(EXPOSED_HEADERS)}",
    "Fetch §3.2.3",
)
CACHED = Rule(
    "caching.refusal",
    "no cache keeps a refusal",
    "send Cache-Control: no-store with 401 and 403",
    "RFC 9111 §3, §3.5",
)
SHARED = Rule(
    "caching.authorized",
    "no shared cache keeps responses to requests with Authorization",
    "send Cache-Control: private or no-store for guarded routes",
    "RFC 9111 §3.5",
)
COOKIES = Rule(
    "challenge.cookies",
    "an API with tokens sets no cookies",
    "turn sessions off for the API: cookies need protection from CSRF, tokens do not",
    "RFC 9700 §4.7",
)
NO_TOKEN = ("Authorization", "Bearer doctor-is-no-token")
_MALFORMED = ("Authorization", "Bearer doctor is no token")
_JSON = ("Accept", names.JSON)
_ORIGIN = ("Origin", web.FOREIGN_ORIGIN)
_BEARER, _DPOP, _INVALID_TOKEN = "bearer", "dpop", "invalid_token"
_OK, _BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 400, 401, 403, 404
_NOT_ALLOWED, _UNAVAILABLE, _SERVER_ERROR = 405, 503, 500
# Statuses by which a POST becomes a GET (RFC 9110 §15.4).
_EATS_POST = frozenset({301, 302, 303})
# Amazon's API Gateway sends the field under this name.
_REMAPPED = "x-amzn-remapped-www-authenticate"


def bearer_challenge(exchange: Exchange) -> ReceivedChallenge | None:
    """Return the challenge of a response that a token answers."""
    return challenge.find(challenge.parse(exchange.values("www-authenticate")), _BEARER, _DPOP)


def first_request(observer: Observer, url: str) -> Exchange:
    """Send the request without a token."""
    return observer.get(url, _JSON, _ORIGIN)


def findings(observer: Observer, url: str, guard: Sequence[Issuer] = ()) -> Iterator[Finding]:
    """Examine the API at a URL; `guard` are the issuers that its guard trusts, if it is known."""
    first = first_request(observer, url)
    yield from web.transport_security(observer, url)
    yield from web.clock(first)
    yield from _absent(first)
    garbage = observer.get(url, _JSON, _ORIGIN, NO_TOKEN)
    yield from _invalid(garbage)
    if first.status in {_UNAUTHORIZED, _FORBIDDEN}:
        yield from _malformed(observer.get(url, _JSON, _MALFORMED))
        yield from _query(observer, url)
        yield from _head(observer.send("HEAD", url, [_JSON]), first)
    yield from _cookies(first)
    yield from _cached(first, garbage)
    yield from _cors(observer, url, first)
    yield from _redirects(observer, url)
    yield from web.plain_http(observer, url, PLAIN)
    yield from _resource(observer, url, first, guard)


def _absent(first: Exchange) -> Iterator[Finding]:
    found = bearer_challenge(first)
    if first.status != _UNAUTHORIZED:
        yield from _unguarded(first)
        return
    if first.values(_REMAPPED):
        yield ABSENT.problem(
            f"the gateway renamed WWW-Authenticate to {_REMAPPED}",
            "map the field back in the gateway's response",
        )
    elif not first.values("www-authenticate"):
        yield ABSENT.problem("401 without WWW-Authenticate: no client knows what to send")
    elif found is None:
        schemes = [each.scheme for each in challenge.parse(first.values("www-authenticate"))]
        yield ABSENT.problem(f"401 with the challenge {quoted(', '.join(schemes) or 'none')}")
    else:
        yield ABSENT.ok(f"a request without a token gets 401 with a {found.scheme} challenge")
        yield from _parameters(found)


def _unguarded(first: Exchange) -> Iterator[Finding]:
    if first.failure is not None:
        yield ABSENT.problem(str(first.failure), "make the API reachable")
    elif first.is_redirect:
        yield ABSENT.problem(
            f"status {first.status}, a redirect to {quoted(web.shown_url(web.location(first)))}",
            "answer programs by 401, not by a redirect to a login page or another spelling",
        )
    elif first.status == _FORBIDDEN:
        yield ABSENT.warning("status 403 without a token", "answer 401: 403 is for weak tokens")
    elif first.status >= _SERVER_ERROR:
        yield ABSENT.problem(f"status {first.status}", "mend the API")
    elif first.status == _NOT_FOUND:
        yield ABSENT.note("status 404", "pass the URL of a guarded route")
    else:
        yield ABSENT.warning(
            f"status {first.status} without a token: this route is open to everybody",
            "pass the URL of a guarded route, or guard this one",
        )


def _parameters(found: ReceivedChallenge) -> Iterator[Finding]:
    parameters = dict(found.parameters)
    named = quoted(", ".join(f"{name}={value}" for name, value in parameters.items()))
    if not parameters:
        yield PARAMETERS.warning("the challenge has no parameter")
    elif "error" in parameters:
        yield PARAMETERS.note(f"an error though no token was sent: {named}")
    elif "realm" not in parameters:
        yield PARAMETERS.note(f"no realm: {named}")
    else:
        yield PARAMETERS.ok(f"the challenge has {named}")


def _invalid(garbage: Exchange) -> Iterator[Finding]:
    found = bearer_challenge(garbage)
    error = None if found is None else found.parameters.get("error")
    if garbage.status == _UNAUTHORIZED and error == _INVALID_TOKEN:
        yield INVALID.ok("a text that is no token gets 401 with error=invalid_token")
    elif garbage.status == _UNAUTHORIZED:
        yield INVALID.warning(f"401 with error={quoted(error)}: clients do not refresh their token")
    elif garbage.status == _UNAVAILABLE:
        yield INVALID.warning("503: the API cannot check tokens at the moment", "mend its issuer")
    elif garbage.is_success:
        yield INVALID.problem(f"status {garbage.status}: any text is accepted, or none is needed")
    else:
        yield INVALID.problem(web.summary(garbage))


def _malformed(exchange: Exchange) -> Iterator[Finding]:
    if exchange.status == _BAD_REQUEST:
        yield MALFORMED.ok("malformed credentials get 400")
    elif exchange.status == _UNAUTHORIZED:
        yield MALFORMED.note("malformed credentials get 401")
    else:
        yield MALFORMED.problem(web.summary(exchange))


def _query(observer: Observer, url: str) -> Iterator[Finding]:
    joint = "&" if urlsplit(url).query else "?"
    exchange = observer.get(f"{url}{joint}access_token=doctor-is-no-token", _JSON)
    found = bearer_challenge(exchange)
    if found is not None and "error" in found.parameters:
        error = quoted(found.parameters["error"])
        yield QUERY.warning(f"error={error}: the token in the URL was read")
    elif exchange.status == _UNAUTHORIZED:
        yield QUERY.ok("the token in the URL was ignored")
    else:
        yield QUERY.warning(web.summary(exchange))


def _head(exchange: Exchange, first: Exchange) -> Iterator[Finding]:
    same = exchange.values("www-authenticate") == first.values("www-authenticate")
    if exchange.status == first.status and same:
        yield HEAD.ok(f"HEAD gets {exchange.status} and the same challenge")
    elif exchange.status == _NOT_ALLOWED:
        yield HEAD.note("status 405: the route has no HEAD", "nothing, if no client needs it")
    elif exchange.is_success:
        yield HEAD.problem(f"HEAD passes without a token: status {exchange.status}")
    else:
        yield HEAD.warning(f"HEAD has {web.summary(exchange)}, GET has {first.status}")


def _cookies(first: Exchange) -> Iterator[Finding]:
    if first.values("set-cookie"):
        yield COOKIES.note("the response without a token sets a cookie")


def _cached(first: Exchange, garbage: Exchange) -> Iterator[Finding]:
    if first.status in {_UNAUTHORIZED, _FORBIDDEN}:
        control = first.field("cache-control").lower()
        if first.values("age") or "hit" in first.field("x-cache").lower():
            yield CACHED.problem("a cache answered with a stored refusal")
        elif "no-store" in control or "private" in control:
            yield CACHED.ok(f"the refusal has Cache-Control: {quoted(control)}")
        elif "public" in control or "max-age" in control:
            yield CACHED.problem(f"Cache-Control: {quoted(control)}")
        else:
            yield CACHED.note("the refusal has no Cache-Control")
    control = garbage.field("cache-control").lower()
    varies = "authorization" in garbage.field("vary").lower()
    if garbage.response is None:
        return
    if ("public" in control or "s-maxage" in control) and not varies:
        yield SHARED.problem(f"Cache-Control: {quoted(control)} without Vary: Authorization")
    else:
        yield SHARED.ok("shared caches leave such responses out")


def _cors(observer: Observer, url: str, first: Exchange) -> Iterator[Finding]:
    exchange = web.preflight(observer, url, "GET", "authorization")
    allowed = web.allows_origin(exchange)
    headers = exchange.field("access-control-allow-headers").lower()
    if exchange.failure is not None:
        yield PREFLIGHT.problem(str(exchange.failure), "make the API reachable")
    elif web.is_reflected_with_cookies(exchange):
        yield PREFLIGHT.problem(
            "pages of any origin may call it with the user's cookies",
            "allow the origins of your pages, and no credentials: tokens need none",
        )
    elif allowed and "authorization" not in headers:
        yield PREFLIGHT.warning(f"Access-Control-Allow-Headers is {quoted(headers)}")
    elif allowed:
        yield PREFLIGHT.ok(f"pages of {quoted(allowed)} may send a token")
    elif exchange.status in {_UNAUTHORIZED, _FORBIDDEN} and bearer_challenge(exchange) is not None:
        yield PREFLIGHT.note(
            f"status {exchange.status}: the guard refuses preflights, so no page can call the API"
        )
    else:
        yield PREFLIGHT.note("pages of an unknown origin may not call it", "nothing, if so wanted")
    if not web.allows_origin(first):
        return
    exposed = first.field("access-control-expose-headers").lower()
    missing = [each for each in EXPOSED_HEADERS if each.lower() not in exposed and exposed != "*"]
    if missing:
        yield EXPOSED.warning(f"pages cannot read {', '.join(missing)}")
    else:
        yield EXPOSED.ok("pages can read the fields of refusals and expiry")


def _redirects(observer: Observer, url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    path = parts.path[:-1] if parts.path.endswith("/") else f"{parts.path}/"
    if path in {"", "/"}:
        return
    other = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
    for exchange in (observer.get(url, _JSON, _ORIGIN, NO_TOKEN), observer.get(other, NO_TOKEN)):
        if not exchange.is_redirect:
            continue
        target = urlsplit(web.location(exchange))
        where = f"{web.shown_url(exchange.url)} redirects by {exchange.status}"
        if parts.scheme == "https" and target.scheme == "http":
            yield SLASH.problem(
                f"{where} to http: a client that follows sends its request in the clear",
                "let the app know that the proxy has TLS (X-Forwarded-Proto)",
            )
        elif target.netloc != parts.netloc:
            yield SLASH.warning(f"{where} to another host: clients drop the token on the way")
        elif exchange.status in _EATS_POST:
            yield SLASH.warning(f"{where}: a POST becomes a GET without its body")
        else:
            yield SLASH.note(f"{where}: each such request costs two")


def _resource(
    observer: Observer, url: str, first: Exchange, guard: Sequence[Issuer]
) -> Iterator[Finding]:
    found = bearer_challenge(first)
    named = None if found is None else found.parameters.get("resource_metadata")
    usual = resource_metadata.metadata_urls(url)
    places = list(usual)
    if named is not None and _is_of(named, url):
        places = [named, *(each for each in usual if each != named)]
        yield NAMED.ok(f"the challenge names {quoted(named)}")
    elif named is not None:
        yield NAMED.problem(f"resource_metadata is {quoted(named)}, on another host")
    exchanges = [observer.get(each, _JSON) for each in places]
    served = next((each for each in exchanges if each.status == _OK), None)
    if served is None:
        if named is None:
            yield RESOURCE.note("there is no metadata: clients must be told which issuer to ask")
        else:
            yield RESOURCE.problem("there is no metadata, though the challenge names it")
        return
    if named is None and found is not None:
        yield NAMED.note("the challenge does not name the metadata")
    try:
        published = resource_metadata.parse(served.body, url)
        content = document.loads_object(served.body)
    except ValueError as error:
        yield RESOURCE.problem(f"{served.url}: {error}")
        return
    yield from _identity(published.resource, served, url)
    methods = content.get("bearer_methods_supported")
    if isinstance(methods, list) and {"query", "body"} & {str(each) for each in methods}:
        yield METHODS.warning(f"bearer_methods_supported is {quoted(methods)}")
    yield from _servers(observer, published.authorization_servers, url)
    yield from _agreement(published, guard)


def _is_of(place: str, url: str) -> bool:
    try:
        return resource_metadata.origin(place) == resource_metadata.origin(url)
    except ValueError:
        return False


def _identity(resource: str, served: Exchange, url: str) -> Iterator[Finding]:
    expected = resource_metadata.metadata_urls(resource)[0]
    if served.url != expected:
        yield RESOURCE.warning(
            f"{served.url} is of the resource {quoted(resource)}, whose place is {expected}",
            "serve the metadata at the place of its resource",
        )
    else:
        yield RESOURCE.ok(f"{quoted(resource)} covers {web.shown_url(url)}")


def _servers(observer: Observer, servers: Sequence[str], url: str) -> Iterator[Finding]:
    if not servers:
        yield SERVERS.note("the metadata names no authorization server")
    for server in servers[:5]:
        if metadata.leads_here(server, url) or not (
            metadata.is_https(server) or metadata.is_loopback_http(server)
        ):
            yield SERVERS.problem(f"{quoted(server)} is no https URL of another machine")
            continue
        problems = []
        for place in metadata.metadata_urls(server):
            exchange = observer.get(place, _JSON)
            try:
                if exchange.status == _OK:
                    metadata.parse(exchange.body, server)
                    yield SERVERS.ok(f"{quoted(server)} is at {place}")
                    break
                problems.append(web.summary(exchange))
            except ValueError as error:
                problems.append(f"{place}: {error}")
        else:
            yield SERVERS.problem(f"{quoted(server)}: {'; '.join(problems)}")


def _agreement(
    published: resource_metadata.ResourceMetadata, guard: Sequence[Issuer]
) -> Iterator[Finding]:
    if not guard:
        return
    audiences = sorted({name for each in guard for name in each.audience})
    trusted = {each.url for each in guard}
    if published.resource not in audiences:
        yield KNOWN.problem(
            f"the API is {quoted(published.resource)}, the guard accepts {quoted(audiences)}:"
            " tokens that clients request for it are refused"
        )
    unknown = [each for each in published.authorization_servers if each not in trusted]
    if unknown:
        yield KNOWN.problem(f"the guard does not trust {quoted(unknown[0])}")
    if published.resource in audiences and not unknown:
        yield KNOWN.ok("the guard accepts tokens of these servers for this API")
