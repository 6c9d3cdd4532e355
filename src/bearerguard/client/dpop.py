"""DPoP proofs for one key (RFC 9449): a new one for each request, with the nonce of its origin.

The nonces of an authorization server are not those of an API: each origin has its own (§8, §9).
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from bearerguard.protocol import dpop
from bearerguard.protocol.jose import signing
from bearerguard.protocol.resource_metadata import origin


class Proofs:
    """Makes proofs with `key`, the private JWK as JSON.

    `nonces` are those known by now, by origin; they are noted there.
    """

    def __init__(
        self,
        key: str,
        *,
        clock: Callable[[], float] = time.time,
        nonces: dict[str, str] | None = None,
    ) -> None:
        self.key = key
        self._signer = signing.private_key(json.loads(key))
        # What a code is bound to (RFC 9449 §10).
        self.thumbprint: str = dpop.key_thumbprint(self._signer)
        self._clock = clock
        self._nonces: dict[str, str] = {} if nonces is None else nonces

    def proof(
        self, method: str, url: str, access_token: str | None = None, body: bytes | None = None
    ) -> str:
        """Return a proof for one request, with the last nonce of its origin.

        It has the digest of `body`, unless that is None.
        """
        return dpop.proof(
            self._signer,
            method,
            url,
            now=self._clock(),
            jti=secrets.token_urlsafe(16),
            nonce=self._nonces.get(origin(url)),
            access_token=access_token,
            body=body,
        )

    def note(self, url: str, field: str | None) -> bool:
        """Note the `DPoP-Nonce` field of a response from `url`; whether it is a new one."""
        nonce = None if field is None else dpop.nonce([field])
        if nonce is None or self._nonces.get(origin(url)) == nonce:
            return False
        self._nonces[origin(url)] = nonce
        return True

    def __repr__(self) -> str:
        return "Proofs()"


def new_key() -> str:
    """Return a new private JWK (P-256), as JSON."""
    return str(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1())))
