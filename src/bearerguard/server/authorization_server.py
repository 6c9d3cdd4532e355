"""The authorization server of an API: every part of it put together, and the public calls.

Decides nothing itself. Making one opens the store, brings its schema up to date and makes the
first signing key; after that, each process opens its own connections.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from bearerguard.errors import ConfigurationError
from bearerguard.messages import Request, Response
from bearerguard.server import answers, metadata
from bearerguard.server import keys as signing
from bearerguard.server.access_token import AccessTokens
from bearerguard.server.assertion import Assertions
from bearerguard.server.audit import Audit, SecurityEvent
from bearerguard.server.authorize import AuthorizeEndpoint
from bearerguard.server.client_authentication import ClientAuthentication
from bearerguard.server.client_registry import ClientRegistry
from bearerguard.server.code_grant import CodeGrant
from bearerguard.server.consent import CONSENT
from bearerguard.server.failures import Failures
from bearerguard.server.introspect import IntrospectEndpoint, Introspection
from bearerguard.server.people import People, PeopleOptions
from bearerguard.server.refresh_grant import RefreshGrant
from bearerguard.server.refresh_token import RefreshTokens
from bearerguard.server.revocations import Revocations
from bearerguard.server.revoke import RevokeEndpoint, TokenRevocation
from bearerguard.server.router import Endpoint, Readers, Router
from bearerguard.server.secret import find_secret
from bearerguard.server.settings import Resource, Settings, checked_resources
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import migrate
from bearerguard.server.token import OwnGrant, TokenEndpoint
from bearerguard.server.upkeep import Upkeep

if TYPE_CHECKING:
    from bearerguard.server.asgi_host import AsgiHost
    from bearerguard.server.wsgi_host import WsgiHost

_THREADS = 8
# A thread of the app's own may be asking too.
_SPARE_CONNECTIONS = 4


class AuthorizationServer:
    """An OAuth 2 authorization server over one database.

    Args:
        issuer: its URL, the `iss` of its tokens; its endpoints are below it.
        store: the database, such as `sqlite:///auth.db`.
        secret: at least 32 random bytes, which seal the signing keys; the environment's
            `BEARERGUARD_SERVER_SECRET` by default.
        scopes: every scope with its description for people; by default whatever clients
            are registered for.
        resources: the APIs that tokens are for; the first is the default. Without any, the
            API is the issuer's own URL.
        people: what pages look like, and how users sign in.
        access_token_lifetime: seconds.
        refresh_token_lifetime: seconds that a refresh token may idle.
        refresh_token_max_lifetime: seconds from the user's consent to the next.
        refresh_grace: seconds in which a refresh that got lost may be repeated; 0 for none.
        code_lifetime: seconds.
        algorithm: of new signing keys: "RS256", "ES256" or "EdDSA".
        key_lifetime: seconds after which the signing key is rotated.
        secret_overlap: seconds for which a client's old secret stays valid beside a new one.
        accept_endpoint_audiences: whether client assertions may name an endpoint as their
            audience, instead of the issuer (a compromise with RFC 9126 §2).
        insecure_allow_http: allow an issuer with plain http beyond loopback.
        threads: how many requests are answered at once under ASGI.
        on_event: called with every `SecurityEvent`.
        clock: returns Unix seconds.

    Attributes:
        clients: the registered clients.
        users: the accounts of users.
        keys: the signing keys.
        paths: the paths that it serves, the well-known ones too.

    Raises:
        ConfigurationError: an option is missing or unsafe, or the store cannot be used.
    """

    def __init__(
        self,
        issuer: str,
        *,
        store: str,
        secret: str | bytes | None = None,
        scopes: Mapping[str, str] | None = None,
        resources: Sequence[str | Resource] | None = None,
        people: PeopleOptions | None = None,
        threads: int = _THREADS,
        on_event: Callable[[SecurityEvent], None] | None = None,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] = os.environ,
        **lifetimes: Any,
    ) -> None:
        if not isinstance(threads, int) or threads < 1:
            raise ConfigurationError("threads=: at least one is needed")
        self.settings = Settings(
            issuer=issuer,
            resources=checked_resources(resources, issuer),
            scopes=scopes,
            **lifetimes,
        )
        self.threads = threads
        self._clock = clock
        database = Database(store, connections=threads + _SPARE_CONNECTIONS)
        server_secret = find_secret(secret, database.path, environ)
        migrate(database)
        audit = Audit(on_event, clock)
        revocations = Revocations(database, audit, clock)
        self.keys = signing.KeyRing(database, server_secret, self.settings, audit, clock)
        self.keys.ensure()
        self.clients = ClientRegistry(
            database, server_secret, self.settings, revocations, audit, clock
        )
        self._people = People(
            database,
            issuer=issuer,
            secrets=(server_secret.derive("people"),),
            clock=clock,
            record=audit.emit,
            options=people,
        )
        self.users = self._people.accounts
        access = AccessTokens(self.settings, self.keys, server_secret, clock)
        refresh = RefreshTokens(server_secret, self.settings, clock)
        self._revocations = revocations
        self._revocation = TokenRevocation(
            database=database,
            access=access,
            refresh=refresh,
            revocations=revocations,
            audit=audit,
            clock=clock,
        )
        self._introspection = Introspection(database, access)
        self._database = database
        self._audit = audit
        self._upkeep = Upkeep(database, self.keys, self.settings, clock)
        self._router = self._routed(server_secret, access, refresh)
        self.paths = frozenset(self._endpoints)
        # Whoever forks now, such as gunicorn with --preload, hands no connection on.
        database.close()
