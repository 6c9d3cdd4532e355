"""Administers clients, users, keys and revocations of a server, without serving.

The command line uses it beside the processes that serve. Changes take effect in all processes with
the same store and secret. It makes no key and chooses no algorithm by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from bearerguard.runtime.reporting.events import Event
from bearerguard.server.account.access import Access
from bearerguard.server.audit import Audit
from bearerguard.server.clients.authentication_methods import AuthenticationMethods
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.engine import Engine
from bearerguard.server.login.accounts import Account, Accounts
from bearerguard.server.secret import GivenSecret, find_secret
from bearerguard.server.settings import Settings, SigningKeys
from bearerguard.server.store import keys
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import HEAD, migrate
from bearerguard.server.tokens.key_ring import KeyRing
from bearerguard.server.tokens.personal_tokens import PersonalTokenRegistry

_CONNECTIONS = 4
# `Settings` requires an issuer; no operation here uses this one.
_NO_ISSUER = "http://127.0.0.1:8000"


class ManagedServer:
    """What a process can do with a server, whether it serves or not. A context manager.

    Attributes:
        clients: the registered clients.
        users: the accounts of users.
        access: what clients may do for users: their grants, which it lists and revokes.
        keys: the signing keys.
        personal_tokens: the personal access tokens of users.
        authentication_methods: how clients authenticate; `register` adds a method of your own.
    """

    clients: ClientRegistry
    users: Accounts
    access: Access
    keys: KeyRing
    personal_tokens: PersonalTokenRegistry

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.clients = engine.clients
        self.users = engine.people.accounts
        self.access = engine.access
        self.keys = engine.keys
        self.personal_tokens = engine.personal_tokens
        self.authentication_methods: AuthenticationMethods = engine.authentication_methods

    def __enter__(self) -> Self:
        """Return the server."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def revoke(self, token: str) -> bool:
        """Revoke an access token of any kind, or a refresh token with its grant.

        Returns:
            False if it is unknown.
        """
        return self._engine.revocation.revoke(token)

    def revoke_grant(self, grant_id: str) -> bool:
        """Revoke a grant (the `sid` of tokens) with all its tokens; False if it is unknown."""
        return self._engine.revocations.grant(grant_id, reason="revoked")

    def revoke_user(
        self,
        *,
        login: str | None = None,
        user_id: str | None = None,
        client_id: str | None = None,
    ) -> int:
        """Revoke all grants of a user, to one client or to all; return how many.

        The personal access tokens that those clients made for the user end, and count, too; with
        the grants to all, every personal access token of the user.

        Args:
            login: the user's login name.
            user_id: instead of it, the `sub` of tokens: the id of a user from `current_user=`.
            client_id: revokes the grants to this client only.

        Raises:
            AccountError: there is no account with this login name.
            ClientError: the client is not registered.
            ConfigurationError: not exactly one of `login` and `user_id` is given.
        """
        return self._engine.revoke_user(login=login, user_id=user_id, client_id=client_id)

    def disable_user(self, login: str) -> Account:
        """Disable a user: no sign-in, and all sessions and tokens end."""
        return self.users.disable(login)

    def delete_user(self, login: str) -> Account:
        """Delete a user's account, and end all that the user has allowed; see `users.delete`."""
        return self.users.delete(login)

    def close(self) -> None:
        """Close this process's connections; the next request opens new ones."""
        self._engine.upkeep.close()
        if self._engine.verifier is not None:
            self._engine.verifier.close()
        self._engine.people.upstreams.close()
        self._engine.database.close()


class Administration(ManagedServer):
    """Administers the server of a store, from a process that does not serve.

    Args:
        store: the server's database URL.
        secret: the server's; `BEARERGUARD_SERVER_SECRET` or the development file by default.
        issuer: the server's URL; without it, every JWT that the store's keys signed is accepted
            as one of the server.
        create: whether a missing store, and a missing development secret, are created.
        on_event: called with every `Event`.
        clock: returns Unix seconds.
        environ: where the secret is looked for.

    Raises:
        ConfigurationError: the store or the secret cannot be used.
    """

    def __init__(
        self,
        store: str,
        *,
        secret: GivenSecret | None = None,
        issuer: str | None = None,
        create: bool = True,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        database = Database(store, connections=_CONNECTIONS, create=create)
        server_secret = find_secret(secret, database, environ, create=create)
        before = migrate(database)
        audit = Audit(on_event, clock, by="command")
        if before is not None:
            audit.emit("store_migrated", before=before, after=HEAD)
        # A new key gets the algorithm that the serving processes chose for the last one.
        known = [row.algorithm for row in keys.all_keys(database)]
        engine = Engine(
            settings=Settings(
                issuer=issuer or _NO_ISSUER,
                resources=(),
                scopes=None,
                signing=SigningKeys(algorithm=known[-1]) if known else SigningKeys(),
                any_resource=True,
            ),
            database=database,
            secret=server_secret,
            people=None,
            audit=audit,
            clock=clock,
            any_issuer=issuer is None,
        )
        super().__init__(engine)
        # A client secret that is stored under another server secret would never be recognised.
        self.keys.check_secret()
