"""The client registry: adds, finds, lists, edits and removes clients, and rotates their secrets.

A secret is returned once, when it is made; the store has its keyed digest. After a rotation the old
secret stays valid for an overlap, so that the client can change to the new one without an outage.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Unpack

from cachetools import TTLCache

from bearerguard.errors import ClientError, ConfigurationError
from bearerguard.protocol import names
from bearerguard.runtime.process_lock import ProcessLock
from bearerguard.server.audit import Audit
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.client import Client, ClientOptions, Rules
from bearerguard.server.clients.metadata_documents import Documents
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.revocations import Kind, Revocations
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import DAY, check_duration
from bearerguard.server.store import clients as rows
from bearerguard.server.store import keys as key_rows
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database
from bearerguard.server.store.versions import Versions, stored

# The prefix lets scanners for leaked secrets recognise ours.
_SECRET_PREFIX = "bgs_"  # noqa: S105 - it begins each secret
_MIN_SECRET = 32
# How a client registered itself, for people.
_BY_ITSELF = {
    clients.BY_REQUEST: "by a request, RFC 7591",
    clients.BY_DOCUMENT: "by its metadata document",
}
# What is kept in memory of the clients that made requests lately: how many, and for how long.
_MOST_KEPT, _KEPT_SECONDS = 10_000, 60.0
# Of clients that no operator registered, where the server has no option for it any more.
_UNUSED = 90 * DAY


@dataclass(frozen=True, slots=True)
class Registered:
    """A new client and its secret, None for a client without one.

    The secret is not shown again.
    """

    client: Client
    client_secret: str | None = field(repr=False)

    @property
    def client_id(self) -> str:
        """The client's identifier."""
        return self.client.client_id


