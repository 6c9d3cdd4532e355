"""Building DPoP proofs (RFC 9449 §4.2), and the parts that building and checking share.

These are the target without query and fragment (`htu`), the digest of the access token (`ath`),
the digest of the body (`content_digest`) and the grammar of a nonce. The caller gives the time and
the identifier of a proof.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from bearerguard.protocol import names
from bearerguard.protocol.jose import base64url
from bearerguard.protocol.jose.signing import PrivateKey
from bearerguard.protocol.jose.thumbprint import public_jwk, thumbprint

# NQCHAR of RFC 6749 appendix A (RFC 9449 §8.1); the length is our limit.
_NONCE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,1024}")

#: The confirmation method of a token that is bound to a key by DPoP (§6.1): its thumbprint.
JKT = "jkt"

_DEFAULT_PORTS = {"https": 443, "http": 80}


def proof(
    key: PrivateKey,
    method: str,
    url: str,
    *,
    now: float,
    jti: str,
    access_token: str | None = None,
    nonce: str | None = None,
    body: bytes | None = None,
) -> str:
    """Return a proof for one request (RFC 9449 §4.2).

    Args:
        key: the private key that the sender holds.
        method: the request's method, as it is sent.
        url: the request's absolute URL.
        now: Unix seconds.
        jti: the identifier of this proof alone, with at least 96 random bits.
        access_token: the token that the request carries, if it carries one.
        nonce: the server's last nonce, if it gave one.
        body: the request's body, for the claim `content_digest`; None leaves it out.

    Raises:
        ValueError: the URL cannot be a target of requests.
    """
    claims: dict[str, Any] = {"jti": jti, "htm": method, "htu": target(url), "iat": int(now)}
    if access_token is not None:
        claims["ath"] = token_digest(access_token)
    if nonce is not None:
        claims["nonce"] = nonce
    if body is not None:
        claims["content_digest"] = content_digest(body)
    header: Mapping[str, Any] = {
        "typ": names.DPOP_PROOF_JWT,
        "jwk": public_jwk(key.private.public_key()),
    }
    return key.sign(header, claims)


def key_thumbprint(key: PrivateKey) -> str:
    """Return the thumbprint of the public key: `dpop_jkt`, and `jkt` in a bound token."""
    return thumbprint(public_jwk(key.private.public_key()))


def token_type(confirmation: object) -> str:
    """Return the type of a token with this `cnf`, which may be None: how it is sent (§5, §7.1)."""
    is_bound = isinstance(confirmation, Mapping) and JKT in confirmation
    return names.DPOP if is_bound else names.BEARER


def target(url: str) -> str:
    """Return the `htu` of a URL: without query and fragment, its host in one spelling.

    Scheme and host are lower case, a default port is left out, and an empty path is `/`
    (RFC 9110 §4.2.3). The path is not normalised. Raises ValueError for anything but an absolute
    http(s) URL, and for a URL with a user name or password.
    """
    parts = urlsplit(url)
    scheme, host = parts.scheme, parts.hostname
    if scheme not in _DEFAULT_PORTS or not host:
        raise ValueError("not an absolute http(s) URL")
    if "@" in parts.netloc:
        raise ValueError("the URL holds a user name or password")
    name = f"[{host}]" if ":" in host else host
    port = parts.port
    authority = name if port in {None, _DEFAULT_PORTS[scheme]} else f"{name}:{port}"
    return f"{scheme}://{authority}{parts.path or '/'}"


def token_digest(access_token: str) -> str:
    """Return the `ath` of an access token (§4.2)."""
    return base64url.encode(hashlib.sha256(access_token.encode("ascii")).digest()).decode("ascii")


def content_digest(body: bytes) -> str:
    """Return the digest of a body as a Content-Digest field has it (RFC 9530 §2)."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"


def nonce(fields: Sequence[str]) -> str | None:
    """Return the nonce in `DPoP-Nonce` fields, None unless there is one, and it is valid."""
    if len(fields) != 1 or _NONCE.fullmatch(fields[0]) is None:
        return None
    return fields[0]
