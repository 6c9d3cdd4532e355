"""Administration: clients, users, keys and revocations of a server, without serving.

What the command line works with, beside the processes that serve: whatever it changes counts in
all that have the same store and secret. It makes no key and chooses no algorithm by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from bearerguard.runtime.events import Event
from bearerguard.server.audit import Audit
from bearerguard.server.engine import Engine
from bearerguard.server.login.accounts import Account
from bearerguard.server.secret import GivenSecret, find_secret
from bearerguard.server.settings import ALGORITHM, Settings
from bearerguard.server.store import keys
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import migrate

_CONNECTIONS = 4
# Settings have one; nothing that is done here shows it.
_NO_ISSUER = "http://127.0.0.1:8000"


class Administration:
    """Administers the server of a store; close it, or use it as a context manager.

    Args:
        store: the server's database URL.
        secret: the server's; `BEARERGUARD_SERVER_SECRET` or the development file by default.
        issuer: the server's URL; without it, whatever JWT the store's keys signed counts as
            the server's, which is what they prove.
        create: whether a store that is not there is begun, and a development secret made.
        on_event: called with every security event.
        clock: returns Unix seconds.
        environ: where the secret is looked for.

    Attributes:
        clients: the registered clients.
        users: the accounts of users.
        keys: the signing keys.
        authentication_methods: how clients authenticate; `register` adds a method of your own.

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
        self._database = Database(store, connections=_CONNECTIONS, create=create)
        server_secret = find_secret(secret, self._database.path, environ, create=create)
        migrate(self._database)
        with self._database.read() as connection:
            # A new key is of the kind that the serving processes chose for the last one.
            known = [row.algorithm for row in keys.all_keys(connection)]
        self._engine = Engine(
            settings=Settings(
                issuer=issuer or _NO_ISSUER,
                resources=(),
                scopes=None,
                algorithm=known[-1] if known else ALGORITHM,
                any_resource=True,
            ),
            database=self._database,
            secret=server_secret,
            people=None,
            audit=Audit(on_event, clock),
            clock=clock,
            any_issuer=issuer is None,
        )
        self.clients = self._engine.clients
        self.users = self._engine.people.accounts
        self.keys = self._engine.keys
        self.authentication_methods = self._engine.authentication_methods
        # A client's secret that is kept under another one would never be recognised.
        self.keys.check_secret()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the store's connections."""
        self._database.close()

    def disable_user(self, login: str) -> Account:
        """Keep a user from signing in; end the user's sessions and tokens."""
        return self.users.disable(login)

    def revoke_user(
        self,
        *,
        login: str | None = None,
        user_id: str | None = None,
        client_id: str | None = None,
    ) -> int:
        """Do as `AuthorizationServer.revoke_user`."""
        return self._engine.revoke_user(login=login, user_id=user_id, client_id=client_id)

    def revoke_grant(self, grant_id: str) -> bool:
        """Revoke a grant with all its tokens; False when it was before, or is none."""
        return self._engine.revocations.grant(grant_id, reason="revoked")

    def revoke_token(self, token: str) -> bool:
        """Revoke a token, a refresh token with all of its grant; False when it is none."""
        return self._engine.revocation.revoke(token)