@dataclass(frozen=True, slots=True)
class EditedClient:
    """A client whose options were changed.

    Attributes:
        client: what it is now.
        before: what it was.
    """

    client: Client
    before: Client

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of what has changed: `name`, and options as `ClientOptions` names them."""
        names = ("name", *clients.options(Client))
        return tuple(
            name for name in names if getattr(self.client, name) != getattr(self.before, name)
        )

    @property
    def needs_secret(self) -> bool:
        """Whether it authenticates with a secret now and has none: `rotate_secret` makes one."""
        return (
            self.client.auth_method in clients.WITH_SECRET
            and self.before.auth_method not in clients.WITH_SECRET
        )


class _Known(NamedTuple):
    """A client, and its secrets: pairs of a digest and the time at which it expires, or None."""

    client: Client
    secrets: Sequence[tuple[str, float | None]]


class _Cache:
    """The clients that made requests lately, until any client is changed."""

    def __init__(self, database: Database, versions: Versions) -> None:
        self._database = database
        self._versions = versions
        self._lock = ProcessLock()
        self._version = -1
        self._kept = TTLCache[str, _Known](_MOST_KEPT, _KEPT_SECONDS)

    def forget(self) -> None:
        """Look for changes that this request has made itself."""
        self._versions.forget()

    def get(self, client_id: str) -> _Known | None:
        """Return a client with its secrets, or None; raises `StoreUnavailable`."""
        version = self._versions.current().clients
        with self._lock:
            if version != self._version:
                self._version = version
                self._kept.clear()
            known = self._kept.get(client_id)
        return self._read(client_id) if known is None else known

    def _read(self, client_id: str) -> _Known | None:
        with self._database.read() as connection:
            version = stored(connection).clients
            row = rows.find(connection, client_id)
            if row is None:
                return None
            secrets = rows.secrets_of(connection, client_id)
        known = _Known(Client.from_row(row), [(each.digest, each.expires_at) for each in secrets])
        with self._lock:
            if version == self._version:
                self._kept[client_id] = known
        return known


class ClientRegistry:
    """The clients of one server."""

    def __init__(
        self,
        *,
        database: Database,
        secret: ServerSecret,
        rules: Rules,
        revocations: Revocations,
        audit: Audit,
        clock: Callable[[], float],
        finish_removals: Callable[[], object],
        versions: Versions,
        documents: Documents | None = None,
        unused_lifetimes: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._documents = documents
        self._unused_lifetimes = unused_lifetimes
        self._database = database
        self._cache = _Cache(database, versions)
        self._secret = secret
        self._rules = rules
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
        **options: Unpack[ClientOptions],
    ) -> Registered:
        """Register a client; its secret is in the result, and nowhere else.

        Args:
            name: what users know it by: 1 to 100 visible characters.
            client_id: its identifier; by default a random one.
            client_secret: its secret, if it is to keep one; at least 32 characters.
            public: whether it cannot keep a secret: an app on a phone or in a browser.
            **options: as `ClientOptions` describes them.

        Raises:
            ConfigurationError: an argument is unsafe or does not fit another.
            ClientError: there is a client of this id already.
        """
        client = self._checked(name, client_id, options, public=public)
        secret = self._first_secret(client, client_secret)
        self._insert(client, secret)
        self._audit.emit("client_added", client_id=client.client_id, method=client.auth_method)
        return Registered(client, secret)

    def register(
        self, name: str, *, expires_at: float, **options: Unpack[ClientOptions]
    ) -> Registered:
        """Register a client at its own request; it is removed unless it is used by `expires_at`.

        Raises `ConfigurationError` for an option that is unsafe or does not fit another.
        """
        client = self._checked(name, None, options, registered_by=clients.BY_REQUEST)
        secret = self._first_secret(client, None)
        self._insert(client, secret, expires_at)
        self._audit.emit("client_registered", client_id=client.client_id, method=client.auth_method)
        return Registered(client, secret)

    def _checked(
        self,
        name: str,
        client_id: str | None,
        options: Mapping[str, Any],
        *,
        public: bool = False,
        registered_by: str | None = None,
    ) -> Client:
        """Return a new client; raises `ConfigurationError` for options that it cannot have."""
        given = {name: value for name, value in options.items() if value is not None}
        unknown = given.keys() - clients.options(Client).keys()
        if unknown:
            raise TypeError(f"add() got an unexpected keyword argument {min(unknown)!r}")
        values = {
            each: clients.normalized(each, value, self._rules.settings, Client)
            for each, value in given.items()
        }
        auth_method = values.setdefault(
            "auth_method", clients.NONE if public else _fitting_method(values)
        )
        if "grant_types" not in values:
            values["grant_types"] = _fitting_grants(auth_method, values.get("redirect_uris", ()))
        client = Client(
            client_id=client_id or f"client-{secrets.token_hex(12)}",
            name=name,
            created_at=self._clock(),
            registered_by=registered_by,
            **values,
        )
        clients.check(client, self._rules)
        return client

    def resolve(self, client_id: str) -> Client | None:
        """Return the client that a request names, or None; it may have a metadata document.

        What the store has of a client with a document is only what it was when it was last used.

        Raises:
            DocumentRefused: its document cannot be fetched, or is not fit.
        """
        client = self.find(client_id)
        is_own = client is not None and client.registered_by != clients.BY_DOCUMENT
        if self._documents is None or not self._documents.covers(client_id):
            return client if is_own else None
        if is_own:
            self._documents.leave_out(client_id)
            return client
        return self._documents.client(client_id)

    def note_use(self, connection: Connection, client: Client) -> None:
        """Keep a client that no operator registered, since a user allows it something.

        Raises `OAuthError` while a client of this id is being removed.
        """
        if client.registered_by is None:
            return
        until = self._clock() + self._unused_lifetimes.get(client.registered_by, _UNUSED)
        if client.registered_by == clients.BY_REQUEST:
            rows.register(connection, client.client_id, client.registered_by, until)
        elif not rows.keep(
            connection,
            client.to_row(),
            client.origins,
            registered_by=client.registered_by,
            expires_at=until,
        ):
            raise OAuthError(
                names.TEMPORARILY_UNAVAILABLE,
                "The client is being removed: try again in a minute",
                reason="client_being_removed",
                status=503,
            )

    def find(self, client_id: str) -> Client | None:
        """Return a client that the store has, or None."""
        known = self._cache.get(client_id)
        return None if known is None else known.client

    def get(self, client_id: str) -> Client:
        """Return a client; raises `ClientError` if there is none."""
        client = self.find(client_id)
        if client is None:
            raise _unknown(client_id)
        return client

    def all(self) -> list[Client]:
        """Return every client, the oldest first."""
        return [Client.from_row(row) for row in rows.all_clients(self._database)]

    def edit(
        self, client_id: str, *, name: str | None = None, **changes: Unpack[ClientOptions]
    ) -> EditedClient:
        """Change a client that an operator registered; new requests meet the changes at once.

        Tokens and grants that the client has stay as they are, until they expire or are revoked.
        The personal tokens that it made lose the scopes that it loses.

        Args:
            client_id: the client's id, which stays.
            name: what users know it by from now on; without it, the name stays.
            **changes: the options that change, as `ClientOptions` describes them. A list replaces
                the one before, and None is the default of an option; other options stay.

        Raises:
            ConfigurationError: an argument is unsafe or does not fit another option.
            ClientError: there is no such client, or it registered itself.
        """
        unknown = changes.keys() - clients.options(Client).keys()
        if unknown:
            raise TypeError(f"edit() got an unexpected keyword argument {min(unknown)!r}")
        given: Mapping[str, Any] = changes
        values = {
            each: clients.options(Client)[each].default
            if value is None
            else clients.normalized(each, value, self._rules.settings, Client)
            for each, value in given.items()
        }
        if name is not None:
            values["name"] = name
        with self._database.write() as connection:
            row = rows.find(connection, client_id)
            if row is None:
                raise _unknown(client_id)
            before = Client.from_row(row)
            if before.registered_by is not None:
                raise ClientError(
                    f"The client {client_id!r} registered itself"
                    f" ({_BY_ITSELF[before.registered_by]}), and would not know of a change: let"
                    " it register again, or remove it"
                )
            client = replace(before, **values)
            if "grant_types" in given and given["grant_types"] is None:
                fitting = _fitting_grants(client.auth_method, client.redirect_uris)
                client = replace(client, grant_types=fitting)
            clients.check(client, self._rules)
            edited = EditedClient(client, before)
            if edited.changed:
                rows.change(connection, client.to_row(), client.origins)
            if client.auth_method not in clients.WITH_SECRET:
                rows.remove_secrets(connection, client_id)
        self._cache.forget()
        if edited.changed:
            self._audit.emit(
                "client_changed", client_id=client_id, options=" ".join(edited.changed)
            )
        return edited

    def rotate_secret(self, client_id: str, *, overlap: float | None = None) -> str:
        """Return a new secret; the old one stays valid for `overlap` seconds.

        Args:
            client_id: the client's id.
            overlap: seconds; by default the server's `Lifetimes.client_secret_overlap`.

        Raises:
            ConfigurationError: the overlap is no number of seconds.
            ClientError: there is no such client, or it has no secret.
        """
        if overlap is not None:
            check_duration("overlap=", overlap)
        if self.get(client_id).auth_method not in clients.WITH_SECRET:
            raise ClientError(f"The client {client_id!r} has no secret")
        seconds = (
            self._rules.settings.lifetimes.client_secret_overlap if overlap is None else overlap
        )
        secret, now = _new_secret(), self._clock()
        with self._database.write() as connection:
            rows.end_secrets(connection, client_id, now + seconds)
            rows.add_secret(connection, client_id, self._digests(client_id, secret)[0], now)
        self._cache.forget()
        self._audit.emit("client_secret_rotated", client_id=client_id, overlap=seconds)
        return secret

    def remove(self, client_id: str) -> None:
        """Remove a client with its grants and tokens; raises `ClientError` if there is none.

        The client and its tokens are refused at once. The rows are removed in slices, with pauses
        for other writers. If this process ends before, a server's pruning removes the rest.
        """
        revoked: tuple[Kind, str] = ("client_id", client_id)
        with self._database.write() as connection:
            # Before the removal: its tokens may be the ones that live longest.
            longest = key_rows.longest_access_lifetime(connection)
            batch = self._revocations.note(connection, [revoked], self._clock())
            if not rows.remove(connection, client_id):
                raise _unknown(client_id)
        self._cache.forget()
        self._audit.emit("client_removed", client_id=client_id)
        self._revocations.announce(batch)
        self._finish_removals()
        # A request that had authenticated the client before may have signed a JWT in the meantime.
        with self._database.write(concurrent=True) as connection:
            now = self._clock()
            self._revocations.note(connection, [revoked], now, until=now + longest)

    def has_secret(self, client_id: str, *spellings: str) -> bool:
        """Whether one of `spellings` is a valid secret of the client.

        Takes as long for an unknown client, and whichever spelling is right. A digest that is
        keyed with an older secret of the server is replaced by one with the newest.
        """
        tried = [self._digests(client_id, each) for each in spellings]
        known = self._cache.get(client_id)
        now = self._clock()
        found = None
        # All of them: the time must not depend on which one matches.
        for each, expires_at in () if known is None else known.secrets:
            valid = expires_at is None or expires_at > now
            for digests in tried:
                for digest in digests:
                    if secrets.compare_digest(digest, each) and valid:
                        found = found or (each, digests[0])
        if found is not None and found[0] != found[1]:
            with self._database.write() as connection:
                rows.renew_secret(connection, *found)
            self._audit.emit("client_secret_renewed", client_id=client_id)
        return found is not None

    def is_origin(self, origin: str) -> bool:
        """Whether some client's pages come from `origin`."""
        return rows.is_origin(self._database, origin)

    def use_assertion(self, client_id: str, token_id: str, expires_at: float) -> bool:
        """Record that a client's assertion was used; False if it was used before."""
        with self._database.write(concurrent=True) as connection:
            return self.use_assertion_in(connection, client_id, token_id, expires_at)

    def use_assertion_in(
        self, connection: Connection, signer: str, token_id: str, expires_at: float
    ) -> bool:
        """Do what `use_assertion` does, in a transaction; the signer may be no client."""
        digests = self._secret.digests("assertion", f"{signer}\0{token_id}")
        return rows.use_once(connection, digests, expires_at)

    def _digests(self, client_id: str, secret: str) -> tuple[str, ...]:
        return self._secret.digests("client secret", f"{client_id}\0{secret}")

    def _first_secret(self, client: Client, given: str | None) -> str | None:
        if client.auth_method not in clients.WITH_SECRET:
            if given is not None:
                raise ConfigurationError(
                    f"client_secret=: a client with auth_method={client.auth_method!r} has none"
                )
            return None
        if given is None:
            return _new_secret()
        if len(given) < _MIN_SECRET or not all(" " <= letter <= "~" for letter in given):
            raise ConfigurationError(
                f"client_secret=: at least {_MIN_SECRET} printable ASCII characters that nobody"
                " can guess; leave it out and one is made"
            )
        return given

    def _insert(self, client: Client, secret: str | None, expires_at: float | None = None) -> None:
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
            if client.registered_by is not None and expires_at is not None:
                rows.register(connection, client.client_id, client.registered_by, expires_at)
            for origin in client.origins:
                rows.add_origin(connection, client.client_id, origin)
            if secret is not None:
                digest = self._digests(client.client_id, secret)[0]
                rows.add_secret(connection, client.client_id, digest, client.created_at)
        self._cache.forget()


def _fitting_method(options: Mapping[str, object]) -> str:
    if "jwks" in options:
        return clients.PRIVATE_KEY_JWT
    if "certificate_name" in options:
        return clients.TLS_CLIENT_AUTH
    return clients.WORKLOAD_IDENTITY if "workload_issuer" in options else clients.SECRET


def _fitting_grants(auth_method: str, redirect_uris: Sequence[str]) -> tuple[str, ...]:
    with_user = (clients.AUTHORIZATION_CODE, clients.REFRESH_TOKEN) if redirect_uris else ()
    return with_user if auth_method == clients.NONE else (*with_user, clients.CLIENT_CREDENTIALS)


def _new_secret() -> str:
    return _SECRET_PREFIX + secrets.token_urlsafe(32)


def _unknown(client_id: str) -> ClientError:
    return ClientError(f"There is no client {client_id!r}")
