"""The issuers that a guard trusts, each with its keys and, where it is asked, its introspector.

Owns what lives as long as the guard for each issuer; which of them a token concerns is told
by its `iss`, at the same cost for one issuer and for thousands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.events import Events
from bearerguard.guard.introspection.introspector import Introspector, SharedAnswers
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.guard.tokens.jwt_validator import Trusted
from bearerguard.guard.tokens.routing import RouteOpaque, Routing, check_routes
from bearerguard.guard.tokens.tenants import Tenants
from bearerguard.guard.tokens.token_cache import TokenCache
from bearerguard.runtime.flow import Flow

if TYPE_CHECKING:
    from bearerguard.guard.revocation.revocations import Revocations


class Trust:
    """The issuers of one guard."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        route_opaque: RouteOpaque | None,
        tokens: TokenCache,
        shared: SharedAnswers | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        events: Events,
        schedule: Callable[[KeyCache, float], None],
        max_token_bytes: int,
        revocations: Revocations | None = None,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._events = events
        self._schedule = schedule
        self._release = tokens.release
        tokens.on_set_back = self._unschedule
        self._issuers: dict[str, Trusted] = {
            issuer.url: (issuer, self._key_cache(issuer))
            for issuer in issuers
            if issuer.tenants is None
        }
        self._tenants = Tenants(
            [issuer for issuer in issuers if issuer.tenants is not None], self._key_cache
        )
        self._named = dict(self._issuers)
        for trusted in self._issuers.values():
            self._named |= dict.fromkeys(trusted[0].aliases, trusted)
        self.find: Callable[[str], Trusted | None] = self._named.get
        """Returns the issuer that is called exactly so, with its keys."""
        if any(issuer.tenants is not None for issuer in issuers):
            self.find = self._find
        self.urls = tuple(issuer.url for issuer in issuers)
        self._introspectors = {
            issuer.url: Introspector(
                issuer,
                issuer.introspection,
                keys,
                tokens,
                clock=clock,
                monotonic=monotonic,
                events=events,
                shared=shared,
                revocations=revocations,
            )
            for issuer, keys in self._issuers.values()
            if issuer.introspection is not None
        }
        # Guards that introspect nothing do not look for what is opaque.
        self.routing: Routing | None = None
        if self._introspectors:
            self.routing = Routing(
                tuple(self._introspectors.values()), route_opaque, max_token_bytes
            )

    def __repr__(self) -> str:
        return ", ".join(map(repr, self.urls))

    def named(self, name: str) -> str | None:
        """Return the url of the issuer, or of the allowed tenant, that goes by `name`.

        Raises `IssuerUnavailable` when the callable that allows tenants fails.
        """
        trusted = self._named.get(name)
        if trusted is not None:
            return trusted[0].url
        return name if self._tenants.allows(name) else None

    def _find(self, name: str) -> Trusted | None:
        return self._named.get(name) or self._tenants.find(name)

    def _key_cache(self, issuer: Issuer) -> KeyCache:
        """Return a new cache for the keys of an issuer."""
        return KeyCache(
            issuer,
            clock=self._clock,
            monotonic=self._monotonic,
            events=self._events,
            schedule=self._schedule,
            release=self._release,
        )

    def warming(self) -> Iterator[Flow[None]]:
        """Return what to do so that the first request need not wait."""
        for issuer, keys in self._issuers.values():
            if issuer.needs_keys:
                yield keys.warm()
        for introspector in self._introspectors.values():
            yield introspector.warm()

    def health(self) -> dict[str, Any]:
        """Return, ready for JSON, how each issuer's keys and introspection are."""
        trusted = [*self._issuers.values(), *self._tenants.all()]
        keys = {issuer.url: cache.health() for issuer, cache in trusted}
        asked = {url: each.health() for url, each in self._introspectors.items()}
        needed = [url for url, (issuer, _) in self._issuers.items() if issuer.needs_keys]
        return {
            "ok": all(keys[url].status in {"fresh", "static"} for url in needed)
            and all(health.status == "ok" for health in asked.values()),
            "issuers": {url: asdict(health) for url, health in keys.items()},
            "introspection": {url: asdict(health) for url, health in asked.items()},
        }

    def clear(self) -> None:
        """Forget what was refused, and that refreshes are planned."""
        for introspector in self._introspectors.values():
            introspector.clear()
        self._unschedule()

    def _unschedule(self) -> None:
        """Have the next use of any keys say anew when they are due."""
        for _, keys in [*self._issuers.values(), *self._tenants.all()]:
            keys.unschedule()


def check_issuers(issuers: Sequence[Issuer], route_opaque: RouteOpaque | None) -> None:
    """Raise `ConfigurationError` unless it is clear which issuer a token is to be asked of.

    They are issuers, at least one, each given once.
    """
    if not issuers:
        raise ConfigurationError("Guard(): pass at least one Issuer(url, audience=...)")
    seen: set[str] = set()
    for issuer in issuers:
        if not isinstance(issuer, Issuer):
            raise ConfigurationError(f"Guard(): pass Issuer objects, not {type(issuer).__name__}")
        if not seen.isdisjoint((issuer.url, *issuer.aliases)):
            raise ConfigurationError(
                f"Guard(): the issuer {quoted(issuer.url)} is given twice:"
                " one Issuer may have several audiences"
            )
        seen |= {issuer.url, *issuer.aliases}
    check_routes(issuers, route_opaque)
