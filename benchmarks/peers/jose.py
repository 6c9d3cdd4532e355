"""Libraries that verify a JWT: signature, exp, iss and aud, in each one's own way.

Each maker takes the issuer and returns a function from a token to its claims. Keys are
loaded once, as an application would.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

from benchmarks.peers import PeerError
from benchmarks.token_issuer import AUDIENCE, SECRET, TokenIssuer, altered

Verify: TypeAlias = Callable[[str], object]


def pyjwt(issuer: TokenIssuer) -> Verify:
    """PyJWT."""
    import jwt

    key: Any = SECRET if issuer.is_symmetric else jwt.PyJWK(issuer.key.jwk()).key
    algorithms = [issuer.algorithm]

    def verify(token: str) -> object:
        return jwt.decode(token, key, algorithms=algorithms, audience=AUDIENCE, issuer=issuer.url)

    return verify


def joserfc(issuer: TokenIssuer) -> Verify:
    """Joserfc, the successor of Authlib's own JOSE."""
    from joserfc import jwt
    from joserfc.jwk import OctKey, import_key

    key: Any = OctKey.import_key(SECRET) if issuer.is_symmetric else import_key(issuer.key.jwk())
    # EdDSA and PS256 are not among its recommended algorithms: they are named here.
    algorithms = [issuer.algorithm]
    registry = jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": issuer.url},
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
    )

    def verify(token: str) -> object:
        claims = jwt.decode(token, key, algorithms=algorithms).claims
        registry.validate(claims)
        return claims

    return verify


def python_jose(issuer: TokenIssuer) -> Verify | None:
    """python-jose with its cryptography backend; it knows neither PS256 nor EdDSA."""
    from jose import jwk, jwt

    if issuer.algorithm in {"PS256", "EdDSA"}:
        return None
    material: Any = SECRET if issuer.is_symmetric else issuer.key.jwk()
    key = jwk.construct(material, algorithm=issuer.algorithm)
    algorithms = [issuer.algorithm]

    def verify(token: str) -> object:
        return jwt.decode(token, key, algorithms=algorithms, audience=AUDIENCE, issuer=issuer.url)

    return verify


def jwcrypto(issuer: TokenIssuer) -> Verify:
    """Jwcrypto."""
    from jwcrypto.common import base64url_encode
    from jwcrypto.jwk import JWK
    from jwcrypto.jwt import JWT

    members = (
        {"kty": "oct", "k": base64url_encode(SECRET)} if issuer.is_symmetric else issuer.key.jwk()
    )
    key = JWK(**members)
    algorithms = [issuer.algorithm]
    expected = {"iss": issuer.url, "aud": AUDIENCE, "exp": None}

    def verify(token: str) -> object:
        checked = JWT(jwt=token, key=key, algs=algorithms, check_claims=expected)
        return json.loads(checked.claims)

    return verify


def authlib(issuer: TokenIssuer) -> Verify:
    """Authlib's own JOSE, deprecated in favour of joserfc and still widely used."""
    # It installs a filter that shows its warning, and so is imported before ours.
    importlib.import_module("authlib.deprecate")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the deprecation is known, and said above
        from authlib.jose import JsonWebKey, JsonWebToken, OctKey

        jwt = JsonWebToken([issuer.algorithm])
        key: Any = (
            OctKey.import_key(SECRET)
            if issuer.is_symmetric
            else JsonWebKey.import_key(issuer.key.jwk())
        )
    options = {
        "iss": {"essential": True, "value": issuer.url},
        "aud": {"essential": True, "value": AUDIENCE},
        "exp": {"essential": True},
    }

    def verify(token: str) -> object:
        claims = jwt.decode(token, key, claims_options=options)
        claims.validate()
        return claims

    return verify


MAKERS: dict[str, Callable[[TokenIssuer], Verify | None]] = {
    "PyJWT": pyjwt,
    "joserfc": joserfc,
    "python-jose": python_jose,
    "jwcrypto": jwcrypto,
    "Authlib": authlib,
}


def check(name: str, verify: Verify, token: str) -> None:
    """Raise unless a good token passes and an altered one does not."""
    verify(token)
    try:
        verify(altered(token))
    except Exception:  # each library has its own
        return
    raise PeerError(f"{name} accepts a token with an altered signature")
