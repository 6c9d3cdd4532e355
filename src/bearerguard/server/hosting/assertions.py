"""A guard as the server's verifier of assertions: it finds the keys of trusted issuers.

The guard discovers and caches keys, fetches them once however many requests wait, and knows which
algorithms an issuer may use. It is not asked about the claims, which are the server's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.guard import Guard
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.reporting.events import Event
from bearerguard.server.clients.trusted_issuers import SignedAssertion, TrustedIssuer
from bearerguard.server.upstream.github import GitHubProvider
from bearerguard.server.upstream.openid import OpenIdProvider
from bearerguard.server.upstream.options import GitHubLogin, Upstream, UpstreamLogin
from bearerguard.server.upstream.provider import Provider
from bearerguard.transports.default import default_transport


class GuardVerifier:
    """An `AssertionVerifier`."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def verify(self, token: str, check_type: Callable[[str | None], None]) -> SignedAssertion:
        """Return an assertion whose signature is valid."""
        # Other characters than ASCII become "?", which no JWT has.
        octets = token.encode("ascii", "replace")
        signed = self._guard.run(self._guard.verify_signature(octets, check_type))
        return SignedAssertion(signed.claims, signed.typ)

    def close(self) -> None:
        """Close connections, and stop refreshing keys."""
        self._guard.close()


def verifier(
    issuers: Sequence[TrustedIssuer],
    *,
    transport: Transport | None,
    clock: Callable[[], float],
    on_event: Callable[[Event], None] | None,
) -> GuardVerifier:
    """Return a guard of these issuers; raises `ConfigurationError` for an unsafe one."""
    trusted = [_issuer(each) for each in issuers]
    return GuardVerifier(Guard(*trusted, transport=transport, clock=clock, on_event=on_event))


def providers(
    upstreams: Sequence[Upstream],
    *,
    transport: Transport | None,
    clock: Callable[[], float],
    on_event: Callable[[Event], None] | None,
) -> list[Provider]:
    """Return the providers of logins elsewhere, each OpenID provider with a guard of its own.

    A token of one is never validated with the keys of another. Raises `ConfigurationError`.
    """
    sending = transport or default_transport()

    def provider(each: Upstream) -> Provider:
        if isinstance(each, GitHubLogin):
            return GitHubProvider(each, transport=sending)
        guard = Guard(_upstream(each), transport=sending, clock=clock, on_event=on_event)
        return OpenIdProvider(
            each,
            transport=sending,
            verifier=GuardVerifier(guard),
            clock=clock,
            elapsed=elapsed_by(clock),
        )

    return [provider(each) for each in upstreams]


def _upstream(given: UpstreamLogin) -> Issuer:
    try:
        return Issuer(
            given.issuer,
            # Not compared: the provider checks the claims.
            audience=given.client_id,
            algorithms=given.algorithms,
            leeway=given.leeway,
            insecure_allow_http=given.insecure_allow_http,
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"UpstreamLogin({quoted(given.issuer)}): {error}") from None


def _issuer(given: TrustedIssuer) -> Issuer:
    try:
        return Issuer(
            given.url,
            # Not compared: the server checks the claims.
            audience="the server",
            keys=given.keys,
            jwks_uri=given.jwks_uri,
            discovery_url=given.discovery_url,
            algorithms=given.algorithms,
            leeway=given.leeway,
            insecure_allow_http=given.insecure_allow_http,
        )
    except ConfigurationError as error:
        raise ConfigurationError(f"trusted_issuers=: {error}") from None
