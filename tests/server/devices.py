"""A device with a key of its own, and the DPoP proofs that it sends to a server (RFC 9449)."""

from __future__ import annotations

import uuid
from typing import Any

from bearerguard.protocol import names
from bearerguard.protocol.jose.thumbprint import public_jwk, thumbprint
from bearerguard.testing import SigningKey, sign
from tests.server.harness import Harness

TOKEN = "/oauth/token"


class Device:
    """A sender of DPoP proofs; by default with a P-256 key."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.key = SigningKey.generate(algorithm, "device")
        self.jwk: dict[str, Any] = dict(public_jwk(self.key.private.public_key()))
        self.thumbprint: str = thumbprint(self.jwk)

    def proof(
        self,
        harness: Harness,
        head: dict[str, Any] | None = None,
        key: SigningKey | None = None,
        **changed: Any,
    ) -> str:
        """Return a proof for a token request; what is None is left out."""
        claims = {
            "jti": uuid.uuid4().hex,
            "htm": "POST",
            "htu": harness.server.settings.url(TOKEN),
            "iat": int(harness.clock()),
            **changed,
        }
        header = {
            "typ": names.DPOP_PROOF_JWT,
            "alg": self.key.algorithm,
            "jwk": self.jwk,
            **(head or {}),
        }
        return sign(_given(header), _given(claims), key or self.key)


def _given(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
