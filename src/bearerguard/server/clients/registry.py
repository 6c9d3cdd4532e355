"""The registered clients: adding, finding, listing, removing, and their secrets.

A secret is shown once, when it is made; the store has its keyed digest. A new secret leaves
the old one valid for an overlap, so that a client can be moved over without an outage.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bearerguard.errors import BearerGuardError, ConfigurationError
from bearerguard.server.audit import Audit
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.client import Client
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Settings, check_duration
from bearerguard.server.store import clients as rows
from bearerguard.server.store.database import Database
from bearerguard.server.tokens.revocations import Revocations

# Without digits and words of its own, a prefix lets scanners for leaked secrets find them.
_SECRET_PREFIX = "bgs_"  # noqa: S105 - it begins each secret
_MIN_SECRET = 32


class ClientError(BearerGuardError, ValueError):
    """There is no such client, or there is one already."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A client and, this once, its secret (None for a client without one)."""

    client: Client
    client_secret: str | None = field(repr=False)

    @property
    def client_id(self) -> str:
        """The client's identifier."""
        return self.client.client_id


class ClientRegistry:
    """The clients of one server."""

    def __init__(
        self,
        *,
        database: Database,
        secret: ServerSecret,
        settings: Settings,
        grants: clients.Grants,
        revocations: Revocations,
        audit: Audit,
        clock: Callable[[], float],
        finish_removals: Callable[[], object],
    ) -> None:
        self._database = database
        self._secret = secret
        self._settings = settings
        self._grants = grants
        self._revocations = revocations
        self._audit = audit
        self._clock = clock
        self._finish_removals = finish_removals

    def add(
        self,
        name: str,
        *,
        client_id: str | None = None,
        client_secret: str | None = None,
        public: bool = False,
        auth_method: str | None = None,
        redirect_uris: Sequence[str] = (),
        grant_types: Sequence[str] | None = None,
        scopes: Sequence[str] = (),
        serves: Sequence[str] = (),
        origins: Sequence[str] = (),
        require_pkce: bool = True,
        require_consent: bool = True,
        jwks: Mapping[str, Any] | None = None,
        access_token_lifetime: float | None = None,
        refresh_token_lifetime: float | None = None,
        refresh_token_max_lifetime: float | None = None,
    ) -> Registered:
        """Register a client; its secret is in the answer, and nowhere else.

        Args:
            name: what people know it by: 1 to 100 visible characters.
            client_id: its identifier, if it is to have a certain one.
            client_secret: its secret, if it is to keep one; at least 32 characters.
            public: whether it cannot keep a secret: an app on a phone or in a browser.
            auth_method: how it authenticates; "client_secret" (in the header or in the form),
                "client_secret_basic", "client_secret_post", "private_key_jwt" or "none".
            redirect_uris: where users may be sent back to, compared letter by letter.
            grant_types: of those that the server has (`AuthorizationServer.grants`); by default
                authorization_code, refresh_token and client_credentials as far as they fit.
            scopes: what it may ask for, and what it gets when it asks for nothing.
            serves: the resources whose tokens it may introspect.
            origins: the origins of its pages, which may call the token endpoint (CORS); of an
                app in a web view, such as "capacitor://localhost", too.
            require_pkce: False lets a confidential client do without PKCE. Then it must
                send its redirect_uri to the token endpoint too.
            require_consent: False for an app of the house, whose users are not asked.
            jwks: its public keys, for private_key_jwt.
            access_token_lifetime: seconds, instead of the server's.
            refresh_token_lifetime: seconds that a refresh token may idle.
            refresh_token_max_lifetime: seconds from the user's consent to the next.

        Raises:
            ConfigurationError: an argument is unsafe or does not fit another.
            ClientError: there is such a client already.
        """
        for option, given in (
            ("redirect_uris", redirect_uris),
            ("scopes", scopes),
            ("serves", serves),
            ("origins", origins),
            ("grant_types", grant_types),
        ):
            if isinstance(given, str):
                raise ConfigurationError(f"{option}=: pass a list, not one string")
        if auth_method is None:
            with_keys = clients.PRIVATE_KEY_JWT if jwks is not None else clients.SECRET
            auth_method = clients.NONE if public else with_keys
        client = Client(
            client_id=client_id or f"client-{secrets.token_hex(12)}",
            name=name,
            auth_method=auth_method,
            grant_types=_grant_types(grant_types, auth_method, redirect_uris),
            redirect_uris=tuple(redirect_uris),
            scopes=tuple(dict.fromkeys(scopes)),
            serves=_registered(serves, self._settings),
            origins=tuple(dict.fromkeys(origins)),
            require_pkce=require_pkce,
            require_consent=require_consent,
            jwks=jwks,
            access_token_lifetime=access_token_lifetime,
            refresh_token_lifetime=refresh_token_lifetime,
            refresh_token_max_lifetime=refresh_token_max_lifetime,
            created_at=self._clock(),
        )
        clients.check(client, self._settings, self._grants)
        secret = self._first_secret(client, client_secret)
        self._insert(client, secret)
        self._audit.emit("client_added", client_id=client.client_id, method=auth_method)
        return Registered(client, secret)

    def find(self, client_id: str) -> Client | None:
        """Return a client, or None."""
        with self._database.read() as connection:
            row = rows.find(connection, client_id)
            if row is None:
                return None
            return Client.from_row(row, tuple(rows.origins_of(connection, client_id)))

    def get(self, client_id: str) -> Client:
        """Return a client; raises `ClientError` if there is none."""
        client = self.find(client_id)
        if client is None:
            raise _unknown(client_id)
        return client

    def all(self) -> list[Client]:
        """Return every client, the oldest first."""
        with self._database.read() as connection:
            return [
                Client.from_row(row, tuple(rows.origins_of(connection, row.client_id)))
                for row in rows.all_clients(connection)
            ]

    def rotate_secret(self, client_id: str, *, overlap: float | None = None) -> str:
        """Return a new secret; the old one stays valid for `overlap` seconds (a day).

        Raises `ConfigurationError` for an overlap that is no time, and `ClientError` for a
        client that is not there, or has no secret.
        """
        if overlap is not None:
            check_duration("overlap=", overlap)
        if self.get(client_id).auth_method not in clients.WITH_SECRET:
            raise ClientError(f"The client {client_id!r} has no secret")
        seconds = self._settings.lifetimes.client_secret_overlap if overlap is None else overlap
        secret, now = _new_secret(), self._clock()
        with self._database.write() as connection:
            rows.end_secrets(connection, client_id, now + seconds)
            rows.add_secret(connection, client_id, self._digests(client_id, secret)[0], now)
        self._audit.emit("client_secret_rotated", client_id=client_id, overlap=seconds)
        return secret

    def remove(self, client_id: str) -> None:
        """Remove a client and all that it was given; raises `ClientError` if there is none.

        It is refused at once, with its tokens. Its rows go in slices with pauses, in which others
        write; what is not done when this process ends, a server's pruning does.
        """
        with self._database.write() as connection:
            # Before it is gone: its tokens may be the ones that live longest.
            self._revocations.note(connection, [("client_id", client_id)], self._clock())
            if not rows.remove(connection, client_id):
                raise _unknown(client_id)
        self._audit.emit("client_removed", client_id=client_id)
        self._revocations.announce(("client_id", client_id))
        self._finish_removals()

    def has_secret(self, client_id: str, *spellings: str) -> bool:
        """Whether one of `spellings` is the client's secret, the first of them if both are.

        It takes as long when there is no such client, and whichever of them is right. A secret
        that is kept under an older one of the server's is kept under the newest then.
        """
        tried = [self._digests(client_id, each) for each in spellings]
        with self._database.read() as connection:
            known = rows.secrets_of(connection, client_id, self._clock())
        found = None
        for each in known:  # all of them: how long it takes tells nothing
            for digests in tried:
                for digest in digests:
                    if secrets.compare_digest(digest, each):
                        found = found or (each, digests[0])
        if found is not None and found[0] != found[1]:
            with self._database.write() as connection:
                rows.renew_secret(connection, *found)
        return found is not None

    def is_origin(self, origin: str) -> bool:
        """Whether some client's pages come from `origin`."""
        with self._database.read() as connection:
            return rows.is_origin(connection, origin)

    def use_assertion(self, client_id: str, token_id: str, expires_at: float) -> bool:
        """Record that a client's assertion was used; False when it was before."""
        digests = self._secret.digests("assertion", f"{client_id}\0{token_id}")
        with self._database.write() as connection:
            return rows.use_assertion(connection, digests, expires_at)

    def _digests(self, client_id: str, secret: str) -> tuple[str, ...]:
        return self._secret.digests("client secret", f"{client_id}\0{secret}")

    def _first_secret(self, client: Client, given: str | None) -> str | None:
        if client.auth_method not in clients.WITH_SECRET:
            if given is not None:
                raise ConfigurationError("client_secret=: this client authenticates without one")
            return None
        if given is None:
            return _new_secret()
        if len(given) < _MIN_SECRET or not all(" " <= letter <= "~" for letter in given):
            raise ConfigurationError(
                f"client_secret=: at least {_MIN_SECRET} printable ASCII characters that nobody"
                " can guess; leave it out and one is made"
            )
        return given

    def _insert(self, client: Client, secret: str | None) -> None:
        with self._database.write() as connection:
            if rows.find(connection, client.client_id) is not None:
                raise ClientError(f"There is a client {client.client_id!r} already")
            if rows.is_being_removed(connection, client.client_id):
                raise ClientError(
                    f"The client {client.client_id!r} is being removed: try again in a minute"
                )
            # A client's own tokens have its id as their subject (RFC 9700 §4.15).
            if rows.is_user(connection, client.client_id):
                raise ClientError(f"{client.client_id!r} is a user's id: choose another")
            rows.add(connection, **client.to_row())
            for origin in client.origins:
                rows.add_origin(connection, client.client_id, origin)
            if secret is not None:
                digest = self._digests(client.client_id, secret)[0]
                rows.add_secret(connection, client.client_id, digest, client.created_at)


def _grant_types(
    given: Sequence[str] | None, auth_method: str, redirect_uris: Sequence[str]
) -> tuple[str, ...]:
    if given is not None:
        return tuple(dict.fromkeys(given))
    with_user = (clients.AUTHORIZATION_CODE, clients.REFRESH_TOKEN) if redirect_uris else ()
    return with_user if auth_method == clients.NONE else (*with_user, clients.CLIENT_CREDENTIALS)


def _registered(serves: Sequence[str], settings: Settings) -> tuple[str, ...]:
    """Return resources as the server spells them; what it does not know stays as it is."""
    if settings.any_resource:
        return tuple(dict.fromkeys(serves))
    found = [(each, settings.resource(each) if isinstance(each, str) else None) for each in serves]
    return tuple(dict.fromkeys(given if each is None else each.identifier for given, each in found))


def _new_secret() -> str:
    return _SECRET_PREFIX + secrets.token_urlsafe(32)


def _unknown(client_id: str) -> ClientError:
    return ClientError(f"There is no client {client_id!r}")
