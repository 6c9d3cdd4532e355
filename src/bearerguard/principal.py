"""Who is calling: what a validated token says about its bearer.

Everything here is immutable to the bottom, because one principal serves many requests.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar

H = TypeVar("H", bound=Hashable)

# An object with more members is no usual claim: it is not worth being kept for others.
_MAX_NAMES = 64


class Claims(Mapping[str, Any]):
    """A token's claims, immutable at every depth: objects read as `Claims`, arrays as tuples."""

    # Names and values apart: tokens of one issuer have the same names, and share them.
    __slots__ = ("_names", "_values")
    _names: tuple[str, ...]
    _values: tuple[Any, ...]

    def __init__(self, members: Mapping[str, Any] | None = None) -> None:
        given = {} if members is None else members
        names = tuple(given)
        _set_names(self, shared(names) if len(names) <= _MAX_NAMES else names)
        _set_values(self, tuple(given.values()))

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
        """Name the claims, not their values: a repr ends up in logs."""
        return f"Claims({', '.join(sorted(self))})"

    def to_dict(self) -> dict[str, Any]:
        """Return a fresh JSON-ready copy."""
        return dict(zip(self._names, map(_thawed, self._values), strict=True))


_set_names = Claims.__dict__["_names"].__set__
_set_values = Claims.__dict__["_values"].__set__


@lru_cache(1024)
def shared(value: H) -> H:
    """Return one object for all that equal it: what many tokens say is kept once."""
    return value


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


class Principal(NamedTuple):
    """Who is calling, as (`issuer`, `subject`, `client_id`); what the token lacks is None.

    Times are Unix seconds. A client that acts for itself has `subject_kind` "client" and
    is never to be treated as a user (RFC 9700 §4.15). Make one with keywords.
    """

    issuer: str | None = None
    subject: str | None = None
    client_id: str | None = None
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    token_id: str | None = None
    issued_at: float | None = None
    expires_at: float | None = None
    acr: str | None = None
    auth_time: float | None = None
    claims: Claims = Claims()

    def __repr__(self) -> str:
        """Name the issuer and the scopes, no subject and no claim: a repr ends up in logs."""
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
    def display_name(self) -> str:
        """A name to show to people: `name`, `preferred_username`, or the identity."""
        for claim in ("name", "preferred_username"):
            name = self.claims.get(claim)
            if isinstance(name, str) and name:
                return name
        return self.identity

    def expires_in(self, now: float | None = None) -> int | None:
        """Return the whole seconds left, 0 when over, None without an expiry.

        `now` is in Unix seconds and defaults to the system's clock.
        """
        if self.expires_at is None:
            return None
        return max(0, int(self.expires_at - (time.time() if now is None else now)))

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready copy; scopes and roles are sorted lists."""
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
            "claims": self.claims.to_dict(),
        }


ANONYMOUS = Principal()
