"""How a client proves to an authorization server who it is (RFC 6749 §2.3, RFC 7523, RFC 6750).

Builds what a request must carry, whoever the client is: a resource server that introspects,
or an app that asks for tokens. Time and the unique id of an assertion are given.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from urllib.parse import quote_plus

from bearerguard.protocol.jose.signing import PrivateKey

BASIC = "client_secret_basic"
POST = "client_secret_post"
PRIVATE_KEY_JWT = "private_key_jwt"
BEARER = "bearer"
NONE = "none"  # a public client
METHODS = (BASIC, POST, PRIVATE_KEY_JWT, BEARER)

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 §2.2
# An assertion is used at once; the rest is for clocks that differ.
ASSERTION_LIFETIME = 60


@dataclass(frozen=True, slots=True)
class Proof:
    """What a request carries to authenticate its client: header lines, form parameters."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def client_secret_basic(client_id: str, client_secret: str) -> Proof:
    """Return Basic credentials; each half is form-encoded first (RFC 6749 §2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return Proof(headers=(("authorization", "Basic " + base64.b64encode(pair.encode()).decode()),))


def client_secret_post(client_id: str, client_secret: str) -> Proof:
    """Return the credentials as form parameters (RFC 6749 §2.3.1)."""
    return Proof(parameters=(("client_id", client_id), ("client_secret", client_secret)))


def private_key_jwt(
    client_id: str, key: PrivateKey, *, audience: str, now: float, assertion_id: str
) -> Proof:
    """Return a fresh client assertion (RFC 7523 §3), good for a minute from `now`.

    `audience` is the authorization server's issuer identifier, and that alone, unless the
    server still wants its endpoint (the update of RFC 7523 forbids more than one value).
    """
    issued_at = int(now)
    assertion = key.sign(
        {},
        {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": assertion_id,
            "iat": issued_at,
            "exp": issued_at + ASSERTION_LIFETIME,
        },
    )
    return Proof(
        parameters=(("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion))
    )


def bearer(token: str) -> Proof:
    """Return an access token that authorizes the request itself (RFC 7662 §2.1)."""
    return Proof(headers=(("authorization", f"Bearer {token}"),))
