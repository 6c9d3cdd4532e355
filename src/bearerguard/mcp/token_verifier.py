"""A guard behind the authentication of the MCP SDK and of fastmcp, which call a token verifier.

The SDK asks for the protocol `TokenVerifier`, fastmcp for a subclass of its `AuthProvider`: where
fastmcp is installed, the verifier is both.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from bearerguard import asgi
from bearerguard.errors import ConfigurationError, IssuerUnavailable, Refusal
from bearerguard.guard.decision import Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.mcp.callers import members
from bearerguard.mcp.context import caller
from bearerguard.middleware.refusal import refusal
from bearerguard.principal import ANONYMOUS
from bearerguard.protocol.resource_metadata import PATH
from bearerguard.runtime.extras import Extra

with Extra("mcp", needed_by="bearerguard.mcp"):
    import mcp.server.auth.provider
    from pydantic import AnyHttpUrl
    from starlette.middleware import Middleware
    from starlette.routing import Route

if TYPE_CHECKING:
    from fastmcp.server.auth import AccessToken, TokenVerifier
else:
    try:
        from fastmcp.server.auth import AccessToken, TokenVerifier
    except ModuleNotFoundError:
        AccessToken = mcp.server.auth.provider.AccessToken

        class TokenVerifier:
            """What is left of fastmcp's class where it is not installed."""

            def __init__(self, **_options: Any) -> None: ...


_log = logging.getLogger("bearerguard")

# Whether an `UnavailableMiddleware` is around the request.
_is_handled: ContextVar[bool] = ContextVar("bearerguard.mcp.is_handled", default=False)


class GuardTokenVerifier(TokenVerifier):
    """Verifies tokens for `MCPServer(token_verifier=...)` and `FastMCP(auth=...)`.

    The SDK's responses stand: its 401 and 403 have its own challenge, and it knows no requirement
    of a tool. `protect` does without the SDK's authentication, and has both.

    An issuer that cannot be reached is a 503 in fastmcp by itself, and in the SDK with
    `UnavailableMiddleware`.

    Args:
        guard: validates the tokens. It may have no `require=`: scopes that every request needs are
            `AuthSettings(required_scopes=...)` in the SDK, `required_scopes` here for fastmcp.
        required_scopes: the scopes that every request needs, in fastmcp.
        base_url: the URL of this server, in fastmcp.

    Raises:
        ConfigurationError: the guard has a requirement, or is not a guard.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        required_scopes: list[str] | None = None,
        base_url: str | None = None,
    ) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError("GuardTokenVerifier: pass a Guard, such as Guard(Issuer(...))")
        if guard.requirement is not None:
            raise ConfigurationError(
                "GuardTokenVerifier: a guard with require= would be refused by 401 where 403 is"
                " right: use AuthSettings(required_scopes=), or protect(app, guard=guard)"
            )
        super().__init__(base_url=base_url, required_scopes=required_scopes)
        self._guard = guard
        self._has_told = False

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the SDK's token of a valid token, None for any other.

        Raises `IssuerUnavailable` if it cannot be validated at the moment.
        """
        try:
            principal = await self._guard.averify(token)
        except Refusal:
            return None  # reported by the guard
        except IssuerUnavailable:
            if not _is_handled.get() and not self._has_told:
                self._has_told = True
                _log.error(
                    "an issuer that cannot be reached will be a response 500: add"
                    " app.add_middleware(UnavailableMiddleware, guard=guard)"
                )
            raise
        if _is_handled.get():  # it is forgotten at the end of the request
            caller.set(principal)
        return AccessToken(**members(self._guard, principal, token))

    def get_routes(self, mcp_path: str | None = None) -> list[Route]:
        """Return the routes of the guard's metadata (RFC 9728) for fastmcp, if it has any."""
        self.set_mcp_path(mcp_path)
        published = self._guard.published
        if published is None:
            return []
        endpoint = asgi.ResourceMetadata(guard=self._guard)
        return [Route(path, endpoint) for path in dict.fromkeys((PATH, published.path))]

    def _get_resource_url(self, path: str | None = None) -> AnyHttpUrl | None:
        # fastmcp names the metadata of this URL in challenges.
        resource = self._guard.resource
        return super()._get_resource_url(path) if resource is None else AnyHttpUrl(resource.url)

    def get_middleware(self) -> list[Middleware]:
        """Return the middleware of fastmcp's authentication, and that of an outage around it."""
        return [Middleware(UnavailableMiddleware, guard=self._guard), *super().get_middleware()]


class UnavailableMiddleware:
    """Responds 503 with `Retry-After` where a `GuardTokenVerifier` could not reach the issuer.

    In the requests that it is around, `get_principal` returns the caller.

    Add it to the SDK's app with `app.add_middleware(UnavailableMiddleware, guard=guard)`: around
    that app it would be too late, as Starlette responds 500 to an exception.
    """

    def __init__(self, app: asgi.ASGIApp, *, guard: Guard) -> None:
        self.app: asgi.ASGIApp = app
        self._guard = guard

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Handle a connection as an ASGI app."""
        handled, outer = _is_handled.set(True), caller.set(ANONYMOUS)
        try:
            await self.app(scope, receive, send)
        except IssuerUnavailable as error:
            info = asgi.request_info(scope)
            response = refusal(
                self._guard,
                Unavailable(error.retry_after, error.reason),
                method=info.method,
                has_origin=info.has_origin,
            )
            await asgi.send_response(scope, receive, send, response)
        finally:
            caller.reset(outer)
            _is_handled.reset(handled)
