"""The signing keys over time: made once, published before they sign, kept until all is over.

Processes share them through the store. Each keeps an immutable snapshot for some seconds;
because a key is published long before it signs, no process signs with what others hide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bearerguard.errors import ConfigurationError
from bearerguard.protocol.jwt import Header, SignedToken
from bearerguard.sealing import SealError
from bearerguard.server import signing_key
from bearerguard.server.audit import Audit
from bearerguard.server.process_lock import ProcessLock
from bearerguard.server.secret import VARIABLE, ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.signing_key import SigningKey
from bearerguard.server.store import keys as rows
from bearerguard.server.store.database import Database, StoreUnavailable

# How long others may keep the JWKS.
CACHE_SECONDS = 300
# A new key is published for two such times before it signs.
PUBLICATION_LEAD = 2.0 * CACHE_SECONDS
# How long a process believes its copy; and how long when it misses something.
_RELOAD, _RELOAD_SOON = 10.0, 1.0


@dataclass(frozen=True, slots=True)
class _Snapshot:
    keys: tuple[SigningKey, ...]
    read_at: float

    def signing(self, now: float) -> SigningKey | None:
        active = [key for key in self.keys if key.active_at <= now]
        return active[-1] if active else None

    def published(self, now: float) -> list[SigningKey]:
        return [key for key in self.keys if key.retires_at is None or key.retires_at > now]


class KeyRing:
    """The signing keys of one server."""

    def __init__(
        self,
        database: Database,
        secret: ServerSecret,
        settings: Settings,
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._sealer = secret.sealer("signing keys")
        self._newest_sealer = secret.newest_sealer("signing keys")
        self._settings = settings
        self._audit = audit
        self._clock = clock
        self._private: dict[str, Any] = {}
        self._snapshot = _Snapshot((), float("-inf"))
        self._rotating = ProcessLock()

    def ensure(self) -> None:
        """Make the first key, once however many processes start; check that the secret fits.

        Raises `ConfigurationError` when another secret sealed the keys.
        """
        newest = self._load().keys[-1:]
        if not newest:
            self._make(lambda keys: not keys, lead=0.0)
        elif newest[0].algorithm != self._settings.algorithm:
            self.rotate()
        self._signing()
        self._seal_anew()

    def check_secret(self) -> None:
        """Raise `ConfigurationError` when another secret sealed the newest key, if there is one."""
        for newest in self._load().keys[-1:]:
            self._opened(newest)

    def sign(self, claims: Mapping[str, Any], typ: str) -> str:
        """Return claims as a JWT of type `typ`, signed with the key whose turn it is."""
        key, private = self._signing()
        return signing_key.sign({"alg": key.algorithm, "typ": typ, "kid": key.kid}, claims, private)

    def verifies(self, token: SignedToken, header: Header) -> bool:
        """Whether a published key of this server signed it."""
        keys = self._published(_RELOAD)
        if all(key.kid != header.kid for key in keys):
            keys = self._published(_RELOAD_SOON)
        return any(
            key.kid == header.kid
            and key.verification.verifies(header.algorithm, token.signing_input, token.signature)
            for key in keys
        )

    def jwks(self) -> dict[str, Any]:
        """Return the JWK Set (RFC 7517 §5): public members only."""
        return {"keys": [key.jwk for key in self._published(_RELOAD_SOON)]}

    def algorithms(self) -> tuple[str, ...]:
        """Return the algorithms of the key that signs and of those that will, each once.

        While the store has trouble, what was read last still tells.
        """
        try:
            snapshot = self._current(_RELOAD)
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
        """Let a new key take over; return its kid.

        It is published now and signs ten minutes later, when no cache lacks it, or at once
        with `immediately`. One that waits for its turn already is that key.
        """
        now = self._clock()
        if not immediately:
            waiting = [key for key in self._load().keys if key.active_at > now]
            if waiting and waiting[-1].algorithm == self._settings.algorithm:
                return waiting[-1].kid
        return self._make(lambda _: True, lead=0.0 if immediately else PUBLICATION_LEAD)

    def rotate_if_due(self) -> None:
        """Rotate when the newest key has served its time, once however many processes look."""
        if self._is_due(self._current(_RELOAD).keys) and self._rotating.acquire(timeout=0):
            try:
                self._make(self._is_due, lead=PUBLICATION_LEAD)
            finally:
                self._rotating.release()

    def _is_due(self, keys: tuple[SigningKey, ...]) -> bool:
        lifetime = self._settings.key_lifetime
        lead = min(PUBLICATION_LEAD, lifetime / 2)
        return bool(keys) and self._clock() >= keys[-1].active_at + lifetime - lead

    def _make(self, wanted: Callable[[tuple[SigningKey, ...]], bool], *, lead: float) -> str:
        """Add a key unless, when the write lock is held, it is `wanted` no longer."""
        values = signing_key.make(self._settings.algorithm, self._sealer)
        now = self._clock()
        with self._database.write() as connection:
            keys = tuple(map(SigningKey.from_row, rows.all_keys(connection)))
            # Before the first, nobody has a copy that lacks it, and nothing else could sign.
            active_at = now + (lead if keys else 0.0)
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
                rows.add(connection, created_at=now, active_at=active_at, **values)
        self._load()
        if kid == values["kid"]:
            self._audit.emit("key_made", kid=kid, algorithm=self._settings.algorithm)
        return kid

    def _seal_anew(self) -> None:
        """Seal with the newest secret whatever an older one sealed."""
        with self._database.read() as connection:
            keys = tuple(map(SigningKey.from_row, rows.all_keys(connection)))
        changed: dict[str, bytes] = {}
        for key in keys:
            sealed = signing_key.sealed_anew(key, self._sealer, self._newest_sealer)
            if sealed is not None:
                changed[key.kid] = sealed
        if changed:
            with self._database.write() as connection:
                for kid, sealed in changed.items():
                    rows.seal(connection, kid, sealed)
            self._load()
            self._audit.emit("keys_sealed_anew", keys=len(changed))

    def _signing(self) -> tuple[SigningKey, Any]:
        key = self._current(_RELOAD).signing(self._clock())
        if key is None:
            raise ConfigurationError("store=: it has no signing key: its clock ran backwards")
        private = self._private.get(key.kid)
        if private is None:
            private = self._private[key.kid] = self._opened(key)
        return key, private

    def _opened(self, key: SigningKey) -> Any:
        try:
            return signing_key.open_private(key, self._sealer)
        except SealError:
            raise ConfigurationError(
                f"{VARIABLE}: the keys in {self._database.path} were sealed with another"
                " secret: set the one they were made with"
            ) from None

    def _published(self, reload_after: float) -> list[SigningKey]:
        return self._current(reload_after).published(self._clock())

    def _current(self, reload_after: float) -> _Snapshot:
        snapshot = self._snapshot
        if 0.0 <= self._clock() - snapshot.read_at < reload_after:
            return snapshot
        return self._load()

    def _load(self) -> _Snapshot:
        now = self._clock()
        with self._database.read() as connection:
            keys = tuple(map(SigningKey.from_row, rows.all_keys(connection)))
        self._snapshot = _Snapshot(keys, now)
        return self._snapshot
