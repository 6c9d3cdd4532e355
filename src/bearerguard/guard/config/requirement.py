"""What an operation requires of its caller, as a value: `scopes("read") & role("admin")`.

A requirement is a list of alternatives, each a list of conditions in the order written, so that
a refusal can name one alternative in full (RFC 6750 §3.1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple, Protocol

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.principal import Principal
from bearerguard.protocol import scope
from bearerguard.protocol.jose.jwt import MAX_FUTURE
from bearerguard.runtime.reporting.durations import in_words

# Each & multiplies the alternatives; more than this is a task for a policy language.
_MAX_ALTERNATIVES = 64
# Many issuers leave these claims out of access tokens: every login would be too old.
_SEND = " (the issuer must send it in access tokens)"
# How many of them a log line names.
_MAX_NAMED = 4


class Moment(NamedTuple):
    """When a requirement is decided: `now` in Unix seconds, `leeway` in seconds."""

    now: float
    leeway: float = 0


class Condition(Protocol):
    """One condition that a principal meets or does not.

    Only the age of a login depends on the moment. Without one it counts as too old: whoever does
    not know the time must ask again with it.
    """

    @property
    def text(self) -> str:
        """What it requires, for log lines."""
        ...

    def met_by(self, principal: Principal, at: Moment | None) -> bool:
        """Whether the principal meets it."""
        ...

    def found_in(self, principal: Principal, at: Moment | None) -> str:
        """What the principal has instead, for log lines."""
        ...


@dataclass(frozen=True, slots=True)
class _Named:
    """What a scope and a role have in common; those of different classes are never equal."""

    name: str


class _Scope(_Named):
    __slots__ = ()

    @property
    def text(self) -> str:
        return f"scope {quoted(self.name)}"

    def met_by(self, principal: Principal, at: Moment | None) -> bool:  # noqa: ARG002 - as the base class has it
        return self.name in principal.effective_scopes

    def found_in(self, principal: Principal, at: Moment | None) -> str:  # noqa: ARG002 - as the base class has it
        return f"scopes {quoted(sorted(principal.scopes))}"


class _Role(_Named):
    __slots__ = ()

    @property
    def text(self) -> str:
        return f"role {quoted(self.name)}"

    def met_by(self, principal: Principal, at: Moment | None) -> bool:  # noqa: ARG002 - as the base class has it
        return self.name in principal.roles

    def found_in(self, principal: Principal, at: Moment | None) -> str:  # noqa: ARG002 - as the base class has it
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

    def found_in(self, principal: Principal, at: Moment | None) -> str:  # noqa: ARG002 - as the base class has it
        if principal.claims.get(self.name) is not None:
            return f"another {quoted(self.name)}"
        return f"claims {quoted(sorted(principal.claims))}"

    def met_by(self, principal: Principal, at: Moment | None) -> bool:  # noqa: ARG002 - as the base class has it
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


@dataclass(frozen=True, slots=True)
class _Acr:
    """The login was one of these authentication contexts, the preferred first (RFC 9470 §3)."""

    values: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"a login by {' or '.join(quoted(each) for each in self.values)}"

    def met_by(self, principal: Principal, at: Moment | None) -> bool:  # noqa: ARG002 - as the base class has it
        return principal.acr in self.values

    def found_in(self, principal: Principal, at: Moment | None) -> str:  # noqa: ARG002 - as the base class has it
        return f"no acr{_SEND}" if principal.acr is None else f"acr {quoted(principal.acr)}"


@dataclass(frozen=True, slots=True)
class _LoginAge:
    """The login is at most this many seconds old (RFC 9470 §3)."""

    max_age: int

    @property
    def text(self) -> str:
        return f"a login at most {self.max_age} s old"

    def met_by(self, principal: Principal, at: Moment | None) -> bool:
        if principal.auth_time is None or at is None:
            return False
        # A login in the future would stay recent for as long as it is.
        age = at.now - principal.auth_time
        return -MAX_FUTURE <= age <= self.max_age + at.leeway

    def found_in(self, principal: Principal, at: Moment | None) -> str:
        if principal.auth_time is None:
            return f"no auth_time{_SEND}"
        if at is None:
            return "a login of some age"
        age = at.now - principal.auth_time
        return f"a login {in_words(age)} old" if age >= 0 else "a login in the future"


Alternative = tuple[Condition, ...]


class Obtainable(NamedTuple):
    """What a client can obtain so that its next token suffices: other scopes, another login.

    Attributes:
        scope: all scopes that the operation needs, if the token lacks any of them.
        acr_values: the authentication contexts of which one is needed, if the login does not
            suffice.
        max_age: the maximum age of the login in seconds, if the login does not suffice.
    """

    scope: str | None = None
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None

    @property
    def needs_login(self) -> bool:
        """Whether another login is needed, besides other scopes or without."""
        return bool(self.acr_values) or self.max_age is not None


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a request requires of its token.

    Made by `scopes`, `role`, `claim` and `step_up`, and combined by `&` and `|`.

    Attributes:
        alternatives: lists of conditions; all of one list must be met.
        depends_on_time: whether a principal may meet it now and not later, though its token is
            valid.
    """

    alternatives: tuple[Alternative, ...]
    depends_on_time: bool = field(init=False, repr=False, compare=False)
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
        timed = any(isinstance(each, _LoginAge) for one in self.alternatives for each in one)
        object.__setattr__(self, "depends_on_time", timed)

    def __and__(self, other: Requirement) -> Requirement:
        """Require both; an alternative that demands all of another one and more is left out."""
        return Requirement(
            _without_excess(
                _joined(left, right)
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

    def met_by(self, principal: Principal, at: Moment | None = None) -> bool:
        """Whether the principal meets all conditions of one alternative.

        Without the moment, every login counts as too old for `step_up(max_age=)`; `Guard.meets`
        knows it.
        """
        if self._scopes is not None:
            return self._scopes <= principal.effective_scopes
        for alternative in self.alternatives:
            for condition in alternative:
                if not condition.met_by(principal, at):
                    break
            else:
                return True
        return False

    def obtainable(self, principal: Principal, at: Moment | None = None) -> Obtainable | None:
        """Return what would suffice by the first alternative that scopes or a login can meet.

        Scopes and login are named in full, as declared: not scopes that imply them, since a client
        need not ask for more. None means that a role or a claim is lacking in every alternative.
        """
        for alternative in self.alternatives:
            lacking = [each for each in alternative if not each.met_by(principal, at)]
            if all(isinstance(condition, _OBTAINABLE) for condition in lacking):
                lacks_scope = any(isinstance(condition, _Scope) for condition in lacking)
                named = _scope_of(alternative) if lacks_scope else None
                if all(isinstance(condition, _Scope) for condition in lacking):
                    return Obtainable(named)
                acr = next((each.values for each in alternative if isinstance(each, _Acr)), ())
                ages = (each.max_age for each in alternative if isinstance(each, _LoginAge))
                return Obtainable(named, acr, next(ages, None))
        return None

    def unmet_by(self, principal: Principal, at: Moment | None = None) -> tuple[str, str]:
        """Return two texts for log lines: what a principal lacks, and what it has instead.

        The first four alternatives are named. Claims are named without their values.
        """
        lacks, has = dict[str, None](), dict[str, None]()
        for alternative in self.alternatives:
            lacking = [each for each in alternative if not each.met_by(principal, at)]
            lacks[" and ".join(each.text for each in lacking)] = None
            has.update(dict.fromkeys(each.found_in(principal, at) for each in lacking))
        named = [*lacks][:_MAX_NAMED]
        more = [f"{len(lacks) - _MAX_NAMED} others"] if len(lacks) > _MAX_NAMED else []
        return " or ".join([*named, *more]), " and ".join([*has][:_MAX_NAMED])

    def advertised_scope(self) -> str | None:
        """Return the scopes for the challenge to a request without a token, or None.

        They are those of the first alternative that needs no role or claim, else those of the
        first alternative.
        """
        for alternative in self.alternatives:
            if all(isinstance(condition, _OBTAINABLE) for condition in alternative):
                return _scope_of(alternative)
        return _scope_of(self.alternatives[0])


# What another token of the same user may have.
_OBTAINABLE = (_Scope, _Acr, _LoginAge)


def _joined(left: Alternative, right: Alternative) -> Alternative:
    """Return all conditions of both; of a login they are one, as a challenge names only one."""
    conditions = tuple(dict.fromkeys(left + right))
    ages = [each for each in conditions if isinstance(each, _LoginAge)]
    contexts = [each for each in conditions if isinstance(each, _Acr)]
    if len(ages) > 1:
        conditions = _with_one(conditions, ages, _LoginAge(min(each.max_age for each in ages)))
    if len(contexts) > 1:
        first, second = contexts
        both = tuple(each for each in first.values if each in second.values)
        if not both:
            raise ConfigurationError(
                f"step_up(acr=): {first.text} and {second.text} are both required, and a login has"
                " one acr: name in each what meets both"
            )
        conditions = _with_one(conditions, contexts, _Acr(both))
    return conditions


def _with_one(conditions: Alternative, many: Sequence[Condition], one: Condition) -> Alternative:
    return tuple(dict.fromkeys(one if each in many else each for each in conditions))


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
    return scope.build(name for name in names if name != scope.OFFLINE_ACCESS) or None


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


def step_up(*, acr: str | Sequence[str] = (), max_age: int | None = None) -> Requirement:
    """Require a login of a certain kind, or a recent one (RFC 9470).

    A request whose token does not show such a login gets a 401 with the error code
    `insufficient_user_authentication`, `acr_values` and `max_age`, so that the client has the user
    log in again. A token without `acr` or without `auth_time` shows none. The age is compared at
    each request, with the leeway of the token's issuer.

    Args:
        acr: the authentication contexts of which one suffices, the preferred first, as the issuer
            names them in the claim `acr`.
        max_age: the maximum age of the login in seconds, at least 1.

    Raises:
        ConfigurationError: neither is given, or one is malformed.
    """
    given: Any = acr
    is_list = isinstance(given, Iterable) and not isinstance(given, str)
    values: tuple[Any, ...] = tuple(given) if is_list else (given,)
    if not all(isinstance(each, str) and scope.is_scope_token(each) for each in values):
        raise ConfigurationError(
            f"step_up(acr={acr!r}): pass a name, or a list of names: each is printable ASCII"
            " without space, quote or backslash, as acr_values separates them by spaces"
        )
    if max_age is not None and (type(max_age) is not int or max_age < 1):
        raise ConfigurationError(
            f"step_up(max_age={max_age!r}): pass whole seconds, at least 1 (RFC 9470 §3)"
        )
    if not values and max_age is None:
        raise ConfigurationError("step_up(): pass acr=, max_age= or both")
    contexts: Alternative = (_Acr(tuple(dict.fromkeys(values))),) if values else ()
    ages: Alternative = () if max_age is None else (_LoginAge(max_age),)
    return Requirement((contexts + ages,))


def combined(*requirements: Requirement | None) -> Requirement | None:
    """Combine requirements with `&`, leaving out None; None if nothing is left."""
    result: Requirement | None = None
    for requirement in requirements:
        if requirement is not None:
            result = requirement if result is None else result & requirement
    return result
