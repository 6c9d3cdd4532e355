"""Who is calling: the bearer of a validated token.

Everything here is immutable at every depth: one principal is shared by many requests.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Hashable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

H = TypeVar("H", bound=Hashable)
C = TypeVar("C", bound="Claims")
P = TypeVar("P", bound="Principal")

# Values are set by `__new__`, once: an `__init__` could be called again.
_new = object.__new__

# Member names of larger objects are not shared between tokens.
_MAX_NAMES = 64


class Claims(Mapping[str, Any]):
    """A token's claims, immutable at every depth: objects read as `Claims`, arrays as tuples."""

    # Names and values apart: tokens of one issuer have the same names, and share them.
    __slots__ = ("_names", "_values")
    _names: tuple[str, ...]
    _values: tuple[Any, ...]

    def __new__(cls, members: Mapping[str, Any] | None = None) -> Self:
        """Return the claims of a token, or a part of them, by their names."""
        return claims_of(cls, {} if members is None else members)

    def __getitem__(self, name: str) -> Any:
        try:
            return _frozen(self._values[self._names.index(name)])
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("claims are immutable")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("claims are immutable")

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[Claims], tuple[dict[str, Any]]]:
        return Claims, (self.to_dict(),)

    def __repr__(self) -> str:
        """Show the names of the claims, not their values: a repr ends up in logs."""
        return f"Claims({', '.join(sorted(self))})"

    def to_dict(self) -> dict[str, Any]:
        """Return a fresh JSON-ready copy."""
        return dict(zip(self._names, map(_thawed, self._values), strict=True))


def claims_of(cls: type[C], members: Mapping[str, Any]) -> C:
    """Return what calling the class returns, in less time."""
    claims, names = _new(cls), tuple(members)
    _set_names(claims, shared(names) if len(names) <= _MAX_NAMES else names)
    _set_values(claims, tuple(members.values()))
    return claims


_set_names = Claims.__dict__["_names"].__set__
_set_values = Claims.__dict__["_values"].__set__


def _itself(value: H) -> H:
    """Return one object for all equal values, so that many tokens share it."""
    return value


if TYPE_CHECKING:
    shared = _itself  # a cache would lose the type of the value
else:
    shared = lru_cache(1024)(_itself)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return Claims(value)
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value


def _thawed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _thawed(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_thawed(item) for item in value]
    return value


