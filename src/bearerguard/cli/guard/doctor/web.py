"""Checks for any web service: TLS, clock, redirects, caching, CORS, response times."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

from bearerguard.cli.guard.doctor.exchange import Exchange, Requester
from bearerguard.cli.guard.doctor.finding import Finding, Rule, counted
from bearerguard.errors import quoted
from bearerguard.protocol.http.caching import max_age
from bearerguard.runtime.addresses import is_loopback
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.transports.tls_peer import TlsPeer

DAY = 86_400
# An origin that no page has (RFC 2606 §2).
FOREIGN_ORIGIN = "https://doctor.invalid"
_PERMANENT = frozenset({301, 308})
_USUAL_PORTS = {None, 443}

REACHED = Rule(
    "reach.response",
    "the host responds",
    "start the service, or correct its name, its port or the network between",
    "RFC 9110 §15",
)
LIMIT = Rule(
    "reach.limit",
    "the examination stays below 100 requests and 60 seconds",
    "find out what is slow, and run doctor again",
    "bearerguard",
)
TLS_USED = Rule(
    "tls.https",
    "https everywhere beyond this machine",
    "serve it by https alone",
    "RFC 9700 §2.6, RFC 6750 §5.3",
)
TLS_VERSION = Rule(
    "tls.version", "TLS 1.3 or 1.2", "enable TLS 1.3, and disable all below 1.2", "RFC 9325 §3.1"
)
TLS_CERTIFICATE = Rule(
    "tls.certificate",
    "a certificate that is trusted, names the host, and is renewed in time",
    "renew the certificate, and automate its renewal",
    "RFC 9525, RFC 5280 §6",
)
HTTP_REDIRECT = Rule(
    "redirects.http",
    "port 80 is closed, or redirects to https permanently",
    "redirect http to https with 308, or close port 80",
    "RFC 9110 §15.4.9, RFC 6750 §5.3",
)
CLOCK = Rule(
    "clock.skew",
    "the clocks differ by less than 2 seconds",
    "synchronise both clocks by NTP",
    "RFC 7519 §4.1.4, RFC 9110 §6.6.1",
)
SPEED = Rule(
    "speed.response",
    "responses within a second",
    "find out what is slow: each new token waits for it when keys or introspection are fetched",
    "bearerguard",
)
_SMALL_SKEW, _LEEWAY = 2.0, 30.0
_SLOW, _VERY_SLOW = 1.0, 3.0
_SOON, _VERY_SOON = 21, 7


def transport_security(requester: Requester, url: str) -> Iterator[Finding]:
    """Check TLS and its certificate, or that http stays on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        yield from tls(requester.tls_peer(url), requester.clock())
    elif is_loopback(parts.hostname or ""):
        yield TLS_USED.note(
            "http on this machine: whatever clients send in production is not seen here",
            "run doctor against the public https URL too",
        )
    else:
        yield TLS_USED.problem("plain http: an attacker in the network reads tokens, replaces keys")


def unreached(requester: Requester, exchange: Exchange) -> Iterator[Finding]:
    """Report a target that sent no response; a failed TLS handshake is reported as such."""
    if exchange.failure is not None and exchange.failure.kind == "tls":
        yield from transport_security(requester, exchange.url)
    else:
        yield REACHED.problem(summary(exchange))


def tls(peer: TlsPeer | FetchFailed, now: float) -> Iterator[Finding]:
    """Check the TLS version and the certificate of a server, or why there was no handshake."""
    if isinstance(peer, FetchFailed):
        chain = "install the whole chain: the server's certificate first, then the intermediate"
        missing = "authority" in str(peer)
        yield TLS_CERTIFICATE.problem(
            str(peer),
            f"{chain} ones; or pass --ca-file for an authority of your own" if missing else None,
        )
        return
    if peer.version == "TLSv1.3":
        yield TLS_VERSION.ok(peer.version)
    elif peer.version == "TLSv1.2":
        yield TLS_VERSION.note("TLSv1.2, though this machine offered 1.3", "enable TLS 1.3")
    else:
        yield TLS_VERSION.problem(peer.version)
    days = (peer.expires_at - now) / DAY
    found = f"the certificate expires in {days:.0f} days"
    if days < _VERY_SOON:
        yield TLS_CERTIFICATE.problem(found)
    elif days < _SOON:
        yield TLS_CERTIFICATE.warning(found)
    else:
        yield TLS_CERTIFICATE.ok(found)


