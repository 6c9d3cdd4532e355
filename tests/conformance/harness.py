"""The harness of a scenario: a real issuer, a clock that it may set, a guard and an adapter."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bearerguard import Guard
from bearerguard.protocol.jose import base64url
from bearerguard.testing import LocalIssuer, SigningKey, sign
from bearerguard.testing.signing_key import Segment
from tests.conformance.drivers import AppHeaders, Call, Headers, Protected, Received, Sent

NOON = 1_800_000_000.0
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


_NAMED = frozenset({"expires_in", "header", "key"})


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@functools.cache
def _shared_issuer(algorithm: str) -> LocalIssuer:
    # RSA keys take long to make. Scenarios that change their issuer get their own.
    return LocalIssuer("https://issuer.test", algorithm=algorithm, clock=Clock())


class Harness:
    """What one scenario runs in, with one driver."""

    def __init__(
        self,
        call: Call,
        *,
        algorithm: str,
        own_issuer: bool,
        issuer_options: dict[str, Any],
        introspection: Mapping[str, Any] | None = None,
        guard_options: dict[str, Any],
        adapter_options: dict[str, Any],
        app_headers: AppHeaders,
    ) -> None:
        self.clock = Clock()
        if own_issuer:
            self.issuer = LocalIssuer("https://issuer.test", algorithm=algorithm, clock=self.clock)
        else:
            self.issuer = _shared_issuer(algorithm)
        if introspection is not None:
            how = self.issuer.introspection.options(**introspection)
            issuer_options = {**issuer_options, "introspection": how}
        self.guard = Guard(
            self.issuer.issuer(**issuer_options),
            transport=self.issuer.transport(),
            clock=self.clock,
            **guard_options,
        )
        self._call = call
        self._protected = Protected(self.guard, adapter_options, app_headers)

    def request(self, headers: Headers, **options: Any) -> Received:
        """Send a request; `options` are those of `Sent`."""
        return self._call(self._protected, Sent(headers, **options))

    def token(self, **options: Any) -> str:
        """Return a token; `options` are those of `LocalIssuer.token`, and claims."""
        return self.issuer.token(**with_claims({"scope": "read", **options}))

    def bearer(self, **options: Any) -> Headers:
        return bearer(self.token(**options))

    def opaque(self, **options: Any) -> Headers:
        return bearer(self.issuer.opaque_token(**with_claims({"scope": "read", **options})))

    # Forgeries, and malformed tokens with valid signatures

    def forge(self, header: Segment, payload: Segment) -> str:
        """Sign exactly this with the issuer's key."""
        return sign(header, payload, self.issuer.key)

    def forge_hmac(self, secret: str | bytes, header: str, claims: dict[str, Any]) -> str:
        octets = secret.encode() if isinstance(secret, str) else secret
        return sign(header.encode(), claims, SigningKey("HS256", None, octets))

    def forge_hmac_with_public_key(self) -> str:
        """Use the published key as the shared secret."""
        pem = self.issuer.key.private.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        return self.token(key=SigningKey("HS256", self.issuer.key.kid, pem))

    def forge_with_own_key(self, *, named: bool = False) -> str:
        """Sign with a key that the token brings along, if `named` under the issuer's kid."""
        own = SigningKey.generate("ES256", self.issuer.key.kid if named else "own")
        brought = {"jwk": own.jwk(), "jku": "https://evil.test/jwks", "x5u": "https://evil.test"}
        return self.token(key=own, header=brought)

    def twist(self, token: str) -> str:
        return twisted(token)

    def with_der_signature(self) -> str:
        """An ECDSA signature in the form that X.509 uses, not JOSE."""
        signing_input, _, signature = self.token().rpartition(".")
        octets = base64url.decode(signature.encode())
        r, s = (int.from_bytes(half, "big") for half in (octets[:32], octets[32:]))
        der = base64url.encode(encode_dss_signature(r, s))
        return f"{signing_input}.{der.decode()}"


def with_claims(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `LocalIssuer.token`: what it does not take by name is a claim."""
    named = {name: value for name, value in options.items() if name in _NAMED}
    return {**named, "claims": {each: options[each] for each in options if each not in _NAMED}}


def twisted(token: str) -> str:
    """Return the token with the same P-256 signature in its other form, s → n - s."""
    signing_input, _, signature = token.rpartition(".")
    octets = base64url.decode(signature.encode())
    r, s = octets[:32], int.from_bytes(octets[32:], "big")
    other = base64url.encode(r + (_P256_ORDER - s).to_bytes(32, "big"))
    return f"{signing_input}.{other.decode()}"


def bearer(token: str | bytes) -> Headers:
    octets = token.encode("latin-1") if isinstance(token, str) else token
    return [("Authorization", b"Bearer " + octets)]
