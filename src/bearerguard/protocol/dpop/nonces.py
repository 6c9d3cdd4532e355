"""Nonces that a server demands in DPoP proofs (RFC 9449 §8, §9, §11.3), without storage.

A nonce is the time at which it was made, with a code over it (HMAC-SHA-256) that only the holders
of a secret can make. So every process with the secret accepts the nonces of the others, none needs
to be stored, and no sender can make one in advance.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence

from bearerguard.protocol.jose import base64url
from bearerguard.runtime.sealing import Secret, secret_list

# The octets of a nonce: the time in whole seconds, and the code, which is as hard to guess as a
# key of 128 bits.
_TIME, _CODE = 6, 16
_LENGTH = (_TIME + _CODE) * 8 // 6 + 1
# Seconds by which the clocks of two machines may differ.
_SKEW = 30


class Nonces:
    """Makes nonces, and says whether one may be used.

    Args:
        secret: at least 32 bytes, the same in each process; or a list, newest first, to renew it:
            the first makes nonces, all accept theirs.
        purpose: what the nonces are for. Those of another purpose are refused, so that an API and
            an authorization server may have the same secret.
        max_age: seconds for which a nonce may be used.

    Raises:
        ConfigurationError: a secret is missing or too short.
    """

    def __init__(
        self, secret: Secret | Sequence[Secret], *, purpose: str, max_age: float = 300.0
    ) -> None:
        info = b"bearerguard DPoP nonce 1: " + purpose.encode()
        self._keys = [hmac.digest(each, info, "sha256") for each in secret_list(secret)]
        self.max_age: float = max_age

    def make(self, now: float) -> str:
        """Return the nonce of this second; `now` is in Unix seconds."""
        made = int(now).to_bytes(_TIME, "big")
        return base64url.encode(made + _code(self._keys[0], made)).decode("ascii")

    def accepts(self, nonce: str, now: float) -> bool:
        """Whether a nonce was made with one of the secrets, and not too long ago."""
        octets = _octets(nonce)
        if octets is None:
            return False
        made = octets[:_TIME]
        if not -_SKEW <= now - int.from_bytes(made, "big") <= self.max_age:
            return False
        return any(hmac.compare_digest(octets[_TIME:], _code(key, made)) for key in self._keys)

    def is_old(self, nonce: str, now: float) -> bool:
        """Whether the sender of an accepted nonce should get a new one (§8.2).

        It should from the middle of its life on, so that no request of a busy client is refused.
        """
        octets = _octets(nonce)
        return octets is None or now - int.from_bytes(octets[:_TIME], "big") >= self.max_age / 2

    def __repr__(self) -> str:
        return "Nonces()"


def _code(key: bytes, made: bytes) -> bytes:
    return hmac.digest(key, made, "sha256")[:_CODE]


def _octets(nonce: str) -> bytes | None:
    if len(nonce) != _LENGTH or not nonce.isascii():
        return None
    try:
        return base64url.decode(nonce.encode("ascii"))
    except ValueError:
        return None
