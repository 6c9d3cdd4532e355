"""Device codes: a person allows on another device what a device asks for (RFC 8628).

The device polls with its device code; the person knows the user code alone. The time of the last
poll is stored, and what polls that came too soon have added to the interval: a device keeps to the
pace whichever processes it asks.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bearerguard.protocol import names, scope
from bearerguard.server.audit import Audit
from bearerguard.server.clients.client import Client
from bearerguard.server.grants.scopes_and_resources import Scopes, narrowed_resources
from bearerguard.server.grants.token_issuer import TokenIssuer
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http.oauth_error import OAuthError, invalid_grant
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.login.session import SignedIn
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store import devices as rows
from bearerguard.server.store.connection import Connection, Row
from bearerguard.server.store.database import Database
from bearerguard.server.tokens.access_token import Authorization, amr_of, amr_text

# No vowels, so that a code is no word, and no digits (RFC 8628 §6.1). 20^8 codes: 34.5 bits.
ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
_LENGTH = 8
_HALF = _LENGTH // 2
_PREFIX = "bgd_"
_DEVICE, _USER = "device code", "user code"
_UNUSABLE = "The device code is unknown, was used, or is another client's"
# Seconds between two polls, and how many more each that came too soon costs (RFC 8628 §3.2, §3.5).
INTERVAL, _SLOWER = 5, 5.0
# As long as most codes live: further polls that come too soon change nothing.
_SLOWEST = 600.0
# Seconds by which timers and networks may let a poll come too soon.
_TOLERANCE = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAuthorization:
    """What a device gets when it asks (RFC 8628 §3.2); `expires_in` and `interval` are seconds."""

    device_code: str = field(repr=False)
    user_code: str = field(repr=False)
    expires_in: int
    interval: int = INTERVAL


class DeviceCodeGrant:
    """The grant `urn:ietf:params:oauth:grant-type:device_code`."""

    grant_type = names.DEVICE_CODE

    def __init__(
        self,
        *,
        database: Database,
        secret: ServerSecret,
        settings: Settings,
        tokens: TokenIssuer,
        audit: Audit,
        clock: Callable[[], float],
        note_use: Callable[[Connection, Client], None],
    ) -> None:
        self._database = database
        self._secret = secret
        self._settings = settings
        self._tokens = tokens
        self._audit = audit
        self._clock = clock
        self._note_use = note_use

    def issue(
        self, client: Client, scopes: Scopes, resources: Sequence[str]
    ) -> DeviceAuthorization:
        """Return new codes for a device (RFC 8628 §3.2)."""
        device_code, lifetime = _PREFIX + secrets.token_urlsafe(32), self._settings.lifetimes
        now = self._clock()
        with self._database.write(concurrent=True) as connection:
            while True:
                user_code = "".join(secrets.choice(ALPHABET) for _ in range(_LENGTH))
                added = rows.add(
                    connection,
                    digest=self._secret.digest(_DEVICE, device_code),
                    user_code=self._secret.digest(_USER, user_code),
                    client_id=client.client_id,
                    scope=scope.build(scopes.granted),
                    resources=json.dumps(resources),
                    created_at=now,
                    expires_at=now + lifetime.device_code,
                    poll_interval=float(INTERVAL),
                )
                if added:  # else another device has the same user code
                    break
        self._audit.emit(
            "device_code_issued",
            client_id=client.client_id,
            scope=scope.build(scopes.granted),
            ignored_scope=scopes.left_out,
        )
        return DeviceAuthorization(
            device_code=device_code,
            user_code=shown(user_code),
            expires_in=int(lifetime.device_code),
        )

    def find(self, user_code: str) -> Row | None:
        """Return the row of a user code about which somebody may decide, or None."""
        code = normalized(user_code)
        if code is None:
            return None
        digests = self._secret.digests(_USER, code)
        return rows.find_undecided(self._database, digests, self._clock())

    def allow(
        self,
        digest: str,
        client: Client,
        signed_in: SignedIn,
        check: Callable[[Connection], object],
    ) -> bool:
        """Store that a user allows what a device asked for; False if it is too late for that.

        `check` is done first in the transaction, and raises `SessionEnded` if the user's session
        has ended. Raises `OAuthError` while a client of this id is being removed.
        """
        with self._database.write(concurrent=True) as connection:
            check(connection)
            allowed = rows.decide(
                connection,
                digest,
                self._clock(),
                user_id=signed_in.user_id,
                auth_time=signed_in.auth_time,
                acr=signed_in.acr,
                amr=amr_text(signed_in.amr),
                upstream=signed_in.upstream,
                upstream_sid=signed_in.upstream_sid,
            )
            if allowed:
                self._note_use(connection, client)
        return allowed

    def deny(self, digest: str) -> bool:
        """Store that a user refused what a device asked for; False if it is too late for that."""
        with self._database.write(concurrent=True) as connection:
            return rows.decide(connection, digest, self._clock())

    def handle(self, client: Client, parameters: Parameters) -> TokenResponse:
        """Return the tokens for a device code (RFC 8628 §3.4); raises `OAuthError`."""
        digests = self._secret.digests(_DEVICE, parameters.required("device_code"))
        code = rows.find(self._database, digests)
        if code is None:
            raise invalid_grant(_UNUSABLE, "unknown_device_code")
        if code.client_id != client.client_id:
            raise invalid_grant(
                _UNUSABLE, "device_code_of_another_client", issued_to=code.client_id
            )
        self._check(code)
        if code.decided_at is None:
            raise self._pending(code)
        if code.user_id is None:
            raise OAuthError(names.ACCESS_DENIED, "The user refused")
        return self._redeem(client, code, parameters)

    def _check(self, code: Row) -> None:
        """Raise `OAuthError` if a code was redeemed or has expired."""
        if code.redeemed_at is not None:
            raise invalid_grant(_UNUSABLE, "device_code_used", user_id=code.user_id)
        if code.expires_at <= self._clock():
            raise OAuthError(names.EXPIRED_TOKEN, "The device code has expired: ask for another")

    def _pending(self, code: Row) -> OAuthError:
        if self._is_in_time(code):
            return OAuthError(names.AUTHORIZATION_PENDING, "The user has not decided yet")
        return OAuthError(
            names.SLOW_DOWN,
            f"Ask {_SLOWER:.0f} seconds less often from now on (RFC 8628 section 3.5)",
            interval=code.poll_interval,
        )

    def _is_in_time(self, code: Row) -> bool:
        """Note a poll; False if it came too soon."""
        now = self._clock()
        latest = now + _TOLERANCE
        if (
            code.poll_interval >= _SLOWEST
            and code.polled_at <= latest < code.polled_at + code.poll_interval
        ):
            return False  # and changes nothing: a device that floods begins no transactions
        with self._database.write(concurrent=True) as connection:
            return rows.poll(
                connection, code.digest, now, tolerance=_TOLERANCE, more=_SLOWER, most=_SLOWEST
            )

    def _redeem(self, client: Client, code: Row, parameters: Parameters) -> TokenResponse:
        def redeem(connection: Connection) -> None:
            if not rows.redeem(connection, code.digest, self._clock()):
                # Another request redeemed it in between, or it was ended.
                self._check(rows.find(connection, [code.digest]) or code)
                raise invalid_grant(_UNUSABLE, "unknown_device_code")

        # The client may have lost some since.
        scopes = tuple(each for each in code.scope.split() if each in client.scopes)
        granted = tuple(json.loads(code.resources))
        authorization = Authorization(
            client=client,
            subject=code.user_id,
            scopes=scopes,
            resources=narrowed_resources(parameters.resources, granted),
            auth_time=code.auth_time,
            acr=code.acr,
            amr=amr_of(code.amr),
        )
        return self._tokens.issue_granted(
            authorization,
            parameters,
            Scopes(scopes),
            refreshable=True,
            also=redeem,
            resources=granted,
            upstream=code.upstream,
            upstream_sid=code.upstream_sid,
        )


def shown(user_code: str) -> str:
    """Return a user code as people read it: XXXX-XXXX."""
    return f"{user_code[:_HALF]}-{user_code[_HALF:]}"


def normalized(text: str) -> str | None:
    """Return the user code that somebody has typed, or None; case and separators do not matter."""
    letters = "".join(each for each in text.upper() if each.isalnum())
    is_code = len(letters) == _LENGTH and all(each in ALPHABET for each in letters)
    return letters if is_code else None
