"""A token as the client stores it, and the lease on it while this process uses it.

A token has calendar times, since other processes and later runs read it. A lease expires by
whichever of two clocks is first: the monotonic clock of this process, which is never set back, or
the calendar clock, which goes on while a machine sleeps. Access tokens
are opaque to a client and are never parsed (OAuth 2.1 §1.4).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bearerguard.errors import StorageError
from bearerguard.protocol import names
from bearerguard.protocol.jose import strict_json
from bearerguard.protocol.token_endpoint import TokenResponse

_VERSION = 1
# A token is renewed this long before it expires: the shorter of the two.
_EARLY_SECONDS, _EARLY_PART = 60.0, 0.1


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and what came with it.

    Attributes:
        access_token: the credentials for the API.
        token_type: "Bearer" or "DPoP".
        expires_at: Unix seconds, None when the server sent no `expires_in`.
        lifetime: seconds from its receipt to its expiry, None likewise.
        refresh_token: the refresh token, if there is one.
        scopes: its scopes, None when they are unknown.
        dpop_key: the private JWK that it is bound to, as JSON.
        issuer: the authorization server that issued it, where it was found from the API.
        resource: the API that it is for, likewise.
    """

    access_token: str = field(repr=False)
    token_type: str = names.BEARER
    expires_at: float | None = None
    lifetime: float | None = None
    refresh_token: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] | None = None
    dpop_key: str | None = field(default=None, repr=False)
    issuer: str | None = None
    resource: str | None = None

    def to_bytes(self) -> bytes:
        """Return the token as octets, for a storage."""
        members = asdict(self)
        for name in ("issuer", "resource"):
            if members[name] is None:  # earlier versions do not know them
                del members[name]
        return json.dumps({"version": _VERSION, **members}, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, kept: bytes) -> Token:
        """Return the token that `to_bytes` serialised; raises `StorageError` for other octets."""
        try:
            members = strict_json.loads_object(kept)
            if members.pop("version", None) != _VERSION:
                raise ValueError("another version")  # noqa: TRY301 - one way out
            return cls(**_checked(members))
        except (ValueError, TypeError):
            raise StorageError(
                "the stored token cannot be read by this version: log in again"
            ) from None


def received(
    answer: TokenResponse,
    *,
    now: float,
    refresh_token: str | None = None,
    scopes: tuple[str, ...] | None = None,
    dpop_key: str | None = None,
) -> Token:
    """Return the token of a response received at `now`.

    Without a new refresh token, the old one remains in use (RFC 6749 §6). Without a scope, the
    scope is the requested one (§5.1).
    """
    return Token(
        access_token=answer.access_token,
        token_type=answer.token_type,
        expires_at=None if answer.expires_in is None else now + answer.expires_in,
        lifetime=answer.expires_in,
        refresh_token=answer.refresh_token or refresh_token,
        scopes=scopes if answer.scopes is None else answer.scopes,
        dpop_key=dpop_key,
    )


@dataclass(frozen=True, slots=True)
class Lease:
    """A token in use, and its expiry by each of two clocks.

    Attributes:
        token: the token.
        header: the value of the `Authorization` header.
        fresh_until: monotonic seconds; from then on it is due for renewal, but still used.
        valid_until: monotonic seconds; from then on it is expired.
        renews_at: Unix seconds, as `fresh_until`.
        ends_at: Unix seconds, as `valid_until`.
    """

    token: Token
    header: str = field(repr=False)
    fresh_until: float
    valid_until: float
    renews_at: float = math.inf
    ends_at: float = math.inf

    def is_fresh(self, monotonic: float, now: float) -> bool:
        """Whether the token is valid, and not yet due for renewal."""
        return monotonic < self.fresh_until and now < self.renews_at

    def is_valid(self, monotonic: float, now: float) -> bool:
        """Whether the token is valid."""
        return monotonic < self.valid_until and now < self.ends_at

    def until(self, seconds: float, early: float, *, monotonic: float, now: float) -> Lease:
        """Return this lease, expiring in `seconds` and due for renewal `early` seconds before."""
        valid_until, ends_at = monotonic + seconds, now + seconds
        return replace(
            self,
            fresh_until=valid_until - early,
            valid_until=valid_until,
            renews_at=ends_at - early,
            ends_at=ends_at,
        )

    def to_its_end(self) -> Lease:
        """Return this lease without a renewal before it expires."""
        return replace(self, fresh_until=self.valid_until, renews_at=self.ends_at)


NO_LEASE = Lease(Token(""), "", -math.inf, -math.inf)


def lease(token: Token, *, now: float, monotonic: float) -> Lease:
    """Return the lease on a token that has just been received, or was read from a storage.

    The lease is never longer than the token's lifetime, whatever the calendar clock says.
    """
    header = f"{token.token_type} {token.access_token}"
    endless = Lease(token, header, math.inf, math.inf)
    if token.expires_at is None or token.lifetime is None:
        return endless
    left = min(token.expires_at - now, token.lifetime)
    early = min(_EARLY_SECONDS, token.lifetime * _EARLY_PART)
    return endless.until(left, early, monotonic=monotonic, now=now)


def _checked(members: Mapping[str, Any]) -> dict[str, Any]:
    checked = dict(members)
    scopes = checked.get("scopes")
    if scopes is not None:
        checked["scopes"] = tuple(str(each) for each in scopes)
    for name, kinds in (
        ("access_token", str),
        ("token_type", str),
        ("expires_at", int | float | None),
        ("lifetime", int | float | None),
        ("refresh_token", str | None),
        ("dpop_key", str | None),
        ("issuer", str | None),
        ("resource", str | None),
    ):
        if not isinstance(checked.get(name), kinds):
            raise TypeError(name)
    return checked
