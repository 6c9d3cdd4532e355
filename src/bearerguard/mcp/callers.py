"""The caller as the MCP SDK and fastmcp know it: what their tools and sessions read.

`get_access_token()` of both reads a context variable or `scope["user"]`, and the SDK's session
manager binds a session to client, issuer and subject of the `AuthenticatedUser` that opened it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from bearerguard import asgi
from bearerguard.errors import ConfigurationError
from bearerguard.guard.guard import Guard
from bearerguard.principal import Principal
from bearerguard.protocol.http.credentials import credentials
from bearerguard.runtime.extras import Extra

with Extra("mcp", needed_by="bearerguard.mcp"):
    from mcp.server.auth.middleware.auth_context import auth_context_var
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.auth.provider import AccessToken

if "claims" not in AccessToken.model_fields:
    raise ConfigurationError(
        "bearerguard.mcp needs mcp 2.3 or later, as earlier ones do not bind a session to its"
        " caller: pip install 'bearerguard[mcp]'"
    )


class Caller(AuthenticatedUser):
    """The SDK's user, with the principal.

    Attributes:
        principal: who is calling.
    """

    def __init__(self, principal: Principal, token: AccessToken) -> None:
        super().__init__(token)
        self.principal: Principal = principal

    @property
    def identity(self) -> str:
        """The principal's identity, as behind our other middleware."""
        return self.principal.identity

    @property
    def display_name(self) -> str:
        """The principal's name to display."""
        return self.principal.display_name

    def __repr__(self) -> str:
        return f"Caller({self.principal!r})"


@contextmanager
def calling(guard: Guard, scope: asgi.Scope, principal: Principal) -> Generator[None]:
    """Set the caller of a request for the SDK, in its scope and in the context of the block."""
    sent = credentials(asgi.authorization_fields(scope))
    token = "" if sent is None else sent.token.decode()
    user = Caller(principal, AccessToken(**members(guard, principal, token)))
    scope["user"] = user
    previous = auth_context_var.set(user)
    try:
        yield
    finally:
        auth_context_var.reset(previous)


def members(guard: Guard, principal: Principal, token: str) -> dict[str, Any]:
    """Return the members of the SDK's `AccessToken` for a principal."""
    claims = principal.claims.to_dict()
    return {
        "token": token,
        # The SDK requires a text; a subject must not be taken for a client (RFC 9700 §4.15).
        "client_id": principal.client_id or "",
        "scopes": sorted(principal.effective_scopes),
        "expires_at": None if principal.expires_at is None else int(principal.expires_at),
        "resource": _resource(guard, principal),
        "subject": principal.subject,
        # The SDK reads the issuer there, and an introspection response may lack it.
        "claims": {**claims, "iss": principal.issuer},
    }


def _resource(guard: Guard, principal: Principal) -> str | None:
    """Return the API that the guard accepted the token for, as its metadata has it."""
    if guard.resource is not None:
        return guard.resource.url
    given = principal.claims.get("aud")
    named = [given] if isinstance(given, str) else list(given or ())
    accepted = {each for issuer in guard.issuers for each in issuer.audience}
    return next((each for each in named if each in accepted), None)
