"""A JWKS endpoint on loopback that counts its fetches, and verifiers that ask it for keys."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from bearerguard import Guard, Issuer, IssuerUnavailable, Request, Response, TokenError
from bearerguard.testing import SigningKey
from bearerguard.testing.loopback import serving
from benchmarks.token_issuer import AUDIENCE, TokenIssuer, sign_with

Accepts: TypeAlias = Callable[[str], Awaitable[bool]]


@dataclass
class Endpoint:
    """An issuer's JWKS over HTTP; with `failing` it responds 500; `delay` is in seconds."""

    issuer: TokenIssuer
    keys: list[SigningKey] = field(default_factory=list)
    fetches: int = 0
    failing: bool = False
    delay: float = 0.02

    def __post_init__(self) -> None:
        self.keys.append(self.issuer.key)

    def rotate(self) -> None:
        """Publish a new key, which signs from now on."""
        algorithm = self.issuer.algorithm
        self.keys.append(SigningKey.generate(algorithm, f"key-{len(self.keys) + 1}"))

    def token(self, kid: str | None = None) -> str:
        """Return a token that the newest key signs; `kid` may name another one."""
        return sign_with(self.issuer, self.keys[-1], kid)

    def handle(self, _request: Request) -> Response:
        """Respond to a fetch."""
        self.fetches += 1
        time.sleep(self.delay)
        if self.failing:
            return Response(500)
        document = {"keys": [key.jwk() for key in self.keys]}
        return Response(200, (("Content-Type", "application/json"),), json.dumps(document).encode())

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Serve the JWKS while the block lasts; yields its URL."""
        with serving(self.handle) as url:
            yield f"{url}/jwks"


def ours(issuer: TokenIssuer, url: str) -> Accepts:
    """Return our guard with its HTTP transport."""
    guard = Guard(Issuer(issuer.url, audience=AUDIENCE, jwks_uri=url))

    async def accepts(token: str) -> bool:
        try:
            await guard.averify(token)
        except (TokenError, IssuerUnavailable):
            return False
        return True

    return accepts


def pyjwkclient(issuer: TokenIssuer, url: str) -> Accepts:
    """Return PyJWT with its PyJWKClient, in threads because its calls block."""
    import jwt

    client = jwt.PyJWKClient(url)

    def verify(token: str) -> bool:
        try:
            key = client.get_signing_key_from_jwt(token)
            jwt.decode(token, key, audience=AUDIENCE, issuer=issuer.url)
        except jwt.PyJWTError:
            return False
        return True

    async def accepts(token: str) -> bool:
        return await asyncio.to_thread(verify, token)

    return accepts


def fastmcp(issuer: TokenIssuer, url: str) -> Accepts:
    """Return fastmcp's JWTVerifier."""
    from fastmcp.server.auth.providers.jwt import JWTVerifier

    verifier = JWTVerifier(
        jwks_uri=url, issuer=issuer.url, audience=AUDIENCE, algorithm=issuer.algorithm
    )

    async def accepts(token: str) -> bool:
        return await verifier.verify_token(token) is not None

    return accepts


MAKERS: dict[str, Callable[[TokenIssuer, str], Accepts]] = {
    "bearerguard": ours,
    "PyJWT with PyJWKClient": pyjwkclient,
    "fastmcp JWTVerifier": fastmcp,
}
