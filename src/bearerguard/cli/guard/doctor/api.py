"""The examination of an API: how it refuses, what it says of itself, and what is in front of it.

Only GET, HEAD and OPTIONS are sent, without a token or with an invalid one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit, urlunsplit

from bearerguard.cli.guard.doctor import web
from bearerguard.cli.guard.doctor.exchange import Exchange, Requester
from bearerguard.cli.guard.doctor.finding import Finding, Rule
from bearerguard.errors import quoted
from bearerguard.guard.config.issuer import Issuer
from bearerguard.protocol import metadata, names, resource_metadata
from bearerguard.protocol.http import document, received_challenge
from bearerguard.protocol.http.expiry import EXPOSED_HEADERS
from bearerguard.protocol.http.received_challenge import ReceivedChallenge

ABSENT = Rule(
    "challenge.absent",
    "a request without a token gets 401 with a Bearer or DPoP challenge",
    "put the guard in front of this route, and let the proxy pass WWW-Authenticate on",
    "RFC 6750 §3, RFC 9110 §11.6.1",
)
PARAMETERS = Rule(
    "challenge.parameters",
    "a challenge with a realm or another parameter, and no error for a missing token",
    'send realm="…", and error="…" only if the request had a token',
    "RFC 6750 §3, §3.1",
)
INVALID = Rule(
    "challenge.invalid",
    "an invalid token gets 401 with error=invalid_token",
    "put the guard in front of this route",
    "RFC 6750 §3.1",
)
MALFORMED = Rule(
    "challenge.malformed",
    "malformed credentials get 400 with error=invalid_request",
    "parse the Authorization field by its grammar, and never respond with 500",
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
    "the API responds at this URL, and no redirect turns a POST into a GET or drops the token",
    "document the URL that is not redirected, or turn such redirects off",
    "RFC 9110 §15.4",
)
PLAIN = Rule(
    "redirects.http",
    "port 80 is closed: a client that uses http has sent the token in the clear already",
    "close port 80 for the API's host, or respond with 403 there",
    "RFC 6750 §5.3",
)
RESOURCE = Rule(
    "resource.metadata",
    "protected resource metadata whose `resource` is this API's URL",
    "serve the metadata: pass resource= to the guard, and put ResourceMetadata around the root app"
    " if the guard is below a path",
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
    "a preflight passes without a token, and the response allows the Authorization field by name",
    "put the CORS middleware in front of the guard, and allow the origins of your pages",
    "Fetch §3.2.2, §4.8",
)
EXPOSED = Rule(
    "cors.exposed",
    "pages can read the challenge, the expiry and Retry-After",
    f"send Access-Control-Expose-Headers: {', '.join(EXPOSED_HEADERS)}",
    "Fetch §3.2.3",
)
VARY = Rule(
    "cors.vary",
    "a response that names one origin varies by it: Vary: Origin",
    "let the CORS middleware send Vary: Origin, or a cache gives one page's response to another",
    "Fetch §3.2.5, RFC 9110 §12.5.5",
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
_INVALID = ("Authorization", "Bearer doctor-is-no-token")
_MALFORMED = ("Authorization", "Bearer doctor is no token")
_JSON = ("Accept", names.JSON)
_ORIGIN = ("Origin", web.FOREIGN_ORIGIN)
_BEARER, _DPOP, _INVALID_TOKEN = "bearer", "dpop", "invalid_token"
_OK, _BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 400, 401, 403, 404
_NOT_ALLOWED, _UNAVAILABLE, _SERVER_ERROR = 405, 503, 500
# Statuses by which a POST becomes a GET (RFC 9110 §15.4).
_POST_TO_GET = frozenset({301, 302, 303})
# Amazon's API Gateway sends the field under this name.
_REMAPPED = "x-amzn-remapped-www-authenticate"


def bearer_challenge(exchange: Exchange) -> ReceivedChallenge | None:
    """Return the Bearer or DPoP challenge of a response, None if it has none."""
    return received_challenge.find(
        received_challenge.parse(exchange.values("www-authenticate")), _BEARER, _DPOP
    )


def first_request(requester: Requester, url: str) -> Exchange:
    """Send the request without a token."""
    return requester.get(url, _JSON, _ORIGIN)


def findings(requester: Requester, url: str, guard: Sequence[Issuer] = ()) -> Iterator[Finding]:
    """Examine the API at a URL; `guard` are the issuers that its guard trusts, if it is known."""
    first = first_request(requester, url)
    yield from web.transport_security(requester, url)
    yield from web.clock(first)
    yield from _absent(first)
    invalid = requester.get(url, _JSON, _ORIGIN, _INVALID)
    if not first.is_redirect:
        yield from _invalid(first, invalid)
    if first.status in {_UNAUTHORIZED, _FORBIDDEN}:
        yield from _malformed(requester.get(url, _JSON, _MALFORMED))
        yield from _query(requester, url)
        yield from _head(requester.send("HEAD", url, [_JSON]), first)
    yield from _cookies(first)
    yield from _cached(first, invalid)
    yield from _cors(requester, url, first)
    yield from _redirects(requester, url)
    yield from web.plain_http(requester, url, PLAIN)
    yield from _resource(requester, url, first, guard)


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
        schemes = [
            each.scheme for each in received_challenge.parse(first.values("www-authenticate"))
        ]
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
            "respond with 401, not with a redirect to a login page or to another spelling",
        )
    elif first.status == _FORBIDDEN:
        yield ABSENT.warning(
            "status 403 without a token",
            "respond with 401: 403 is for valid tokens that lack a scope or a role",
        )
    elif first.status >= _SERVER_ERROR:
        yield ABSENT.problem(f"status {first.status}", "find the cause in the API's log")
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


def _invalid(first: Exchange, invalid: Exchange) -> Iterator[Finding]:
    found = bearer_challenge(invalid)
    error = None if found is None else found.parameters.get("error")
    if invalid.status == _UNAUTHORIZED and error == _INVALID_TOKEN:
        yield INVALID.ok("an invalid token gets 401 with error=invalid_token")
    elif invalid.status == _UNAUTHORIZED:
        yield INVALID.warning(f"401 with error={quoted(error)}: clients do not refresh their token")
    elif invalid.status == _UNAVAILABLE:
        yield INVALID.warning("503: the API cannot validate tokens now", "run doctor on its issuer")
    elif invalid.status and invalid.status == first.status:
        yield INVALID.note(f"status {invalid.status}, as without a token: no token is needed here")
    elif invalid.is_success:
        yield INVALID.problem(f"status {invalid.status}: any text is accepted as a token")
    else:
        yield INVALID.problem(f"an invalid token: {web.summary(invalid)}")


def _malformed(exchange: Exchange) -> Iterator[Finding]:
    if exchange.status == _BAD_REQUEST:
        yield MALFORMED.ok("malformed credentials get 400")
    elif exchange.status == _UNAUTHORIZED:
        yield MALFORMED.note("malformed credentials get 401")
    else:
        yield MALFORMED.problem(f"malformed credentials: {web.summary(exchange)}")


def _query(requester: Requester, url: str) -> Iterator[Finding]:
    joint = "&" if urlsplit(url).query else "?"
    exchange = requester.get(f"{url}{joint}access_token=doctor-is-no-token", _JSON)
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


def _cached(first: Exchange, invalid: Exchange) -> Iterator[Finding]:
    if first.status in {_UNAUTHORIZED, _FORBIDDEN}:
        control = first.field("cache-control").lower()
        if first.values("age") or "hit" in first.field("x-cache").lower():
            yield CACHED.problem("a cache responded with a stored refusal")
        elif "no-store" in control or "private" in control:
            yield CACHED.ok(f"the refusal has Cache-Control: {quoted(control)}")
        elif "public" in control or "max-age" in control:
            yield CACHED.problem(f"Cache-Control: {quoted(control)}")
        else:
            yield CACHED.note("the refusal has no Cache-Control")
    control = invalid.field("cache-control").lower()
    varies = "authorization" in invalid.field("vary").lower()
    if invalid.response is None:
        return
    if ("public" in control or "s-maxage" in control) and not varies:
        yield SHARED.problem(f"Cache-Control: {quoted(control)} without Vary: Authorization")
    else:
        yield SHARED.ok("shared caches do not store such responses")


def _cors(requester: Requester, url: str, first: Exchange) -> Iterator[Finding]:
    exchange = web.preflight(requester, url, "GET", "authorization")
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
        yield PREFLIGHT.note(
            "pages of an unknown origin may not call it", "nothing, if that is intended"
        )
    if not web.allows_origin(first):
        return
    if web.allows_origin(first) != "*" and "origin" not in first.field("vary").lower():
        yield VARY.warning(f"Access-Control-Allow-Origin is {quoted(web.allows_origin(first))}")
    exposed = first.field("access-control-expose-headers").lower()
    missing = [each for each in EXPOSED_HEADERS if each.lower() not in exposed and exposed != "*"]
    if missing:
        yield EXPOSED.warning(f"pages cannot read {', '.join(missing)}")
    else:
        yield EXPOSED.ok("pages can read the fields of refusals and expiry")


def _redirects(requester: Requester, url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    path = parts.path[:-1] if parts.path.endswith("/") else f"{parts.path}/"
    if path in {"", "/"}:
        return
    other = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
    for exchange in (requester.get(url, _JSON, _ORIGIN, _INVALID), requester.get(other, _INVALID)):
        if not exchange.is_redirect:
            continue
        target = urlsplit(web.location(exchange))
        where = f"{web.shown_url(exchange.url)} redirects by {exchange.status}"
        if parts.scheme == "https" and target.scheme == "http":
            yield SLASH.problem(
                f"{where} to http: a client that follows sends its request unencrypted",
                "tell the app that the proxy terminates TLS (X-Forwarded-Proto)",
            )
        elif target.netloc != parts.netloc:
            yield SLASH.warning(f"{where} to another host: clients drop the token on the way")
        elif exchange.status in _POST_TO_GET:
            yield SLASH.warning(f"{where}: a POST becomes a GET without its body")
        else:
            yield SLASH.note(f"{where}: each such request takes two requests")


def _resource(
    requester: Requester, url: str, first: Exchange, guard: Sequence[Issuer]
) -> Iterator[Finding]:
    found = bearer_challenge(first)
    named = None if found is None else found.parameters.get("resource_metadata")
    usual = resource_metadata.metadata_urls(url)
    places = list(usual)
    if named is not None and _is_of(named, url):
        places = [named, *(each for each in usual if each != named)]
        yield NAMED.ok(f"the challenge names {quoted(named)}")
    elif named is not None:
        # What this host serves describes the API at that other address.
        yield NAMED.warning(
            f"resource_metadata is {quoted(named)}, on another host: who uses this address does not"
            " find the issuer",
            "give the URL that clients use, or make resource= of the guard that URL",
        )
        return
    exchanges = [requester.get(each, _JSON) for each in places]
    served = next((each for each in exchanges if each.status == _OK), None)
    if served is None:
        if named is None:
            yield RESOURCE.note("there is no metadata: clients must know the issuer already")
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
    yield from _servers(requester, published.authorization_servers, url)
    yield from _agreement(published, guard)


def _is_of(place: str, url: str) -> bool:
    try:
        return resource_metadata.origin(place) == resource_metadata.origin(url)
    except ValueError:
        return False


def _identity(resource: str, served: Exchange, url: str) -> Iterator[Finding]:
    # The first is without a final slash, which servers may leave out.
    expected = resource_metadata.metadata_url(resource)
    if served.url not in {expected, resource_metadata.metadata_urls(resource)[0]}:
        yield RESOURCE.warning(
            f"{served.url} has the metadata of {quoted(resource)}, whose well-known URL is"
            f" {expected}",
            "serve the metadata at the well-known URL of its resource",
        )
    else:
        yield RESOURCE.ok(f"{quoted(resource)} covers {web.shown_url(url)}")


def _servers(requester: Requester, servers: Sequence[str], url: str) -> Iterator[Finding]:
    if not servers:
        yield SERVERS.note("the metadata names no authorization server")
    for server in servers[:5]:
        if metadata.leads_here(server, url) or not (
            metadata.is_https(server) or metadata.is_loopback_http(server)
        ):
            yield SERVERS.problem(f"{quoted(server)} is not an https URL of another machine")
            continue
        problems = []
        for place in metadata.metadata_urls(server):
            exchange = requester.get(place, _JSON)
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
