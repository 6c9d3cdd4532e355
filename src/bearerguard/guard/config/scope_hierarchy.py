"""Scopes that imply others: `Guard(implies={"admin": ["read", "write"]})`.

Applied once to each verified token, whose principal then has the scopes of the token and, apart
from them, the effective ones. Requirements are compared with these as they are declared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.names import names
from bearerguard.principal import Principal, shared
from bearerguard.protocol.scope import is_scope_token

Implies: TypeAlias = Mapping[str, str | Sequence[str]]
"""A scope, and what it implies: a scope or several, which may imply others."""

_REMEDY = 'pass a dict such as {"admin": ["read", "write"]}: a scope, and those that it implies'


class ScopeHierarchy:
    """Which scopes each scope implies, transitively.

    Raises `ConfigurationError` for anything but scopes, and for scopes that imply each other.
    """

    def __init__(self, implies: object) -> None:
        if not isinstance(implies, Mapping):
            raise ConfigurationError(f"implies=: {_REMEDY}")
        direct = {_scope(name): _several(name, given) for name, given in implies.items()}
        self._implied: dict[str, frozenset[str]] = {}
        for name in direct:
            self._close(name, direct, ())

    def effective(self, scopes: frozenset[str]) -> frozenset[str]:
        """Return scopes and all that they imply."""
        if self._implied.keys().isdisjoint(scopes):
            return scopes
        # Tokens have few different sets of scopes, and share them.
        return shared(scopes.union(*(self._implied.get(each, ()) for each in scopes)))

    def applied_to(self, principal: Principal) -> Principal:
        """Return a principal with the effective scopes of its token; itself if they are those."""
        return principal.with_effective_scopes(self.effective(principal.scopes))

    def _close(
        self, name: str, direct: Mapping[str, tuple[str, ...]], above: tuple[str, ...]
    ) -> frozenset[str]:
        """Return what a scope implies; `above` are the scopes that led to it."""
        if name in above:
            cycle = " -> ".join(map(quoted, (*above[above.index(name) :], name)))
            raise ConfigurationError(
                f"implies=: a scope implies itself, {cycle}: remove one of them"
            )
        if name not in self._implied and name in direct:
            below = [self._close(each, direct, (*above, name)) for each in direct[name]]
            self._implied[name] = frozenset(direct[name]).union(*below)
        return self._implied.get(name, frozenset())


def _several(name: object, given: object) -> tuple[str, ...]:
    return tuple(map(_scope, names("implies", given, f"{quoted(name)} implies nothing: {_REMEDY}")))


def _scope(name: object) -> str:
    if not isinstance(name, str) or not is_scope_token(name):
        raise ConfigurationError(
            f"implies=: {quoted(name)} is no scope: it is printable ASCII without space, quote or"
            f" backslash (RFC 6749 §3.3): {_REMEDY}"
        )
    return name
