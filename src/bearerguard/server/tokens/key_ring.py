"""The signing keys over time: made once, published before they sign, kept until all is over.

Processes share them through the store, which is read whenever a key is needed: what one process
withdraws is gone from all of them at once. Only what was parsed of a row is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row

from bearerguard.errors import ConfigurationError, SigningKeyError, StoreUnavailable, quoted
from bearerguard.protocol.jose.jwt import Header, SignedToken
from bearerguard.runtime.process_lock import ProcessLock
from bearerguard.runtime.sealing import SealError
from bearerguard.server.audit import Audit
from bearerguard.server.secret import VARIABLE, ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store import keys as rows
from bearerguard.server.store.database import Database
from bearerguard.server.tokens import signing_key
from bearerguard.server.tokens.revocations import Revocations
from bearerguard.server.tokens.signing_key import SigningKey

# How long others may keep the JWKS.
CACHE_SECONDS = 300
# A new key is published for two such times before it signs.
PUBLICATION_LEAD = 2.0 * CACHE_SECONDS


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The keys of the store, in the order in which they sign."""

    rows: tuple[Row[Any], ...] = field(repr=False)
    keys: tuple[SigningKey, ...]

    def reached(self, now: float) -> float:
        """Return a time that has come for certain, though the clock may have been set back."""
        return max((now, *(key.created_at for key in self.keys)))

    def signing(self, now: float) -> SigningKey | None:
        reached = self.reached(now)
        active = [key for key in self.keys if key.active_at <= reached]
        # A key that waits signs rather than none, where those before it have retired.
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
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._revocations = revocations
        self._sealer = secret.sealer("signing keys")
        self._newest_sealer = secret.newest_sealer("signing keys")
        self._settings = settings
        self._audit = audit
        self._clock = clock
        self._private: dict[str, Any] = {}
        self._snapshot = _Snapshot((), ())
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

    def verifies(self, connection: Connection, token: SignedToken, header: Header) -> bool:
        """Whether a published key of this server signed it."""
        return any(
            key.kid == header.kid
            and key.verification.verifies(header.algorithm, token.signing_input, token.signature)
            for key in self._read(connection).published(self._clock())
        )

    def jwks(self) -> dict[str, Any]:
        """Return the JWK Set (RFC 7517 §5): public members only."""
        return {"keys": [key.jwk for key in self._load().published(self._clock())]}

    def algorithms(self) -> tuple[str, ...]:
        """Return the algorithms of the key that signs and of those that will, each once.

        While the store has trouble, what was read last still tells.
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
        """Let a new key take over; return its kid.

        It is published now and signs ten minutes later, when no cache lacks it, or at once
        with `immediately`. One that waits for its turn already is that key.
        """
        if not immediately:
            snapshot = self._load()
            reached = snapshot.reached(self._clock())
            waiting = [key for key in snapshot.keys if key.active_at > reached]
            if waiting and waiting[-1].algorithm == self._settings.algorithm:
                return waiting[-1].kid
        return self._make(lambda _: True, lead=0.0 if immediately else PUBLICATION_LEAD)

    def withdraw(self, kid: str) -> str:
        """Withdraw a key that others know; return the kid of the key that signs now.

        It signs and verifies nothing any more, here and in every other process, and leaves the
        JWKS at once; guards beside a server, and those that follow its revocations, refuse what
        it signed. Guards that have only the JWKS refuse it from their next refresh on. Where it
        was the key in use, a new one signs from now on. Raises `SigningKeyError` for a kid that
        is none.
        """
        fresh = signing_key.make(self._settings.algorithm, self._sealer)
        with self._database.write() as connection:
            # Not earlier: what was signed while this waited for the lock is meant too.
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
                # Never one that signed before: whoever took this one may have that, too.
                reached = snapshot.reached(now)
                rows.add(
                    connection,
                    created_at=reached,
                    active_at=reached,
                    retires_at=gone.retires_at,
                    **fresh,
                )
            self._keep_newest(connection)
            self._revocations.note(connection, [("kid", kid)], now)
        self._audit.emit("key_withdrawn", kid=kid, algorithm=gone.algorithm)
        if in_use is gone:
            self._audit.emit("key_made", kid=fresh["kid"], algorithm=self._settings.algorithm)
        self._revocations.announce(("kid", kid))
        return self._signing()[0].kid

    def _keep_newest(self, connection: Connection) -> None:
        """See to it that the newest key has no end: the one that was to follow it may be gone."""
        newest = self._read(connection).keys[-1]
        if newest.retires_at is not None:
            rows.retire_never(connection, newest.kid)

    def rotate_if_due(self) -> None:
        """Rotate when the newest key has served its time, once however many processes look."""
        if self._is_due(self._load().keys) and self._rotating.acquire(timeout=0):
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
        with self._database.write() as connection:
            snapshot = self._read(connection)
            keys, now = snapshot.keys, snapshot.reached(self._clock())
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
        if kid == values["kid"]:
            self._audit.emit("key_made", kid=kid, algorithm=self._settings.algorithm)
        return kid

    def _seal_anew(self) -> None:
        """Seal with the newest secret whatever an older one sealed."""
        with self._database.read() as connection:
            keys = self._read(connection).keys
        changed: dict[str, bytes] = {}
        for key in keys:
            sealed = signing_key.sealed_anew(key, self._sealer, self._newest_sealer)
            if sealed is not None:
                changed[key.kid] = sealed
        if changed:
            with self._database.write() as connection:
                for kid, sealed in changed.items():
                    rows.seal(connection, kid, sealed)
            self._audit.emit("keys_sealed_anew", keys=len(changed))

    def _signing(self) -> tuple[SigningKey, Any]:
        key = self._load().signing(self._clock())
        if key is None:
            raise StoreUnavailable("it has no signing key: somebody removed them all")
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

    def _load(self) -> _Snapshot:
        with self._database.read() as connection:
            return self._read(connection)

    def _read(self, connection: Connection) -> _Snapshot:
        """Return the keys as the transaction sees them; what is known of a row is not parsed."""
        found = tuple(rows.all_keys(connection))
        snapshot = self._snapshot
        if found != snapshot.rows:
            snapshot = _Snapshot(found, tuple(map(SigningKey.from_row, found)))
            kids = {key.kid for key in snapshot.keys}
            self._private = {kid: each for kid, each in self._private.items() if kid in kids}
            self._snapshot = snapshot
        return snapshot
