"""The issuers that a guard trusts, tenants included, each with its keys and its introspector.

A token's `iss` selects its issuer, at the same cost for one issuer and for thousands. A
multi-tenant issuer is a pattern: each allowed tenant becomes an issuer with keys of its own when a
token of it arrives. `max_tenants` bounds how many are kept: unused ones are dropped, and their keys
are no longer refreshed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from bearerguard.errors import ConfigurationError, IssuerUnavailable, quoted
from bearerguard.guard import introspection, revocation
from bearerguard.guard.config.issuer import TENANT, TENANT_NAME, AllowedTenants, Issuer
from bearerguard.guard.config.scope_hierarchy import ScopeHierarchy
from bearerguard.guard.events import Events
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.guard.keys.refresher import Refreshable
from bearerguard.guard.token_cache import TokenCache
from bearerguard.guard.tokens.jwt_validator import IssuerKeys
from bearerguard.guard.tokens.routing import RouteOpaque, Routing, check_routes
from bearerguard.guard.tokens.status_lists import StatusLists
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.generations import Generations

if TYPE_CHECKING:
    from bearerguard.guard.binding.binding import Binding


class TrustedIssuers:
    """The issuers of one guard."""

    def __init__(
        self,
        issuers: Sequence[Issuer],
        *,
        route_opaque: RouteOpaque | None,
        tokens: TokenCache,
        shared: introspection.SharedCache | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        events: Events,
        schedule: Callable[[Refreshable, float], None],
        max_token_bytes: int,
        revocations: revocation.GuardRevocations | None = None,
        hierarchy: ScopeHierarchy | None = None,
        binding: Binding | None = None,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._events = events
        self._schedule = schedule
        self._forget_recent = tokens.forget_recent
        tokens.on_clock_set_back = self._unschedule
        self._issuers: dict[str, IssuerKeys] = {
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
        self.find: Callable[[str], IssuerKeys | None] = self._named.get
        """Returns the issuer with exactly this name, and its keys; None for an unknown one."""
        if any(issuer.tenants is not None for issuer in issuers):
            self.find = self._find
        self.urls: tuple[str, ...] = tuple(issuer.url for issuer in issuers)
        self._introspectors = {
            issuer.url: introspection.Introspector(
                issuer,
                issuer.introspection,
                keys,
                tokens,
                clock=clock,
                monotonic=monotonic,
                events=events,
                shared=shared,
                revocations=revocations,
                reader=introspection.ResponseReader(
                    issuer, issuer.introspection, hierarchy, binding
                ),
            )
            for issuer, keys in self._issuers.values()
            if issuer.introspection is not None
        }
        # Without status lists, a guard looks for no status.
        self.statuses: StatusLists | None = None
        if any(issuer.status_lists for issuer in issuers):
            self.statuses = StatusLists(
                self.find,
                revocations=revocations,
                clock=clock,
                monotonic=monotonic,
                events=events,
                schedule=schedule,
                on_shortened=tokens.forget_recent,
            )
        # Without introspection, a guard does not look for opaque tokens.
        self.routing: Routing | None = None
        if self._introspectors:
            self.routing = Routing(
                tuple(self._introspectors.values()), route_opaque, max_token_bytes
            )

    def __repr__(self) -> str:
        return ", ".join(map(repr, self.urls))

    def named(self, name: str) -> str | None:
        """Return the url of the issuer, or of the allowed tenant, that is called `name`.

        Raises `IssuerUnavailable` when the callable that allows tenants fails.
        """
        trusted = self._named.get(name)
        if trusted is not None:
            return trusted[0].url
        return name if self._tenants.allows(name) else None

    def configured(self, name: str) -> str | None:
        """Return the url of the configured issuer that `name` means: for a tenant, its pattern."""
        trusted = self._named.get(name)
        return self._tenants.pattern_of(name) if trusted is None else trusted[0].url

    def leeway(self, name: str | None) -> float:
        """Return the leeway for dates of this issuer's tokens, 0 for an unknown issuer's."""
        trusted = self._named.get(name or "")
        return self._tenants.leeway(name or "") if trusted is None else trusted[0].leeway

    def _find(self, name: str) -> IssuerKeys | None:
        return self._named.get(name) or self._tenants.find(name)

    def _key_cache(self, issuer: Issuer) -> KeyCache:
        """Return a new cache for the keys of an issuer."""
        return KeyCache(
            issuer,
            clock=self._clock,
            monotonic=self._monotonic,
            events=self._events,
            schedule=self._schedule,
            on_shortened=self._forget_recent,
        )

    def warming(self) -> Iterator[Flow[None]]:
        """Return the flows that fetch keys and metadata ahead of the first request."""
        for issuer, keys in self._issuers.values():
            if issuer.needs_keys:
                yield keys.warm()
        for introspector in self._introspectors.values():
            yield introspector.warm()

    def health(self) -> dict[str, Any]:
        """Return the state of each issuer's keys, introspection and status lists, for JSON."""
        keys = {issuer.url: cache.health() for issuer, cache in self._issuers.values()}
        tenants = {
            issuer.url: replace(cache.health(), tenant_of=self._tenants.pattern_of(issuer.url))
            for issuer, cache in self._tenants.all()
        }
        asked = {url: each.health() for url, each in self._introspectors.items()}
        lists = {} if self.statuses is None else self.statuses.health()
        for _, cache in self._issuers.values():
            cache.plan_fetch()
        return {
            # Requests probe an introspection endpoint that is down, so they must go on arriving.
            "ready": all(health.ready for health in keys.values()),
            "fresh": all(health.fresh for health in keys.values())
            and all(health.fresh for health in asked.values())
            and all(health.fresh for health in lists.values()),
            "issuers": {url: asdict(health) for url, health in (keys | tenants).items()},
            "introspection": {url: asdict(health) for url, health in asked.items()},
            "status_lists": {uri: asdict(health) for uri, health in lists.items()},
        }

    def clear(self) -> None:
        """Forget refusals, and that refreshes are planned."""
        for introspector in self._introspectors.values():
            introspector.clear()
        self._unschedule()

    def _unschedule(self) -> None:
        """Make the next use of any keys, or of a status list, plan their refresh again."""
        for _, keys in [*self._issuers.values(), *self._tenants.all()]:
            keys.unschedule()
        if self.statuses is not None:
            self.statuses.unschedule()


