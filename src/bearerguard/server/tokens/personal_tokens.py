"""Personal access tokens: made by users for their own scripts, long-lived, and ended by them.

They are opaque: an API introspects them, in this process or by `/oauth/introspect`. The store has
their keyed digests. Knows no requests and no pages. Times are Unix seconds.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bearerguard.errors import ConfigurationError, PersonalTokenError, StoreUnavailable, quoted
from bearerguard.protocol import scope
from bearerguard.protocol.http import uri
from bearerguard.protocol.jose.jwt import MAX_FUTURE
from bearerguard.runtime.rate_limits import RateLimit
from bearerguard.server.audit import Audit
from bearerguard.server.clients.client import readable
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.revocations import Kind, Revocations, Revoked
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import DAY, REQUIRED, Settings, check_lifetime, checked_scopes
from bearerguard.server.store import clients
from bearerguard.server.store import personal_tokens as rows
from bearerguard.server.store.connection import Connection, Row
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import USER_ID, is_disabled, is_user_id
from bearerguard.server.tokens import personal_token_format as formats

_KIND, _FORM = "personal token", "personal token form"
# For longer than a form is valid, on a machine whose clock is behind, too.
_FORM_SECONDS = 3 * 3600.0
_YEAR = 366 * DAY
# One that expires while it is being copied is of no use to anybody.
_MIN_LIFETIME = 60.0
_MAX_NAME = 100
# How many tokens a user makes on the page, or a client for a user: each is written, and logged.
PER_MAKER = RateLimit(attempts=20, interval=60)
_OFF = "there are no personal tokens: pass personal_tokens=PersonalTokens() to AuthorizationServer"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonalTokens:
    """Let users make personal access tokens, on the page `/oauth/account/tokens`.

    Args:
        prefix: what the tokens begin with, by which scanners for leaked secrets recognise them: 2
            to 15 small letters and digits, a letter first, and an underscore.
        scopes: the scopes that the tokens may have; by default all of the server's, but for
            `api_scope`.
        lifetime: seconds until a token expires, unless its user chooses another time; a minute at
            least.
        max_lifetime: the longest time that users may choose, in seconds; a year at most.
        per_user: how many tokens a user may have that have not expired.
        max_login_age: seconds since the login after which a user must log in again before the page
            or the API makes a token.
        api_scope: a scope whose access tokens may list, make and end the personal tokens of their
            user at `/oauth/account/api/tokens`. Without it, there is no such API. The consent page
            marks it as powerful, and no client has it that no operator registered.

    Raises:
        ConfigurationError: an option is not valid.
    """

    prefix: str = formats.PREFIX
    scopes: Sequence[str] | None = None
    lifetime: float = 30 * DAY
    max_lifetime: float = 365 * DAY
    per_user: int = 50
    max_login_age: float = 3600
    api_scope: str | None = None

    def __post_init__(self) -> None:
        if not formats.is_prefix(self.prefix):
            raise ConfigurationError(
                f"PersonalTokens(prefix=): {quoted(self.prefix)} is no prefix of 2 to 15 small"
                ' letters and digits, a letter first, and an underscore, such as "acme_"'
            )
        checked_scopes("PersonalTokens(scopes=)", self.scopes)
        for name in ("lifetime", "max_lifetime", "max_login_age"):
            check_lifetime(f"PersonalTokens({name}=)", getattr(self, name))
        if not DAY <= self.max_lifetime <= _YEAR:
            raise ConfigurationError(
                "PersonalTokens(max_lifetime=): pass seconds, from a day to a year"
            )
        if self.lifetime < _MIN_LIFETIME:
            raise ConfigurationError(
                f"PersonalTokens(lifetime=): pass {_MIN_LIFETIME:.0f} seconds at least"
            )
        if self.lifetime > self.max_lifetime:
            raise ConfigurationError(
                "PersonalTokens(lifetime=): must not be longer than max_lifetime="
            )
        given: object = self.per_user
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise ConfigurationError("PersonalTokens(per_user=): pass a number of at least one")
        given = self.api_scope
        if given is not None and not (isinstance(given, str) and scope.is_scope_token(given)):
            raise ConfigurationError(
                'PersonalTokens(api_scope=): pass one scope, such as "tokens:manage"'
            )


@dataclass(frozen=True, slots=True)
class PersonalToken:
    """A personal access token, without its value. Times are Unix seconds.

    Attributes:
        id: what lists name it by; the `jti` of its claims.
        user_id: whose it is; the `sub` of its claims.
        name: what its user calls it.
        scopes: the scopes that it was made for.
        resource: the API that it is for; the `aud` of its claims.
        created_at: when it was made.
        expires_at: when it expires.
        last_used_at: the beginning of the day (UTC) of its last use; None if it was never used.
            A guard that has an introspection response in its cache uses the token unseen.
        client_id: the client that made it by API, the `client_id` of its claims; None if the user
            made it without one.
        client_name: that client's name.
    """

    id: str
    user_id: str
    name: str
    scopes: tuple[str, ...]
    resource: str
    created_at: float
    expires_at: float
    last_used_at: float | None = None
    client_id: str | None = None
    client_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """A client that makes tokens for a user, by a grant that limits them.

    Attributes:
        client_id: its id.
        grant_id: the grant. What the client made by it ends with it.
        scopes: those that the tokens may have.
        resources: the APIs that they may be for, as the server spells them.
    """

    client_id: str
    grant_id: str
    scopes: frozenset[str]
    resources: frozenset[str]


@dataclass(frozen=True, slots=True)
class NewPersonalToken:
    """A new personal access token; its value is not shown again."""

    token: PersonalToken
    value: str = field(repr=False)


class PersonalTokenRegistry:
    """The personal access tokens of one server.

    Without `options`, they can be listed and ended, and none is made or accepted.
    """

    def __init__(
        self,
        options: PersonalTokens | None,
        *,
        database: Database,
        settings: Settings,
        secret: ServerSecret,
        registry: ClientRegistry,
        revocations: Revocations,
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._database = database
        self._settings = settings
        self._secret = secret
        self._clients = registry
        self._revocations = revocations
        self._audit = audit
        self._clock = clock
        self.scopes: tuple[str, ...] = () if options is None else _scopes(options, settings)

    @property
    def options(self) -> PersonalTokens | None:
        """The operator's options; None if the server has no personal tokens."""
        return self._options

    def is_recent(self, auth_time: float | None) -> bool:
        """Whether a login is recent enough to make a token; one at an unknown time is not."""
        if self._options is None or auth_time is None:
            return False
        now = self._clock()
        return auth_time - MAX_FUTURE <= now <= auth_time + self._options.max_login_age

    def add(
        self,
        user_id: str,
        name: str,
        *,
        scopes: Sequence[str],
        lifetime: float | None = None,
        resource: str | None = None,
    ) -> NewPersonalToken:
        """Make a token for a user; its value is in the result, and nowhere else.

        Args:
            user_id: whose it is: the `sub` of the user's tokens.
            name: what the user calls it: 1 to 100 visible characters.
            scopes: at least one, of those that personal tokens may have.
            lifetime: seconds until it expires, from a minute to `PersonalTokens(max_lifetime=)`;
                `PersonalTokens(lifetime=)` by default.
            resource: the API that it is for; the server's first by default.

        Raises:
            ConfigurationError: the server has no personal tokens.
            PersonalTokenError: an argument is not valid, the user has too many tokens, or the
                user's account is disabled.
        """
        return self.add_once(
            user_id, name, scopes=scopes, lifetime=lifetime, resource=resource, once=None
        )

    def add_once(
        self,
        user_id: str,
        name: str,
        *,
        scopes: Sequence[str],
        lifetime: float | None,
        resource: str | None,
        once: str | None,
        may_act: Callable[[Connection, str], bool] | None = None,
        maker: Maker | None = None,
    ) -> NewPersonalToken:
        """Make a token as `add` does, unless one was made for the text `once` lately.

        `may_act` returns whether the user, and who acts for the user, may still act; it is asked in
        the transaction. `maker` is the client that makes it.

        Raises `PersonalTokenError`, with the reason `repeated`.
        """
        options = self._options
        if options is None:
            raise ConfigurationError(f"personal_tokens.add(): {_OFF}")
        now = self._clock()
        self._check_user(user_id)
        client = None if maker is None else self._clients.find(maker.client_id)
        token = PersonalToken(
            id=secrets.token_hex(16),
            user_id=user_id,
            name=_checked_name(name),
            scopes=self._checked(scopes, maker),
            resource=self._resource(resource, maker),
            created_at=now,
            expires_at=now + _checked_lifetime(lifetime, options),
            client_id=None if maker is None else maker.client_id,
            client_name=None if client is None else client.name,
        )
        value = formats.make(options.prefix)
        with self._database.write() as connection:
            if once is not None:
                digests = self._secret.digests(_FORM, once)
                if not clients.use_once(connection, digests, now + _FORM_SECONDS):
                    raise PersonalTokenError("The form was sent before", "repeated")
            if is_disabled(connection, user_id):
                raise PersonalTokenError("The user's account is disabled", "disabled")
            if may_act is not None and not may_act(connection, user_id):
                raise PersonalTokenError("The user may no longer act", "ended")
            if rows.count(connection, user_id, now) >= options.per_user:
                raise PersonalTokenError(
                    f"There are {options.per_user} tokens already: end one first", "too_many"
                )
            rows.add(
                connection,
                token_id=token.id,
                digest=self._secret.digest(_KIND, value),
                user_id=user_id,
                client_id=token.client_id,
                grant_id=None if maker is None else maker.grant_id,
                name=token.name,
                scope=scope.build(token.scopes),
                resource=token.resource,
                created_at=token.created_at,
                expires_at=token.expires_at,
            )
        self._audit.emit(
            "personal_token_added",
            user_id=user_id,
            token_id=token.id,
            **({} if maker is None else {"client_id": maker.client_id}),
            scope=scope.build(token.scopes),
            seconds=int(token.expires_at - now),
        )
        return NewPersonalToken(token, value)

    def list(self, user_id: str) -> Sequence[PersonalToken]:
        """Return the tokens of a user that have not expired, the newest first."""
        found = rows.of_user(self._database, user_id, self._clock())
        return [_token(row) for row in found]

    def end(self, token_id: str, *, user_id: str | None = None) -> bool:
        """End a token: guards in all processes refuse it from now on.

        Args:
            token_id: its id.
            user_id: ends it only if it is this user's.

        Returns:
            Whether there was such a token.
        """
        row = rows.named(self._database, token_id)
        if row is None or (user_id is not None and row.user_id != user_id):
            return False
        return self._end(row)

    def revoke(self, value: str) -> bool:
        """End the token of a value, which has the format of one; False if there is none."""
        row = rows.find(self._database, *self._secret.digests(_KIND, value))
        return row is not None and self._end(row)

    def claims(self, value: str) -> Mapping[str, Any] | None:
        """Return the claims of a valid token, None for any other text.

        A text that has not the format of a token is not looked up.
        """
        if self._options is None or not formats.is_token(value):
            return None
        digests = self._secret.digests(_KIND, value)
        row = rows.find(self._database, *digests)
        now = self._clock()
        if row is None or row.user_is_disabled or now >= row.expires_at:
            return None
        resource = self._settings.resource(row.resource)
        if resource is None:  # it was made before `resources=` was changed
            return None
        self._note(row, digests[0], now)
        return {
            "iss": self._settings.issuer,
            "sub": row.user_id,
            "aud": resource.identifier,
            "iat": int(row.created_at),
            "exp": int(row.expires_at),
            # Guards that cache the response revoke it by this.
            "jti": row.token_id,
            # They revoke what a client made by this, too.
            **({} if row.client_id is None else {"client_id": row.client_id}),
            "scope": scope.build(self._granted(row)),
        }

    def _granted(self, row: Row) -> Sequence[str]:
        """Return the scopes of a token that the operator has not withdrawn since."""
        known = frozenset(self.scopes)
        if row.client_id is not None:
            client = self._clients.find(row.client_id)
            known = known.intersection(() if client is None else client.scopes)
        return [each for each in row.scope.split() if each in known]

    def _note(self, row: Row, newest: str, now: float) -> None:
        """Note the day of a token's use, and renew its digest after a renewal of the secret."""
        day = now - now % DAY
        is_noted = row.last_used_at is not None and row.last_used_at >= day
        if is_noted and row.digest == newest:
            return
        try:
            with self._database.write(concurrent=True) as connection:
                if not is_noted:
                    rows.note_use(connection, row.token_id, day)
                if row.digest != newest:
                    rows.renew(connection, row.token_id, newest)
        except StoreUnavailable as error:
            # The token is valid all the same: a disk that is full refuses writes alone.
            self._audit.emit("store_unavailable", cause=str(error))

    def _end(self, row: Row) -> bool:
        now = self._clock()
        batch: list[Revoked] = []
        with self._database.write(concurrent=True) as connection:
            ended = rows.end(connection, row.token_id)
            if ended:
                # Guards introspect it again long before this entry ends, whenever it would expire.
                longest = max(DAY, self._settings.longest_access_lifetime)
                until = min(row.expires_at, now + longest)
                revoked: tuple[Kind, str] = ("jti", row.token_id)
                batch = self._revocations.note(connection, [revoked], now, until=until)
        if ended:
            self._audit.emit(
                "personal_token_ended", user_id=row.user_id, token_id=row.token_id, reason="asked"
            )
            self._revocations.announce(batch)
        return ended

    def _check_user(self, user_id: object) -> None:
        if not isinstance(user_id, str) or not is_user_id(user_id):
            raise PersonalTokenError(f"user_id: pass the id of a user, which has {USER_ID}", "user")
        # A client's own tokens have its id as their subject (RFC 9700 §4.15).
        if self._clients.find(user_id) is not None:
            raise PersonalTokenError(f"{quoted(user_id)} is a client's id, not a user's", "user")

    def _checked(self, given: Sequence[str], maker: Maker | None) -> tuple[str, ...]:
        wanted = (given,) if isinstance(given, str) else tuple(given)
        known = [name for name in self.scopes if maker is None or name in maker.scopes]
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted:
            found = f"there is no scope {quoted(unknown[0])}" if unknown else "it has no scope"
            raise PersonalTokenError(f"{found}: choose from {known}", "scope")
        return tuple(name for name in known if name in wanted)

    def _resource(self, given: str | None, maker: Maker | None) -> str:
        known = [
            each
            for each in self._settings.resources
            if maker is None or each.identifier in maker.resources
        ]
        found = known[0] if given is None else self._settings.resource(given)
        if found is None or found not in known:
            names = [each.identifier for each in known]
            raise PersonalTokenError(
                f"there is no resource {quoted(given)}: choose from {names}", "resource"
            )
        return found.identifier