def plain_http(requester: Requester, url: str, rule: Rule = HTTP_REDIRECT) -> Iterator[Finding]:
    """Check what the http port does, for a https URL on the usual port."""
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.port not in _USUAL_PORTS:
        return
    exchange = requester.get(f"http://{parts.hostname}{parts.path or '/'}")
    if exchange.response is None:
        yield rule.ok("port 80 does not respond")
        return
    target = location(exchange)
    if not exchange.is_redirect:
        yield rule.problem(f"http gets status {exchange.status} and no redirect")
    elif not target.startswith("https:"):
        yield rule.problem(f"http redirects to {quoted(target)}")
    elif exchange.status not in _PERMANENT:
        yield rule.note(f"http redirects to https by {exchange.status}, which is not permanent")
    else:
        yield rule.ok(f"http redirects to https by {exchange.status}")


def location(exchange: Exchange) -> str:
    """Return the absolute URL that a redirect leads to; empty for a malformed one."""
    try:
        return urljoin(exchange.url, exchange.field("location"))
    except ValueError:
        return ""


def clock(exchange: Exchange, leeway: float | None = None) -> Iterator[Finding]:
    """Compare the `Date` of a response with this machine's clock."""
    try:
        dated = parsedate_to_datetime(exchange.field("date")).timestamp()
    except (ValueError, TypeError, OverflowError):
        yield CLOCK.note("the response has no valid Date, so that its clock is unknown")
        return
    accepted = _LEEWAY if leeway is None else leeway
    age = exchange.field("age")
    # A cached response keeps its Date. `Date` has whole seconds, and was made on the way.
    dated += float(age) if age.isascii() and age.isdecimal() and len(age) < _LONGEST_AGE else 0.0
    skew = dated + 0.5 - (exchange.received_at - exchange.seconds / 2)
    found = f"its clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) <= _SMALL_SKEW + exchange.seconds / 2:
        yield CLOCK.ok(f"its clock and this machine's differ by less than {_SMALL_SKEW:.0f} s")
    elif abs(skew) <= accepted:
        yield CLOCK.warning(f"{found}: within the leeway of {accepted:g} s")
    else:
        consequence = (
            "its tokens are refused as issued in the future"
            if skew > 0
            else ("its tokens are accepted for too long by the APIs, or refused as expired")
        )
        yield CLOCK.problem(f"{found}, beyond the leeway of {accepted:g} s: {consequence}")


_LONGEST_AGE = 10


def speed(exchanges: Iterable[Exchange]) -> Iterator[Finding]:
    """Check how long responses took."""
    answered = [each for each in exchanges if each.response is not None]
    if not answered:
        return
    slowest = max(answered, key=lambda each: each.seconds)
    median = statistics.median(each.seconds for each in answered)
    found = (
        f"{counted(len(answered), 'response')}, median {median * 1000:.0f} ms, slowest"
        f" {slowest.seconds * 1000:.0f} ms ({slowest.request.method} {shown_url(slowest.url)})"
    )
    if slowest.seconds < _SLOW:
        yield SPEED.ok(found)
    else:
        yield (SPEED.warning if slowest.seconds >= _VERY_SLOW else SPEED.note)(found)


def caching(rule: Rule, what: str, exchange: Exchange) -> Iterator[Finding]:
    """Check how long caches keep a public document."""
    control = exchange.field("cache-control")
    seconds = max_age(Response(exchange.status, (("Cache-Control", control),)))
    if "no-store" in control.lower() or "no-cache" in control.lower() or seconds == 0:
        yield rule.note(f"{what} has {quoted(control)}: it is fetched for each use")
    elif seconds is None:
        yield rule.note(f"{what} has no max-age: caches choose how long they keep it")
    elif seconds > DAY:
        yield rule.warning(f"{what} has max-age={seconds:.0f}: {seconds / DAY:.1f} days")
    else:
        yield rule.ok(f"{what} has max-age={seconds:.0f}")


def allows_origin(exchange: Exchange) -> str:
    """Return the origin that may read a response (Fetch standard §3.2.3); empty for none."""
    return exchange.field("access-control-allow-origin").strip()


def is_reflected_with_cookies(exchange: Exchange) -> bool:
    """Whether pages of any origin may read the response to a request with the user's cookies."""
    credentials = exchange.field("access-control-allow-credentials").strip().lower()
    return allows_origin(exchange) == FOREIGN_ORIGIN and credentials == "true"


def preflight(requester: Requester, url: str, method: str, headers: str) -> Exchange:
    """Ask whether a page of a foreign origin may send a request."""
    fields = [("Origin", FOREIGN_ORIGIN), ("Access-Control-Request-Method", method)]
    return requester.send("OPTIONS", url, [*fields, ("Access-Control-Request-Headers", headers)])


def shown_url(url: str) -> str:
    """Return a URL without its query, which may be long, for a finding."""
    return url.partition("?")[0]


def summary(exchange: Exchange) -> str:
    """Return the status of a response, or why there was none, in a few words."""
    if exchange.failure is not None:
        return str(exchange.failure)
    return f"{shown_url(exchange.url)}: status {exchange.status}"