class Tenants:
    """The tenants of all patterns of a guard. `key_cache` makes the key cache of an issuer."""

    def __init__(self, patterns: Sequence[Issuer], key_cache: Callable[[Issuer], KeyCache]) -> None:
        self._patterns = [
            (_expression(issuer.url), issuer, _allowed(issuer.tenants)) for issuer in patterns
        ]
        self._key_cache = key_cache
        self._held = {
            issuer.url: Generations[str, IssuerKeys](issuer.max_tenants, on_drop=_retire)
            for issuer in patterns
        }

    def find(self, name: str) -> IssuerKeys | None:
        """Return the issuer called `name`, if it is an allowed tenant of a pattern.

        This is checked for each token that is not cached, so that a tenant can be removed while
        the guard runs. Raises `IssuerUnavailable` when the callable that allows tenants fails.
        """
        matched = self._match(name)
        return None if matched is None else self._tenant(matched[0], name, matched[1])

    def allows(self, name: str) -> bool:
        """Whether `name` is an allowed tenant of a pattern; raises as `find` does."""
        return self._match(name) is not None

    def pattern_of(self, name: str) -> str | None:
        """Return the url of the first pattern that `name` fits, whether it is allowed or not."""
        fits = (pattern.url for found, pattern, _ in self._patterns if found.fullmatch(name))
        return next(fits, None)

    def leeway(self, name: str) -> float:
        """Return the leeway of the first pattern that `name` fits, 0 for none."""
        fits = (pattern.leeway for found, pattern, _ in self._patterns if found.fullmatch(name))
        return next(fits, 0)

    def all(self) -> list[IssuerKeys]:
        """Return the tenants that are kept now."""
        return [trusted for held in self._held.values() for trusted in held.values()]

    def _match(self, name: str) -> tuple[Issuer, str] | None:
        """Return the first pattern that `name` is an allowed tenant of, and the tenant."""
        for expression, pattern, allowed in self._patterns:
            match = expression.fullmatch(name)
            if match is not None and _is_allowed(pattern, allowed, match[1]):
                return pattern, match[1]
        return None

    def _tenant(self, pattern: Issuer, name: str, tenant: str) -> IssuerKeys:
        held = self._held[pattern.url]
        trusted = held.get(name)
        if trusted is None:
            issuer = of_tenant(pattern, tenant)
            trusted = (issuer, self._key_cache(issuer))
            held.put(name, trusted)
        return trusted


def of_tenant(pattern: Issuer, tenant: str) -> Issuer:
    """Return the issuer of one tenant."""
    places = {
        name: place.replace(TENANT, tenant)
        for name in ("url", "jwks_uri", "discovery_url")
        if (place := getattr(pattern, name)) is not None
    }
    lists = [each.replace(TENANT, tenant) for each in pattern.status_lists]
    return replace(pattern, tenants=None, status_lists=lists, **places)


def _allowed(tenants: AllowedTenants | None) -> Callable[[str], bool]:
    return tenants if callable(tenants) else frozenset(tenants or ()).__contains__


def _is_allowed(pattern: Issuer, allowed: Callable[[str], bool], tenant: str) -> bool:
    try:
        return allowed(tenant) is True
    except Exception as error:  # not the fault of the token
        cause = f"tenants= raised {type(error).__name__}"
        raise IssuerUnavailable(pattern.url, 1, cause) from error


def _expression(url: str) -> re.Pattern[str]:
    before, _, after = url.partition(TENANT)
    return re.compile(f"{re.escape(before)}({TENANT_NAME}){re.escape(after)}")


def _retire(trusted: IssuerKeys) -> None:
    trusted[1].retire()


def check_issuers(issuers: Sequence[Issuer], route_opaque: RouteOpaque | None) -> None:
    """Raise `ConfigurationError` unless a guard can use these issuers.

    There must be at least one, each given once, and `route_opaque` if several introspect.
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
