"""The life of signing keys: made once, published before they sign, kept until no token needs them.

Processes share them through the store. Its version is read for each request that needs a key, so
that a key that one process withdraws is withdrawn in all of them at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bearerguard.errors import ConfigurationError, SigningKeyError, StoreUnavailable, quoted
from bearerguard.protocol.jose.jwt import Header, SignedToken
from bearerguard.protocol.jose.signing import PrivateKey
from bearerguard.runtime.process_lock import ProcessLock
from bearerguard.runtime.sealing import SealError
from bearerguard.server.audit import Audit
from bearerguard.server.revocations import Revocations
from bearerguard.server.secret import VARIABLE, ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store import keys as rows
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database
from bearerguard.server.store.versions import Versions, stored
from bearerguard.server.tokens import signing_key
from bearerguard.server.tokens.signing_key import SigningKey

# How long a cache may keep the JWKS.
CACHE_SECONDS = 300
# What signs in a tenth of a millisecond or less. RSA and ML-DSA take ten times as long.
_QUICK = frozenset({"ES256", "EdDSA", "Ed25519"})
# A new key is published for two such times before it signs.
PUBLICATION_LEAD = 2.0 * CACHE_SECONDS


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The stored keys of one version, in the order in which they sign."""

    version: int
    keys: tuple[SigningKey, ...]

    def reached(self, now: float) -> float:
        """Return the time, but not one before the newest key: the clock may have been set back."""
        return max((now, *(key.created_at for key in self.keys)))

    def next(self, now: float) -> float:
        """Return the time at which a new key is made: after all others, which their order needs."""
        return max((now, *(math.nextafter(key.created_at, math.inf) for key in self.keys)))

    def signing(self, now: float) -> SigningKey | None:
        reached = self.reached(now)
        active = [key for key in self.keys if key.active_at <= reached]
        # If all keys before it have retired, a key that waits signs already.
        return next(iter([*active[::-1], *self.keys]), None)

    def published(self, now: float) -> list[SigningKey]:
        return [key for key in self.keys if key.retires_at is None or key.retires_at > now]


