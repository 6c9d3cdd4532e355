"""What an operation requires of its caller, as a value: `scopes("read") & role("admin")`.

A requirement is kept as its alternatives, each a conjunction of conditions in the order
written, so that a refusal can name one alternative in full (RFC 6750 §3.1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.principal import Principal
from bearerguard.protocol import scope

# Each & of alternatives multiplies them; more than this is a policy language's job.
_MAX_ALTERNATIVES = 64
# How many of them a log line names.
_MAX_NAMED = 4


class Condition(Protocol):
    """One thing that a principal has or lacks."""

    @property
    def text(self) -> str:
        """What it demands, for operators."""
        ...

    def met_by(self, principal: Principal) -> bool:
        """Whether the principal has it."""
        ...

    def found_in(self, principal: Principal) -> str:
        """What the principal has of its kind, for operators."""
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
        # Values may be names of people or customers, the token's and the wanted ones.
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
    # JSON's true is no number, Python's is.
    return isinstance(found, bool) is isinstance(value, bool) and found == value


Alternative = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement; combine with `&` and `|`. Make one with `scopes`, `role` or `claim`."""

    alternatives: tuple[Alternative, ...]
    _scopes: frozenset[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.alternatives) > _MAX_ALTERNATIVES:
            raise ConfigurationError(
                f"a requirement has more than {_MAX_ALTERNATIVES} alternatives:"
                " decide that much in the route itself"
            )
        only = self.alternatives[0] if len(self.alternatives) == 1 else ()
        names = [condition.name for condition in only if isinstance(condition, _Scope)]
        plain = len(self.alternatives) == 1 and len(names) == len(only)
        object.__setattr__(self, "_scopes", frozenset(names) if plain else None)

    def __and__(self, other: Requirement) -> Requirement:
        """Demand both."""
        return Requirement(
            tuple(
                tuple(dict.fromkeys(left + right))
                for left, right in product(self.alternatives, other.alternatives)
            )
        )

    def __or__(self, other: Requirement) -> Requirement:
        """Accept either; the first written is the one that a refusal names."""
        return Requirement(tuple(dict.fromkeys(self.alternatives + other.alternatives)))

    def __bool__(self) -> bool:
        """Refuse `and`, `or` and `not`, which would drop one side silently."""
        raise TypeError("combine requirements with & and |, not with `and`, `or` or `not`")

    def met_by(self, principal: Principal) -> bool:
        """Whether the principal satisfies one alternative whole."""
        if self._scopes is not None:
            return self._scopes <= principal.scopes
        return any(
            all(condition.met_by(principal) for condition in alternative)
            for alternative in self.alternatives
        )

    def lacking_scope(self, principal: Principal) -> str | None:
        """Return the scopes to ask for: those of the first alternative that lacks only scopes.

        All of that alternative's scopes are named, in the order written; None when
        something that is no scope is lacking in every alternative.
        """
        for alternative in self.alternatives:
            lacking = [each for each in alternative if not each.met_by(principal)]
            if all(isinstance(condition, _Scope) for condition in lacking):
                return _scope_of(alternative)
        return None

    def unmet_by(self, principal: Principal) -> tuple[str, str]:
        """Return in words, for operators, what a principal lacks, and what it has instead.

        Of several alternatives each is named. Names alone are told of claims, no values.
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
        """Return the scopes to name to a caller without a token, or None when there are none.

        Those of the first alternative that consists of scopes, else of the first at all.
        """
        for alternative in self.alternatives:
            if all(isinstance(condition, _Scope) for condition in alternative):
                return _scope_of(alternative)
        return _scope_of(self.alternatives[0])


def _scope_of(alternative: Alternative) -> str | None:
    names = [condition.name for condition in alternative if isinstance(condition, _Scope)]
    return scope.build(names) or None


def scopes(*names: str) -> Requirement:
    """Require all of these scopes. Raises `ConfigurationError` for a misspelt one."""
    for name in names:
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
    """Require a claim: present, or equal to (as an array: containing) one of `values`."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"claim({name!r}): pass the claim's name")
    return Requirement(((_Claim(name, values),),))


def combined(*requirements: Requirement | None) -> Requirement | None:
    """Combine with `&` what is there; None when nothing is."""
    result: Requirement | None = None
    for requirement in requirements:
        if requirement is not None:
            result = requirement if result is None else result & requirement
    return result
