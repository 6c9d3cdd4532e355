"""ASGI peers: each an app without authentication and the same app with it.

All verify an RS256 token with a key at hand; none remembers a token it has verified.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from benchmarks.token_issuer import AUDIENCE, TokenIssuer

ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

PATH = "/api/v1/recordings"
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"17")],
}
CONTENT = b'{"recordings":[]}'
BODY = {"type": "http.response.body", "body": CONTENT}


@dataclass(frozen=True)
class Pair:
    """An app without authentication and with it."""

    without: ASGIApp
    protected: ASGIApp


async def bare(_scope: Any, _receive: Any, send: Any) -> None:
    """Respond like an API, and do nothing else."""
    await send(START)
    await send(BODY)


def _pem(issuer: TokenIssuer) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = issuer.key.private.public_key()
    octets: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return octets.decode()


def _decode(issuer: TokenIssuer) -> Callable[[str], dict[str, Any]]:
    import jwt

    key, algorithms = jwt.PyJWK(issuer.key.jwk()).key, [issuer.algorithm]

    def decode(token: str) -> dict[str, Any]:
        return jwt.decode(token, key, algorithms=algorithms, audience=AUDIENCE, issuer=issuer.url)

    return decode


def starlette(issuer: TokenIssuer) -> Pair:
    """Starlette's AuthenticationMiddleware with a backend that calls PyJWT."""
    from benchmarks.peers.starlette_pyjwt import protect

    return Pair(bare, protect(bare, issuer.key.jwk(), issuer.url))


def fastapi(issuer: TokenIssuer) -> Pair:
    """FastAPI's HTTPBearer and a dependency that calls PyJWT."""
    import jwt
    from fastapi import Depends, FastAPI, HTTPException
    from fastapi.responses import Response
    from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

    decode, scheme = _decode(issuer), HTTPBearer()

    async def caller(
        credentials: Annotated[HTTPAuthorizationCredentials, Depends(scheme)],
    ) -> dict[str, Any]:
        try:
            return decode(credentials.credentials)
        except jwt.InvalidTokenError as error:
            raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"}) from error

    async def open_to_all() -> Response:
        return Response(CONTENT, media_type="application/json")

    async def for_callers(claims: Annotated[dict[str, Any], Depends(caller)]) -> Response:
        return Response(CONTENT, media_type="application/json" if claims else None)

    # FastAPI reads annotations: with postponed ones, from where they are known.
    caller.__annotations__ = {
        "credentials": Annotated[HTTPAuthorizationCredentials, Depends(scheme)]
    }
    for_callers.__annotations__ = {"claims": Annotated[dict[str, Any], Depends(caller)]}
    open_to_all.__annotations__ = {}
    without, protected = FastAPI(), FastAPI()
    without.get(PATH)(open_to_all)
    protected.get(PATH)(for_callers)
    return Pair(without, protected)


def mcp(issuer: TokenIssuer) -> Pair:
    """The MCP SDK's BearerAuthBackend and RequireAuthMiddleware with a verifier on PyJWT."""
    import jwt
    from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
    from mcp.server.auth.provider import AccessToken
    from starlette.middleware.authentication import AuthenticationMiddleware

    decode = _decode(issuer)

    class Verifier:
        async def verify_token(self, token: str) -> AccessToken | None:
            try:
                claims = decode(token)
            except jwt.InvalidTokenError:
                return None
            return AccessToken(
                token=token,
                client_id=claims["client_id"],
                scopes=claims["scope"].split(),
                expires_at=claims["exp"],
                subject=claims["sub"],
                claims=claims,
            )

    guarded = RequireAuthMiddleware(bare, required_scopes=["read"])
    return Pair(bare, AuthenticationMiddleware(guarded, backend=BearerAuthBackend(Verifier())))


def fastmcp(issuer: TokenIssuer) -> Pair:
    """JWTVerifier of fastmcp, behind the MCP SDK's middleware, as fastmcp puts it there."""
    from fastmcp.server.auth.providers.jwt import JWTVerifier
    from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
    from starlette.middleware.authentication import AuthenticationMiddleware

    verifier = JWTVerifier(
        public_key=_pem(issuer), issuer=issuer.url, audience=AUDIENCE, algorithm=issuer.algorithm
    )
    guarded = RequireAuthMiddleware(bare, required_scopes=["read"])
    return Pair(bare, AuthenticationMiddleware(guarded, backend=BearerAuthBackend(verifier)))


def litestar(issuer: TokenIssuer) -> Pair:
    """Litestar's JWTAuth."""
    from litestar import Litestar, Response, get
    from litestar.security.jwt import JWTAuth

    async def retrieve(token: Any, _connection: Any) -> Any:
        return token.sub

    def app(*middleware: Any) -> Any:
        async def recordings() -> Response[bytes]:
            return Response(CONTENT, media_type="application/json")

        recordings.__annotations__ = {"return": Response[bytes]}
        return Litestar([get(PATH)(recordings)], middleware=middleware, openapi_config=None)

    auth = JWTAuth[Any](
        token_secret=_pem(issuer),
        algorithm=issuer.algorithm,
        retrieve_user_handler=retrieve,
        accepted_audiences=[AUDIENCE],
        accepted_issuers=[issuer.url],
    )
    return Pair(app(), app(auth.middleware))


MAKERS: dict[str, Callable[[TokenIssuer], Pair]] = {
    "Starlette + PyJWT": starlette,
    "FastAPI HTTPBearer + PyJWT": fastapi,
    "mcp BearerAuthBackend + PyJWT": mcp,
    "fastmcp JWTVerifier": fastmcp,
    "Litestar JWTAuth": litestar,
}
