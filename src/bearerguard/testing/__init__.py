"""For tests: an issuer in this process that signs genuine tokens and fails on demand."""

from bearerguard.testing.local_issuer import LocalIssuer
from bearerguard.testing.signing_key import SigningKey, sign

__all__ = ["LocalIssuer", "SigningKey", "sign"]
