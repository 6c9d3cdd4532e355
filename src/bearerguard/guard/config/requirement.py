"""What an operation requires of its caller, as a value: `scopes("read") & role("admin")`.

A requirement is a list of alternatives, each a list of conditions in the order written, so that
a refusal can name one alternative in full (RFC 6750 §3.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.principal import Principal
from bearerguard.protocol import scope

# Each & multiplies the alternatives; more than this is a task for a policy language.
_MAX_ALTERNATIVES = 64
# How many of them a log line names.
_MAX_NAMED = 4


class Condition(Protocol):
    """One condition that a principal meets or does not."""

    @property
    def text(self) -> str:
        """What it requires, for log lines."""
        ...

    def met_by(self, principal: Principal) -> bool:
        """Whether the principal meets it."""
        ...

    def found_in(self, principal: Principal) -> str:
        """What the principal has instead, for log lines."""
        ...


@dataclass(frozen=True, slots=True)
class _Scope:
    name: str

    @property
    def text(self) -> str:
        return f"scope {quoted(self.name)}"

    def met_by(self, principal: Principal) -> bool:
        return self.name in principal.scopes

    def found_in(self, principal: Principal) -> str:
        return f"scopes {quoted(sorted(principal.scopes))}"


@dataclass(frozen=True, slots=True)
class _Role:
    name: str

    @property
    def text(self) -> str:
        return f"role {quoted(self.name)}"

    def met_by(self, principal: Principal) -> bool:
        return self.name in principal.roles

    def found_in(self, principal: Principal) -> str:
        return f"roles {quoted(sorted(principal.roles))}"


@dataclass(frozen=True, slots=True)
class _Claim:
    name: str
    values: tuple[Any, ...] = field(repr=False)

    @property
    def text(self) -> str:
        # Values may be names of people or customers: they are not logged.
        wanted = " of a certain value" if self.values else ""
        return f"claim {quoted(self.name)}{wanted}"

    def found_in(self, principal: Principal) -> str:
        if principal.claims.get(self.name) is not None:
            return f"another {quoted(self.name)}"
        return f"claims {quoted(sorted(principal.claims))}"

    def met_by(self, principal: Principal) -> bool:
        if self.name not in principal.claims:
            return False
        found = principal.claims[self.name]
        if not self.values:
            return found is not None
        members = found if isinstance(found, tuple) else (found,)
        return any(_same(member, value) for member in members for value in self.values)


def _same(found: object, value: object) -> bool:
    # In JSON true is not a number; in Python it equals 1.
    return isinstance(found, bool) is isinstance(value, bool) and found == value


Alternative = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a request requires of its token: made by `scopes`, `role`, `claim`, `&` and `|`."""

    alternatives: tuple[Alternative, ...]
    _scopes: frozenset[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.alternatives) > _MAX_ALTERNATIVES:
            raise ConfigurationError(
                f"a requirement has more than {_MAX_ALTERNATIVES} alternatives:"
                " decide this in the route itself"
            )
        only = self.alternatives[0] if len(self.alternatives) == 1 else ()
        names = [condition.name for condition in only if isinstance(condition, _Scope)]
        plain = len(self.alternatives) == 1 and len(names) == len(only)
        object.__setattr__(self, "_scopes", frozenset(names) if plain else None)

    def __and__(self, other: Requirement) -> Requirement:
        """Require both; an alternative that demands all of another one and more is left out."""
        return Requirement(
            _without_excess(
                tuple(dict.fromkeys(left + right))
                for left, right in product(self.alternatives, other.alternatives)
            )
        )

    def __or__(self, other: Requirement) -> Requirement:
        """Require either; a refusal names the first alternative that more scopes would meet."""
        return Requirement(tuple(dict.fromkeys(self.alternatives + other.alternatives)))

    def __bool__(self) -> bool:
        """Raise `TypeError`: `and`, `or` and `not` would silently drop one side."""
        raise TypeError("combine requirements with & and |, not with `and`, `or` or `not`")

    def __str__(self) -> str:
        """Describe what is required: at most four alternatives; of claims, only the names."""
        named = [" and ".join(each.text for each in one) for one in self.alternatives[:_MAX_NAMED]]
        left_out = len(self.alternatives) - _MAX_NAMED
        return " or ".join([*named, *([f"{left_out} others"] if left_out > 0 else [])])

    def met_by(self, principal: Principal) -> bool:
        """Whether the principal meets all conditions of one alternative."""
        if self._scopes is not None:
            return self._scopes <= principal.scopes
        return any(
            all(condition.met_by(principal) for condition in alternative)
            for alternative in self.alternatives
        )

    def lacking_scope(self, principal: Principal) -> str | None:
        """Return the scopes that would suffice, separated by spaces, or None.

        They are all scopes of the first alternative of which the principal lacks only scopes. None
        means that the principal lacks a role or a claim in every alternative.
        """
        for alternative in self.alternatives:
            lacking = [each for each in alternative if not each.met_by(principal)]
            if all(isinstance(condition, _Scope) for condition in lacking):
                return _scope_of(alternative)
        return None

    def unmet_by(self, principal: Principal) -> tuple[str, str]:
        """Return two texts for log lines: what a principal lacks, and what it has instead.

        The first four alternatives are named. Claims are named without their values.
        """
        lacks, has = dict[str, None](), dict[str, None]()
        for alternative in self.alternatives:
            lacking = [each for each in alternative if not each.met_by(principal)]
            lacks[" and ".join(each.text for each in lacking)] = None
            has.update(dict.fromkeys(each.found_in(principal) for each in lacking))
        named = [*lacks][:_MAX_NAMED]
        more = [f"{len(lacks) - _MAX_NAMED} others"] if len(lacks) > _MAX_NAMED else []
        return " or ".join([*named, *more]), " and ".join([*has][:_MAX_NAMED])

    def advertised_scope(self) -> str | None:
        """Return the scopes for the challenge to a request without a token, or None.

        They are those of the first alternative that consists of scopes only, else those of the
        first alternative.
        """
        for alternative in self.alternatives:
            if all(isinstance(condition, _Scope) for condition in alternative):
                return _scope_of(alternative)
        return _scope_of(self.alternatives[0])


