"""Issuers with many tenants: one pattern, and an issuer with keys of its own for each tenant.

A tenant is known when its token comes, if it is allowed. A bounded number is held: those that
nobody uses go, and their keys are no longer refreshed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from bearerguard.errors import IssuerUnavailable
from bearerguard.guard.config.issuer import TENANT, TENANT_NAME, AllowedTenants, Issuer
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.guard.tokens.jwt_validator import Trusted
from bearerguard.runtime.generations import Generations


class Tenants:
    """The tenants of all patterns of a guard. `key_cache` makes the keys of an issuer."""

    def __init__(self, patterns: Sequence[Issuer], key_cache: Callable[[Issuer], KeyCache]) -> None:
        self._patterns = [
            (_expression(issuer.url), issuer, _allowed(issuer.tenants)) for issuer in patterns
        ]
        self._key_cache = key_cache
        self._held = {
            issuer.url: Generations[str, Trusted](issuer.max_tenants, on_drop=_retire)
            for issuer in patterns
        }

    def find(self, name: str) -> Trusted | None:
        """Return the issuer called `name`, if it is an allowed tenant of a pattern.

        Whether it is allowed is asked anew for each token that was not seen before, so that a
        customer who is gone is gone. Raises `IssuerUnavailable` when the callable that allows
        tenants fails.
        """
        matched = self._match(name)
        return None if matched is None else self._tenant(matched[0], name, matched[1])

    def allows(self, name: str) -> bool:
        """Whether `name` is an allowed tenant of a pattern; raises as `find` does."""
        return self._match(name) is not None

    def all(self) -> list[Trusted]:
        """Return the tenants held now."""
        return [trusted for held in self._held.values() for trusted in held.values()]

    def _match(self, name: str) -> tuple[Issuer, str] | None:
        """Return the first pattern that `name` is an allowed tenant of, and the tenant."""
        for expression, pattern, allowed in self._patterns:
            match = expression.fullmatch(name)
            if match is not None and _is_allowed(pattern, allowed, match[1]):
                return pattern, match[1]
        return None

    def _tenant(self, pattern: Issuer, name: str, tenant: str) -> Trusted:
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
    return replace(pattern, tenants=None, **places)


def _allowed(tenants: AllowedTenants | None) -> Callable[[str], bool]:
    return tenants if callable(tenants) else frozenset(tenants or ()).__contains__


def _is_allowed(pattern: Issuer, allowed: Callable[[str], bool], tenant: str) -> bool:
    try:
        return allowed(tenant) is True
    except Exception as error:  # whatever it does is not the token's fault
        cause = f"tenants= raised {type(error).__name__}"
        raise IssuerUnavailable(pattern.url, 1, cause) from error


def _expression(url: str) -> re.Pattern[str]:
    before, _, after = url.partition(TENANT)
    return re.compile(f"{re.escape(before)}({TENANT_NAME}){re.escape(after)}")


def _retire(trusted: Trusted) -> None:
    trusted[1].retire()
