"""A guard as the server's verifier of assertions: it finds the keys of trusted issuers.

The guard discovers and caches keys, fetches them once however many requests wait, and knows which
algorithms an issuer may use. It is not asked about the claims, which are the server's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.guard import Guard
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.reporting.events import Event
from bearerguard.server.clients.trusted_issuers import SignedAssertion, TrustedIssuer


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