def _without_excess(alternatives: Iterable[Alternative]) -> tuple[Alternative, ...]:
    """Leave out what could be left out: `(a | b) & (a | b)` is `a | b`.

    A router and its route often have the same requirement.
    """
    kept: dict[int, frozenset[Condition]] = {}
    numbered = dict(enumerate(alternatives))
    for number, one in sorted(numbered.items(), key=lambda each: len(each[1])):
        conditions = frozenset(one)
        if len(kept) <= _MAX_ALTERNATIVES and not any(
            fewer <= conditions for fewer in kept.values()
        ):
            kept[number] = conditions
    return tuple(numbered[number] for number in sorted(kept))


def _scope_of(alternative: Alternative) -> str | None:
    names = [condition.name for condition in alternative if isinstance(condition, _Scope)]
    return scope.build(names) or None


def scopes(*names: str) -> Requirement:
    """Require all of these scopes; raises `ConfigurationError` for a malformed scope-token."""
    for name in names:
        if callable(name):
            raise ConfigurationError(
                "scopes(): this is a function, not a scope: name the scopes of a decorator, as in"
                ' @require_scopes("read")'
            )
        if not isinstance(name, str) or not scope.is_scope_token(name):
            raise ConfigurationError(
                f"scopes({name!r}): a scope is printable ASCII without space, quote or backslash"
                " (RFC 6749 §3.3): pass each scope as its own argument"
            )
    if not names:
        raise ConfigurationError("scopes(): name at least one scope")
    return Requirement((tuple(_Scope(name) for name in dict.fromkeys(names)),))


def role(name: str) -> Requirement:
    """Require a role."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"role({name!r}): pass the role's name")
    return Requirement(((_Role(name),),))


def claim(name: str, *values: str | float | bool) -> Requirement:
    """Require a claim; with `values`, that it equals one of them or is an array with one."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"claim({name!r}): pass the claim's name")
    return Requirement(((_Claim(name, values),),))


def combined(*requirements: Requirement | None) -> Requirement | None:
    """Combine requirements with `&`, leaving out None; None if nothing is left."""
    result: Requirement | None = None
    for requirement in requirements:
        if requirement is not None:
            result = requirement if result is None else result & requirement
    return result
