"""For the tests of an API: an issuer in this process, which signs genuine tokens and can fail."""

from bearerguard.testing.local_issuer import LocalIssuer
from bearerguard.testing.signing_key import SigningKey, sign

__all__ = ["LocalIssuer", "SigningKey", "sign"]
