"""Validating the claims of an ID token whose signature is valid (OIDC Core §3.1.3.7). Pure."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from bearerguard.errors import BAD_CLAIM, MISSING_CLAIM, TokenError
from bearerguard.protocol import jwt_claims
from bearerguard.protocol.jose import base64url
from bearerguard.protocol.jwt_claims import Expected

_REQUIRED = (*jwt_claims.REQUIRED, "sub", "iat")
# Which digest `at_hash` is made with (§3.1.3.6). For later algorithms it is not defined.
_DIGESTS = {
    "256": hashlib.sha256,
    "384": hashlib.sha384,
    "512": hashlib.sha512,
}
_ED25519 = frozenset({"EdDSA", "Ed25519"})


def check(
    claims: Mapping[str, Any],
    *,
    client_id: str,
    nonce: str,
    access_token: str | None,
    algorithm: str,
    leeway: float,
    now: float,
) -> None:
    """Raise `TokenError` unless an ID token is for this client, this login and this moment.

    Args:
        claims: those of a token of the issuer that was asked.
        client_id: the id of this server there.
        nonce: that of the authorization request.
        access_token: what came with the ID token, for `at_hash`; None without one.
        algorithm: the `alg` of the token's header.
        leeway: seconds of clock skew accepted.
        now: Unix seconds.
    """
    jwt_claims.check_no_logout_token(claims)
    jwt_claims.check_kind(claims, accept_id_tokens=True)
    expected = Expected(frozenset({client_id}), _REQUIRED, leeway)
    jwt_claims.check(claims, expected, now)
    audience, presenter = claims["aud"], claims.get("azp")
    if presenter is None and isinstance(audience, list) and len(audience) > 1:
        raise TokenError(MISSING_CLAIM, "it has several audiences and no azp")
    if presenter not in {None, client_id}:
        raise TokenError(BAD_CLAIM, "its azp is another client")
    found = claims.get("nonce")
    if not isinstance(found, str):
        raise TokenError(MISSING_CLAIM, "it has no nonce, so it may be of another login")
    if not hmac.compare_digest(found.encode("utf-8", "replace"), nonce.encode()):
        raise TokenError(BAD_CLAIM, "its nonce is that of another login")
    _check_access_token(claims.get("at_hash"), access_token, algorithm)


def _check_access_token(found: object, access_token: str | None, algorithm: str) -> None:
    if found is None or access_token is None:
        return  # optional in the code flow
    digest = hashlib.sha512 if algorithm in _ED25519 else _DIGESTS.get(algorithm[-3:])
    if digest is None:
        return
    octets = digest(access_token.encode("utf-8", "replace")).digest()
    expected = base64url.encode(octets[: len(octets) // 2])
    if not isinstance(found, str) or not hmac.compare_digest(found.encode(), expected):
        raise TokenError(BAD_CLAIM, "its at_hash is that of another access token")