class KeyRing:
    """The signing keys of one server."""

    def __init__(
        self,
        *,
        database: Database,
        secret: ServerSecret,
        settings: Settings,
        audit: Audit,
        revocations: Revocations,
        versions: Versions,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._versions = versions
        self._revocations = revocations
        self._sealer = secret.sealer(signing_key.PURPOSE)
        self._newest_sealer = secret.newest_sealer(signing_key.PURPOSE)
        self._settings = settings
        self._audit = audit
        self._clock = clock
        self._private: dict[str, PrivateKey] = {}
        self._snapshot = _Snapshot(-1, ())
        self._rotating = ProcessLock()

    def ensure(self) -> None:
        """Make the first key, or the first of another algorithm, and check the secret.

        It is made once for all processes that start together.

        Raises `ConfigurationError` if the keys were sealed with another secret.
        """
        algorithm = self._settings.signing.algorithm

        def is_wanted(keys: tuple[SigningKey, ...]) -> bool:
            return not keys or keys[-1].algorithm != algorithm

        if is_wanted(self._load().keys):
            self._make(is_wanted, lead=PUBLICATION_LEAD)
        self._signing()
        self._reseal()

    def check_secret(self) -> None:
        """Raise `ConfigurationError` if the newest key was sealed with another secret."""
        for newest in self._load().keys[-1:]:
            self._opened(newest)

    def can_sign(self) -> bool:
        """Whether there is a signing key; raises `ConfigurationError` as `ensure` does."""
        key = self._load().signing(self._clock())
        if key is not None and key.kid not in self._private:
            self._private[key.kid] = self._opened(key)
        return key is not None

    def signs_quickly(self) -> bool:
        """Whether signing takes no longer than handing it to a thread; False before the first."""
        key = self._snapshot.signing(self._clock())
        return key is not None and key.algorithm in _QUICK

    def sign(self, claims: Mapping[str, Any], typ: str) -> str:
        """Return claims as a JWT of type `typ`, signed with the current key."""
        return self._signing().sign({"typ": typ}, claims)

    def verifies(self, token: SignedToken, header: Header) -> bool:
        """Whether a published key of this server signed it."""
        return any(
            key.kid == header.kid
            and key.verification.verifies(header.algorithm, token.signing_input, token.signature)
            for key in self._load().published(self._clock())
        )

    def jwks(self) -> dict[str, Any]:
        """Return the JWK Set (RFC 7517 §5): public members only."""
        return {"keys": [key.jwk for key in self._load().published(self._clock())]}

    def algorithms(self) -> tuple[str, ...]:
        """Return the algorithms of the current and the waiting keys, each once.

        While the store is unavailable, they are those that were read last.
        """
        try:
            snapshot = self._load()
        except StoreUnavailable:
            snapshot = self._snapshot
        now = self._clock()
        signing = snapshot.signing(now)
        return tuple(
            dict.fromkeys(
                key.algorithm for key in snapshot.keys if key is signing or key.active_at > now
            )
        )

    def all(self) -> list[SigningKey]:
        """Return every key, in the order in which they sign."""
        return list(self._load().keys)

    def rotate(self, *, immediately: bool = False) -> str:
        """Make a new key that replaces the current one; return its `kid`.

        It is published now and signs after ten minutes, when every cache has it, or at once with
        `immediately`. If a key waits already, it is returned.
        """
        if not immediately:
            snapshot = self._load()
            reached = snapshot.reached(self._clock())
            waiting = [key for key in snapshot.keys if key.active_at > reached]
            if waiting and waiting[-1].algorithm == self._settings.signing.algorithm:
                return waiting[-1].kid
        return self._make(lambda _: True, lead=0.0 if immediately else PUBLICATION_LEAD)

    def withdraw(self, kid: str) -> str:
        """Withdraw a compromised key; return the `kid` of the key that signs now.

        The key signs and verifies nothing any more, in all processes, and leaves the JWKS at
        once. Guards in the same process, and those that follow the server's revocations, refuse
        its tokens; other guards do so after their next refresh. If it was the current key, a new
        one signs from now on.

        Raises:
            SigningKeyError: there is no key of this `kid`.
        """
        fresh = signing_key.make(self._settings.signing.algorithm, self._sealer)
        with self._database.write() as connection:
            # Read under the write lock: what was signed while this waited is withdrawn, too.
            now = self._clock()
            snapshot = self._read(connection)
            gone = next((key for key in snapshot.keys if key.kid == kid), None)
            if gone is None:
                raise SigningKeyError(
                    f"There is no key {quoted(kid)}: `bearerguard keys list` names them"
                )
            in_use = snapshot.signing(now)
            rows.remove(connection, kid)
            if in_use is gone:
                # Not a key that signed before: it may be compromised as well.
                made = snapshot.next(now)
                rows.add(
                    connection,
                    created_at=made,
                    active_at=made,
                    retires_at=gone.retires_at,
                    **fresh,
                )
            self._keep_newest(connection)
            batch = self._revocations.note(connection, [("kid", kid)], now)
        self._versions.forget()
        self._audit.emit("key_withdrawn", kid=kid, algorithm=gone.algorithm)
        if in_use is gone:
            self._audit.emit(
                "key_made", kid=fresh["kid"], algorithm=self._settings.signing.algorithm
            )
        self._revocations.announce(batch)
        return self._current().kid

    def _keep_newest(self, connection: Connection) -> None:
        """Let the newest key not retire: the key that was to follow it may be withdrawn."""
        newest = self._read(connection).keys[-1]
        if newest.retires_at is not None:
            rows.retire_never(connection, newest.kid)

    def rotate_if_due(self) -> None:
        """Rotate if the newest key has reached its lifetime, once for all processes."""
        if self._is_due(self._load().keys) and self._rotating.acquire(timeout=0):
            try:
                self._make(self._is_due, lead=PUBLICATION_LEAD)
            finally:
                self._rotating.release()

    def _is_due(self, keys: tuple[SigningKey, ...]) -> bool:
        lifetime = self._settings.signing.lifetime
        lead = min(PUBLICATION_LEAD, lifetime / 2)
        return bool(keys) and self._clock() >= keys[-1].active_at + lifetime - lead

    def _make(self, wanted: Callable[[tuple[SigningKey, ...]], bool], *, lead: float) -> str:
        """Add a key if it is still `wanted` under the write lock; return the newest `kid`."""
        values = signing_key.make(self._settings.signing.algorithm, self._sealer)
        with self._database.write() as connection:
            snapshot = self._read(connection)
            keys, now = snapshot.keys, self._clock()
            made = snapshot.next(now)
            # The first key signs at once: no cache can lack it, and there is no other key.
            active_at = snapshot.reached(now) + lead if keys and lead else made
            if not wanted(keys):
                kid = keys[-1].kid
            else:
                kid = values["kid"]
                longest = max(
                    rows.longest_access_lifetime(connection),
                    self._settings.longest_access_lifetime,
                )
                retires_at = active_at + longest + PUBLICATION_LEAD
                rows.retire(connection, active_before=active_at, retires_at=retires_at)
                rows.add(connection, created_at=made, active_at=active_at, **values)
        self._versions.forget()
        if kid == values["kid"]:
            self._audit.emit("key_made", kid=kid, algorithm=self._settings.signing.algorithm)
        return kid

    def _reseal(self) -> None:
        """Seal the keys with the newest secret that were sealed with an older one."""
        with self._database.read() as connection:
            keys = self._read(connection).keys
        changed: dict[str, bytes] = {}
        for key in keys:
            sealed = signing_key.resealed(key, self._sealer, self._newest_sealer)
            if sealed is not None:
                changed[key.kid] = sealed
        if changed:
            with self._database.write() as connection:
                for kid, sealed in changed.items():
                    rows.seal(connection, kid, sealed)
            self._audit.emit("keys_resealed", keys=len(changed))

    def _current(self) -> SigningKey:
        key = self._load().signing(self._clock())
        if key is None:
            raise StoreUnavailable("it has no signing key: they were all removed")
        return key

    def _signing(self) -> PrivateKey:
        key = self._current()
        private = self._private.get(key.kid)
        if private is None:
            private = self._private[key.kid] = self._opened(key)
        return private

    def _opened(self, key: SigningKey) -> PrivateKey:
        try:
            return signing_key.open_private(key, self._sealer)
        except SealError:
            raise ConfigurationError(
                f"{VARIABLE}: the keys in {self._database.name} were sealed with another"
                " secret: set the one that they were made with"
            ) from None

    def _load(self) -> _Snapshot:
        """Return the stored keys, read again if they have changed."""
        snapshot = self._snapshot
        if snapshot.version == self._versions.current().keys:
            return snapshot
        with self._database.read() as connection:
            snapshot = self._read(connection)
        kids = {key.kid for key in snapshot.keys}
        self._private = {kid: each for kid, each in self._private.items() if kid in kids}
        self._snapshot = snapshot
        return snapshot

    def _read(self, connection: Connection) -> _Snapshot:
        """Return the keys that a transaction sees."""
        version = stored(connection).keys
        return _Snapshot(version, tuple(map(SigningKey.from_row, rows.all_keys(connection))))
