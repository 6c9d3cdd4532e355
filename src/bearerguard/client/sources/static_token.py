"""A token from the caller, a function, or an environment variable."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from bearerguard.client.sources.grant import Names, named
from bearerguard.client.token import Token
from bearerguard.errors import ConfigurationError, LoginRequired
from bearerguard.runtime.flow import Flow


class StaticToken:
    """A token that the caller passes: only a callable can renew it, by returning another.

    Args:
        token: the access token, or a callable that returns it.
        resources: the APIs that it is for, as a list or as one string with spaces.

    Raises:
        ConfigurationError: the value cannot be a token.
    """

    def __init__(self, token: str | Callable[[], str], *, resources: Names = ()) -> None:
        self._read: Callable[[], str] = token if callable(token) else lambda: token
        if not callable(token):
            _checked(token)
        self.key = "static"
        self.resources: tuple[str, ...] = named("resources", resources)

    @classmethod
    def from_env(
        cls, name: str, *, resources: Names = (), environ: Mapping[str, str] | None = None
    ) -> StaticToken:
        """Return the token of an environment variable, read anew whenever one is needed."""

        def read() -> str:
            found = (os.environ if environ is None else environ).get(name)
            if not found:
                raise LoginRequired(f"the environment variable {name} is not set")
            return found

        return cls(read, resources=resources)

    def token(self, previous: Token | None) -> Flow[Token]:  # noqa: ARG002 - as a source
        """Return the current token."""
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
