"""Who is calling: what a validated token says about its bearer.

Everything here is immutable to the bottom, because one principal serves many requests.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


class Claims(Mapping[str, Any]):
    """A token's claims, immutable at every depth: objects read as `Claims`, arrays as tuples."""

    __slots__ = ("_members",)
    _members: Mapping[str, Any]

    def __init__(self, members: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "_members", {} if members is None else members)

    def __getitem__(self, name: str) -> Any:
        return _frozen(self._members[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

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
        return {name: _thawed(value) for name, value in self._members.items()}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is calling, as (`issuer`, `subject`, `client_id`); what the token lacks is None.

    Times are Unix seconds. A client that acts for itself has `subject_kind` "client" and
    is never to be treated as a user (RFC 9700 §4.15).
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
    claims: Claims = field(default_factory=Claims, repr=False)

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
