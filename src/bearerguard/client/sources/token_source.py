"""The interface of a token source, and its optional parts.

A source knows how to get a token, not when, and keeps none: that is the manager's part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bearerguard.client.token import Token
from bearerguard.runtime.flow import Flow


@dataclass(frozen=True, slots=True)
class Demand:
    """What an API demands beyond the token that it refused (RFC 6750 §3.1, RFC 9470 §3)."""

    scopes: tuple[str, ...] = ()
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None

    def parameters(self) -> dict[str, str]:
        """Return the parameters of the authorization request that meets it (RFC 9470 §4)."""
        found: dict[str, str] = {}
        if self.acr_values:
            found["acr_values"] = " ".join(self.acr_values)
        if self.max_age is not None:
            found["max_age"] = str(self.max_age)
        return found


class TokenSource(Protocol):
    """Gets tokens.

    Attributes:
        key: the key under which its token is stored: the same for all that may share it; no secret.
        resources: the APIs that its tokens are for (RFC 8707), empty where it does not know.
    """

    @property
    def key(self) -> str: ...  # noqa: D102 - an attribute

    @property
    def resources(self) -> tuple[str, ...]: ...  # noqa: D102 - an attribute

    def token(self, previous: Token | None) -> Flow[Token]:
        """Return a new token in place of `previous`.

        Raises `LoginRequired`, `TokenRefused` or `TokenUnavailable`.
        """
        ...


@runtime_checkable
class Widening(Protocol):
    """A source that can request more scopes, or a stronger or newer login."""

    def widened(self, demand: Demand) -> TokenSource:
        """Return a source that also asks for what `demand` names."""
        ...


@runtime_checkable
class Interactive(Protocol):
    """A source that can have a person log in."""

    def login(self, previous: Token | None) -> Flow[Token]:
        """Return a token that a person has just authorized; raises as `token` does."""
        ...


@runtime_checkable
class Challenged(Protocol):
    """A source that finds its authorization server from what an API demands (RFC 9728 §5.1)."""

    def challenged(self, challenges: Iterable[str]) -> TokenSource:
        """Return a source that starts from the `WWW-Authenticate` lines of a refusal."""
        ...


@runtime_checkable
class Revoking(Protocol):
    """A source whose tokens can be revoked (RFC 7009)."""

    def revoke(self, token: Token) -> Flow[bool]:
        """Revoke a token; return whether the server did."""
        ...
