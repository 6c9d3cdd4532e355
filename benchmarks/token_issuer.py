"""The issuer that all parts measure with: its keys, and tokens as long as real ones.

An RFC 9068 token signed by RS256 has about 890 octets here: ten claims, as an identity
provider sends them.
"""

from __future__ import annotations

import functools
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from bearerguard import Guard, Issuer
from bearerguard.protocol.jose import jwk
from bearerguard.testing import SigningKey, sign

ISSUER = "https://id.example.com/realms/production"
AUDIENCE = "https://api.example.com"
ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "HS256")
SECRET = b"a made-up secret, longer than 32 octets"
LIFETIME = 6 * 3600


@functools.cache
def signing_key(algorithm: str) -> SigningKey:
    """Return the key of this process for an algorithm, made when it is first asked for."""
    if algorithm in jwk.SYMMETRIC:
        return SigningKey.shared(algorithm, SECRET)
    return SigningKey.generate(algorithm, "2026-11-signing-key")


@dataclass(frozen=True)
class TokenIssuer:
    """An issuer that signs with one algorithm, and makes guards that trust it."""

    algorithm: str = "RS256"
    url: str = ISSUER
    key: SigningKey = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", signing_key(self.algorithm))

    @property
    def is_symmetric(self) -> bool:
        """Whether it signs with the shared secret."""
        return self.algorithm in jwk.SYMMETRIC

    def claims(self) -> dict[str, Any]:
        """Return the claims of a new token."""
        now = int(time.time())
        return {
            "iss": self.url,
            "sub": f"auth|{uuid.uuid4().hex}",
            "aud": AUDIENCE,
            "client_id": "recordings-dashboard",
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME,
            "jti": str(uuid.uuid4()),
            "scope": "read write recordings:read recordings:write",
            "roles": ["editor", "billing-viewer"],
            "auth_time": now - 60,
        }

    def header(self, kid: str | None = None) -> dict[str, Any]:
        """Return the header of a token."""
        named = kid or self.key.kid
        header = {"alg": self.algorithm, "typ": "at+jwt"}
        return header | ({} if named is None else {"kid": named})

    def token(self, kid: str | None = None) -> str:
        """Return a new signed token."""
        return sign(self.header(kid), self.claims(), self.key)

    def tokens(self, count: int) -> list[str]:
        """Return as many different tokens."""
        return [self.token() for _ in range(count)]

    def jwks(self) -> dict[str, Any]:
        """Return the JWK Set with its public key."""
        return {"keys": [self.key.jwk()]}

    def config(self) -> Issuer:
        """Return it as the guard's `Issuer`, with its key: nothing is fetched."""
        options: dict[str, Any] = (
            {"shared_secret": SECRET, "algorithms": (self.algorithm,)}
            if self.is_symmetric
            else {"keys": self.jwks()}
        )
        return Issuer(self.url, audience=AUDIENCE, **options)

    def guard(self, **options: Any) -> Guard:
        """Return a guard that trusts it."""
        return Guard(self.config(), **options)

    def plain_guard(self) -> Guard:
        """Return a guard that adds nothing to a response."""
        return self.guard(expiry_headers=None, cache_control=None)


def altered(token: str) -> str:
    """Return the token with another signature, well-formed and wrong."""
    head, payload, signature = token.split(".")
    flipped = "A" if signature[9] != "A" else "B"
    return f"{head}.{payload}.{signature[:9]}{flipped}{signature[10:]}"


def sign_with(issuer: TokenIssuer, key: SigningKey, kid: str | None = None) -> str:
    """Return a token of the issuer that `key` signs; its `kid` is that of the key by default."""
    return sign(issuer.header(kid or key.kid), issuer.claims(), key)
