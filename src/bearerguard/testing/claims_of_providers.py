"""Puts claims where a provider has them: the reverse of a guard's `ClaimMapping`.

A test asks for scopes and roles, and gets a token with the claims that the API reads them from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bearerguard.guard.config.claim_mapping import ClaimMapping, value_at

# The claims that hold scopes as one text (RFC 8693 §4.2, Entra); all others are lists.
_TEXTS = frozenset({"scope", "scp"})
_DATES = frozenset({"auth_time", "iat", "nbf"})


def as_issued(claims: Mapping[str, Any], mapping: ClaimMapping, now: float) -> dict[str, Any]:
    """Return standard claims under the names that `mapping` reads, with those that it requires.

    `now` is in Unix seconds. A required claim that may have any value is "test".
    """
    issued = dict(claims)
    scope, roles = issued.get("scope"), issued.get("roles")
    if mapping.scopes:
        del issued["scope"]
        if scope is not None:
            path = mapping.scopes[0]
            _put(issued, path, scope if path in _TEXTS else scope.split())
    if mapping.roles:
        issued.pop("roles")
        if roles is not None:
            _put(issued, mapping.roles[0], roles)
    if mapping.client:
        _put(issued, mapping.client[0], issued.pop("client_id"))
    if mapping.audience != "aud":
        issued[mapping.audience] = issued.pop("aud")
    for path, values in mapping.required_values.items():
        if value_at(issued, path) is None:
            default = int(now) if path in _DATES else "test"
            _put(issued, path, default if values is None else values[0])
    return issued


def _put(claims: dict[str, Any], path: str, value: Any) -> None:
    """Set the claim at a path such as `realm_access.roles`, adding to a list that is there."""
    *outer, name = _names(path)
    for each in outer:
        claims = claims.setdefault(each, {})
    present = claims.get(name)
    claims[name] = [*present, *value] if isinstance(present, list) else value


def _names(path: str) -> list[str]:
    """Split a path; the name of a claim may be a URL, whose dots separate nothing."""
    return [path] if "://" in path else path.split(".")
