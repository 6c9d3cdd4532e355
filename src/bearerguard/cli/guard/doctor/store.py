"""The local part of a server's audit: its clients, secrets, keys, accounts and lifetimes.

The database is opened for reading alone: nothing is migrated, and no secret is needed.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from sqlalchemy import func, make_url, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError

from bearerguard.cli.guard.doctor.finding import Finding, Rule, counted
from bearerguard.cli.guard.doctor.server import KnownClient
from bearerguard.errors import ConfigurationError, quoted
from bearerguard.runtime.addresses import is_loopback
from bearerguard.server.clients import redirect_uri
from bearerguard.server.clients.client import AUTHORIZATION_CODE, Client
from bearerguard.server.settings import Lifetimes, SigningKeys
from bearerguard.server.store import clients as client_rows
from bearerguard.server.store import keys as key_rows
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import users
from bearerguard.server.store.schema import access_tokens, client_secrets, grants, refresh_tokens

FILE = Rule(
    "store.file",
    "a database that only the server's user can read",
    "chmod 600 the database and its -wal and -shm files",
    "RFC 9700 §2.6",
)
REDIRECTS = Rule(
    "store.redirect_uris",
    "redirect URIs that may be registered: https, an app's scheme, or a loopback address",
    "register the client again, with each redirect URI in full",
    "RFC 9700 §2.1, §4.1.3",
)
LOCALHOST = Rule(
    "store.localhost",
    "native apps use 127.0.0.1 or [::1], and web apps no loopback address",
    "register http://127.0.0.1 for native apps; remove loopback from production's web clients",
    "RFC 8252 §7.3, §8.3",
)
NO_REDIRECT = Rule(
    "store.no_redirect",
    "each client with the authorization code grant has a redirect URI",
    "remove the client, or register it again with --redirect-uri",
    "RFC 9700 §2.1",
)
PKCE = Rule(
    "store.pkce",
    "each client must use PKCE",
    "register the client without --unsafe-without-pkce",
    "RFC 9700 §2.1.1",
)
CONSENT = Rule(
    "store.consent",
    "users are asked for consent, except by first-party apps that no other app can impersonate",
    "register the client without --without-consent",
    "RFC 8252 §8.6",
)
SECRETS = Rule(
    "store.secrets",
    "client secrets younger than a year",
    "rotate them: bearerguard client rotate-secret CLIENT_ID",
    "RFC 9700 §2.5",
)
ROTATION = Rule(
    "store.keys",
    "the signing key is rotated every 90 days, or as --key-lifetime says",
    "run the server, which rotates its keys, or bearerguard keys rotate",
    "RFC 9700 §2.6",
)
ACCOUNTS = Rule(
    "store.accounts",
    "accounts that can log in",
    "set a password: bearerguard user set-password LOGIN; or disable the account",
    "RFC 9700 §4",
)
ACCESS = Rule(
    "store.access_lifetime",
    "access tokens that live an hour or less",
    "pass a shorter --access-token-lifetime, to serve or to the client",
    "RFC 9700 §2.2",
)
REFRESH = Rule(
    "store.refresh_lifetime",
    "a user's consent ends after 180 days or less",
    "pass a shorter --refresh-token-max-lifetime",
    "RFC 9700 §2.2.2, §4.14.2",
)
REFRESHED = Rule(
    "store.refresh_rotation",
    "one usable refresh token for each consent: each use replaces it",
    "revoke the grant: bearerguard revoke --grant ID",
    "RFC 9700 §4.14.2",
)
DAY = 86_400
_YEAR = 365 * DAY
_LIFETIMES, _KEYS = Lifetimes(), SigningKeys()


@dataclass(frozen=True, slots=True)
class Stored:
    """What was read from a server's database; times are in Unix seconds, lifetimes in seconds."""

    mode: int | None  # of the file, if the database is one
    clients: Sequence[Client]
    secrets: Sequence[tuple[str, float]]
    keys: Sequence[Any]
    accounts: int
    without_password: Sequence[str]
    access_lifetime: float
    grant_lifetime: float
    grants_refreshed: int
    grants_with_several: Sequence[str]


