"""Where tokens come from: one method, composed; and the simplest source, a token that is given.

A source knows how to get a token, not when, and keeps none: that is the manager's part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from bearerguard.client.token import Token
from bearerguard.errors import ConfigurationError, LoginRequired, quoted
from bearerguard.runtime.flow import Flow


@dataclass(frozen=True, slots=True)
class Demand:
    """What an API wants beyond the token that it was shown (RFC 6750 §3.1, RFC 9470 §3)."""

    scope: tuple[str, ...] = ()
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None


class TokenSource(Protocol):
    """Gets tokens.

    Attributes:
        key: under what its token is kept: the same for all who may share one; no secret.
        resources: the APIs that its tokens are for, as far as it knows.
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
    """A source that can ask for more than it does."""

    def widened(self, demand: Demand) -> TokenSource:
        """Return a source of the same tokens with what `demand` says besides."""
        ...


@runtime_checkable
class Interactive(Protocol):
    """A source that can ask a person."""

    def login(self, previous: Token | None) -> Flow[Token]:
        """Return a token that a person has just allowed; raises as `token` does."""
        ...


@runtime_checkable
class Revoking(Protocol):
    """A source whose tokens can be given back."""

    def revoke(self, token: Token) -> Flow[bool]:
        """Revoke a token and what it came with; False when the server knows no such thing."""
        ...


class StaticToken:
    """A token that is given: it cannot be renewed, unless what gives it gives another.

    Args:
        token: the access token, or a call that returns it.
        resource: the API that it is for.

    Raises:
        ConfigurationError: it can be no token.
    """

    def __init__(self, token: str | Callable[[], str], *, resource: str | None = None) -> None:
        self._read: Callable[[], str] = token if callable(token) else lambda: token
        if not callable(token):
            _checked(token)
        self.key = "static"
        self.resources = () if resource is None else (resource,)

    @classmethod
    def from_env(
        cls, name: str, *, resource: str | None = None, environ: Mapping[str, str] | None = None
    ) -> StaticToken:
        """Return the token of an environment variable, read anew whenever one is needed."""

        def read() -> str:
            found = (os.environ if environ is None else environ).get(name)
            if not found:
                raise LoginRequired(f"the environment variable {name} is not set")
            return found

        return cls(read, resource=resource)

    def token(self, previous: Token | None) -> Flow[Token]:  # noqa: ARG002 - as a source
        """Return what is given now."""
        yield from ()
        return Token(_checked(self._read()))

    def __repr__(self) -> str:
        return "StaticToken()"


def _checked(token: Any) -> str:
    if not isinstance(token, str) or not token.isascii() or not token or not token.isprintable():
        raise ConfigurationError(
            f"StaticToken: pass the access token alone, as text, not {type(token).__name__}"
        )
    if " " in token:
        raise ConfigurationError("StaticToken: pass the token without a scheme before it")
    return token


def texts(option: str, given: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    """Return names that are given as a list, or as one string with spaces."""
    found = given.split() if isinstance(given, str) else given
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
        raise ConfigurationError(f"{option}=: pass a list of strings, not {quoted(given)}")
    return tuple(dict.fromkeys(found))