def is_for(claims: Mapping[str, Any], introspects: Sequence[str]) -> bool:
    """Whether a token is for one of the APIs that a client introspects for."""
    return uri.normalized(claims["aud"]) in {uri.normalized(each) for each in introspects}


def _scopes(options: PersonalTokens, settings: Settings) -> tuple[str, ...]:
    """Return the scopes that tokens may have; raises `ConfigurationError`."""
    if settings.dpop == REQUIRED:
        raise ConfigurationError(
            'personal_tokens=: no API of this server accepts them, since dpop="required" demands'
            ' tokens that are bound to a key: pass dpop="allowed"'
        )
    known, chosen, own = settings.scopes, options.scopes, options.api_scope
    if known is None and chosen is None:
        raise ConfigurationError(
            "personal_tokens=: name the scopes that users may choose from:"
            " AuthorizationServer(scopes=), or PersonalTokens(scopes=)"
        )
    named = [*(chosen or ()), *([] if own is None else [own])]
    unknown = [name for name in named if known is not None and name not in known]
    if unknown:
        raise ConfigurationError(
            f"personal_tokens=: the server has no scope {quoted(unknown[0])}: add it to"
            f" AuthorizationServer(scopes=), or choose from {list(known or ())}"
        )
    if chosen is not None and own in chosen:
        raise ConfigurationError(
            f"PersonalTokens(scopes=): leave out {quoted(own)}, which is api_scope=: a personal"
            " token can make no other one"
        )
    possible = (known or ()) if chosen is None else chosen
    found = tuple(dict.fromkeys(name for name in possible if name != own))
    if not found:
        raise ConfigurationError(
            "PersonalTokens(scopes=): there is no scope that a token could have: name one"
        )
    return found


def _checked_name(given: object) -> str:
    shown = readable(given, "") if isinstance(given, str) and len(given) <= _MAX_NAME else ""
    if not shown:
        raise PersonalTokenError(
            f"name: choose a readable name of 1 to {_MAX_NAME} visible characters", "name"
        )
    return shown


def _checked_lifetime(given: object, options: PersonalTokens) -> float:
    if given is None:
        return options.lifetime
    longest = options.max_lifetime
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not is_number or not _MIN_LIFETIME <= given <= longest:  # type: ignore[operator]
        days = longest / DAY
        raise PersonalTokenError(
            f"the lifetime is no number of seconds from {_MIN_LIFETIME:.0f} to {days:g} days",
            "lifetime",
        )
    return float(given)  # type: ignore[arg-type] # a number


def _token(row: Row) -> PersonalToken:
    return PersonalToken(
        id=row.token_id,
        user_id=row.user_id,
        name=row.name,
        scopes=tuple(row.scope.split()),
        resource=row.resource,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        client_id=row.client_id,
        client_name=row.client_name,
    )