def read(store: str, now: float) -> Stored:
    """Read the database of a server.

    Raises:
        ConfigurationError: it cannot be opened, or does not have the tables of this version.
    """
    if _backend(store) == "postgresql":
        database = Database(store, connections=1, create=False)
        try:
            with database.read() as connection:
                return _read(connection, None, now)
        finally:
            database.close()
    path = _path(store)
    try:
        with closing(_connected(path)) as driver:
            connection = Connection(driver, sqlite.dialect())
            return _read(connection, path.stat().st_mode, now)
    except sqlite3.DatabaseError as error:
        raise ConfigurationError(
            f"--store: {path} is not a server's database of this version: pass the"
            " server's database; the server migrates an older one when it starts"
        ) from error


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)


def _backend(store: str) -> str:
    scheme = store.partition(":")[0].partition("+")[0]
    return {"postgres": "postgresql"}.get(scheme, scheme)


def _path(store: str) -> Path:
    try:
        url = make_url(store)
    except ArgumentError:
        url = None
    if url is None or url.get_backend_name() != "sqlite" or not url.database:
        raise ConfigurationError('--store: pass a database URL such as "sqlite:///auth.db"')
    path = Path(url.database)
    if not path.is_file():
        raise ConfigurationError(f"--store: {path} cannot be opened: there is no database")
    return path


def _read(connection: Connection, mode: int | None, now: float) -> Stored:
    secret = client_secrets.c
    valid = select(secret.client_id, secret.created_at).where(
        func.coalesce(secret.expires_at, now + 1) > now
    )
    tokens, grant = access_tokens.c, grants.c
    longest = select(func.max(tokens.expires_at - tokens.issued_at))
    consent = select(func.max(grant.expires_at - grant.created_at))
    nameless = select(users.c.login).where(
        users.c.password_hash.is_(None), users.c.disabled_at.is_(None)
    )
    refresh = refresh_tokens.c
    several = (
        select(refresh.grant_id)
        .where(refresh.used_at.is_(None), refresh.expires_at > now)
        .group_by(refresh.grant_id)
        .having(func.count() > 1)
    )
    refreshed = select(func.count(refresh.grant_id.distinct())).where(refresh.used_at.is_not(None))
    return Stored(
        mode,
        [Client.from_row(row) for row in client_rows.all_clients(connection)],
        [(row[0], row[1]) for row in connection.execute(valid)],
        key_rows.all_keys(connection),
        connection.execute(select(func.count()).select_from(users)).scalar(),
        connection.execute(nameless).scalars(),
        connection.execute(longest).scalar() or 0.0,
        connection.execute(consent).scalar() or 0.0,
        connection.execute(refreshed).scalar(),
        connection.execute(several).scalars(),
    )


def known_client(stored: Stored) -> KnownClient | None:
    """Return a client with which authorization requests can be examined, None without one."""
    for each in stored.clients:
        if AUTHORIZATION_CODE in each.grant_types and each.redirect_uris:
            return KnownClient(each.client_id, each.redirect_uris[0])
    return None


def findings(stored: Stored, now: float) -> Iterator[Finding]:
    """Check what was read, at a time in Unix seconds."""
    if stored.mode is None:
        pass
    elif stored.mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield FILE.problem(f"the mode of the database is {stat.S_IMODE(stored.mode):o}")
    else:
        yield FILE.ok(f"the mode of the database is {stat.S_IMODE(stored.mode):o}")
    yield from _clients(stored.clients)
    yield from _secrets(stored.secrets, now)
    yield from _keys(stored.keys, now)
    if stored.without_password:
        names = quoted(", ".join(stored.without_password[:5]))
        yield ACCOUNTS.note(
            f"{counted(len(stored.without_password), 'account')} without a password: {names}"
        )
    else:
        yield ACCOUNTS.ok(counted(stored.accounts, "account"))
    yield from _rotation(stored)
    yield from _lifetimes(stored)


