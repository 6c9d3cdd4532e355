"""The audit of a bearerguard authorization server by RFC 9700, by requests that change nothing.

With a registered client's id and redirect URI, more is examined. The server responds to
`prompt=none` without a user: no login begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from bearerguard.cli.guard.doctor import web
from bearerguard.cli.guard.doctor.exchange import Exchange, Requester
from bearerguard.cli.guard.doctor.finding import Finding, Rule
from bearerguard.cli.guard.doctor.issuer import Discovered, may_be_requested
from bearerguard.errors import quoted
from bearerguard.protocol import names, pkce

OPEN = Rule(
    "server.redirector",
    "a request of an unknown client is never redirected",
    "show an error page: a server that redirects to any URL helps phishing",
    "RFC 9700 §4.11.2, §2.1",
)
EXACT = Rule(
    "server.redirect_uri",
    "redirect URIs are compared character by character",
    "register each redirect URI in full",
    "RFC 9700 §2.1, §4.1.3",
)
PKCE = Rule(
    "server.pkce",
    "a request without a code challenge is refused",
    "register the client without --unsafe-without-pkce",
    "RFC 9700 §2.1.1",
)
PLAIN = Rule(
    "server.pkce_plain",
    "the code challenge method plain is refused",
    "accept S256 alone",
    "RFC 9700 §2.1.1",
)
IMPLICIT = Rule(
    "server.implicit",
    "response_type=token is refused",
    "disable the implicit grant",
    "RFC 9700 §2.1.2",
)
PASSWORD = Rule(
    "server.password",
    "grant_type=password is refused",
    "disable the grant `password`",
    "RFC 9700 §2.4",
)
ISSUER = Rule(
    "server.iss",
    "each authorization response names the issuer",
    "send `iss` in every authorization response",
    "RFC 9700 §4.4.2.1, RFC 9207 §2",
)
TOKEN_GET = Rule(
    "server.token_get",
    "the token endpoint takes POST alone",
    "refuse GET: secrets in URLs are logged",
    "RFC 6749 §3.2, RFC 9700 §4.3.2",
)
STORED = Rule(
    "server.no_store",
    "responses of the token endpoint and pages are never stored",
    "send Cache-Control: no-store, and let no proxy replace it",
    "RFC 6749 §5.1, RFC 9700 §4.2.4",
)
FRAMES = Rule(
    "server.frames",
    "pages forbid frames, unknown scripts and a base: Content-Security-Policy with frame-ancestors",
    "let the proxy pass the Content-Security-Policy of the pages on, and add no laxer one",
    "RFC 9700 §4.16",
)
OPENER = Rule(
    "server.opener",
    "pages are isolated from the window that opened them: Cross-Origin-Opener-Policy: same-origin",
    "nothing if apps log in by popups, which need their opener; else turn popups off",
    "HTML §7.1.3, RFC 9700 §4.16",
)
REFERRER = Rule(
    "server.referrer",
    "pages send no Referer: Referrer-Policy: no-referrer",
    "let the proxy pass Referrer-Policy on",
    "RFC 9700 §4.2.4",
)
HSTS = Rule(
    "server.hsts",
    "browsers use https alone: Strict-Transport-Security with a year or more",
    'let the proxy send Strict-Transport-Security: "max-age=31536000"',
    "RFC 6797 §6.1, RFC 9700 §2.6",
)
COOKIES = Rule(
    "server.cookies",
    "cookies are HttpOnly, Secure and SameSite, and have the prefix __Host-",
    "serve the issuer by https, and let the proxy leave Set-Cookie as it is",
    "RFC 6265bis §4.1.3, RFC 9700 §4.16",
)
CORS = Rule(
    "server.cors",
    "no page reads the authorization endpoint",
    "leave CORS to the server: add no headers in the proxy",
    "RFC 9700 §2.6",
)
REGISTRATION = Rule(
    "server.registration",
    "clients are registered by the operator, or by a policy that is known",
    "check which clients may register themselves, and what they may request",
    "RFC 7591 §5, RFC 9700 §4.11",
)
CLIENT = Rule(
    "server.client",
    "a registered client, to examine PKCE, redirect URIs and pages",
    "pass --store, or --client-id and --redirect-uri of a registered client",
    "RFC 9700 §2.1",
)
# The paths of a bearerguard server (a test compares them). The server's modules need its extra.
PATHS: Mapping[str, str] = {
    "authorization_endpoint": "/oauth/authorize",
    "token_endpoint": "/oauth/token",
    "introspection_endpoint": "/oauth/introspect",
    "jwks_uri": "/oauth/jwks",
}
_ELSEWHERE = f"{web.FOREIGN_ORIGIN}/callback"
_HTML, _FORM = ("Accept", "text/html"), ("Content-Type", "application/x-www-form-urlencoded")
_ORIGIN = ("Origin", web.FOREIGN_ORIGIN)
# RFC 7636 appendix B has this one; no code is ever issued for it.
_CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
_MAX_AGE = re.compile(r"(?:^|[;\s])max-age=\"?([0-9]{1,12})")
_YEAR = 31_536_000
_OK, _FIRST_ERROR = 200, 400


@dataclass(frozen=True, slots=True)
class KnownClient:
    """A registered client, with which authorization requests can be examined."""

    client_id: str
    redirect_uri: str


def is_ours(found: Discovered) -> bool:
    """Whether metadata is that of a bearerguard authorization server."""
    content = found.published
    base = found.name.rstrip("/")
    return content is not None and all(
        content.get(name) == base + path for name, path in PATHS.items()
    )


def findings(
    requester: Requester, found: Discovered, client: KnownClient | None
) -> Iterator[Finding]:
    """Audit the server whose metadata was found."""
    content: Mapping[str, Any] = found.published or {}
    authorize, token = content.get("authorization_endpoint"), content.get("token_endpoint")
    if "registration_endpoint" in content:
        yield REGISTRATION.note("the server has a registration endpoint")
    else:
        yield REGISTRATION.ok("the metadata has no registration endpoint")
    if isinstance(token, str) and may_be_requested(token, found):
        yield from _token_endpoint(requester, token)
    if not isinstance(authorize, str) or not may_be_requested(authorize, found):
        return
    unknown = {"client_id": "doctor-unknown", "redirect_uri": _ELSEWHERE, "response_type": "code"}
    page = _authorized(requester, authorize, unknown)
    yield from _not_redirected(OPEN, "an unknown client", page, _ELSEWHERE)
    if web.allows_origin(page):
        yield CORS.problem(f"Access-Control-Allow-Origin is {quoted(web.allows_origin(page))}")
    else:
        yield CORS.ok("no page reads the authorization endpoint")
    if client is None:
        yield CLIENT.note("no client is known: PKCE, redirect URIs and pages are not examined")
    else:
        yield from _with_client(requester, authorize, client, found.name)
        page = _login_page(requester, authorize, client) or page
    yield from pages(page)


def _token_endpoint(requester: Requester, token: str) -> Iterator[Finding]:
    form = urlencode({"grant_type": "password", "username": "doctor", "password": "none"})
    refused = requester.send("POST", token, [_FORM], form.encode())
    if refused.status >= _FIRST_ERROR:
        yield PASSWORD.ok(f"grant_type=password gets status {refused.status}")
    else:
        yield PASSWORD.problem(web.summary(refused))
    if "no-store" in refused.field("cache-control"):
        yield STORED.ok("the token endpoint's responses are not stored")
    else:
        control = quoted(refused.field("cache-control"))
        yield STORED.problem(f"Cache-Control of the token endpoint is {control}")
    got = requester.get(f"{token}?grant_type=client_credentials")
    if got.status >= _FIRST_ERROR:
        yield TOKEN_GET.ok(f"GET of the token endpoint gets status {got.status}")
    else:
        yield TOKEN_GET.problem(web.summary(got))


def _authorized(requester: Requester, url: str, parameters: Mapping[str, str]) -> Exchange:
    joint = "&" if "?" in url else "?"
    return requester.get(f"{url}{joint}{urlencode(parameters)}", _HTML, _ORIGIN)


def _not_redirected(rule: Rule, what: str, exchange: Exchange, uri: str) -> Iterator[Finding]:
    if exchange.is_redirect and web.location(exchange).startswith(uri):
        yield rule.problem(f"{what} is redirected by {exchange.status} to {quoted(uri)}")
    elif exchange.status >= _FIRST_ERROR:
        yield rule.ok(f"{what} gets an error page, status {exchange.status}")
    else:
        yield rule.warning(f"{what}: {web.summary(exchange)}")


def _with_client(
    requester: Requester, url: str, client: KnownClient, issuer: str
) -> Iterator[Finding]:
    usual = {
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
        "response_type": "code",
        "prompt": "none",
        "state": "doctor",
    }
    challenged = {"code_challenge": _CHALLENGE, "code_challenge_method": pkce.METHOD}
    altered = f"{client.redirect_uri}/doctor"
    exchange = _authorized(requester, url, usual | challenged | {"redirect_uri": altered})
    yield from _not_redirected(EXACT, "an altered redirect URI", exchange, altered)
    for rule, what, changes in (
        (PKCE, "a request without a code challenge", {}),
        (PLAIN, "code_challenge_method=plain", challenged | {"code_challenge_method": "plain"}),
        (IMPLICIT, "response_type=token", challenged | {"response_type": "token"}),
    ):
        yield from _refused(rule, what, _authorized(requester, url, usual | changes))
    silent = _authorized(requester, url, usual | challenged)
    named = _returned(silent).get("iss")
    if named == issuer:
        yield ISSUER.ok(f"the response names iss={quoted(named)}")
    else:
        yield ISSUER.problem(f"iss is {quoted(named)} ({web.summary(silent)})")


def _refused(rule: Rule, what: str, exchange: Exchange) -> Iterator[Finding]:
    error = _returned(exchange).get("error")
    if error is None and exchange.status >= _FIRST_ERROR:
        yield rule.ok(f"{what} gets an error page, status {exchange.status}")
    elif error is None or error == names.LOGIN_REQUIRED:
        yield rule.problem(f"{what} is accepted: error={quoted(error)}")
    else:
        yield rule.ok(f"{what} gets error={quoted(error)}")


def _returned(exchange: Exchange) -> dict[str, str]:
    """Return the parameters that a redirect sends to the client, in the query or the fragment."""
    if not exchange.is_redirect:
        return {}
    parts = urlsplit(web.location(exchange))
    return {name: found[0] for name, found in parse_qs(f"{parts.query}&{parts.fragment}").items()}


def _login_page(requester: Requester, url: str, client: KnownClient) -> Exchange | None:
    """Return the page for a user who is not signed in; None if it is at another origin."""
    exchange = _authorized(
        requester,
        url,
        {
            "client_id": client.client_id,
            "redirect_uri": client.redirect_uri,
            "response_type": "code",
            "code_challenge": _CHALLENGE,
            "code_challenge_method": pkce.METHOD,
        },
    )
    if exchange.is_redirect:
        target = web.location(exchange)
        if urlsplit(target)[:2] != urlsplit(url)[:2]:
            return None
        exchange = requester.get(target, _HTML)
    return exchange if exchange.status == _OK else None


def pages(page: Exchange) -> Iterator[Finding]:
    """Check the header fields and the cookies of a page."""
    policy = page.field("content-security-policy").lower()
    framed = "frame-ancestors 'none'" in policy or page.field("x-frame-options").lower() == "deny"
    if not framed:
        yield FRAMES.problem(f"Content-Security-Policy: {quoted(policy)}")
    elif "unsafe-inline" in policy or "default-src" not in policy:
        yield FRAMES.warning(f"Content-Security-Policy: {quoted(policy)}")
    else:
        yield FRAMES.ok("pages have frame-ancestors 'none', and no unknown scripts")
    opener = page.field("cross-origin-opener-policy")
    if opener == "same-origin":
        yield OPENER.ok(f"pages have Cross-Origin-Opener-Policy: {opener}")
    else:
        yield OPENER.note(f"Cross-Origin-Opener-Policy: {quoted(opener)}")
    referrer = page.field("referrer-policy")
    report = REFERRER.ok if referrer == "no-referrer" else REFERRER.warning
    yield report(f"pages have Referrer-Policy: {quoted(referrer)}")
    control = page.field("cache-control")
    if "no-store" in control:
        yield STORED.ok("pages are not stored")
    else:
        yield STORED.problem(f"Cache-Control of pages is {quoted(control)}")
    secure = urlsplit(page.url).scheme == "https"
    if secure:
        yield from _hsts(page.field("strict-transport-security").lower())
    yield from _cookies(page.values("set-cookie"), secure=secure)


def _hsts(field: str) -> Iterator[Finding]:
    found = _MAX_AGE.search(field)
    age = "" if found is None else found[1]
    seconds = int(age or 0)
    if not seconds:
        yield HSTS.warning("pages have no Strict-Transport-Security")
    elif seconds < _YEAR:
        yield HSTS.note(f"Strict-Transport-Security has max-age={seconds}")
    else:
        yield HSTS.ok(f"Strict-Transport-Security has max-age={seconds}")


def _cookies(fields: list[str], *, secure: bool) -> Iterator[Finding]:
    for each in fields:
        name, *attributes = (part.strip() for part in each.split(";"))
        given = {part.lower().partition("=")[0] for part in attributes}
        wanted = {"httponly", "samesite", *(("secure",) if secure else ())}
        cookie = quoted(name.partition("=")[0])
        if missing := sorted(wanted - given):
            yield COOKIES.problem(f"the cookie {cookie} lacks {', '.join(missing)}")
        elif secure and not name.startswith("__Host-"):
            yield COOKIES.warning(f"the cookie {cookie} has no prefix __Host-")
        else:
            yield COOKIES.ok(f"the cookie {cookie} has {', '.join(sorted(given))}")