@dataclass(frozen=True, slots=True, repr=False)
class Actor:
    """Who acts for the subject of a token: a member `act` (RFC 8693 §4.1). Immutable, hashable.

    Args:
        claims: the members of the `act`.
    """

    claims: Claims

    @property
    def issuer(self) -> str | None:
        """Who identifies the actor (`iss`); None for the issuer of the token."""
        return self._text("iss")

    @property
    def subject(self) -> str | None:
        """Who it is (`sub`)."""
        return self._text("sub")

    @property
    def client_id(self) -> str | None:
        """The client that it is, or that it uses (`client_id`)."""
        return self._text("client_id")

    @property
    def actor(self) -> Actor | None:
        """Who acted before it, None for the first; not for access control (RFC 8693 §4.1)."""
        return _actor(self.claims)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready copy."""
        before = self.actor
        return {
            "issuer": self.issuer,
            "subject": self.subject,
            "client_id": self.client_id,
            "actor": None if before is None else before.to_dict(),
        }

    def __repr__(self) -> str:
        """Show no value: a repr ends up in logs."""
        return "Actor()"

    def _text(self, name: str) -> str | None:
        value = self.claims.get(name)
        return value if isinstance(value, str) else None


def _actor(claims: Claims) -> Actor | None:
    """Return the actor that claims name, None without one; a malformed one is ignored."""
    found = claims.get("act")
    return Actor(found) if isinstance(found, Claims) else None


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Principal:
    """Who is calling: the bearer of a validated token. A missing value is None.

    A client that acts for itself has `subject_kind` "client", and is never to be treated as a
    user (RFC 9700 §4.15).

    Args:
        issuer: who issued the token (`iss`).
        subject: whom it was issued for (`sub`).
        client_id: the client that it was issued to (`client_id`, else `azp`).
        scopes: the scopes that it grants.
        roles: the roles that it names (RFC 9068 §2.2.3.1).
        token_id: its unique identifier (`jti`).
        issued_at: when it was issued, in Unix seconds.
        expires_at: when it expires, in Unix seconds.
        acr: how the user was authenticated (RFC 9068 §2.2.1).
        auth_time: when the user was authenticated, in Unix seconds.
        claims: all its claims.

    Attributes:
        effective_scopes: the scopes, and those that they imply by the guard's `implies=`. It is
            what requirements are compared with; it takes no part in comparisons of principals.

    Raises:
        TypeError: a value is of another type; the message names the argument.
    """

    issuer: str | None
    subject: str | None
    client_id: str | None
    scopes: frozenset[str]
    roles: frozenset[str]
    token_id: str | None
    issued_at: float | None
    expires_at: float | None
    acr: str | None
    auth_time: float | None
    claims: Claims = field(hash=False)
    effective_scopes: frozenset[str] = field(init=False, compare=False)

    def __new__(
        cls,
        *,
        issuer: str | None = None,
        subject: str | None = None,
        client_id: str | None = None,
        scopes: Collection[str] = frozenset(),
        roles: Collection[str] = frozenset(),
        token_id: str | None = None,
        issued_at: float | None = None,
        expires_at: float | None = None,
        acr: str | None = None,
        auth_time: float | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return a principal with these values, each of which is checked."""
        return cls.of_checked(
            _text("issuer", issuer),
            _text("subject", subject),
            _text("client_id", client_id),
            _names("scopes", scopes),
            _names("roles", roles),
            _text("token_id", token_id),
            _seconds("issued_at", issued_at),
            _seconds("expires_at", expires_at),
            _text("acr", acr),
            _seconds("auth_time", auth_time),
            _claims(claims),
        )

    @classmethod
    def of_checked(  # noqa: PLR0917 - by position: keywords cost as much as the rest
        cls,
        issuer: str | None,
        subject: str | None,
        client_id: str | None,
        scopes: frozenset[str],
        roles: frozenset[str],
        token_id: str | None,
        issued_at: float | None,
        expires_at: float | None,
        acr: str | None,
        auth_time: float | None,
        claims: Claims,
    ) -> Self:
        """Return a principal without checking the types of its values, in a fifth of the time."""
        principal: Any = _new(_Unfrozen)
        principal.issuer = issuer
        principal.subject = subject
        principal.client_id = client_id
        principal.scopes = scopes
        principal.roles = roles
        principal.token_id = token_id
        principal.issued_at = issued_at
        principal.expires_at = expires_at
        principal.acr = acr
        principal.auth_time = auth_time
        principal.claims = claims
        principal.effective_scopes = scopes
        if cls is not Principal:  # a subclass may have more members
            return _copied(principal, cls)
        principal.__class__ = cls
        frozen: Self = principal
        return frozen

    def with_effective_scopes(self, scopes: frozenset[str]) -> Self:
        """Return this principal with the scopes that its own ones amount to."""
        if scopes == self.effective_scopes:
            return self
        principal = copy(self)
        _set_effective_scopes(principal, scopes)
        return principal

    def __copy__(self) -> Self:
        """Return another object with the same values."""
        principal = self.of_checked(
            self.issuer,
            self.subject,
            self.client_id,
            self.scopes,
            self.roles,
            self.token_id,
            self.issued_at,
            self.expires_at,
            self.acr,
            self.auth_time,
            self.claims,
        )
        _set_effective_scopes(principal, self.effective_scopes)
        return principal

    def __repr__(self) -> str:
        """Show the issuer and the scopes, no subject and no claim: a repr ends up in logs."""
        return f"Principal(issuer={self.issuer!r}, scopes={sorted(self.scopes)!r})"

    @property
    def is_authenticated(self) -> bool:
        """Whether a token was validated; False only for `ANONYMOUS`."""
        return self.issuer is not None

    @property
    def subject_kind(self) -> Literal["user", "client"] | None:
        """Whether the token acts for a user or for the client itself (RFC 9068 §2.2)."""
        if not self.is_authenticated:
            return None
        return "client" if self.subject in {None, self.client_id} else "user"

    @property
    def identity(self) -> str:
        """The subject, or the client of a token without one: unique within its issuer."""
        return self.subject or self.client_id or ""

    @property
    def actor(self) -> Actor | None:
        """Who acts for the subject, such as an agent; None if it acts itself (RFC 8693 §4.1)."""
        return _actor(self.claims)

    @property
    def display_name(self) -> str:
        """A name to show to people: `name`, `preferred_username`, or the identity."""
        for claim in ("name", "preferred_username"):
            name = self.claims.get(claim)
            if isinstance(name, str) and name:
                return name
        return self.identity

    def expires_in(self, now: float | None = None) -> int | None:
        """Return the whole seconds left, 0 once it has expired, None without an expiry.

        `now` is in Unix seconds and defaults to the system's clock.
        """
        if self.expires_at is None:
            return None
        return max(0, int(self.expires_at - (time.time() if now is None else now)))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready copy; scopes and roles are sorted lists."""
        actor = self.actor
        return {
            "issuer": self.issuer,
            "subject": self.subject,
            "subject_kind": self.subject_kind,
            "client_id": self.client_id,
            "scopes": sorted(self.scopes),
            "roles": sorted(self.roles),
            "token_id": self.token_id,
            "issued_at": self.issued_at,
            "expires_at": self.expires_at,
            "acr": self.acr,
            "auth_time": self.auth_time,
            "actor": None if actor is None else actor.to_dict(),
            "claims": self.claims.to_dict(),
        }


class _Unfrozen:
    """A principal that is being made: it has the slots of one, and setting them is fast."""

    __slots__ = Principal.__slots__


def _copied(unfrozen: _Unfrozen, cls: type[P]) -> P:
    principal = _new(cls)
    for name in Principal.__slots__:
        Principal.__dict__[name].__set__(principal, getattr(unfrozen, name))
    return principal


_set_effective_scopes = Principal.__dict__["effective_scopes"].__set__


def _text(name: str, value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{name}=: pass text or None, not {type(value).__name__}")


def _seconds(name: str, value: object) -> float | None:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise TypeError(f"{name}=: pass Unix seconds or None, not {type(value).__name__}")


def _names(name: str, values: object) -> frozenset[str]:
    given = (
        values if isinstance(values, Collection) and not isinstance(values, str | bytes) else None
    )
    if given is not None and all(isinstance(each, str) for each in given):
        return frozenset(given)
    raise TypeError(f"{name}=: pass a set or a list of names")


def _claims(value: object) -> Claims:
    if value is None or isinstance(value, Mapping):
        # A copy: the caller may change what it passed.
        return value if isinstance(value, Claims) else Claims(_thawed(value))
    raise TypeError(f"claims=: pass a mapping or None, not {type(value).__name__}")


ANONYMOUS = Principal()
"""Who is calling without a token: no issuer, no subject, no scopes."""