def _clients(clients: Sequence[Client]) -> Iterator[Finding]:
    found: list[Finding] = []
    for each in clients:
        found += _client(each)
    yield from found
    for rule, text in ((REDIRECTS, "redirect URIs are valid"), (PKCE, "each must use PKCE")):
        if not any(each.check == rule.check for each in found):
            yield rule.ok(f"{counted(len(clients), 'client')}: {text}")


def _client(client: Client) -> Iterator[Finding]:
    name = quoted(client.client_id)
    for uri in client.redirect_uris:
        try:
            redirect_uri.check(uri)
        except ConfigurationError as error:
            yield REDIRECTS.problem(f"the client {name}: {str(error).partition(': ')[2]}")
            continue
        host = urlsplit(uri).hostname or ""
        if is_loopback(host) and client.is_confidential:
            yield LOCALHOST.warning(f"the confidential client {name} has {quoted(uri)}")
        elif host == "localhost":
            yield LOCALHOST.note(f"the client {name} has {quoted(uri)}")
    if AUTHORIZATION_CODE not in client.grant_types:
        return
    if not client.redirect_uris:
        yield NO_REDIRECT.warning(f"the client {name} has no redirect URI")
    if not client.require_pkce:
        report = PKCE.warning if client.is_confidential else PKCE.problem
        yield report(f"the client {name} need not use PKCE")
    if not client.require_consent and not client.is_identified:
        yield CONSENT.problem(f"users are not asked for consent to the public client {name}")


def _secrets(secrets: Iterable[tuple[str, float]], now: float) -> Iterator[Finding]:
    ages = [(name, (now - created) / DAY) for name, created in secrets]
    old = [(name, days) for name, days in ages if days * DAY > _YEAR]
    for name, days in old[:10]:
        yield SECRETS.warning(f"the secret of {quoted(name)} is {days:.0f} days old")
    if not old:
        yield SECRETS.ok(counted(len(ages), "valid client secret"))


def _keys(keys: Sequence[Any], now: float) -> Iterator[Finding]:
    signing = [each for each in keys if each.active_at <= now]
    if not signing:
        yield ROTATION.note("there is no signing key: the server makes one when it starts")
        return
    days = (now - signing[-1].active_at) / DAY
    found = f"the key {quoted(signing[-1].kid)} has signed for {days:.0f} days"
    if days * DAY > 2 * _KEYS.lifetime:
        yield ROTATION.warning(found)
    else:
        yield ROTATION.ok(found)


def _rotation(stored: Stored) -> Iterator[Finding]:
    for grant_id in stored.grants_with_several[:5]:
        yield REFRESHED.problem(f"the grant {quoted(grant_id)} has several usable refresh tokens")
    if not stored.grants_with_several:
        refreshed = counted(stored.grants_refreshed, "grant")
        yield REFRESHED.ok(f"{refreshed} refreshed, and each has one usable refresh token at most")


def _lifetimes(stored: Stored) -> Iterator[Finding]:
    own = [each.access_token_lifetime or 0.0 for each in stored.clients]
    longest = max([stored.access_lifetime, *own])
    found = f"the longest lifetime of an access token is {longest:.0f} s"
    if longest > DAY:
        yield ACCESS.warning(found)
    elif longest > _LIFETIMES.access_token:
        yield ACCESS.note(found)
    else:
        yield ACCESS.ok(found if longest else "no access token has another lifetime")
    grants_own = [each.refresh_token_max_lifetime or 0.0 for each in stored.clients]
    longest = max([stored.grant_lifetime, *grants_own])
    days = f"the longest consent lasts {longest / DAY:.0f} days"
    if longest > _LIFETIMES.refresh_token_max:
        yield REFRESH.warning(days)
    else:
        yield REFRESH.ok(days if longest else "there is no grant")
