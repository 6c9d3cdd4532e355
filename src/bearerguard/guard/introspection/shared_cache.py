"""The introspection cache that workers share: one introspects, the others read its response.

Keys are digests and values are sealed: a stolen store reveals no token and no claim. A store that
is down or altered costs a call to the issuer and nothing else. How long a response may be used is
decided in `introspector`. Knows no Redis.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256

from bearerguard.runtime.effects import Load, Store
from bearerguard.runtime.flow import Flow, ask
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.reporting.outage import Outage
from bearerguard.runtime.sealing import Sealer, SealError

# The purpose of the `Sealer` of this cache.
PURPOSE = "introspection"


class SharedCache:
    """Responses by issuer, resource and token digest, in a store that handles `Load` and `Store`.

    Args:
        sealer: seals the values; made for `PURPOSE`.
        prefix: the prefix of all keys.
        emit: called with a code, the issuer and the cause when the store failed, or had a value
            that was not sealed with these secrets, and when it works again after a failure.
        monotonic: returns seconds that clock changes do not affect.
    """

    def __init__(
        self,
        sealer: Sealer,
        prefix: str = "bearerguard",
        *,
        emit: Callable[[str, str | None, str], None] = lambda _code, _issuer, _cause: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sealer = sealer
        self._emit = emit
        self._outage = Outage(monotonic)
        self._prefix = f"{prefix}:introspection:"

    def get(self, issuer: str, resource: str, digest: bytes) -> Flow[bytes | None]:
        """Return the value, None if it is absent or cannot be opened."""
        place = _place(issuer, resource, digest)
        try:
            sealed = yield from ask(Load(self._prefix + place.hex()))
            self._worked(issuer)
            return None if sealed is None else self._sealer.open(sealed, place)
        except (StoreFailed, SealError) as error:
            self._failed(issuer, error)
            return None  # the issuer is called instead

    def put(
        self, issuer: str, resource: str, digest: bytes, value: bytes, ttl: float
    ) -> Flow[None]:
        """Store a value for `ttl` seconds; a failure is only reported."""
        place = _place(issuer, resource, digest)
        sealed = self._sealer.seal(value, place)
        try:
            yield from ask(Store(self._prefix + place.hex(), sealed, ttl))
            self._worked(issuer)
        except StoreFailed as error:
            self._failed(issuer, error)  # the next worker calls the issuer

    def _failed(self, issuer: str, error: StoreFailed | SealError) -> None:
        if isinstance(error, StoreFailed):
            self._outage.failed()
        self._emit("introspection_cache_failed", issuer, str(error))

    def _worked(self, issuer: str) -> None:
        restored = self._outage.succeeded()
        if restored:
            self._emit("introspection_cache_restored", issuer, restored)


def _place(issuer: str, resource: str, digest: bytes) -> bytes:
    """Return the place of a value, to which its seal is bound: it cannot be moved elsewhere."""
    parts = (issuer.encode(), resource.encode(), digest)
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).digest()
