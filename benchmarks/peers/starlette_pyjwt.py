"""Starlette's AuthenticationMiddleware with a backend that calls PyJWT for every request."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.asgi import ASGIApp
from benchmarks.token_issuer import AUDIENCE


def protect(app: ASGIApp, jwk: dict[str, Any], issuer: str) -> ASGIApp:
    """Return the app behind the middleware."""
    import jwt
    from starlette.authentication import (
        AuthCredentials,
        AuthenticationBackend,
        AuthenticationError,
        BaseUser,
        SimpleUser,
    )
    from starlette.middleware.authentication import AuthenticationMiddleware
    from starlette.requests import HTTPConnection

    key, algorithms = jwt.PyJWK(jwk).key, [str(jwk["alg"])]

    class Backend(AuthenticationBackend):
        async def authenticate(
            self, conn: HTTPConnection
        ) -> tuple[AuthCredentials, BaseUser] | None:
            scheme, _, token = conn.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                raise AuthenticationError("no bearer token")
            try:
                claims = jwt.decode(
                    token, key, algorithms=algorithms, audience=AUDIENCE, issuer=issuer
                )
            except jwt.InvalidTokenError as error:
                raise AuthenticationError("invalid token") from error
            return AuthCredentials(claims["scope"].split()), SimpleUser(claims["sub"])

    return AuthenticationMiddleware(app, backend=Backend())
