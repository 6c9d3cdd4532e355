"""The authorization server of an API: every part of it put together, and the public calls.

Decides nothing itself. Making one opens the store, brings its schema up to date and makes the
first signing key; after that, each process opens its own connections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.events import Event
from bearerguard.runtime.messages import Request, Response
from bearerguard.server import settings as defaults
from bearerguard.server.audit import Audit
from bearerguard.server.engine import Engine
from bearerguard.server.http.proxies import Proxies
from bearerguard.server.login.accounts import Account
from bearerguard.server.login.login_endpoint import LOGIN
from bearerguard.server.login.people import PeopleOptions
from bearerguard.server.secret import GivenSecret, find_secret
from bearerguard.server.settings import Resource, Settings, checked_resources
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import migrate
from bearerguard.server.tokens.revocations import Revoked

if TYPE_CHECKING:
    from bearerguard.guard.config.issuer import Issuer
    from bearerguard.server.hosting.asgi import ASGIApp, AsgiHost
    from bearerguard.server.hosting.wsgi import WSGIApp, WsgiHost

_THREADS = 8
# A thread of the app's own may be asking too.
_SPARE_CONNECTIONS = 4


class AuthorizationServer:
    """An OAuth 2 authorization server over one database.

    Args:
        issuer: its URL, the `iss` of its tokens; its endpoints are below it.
        store: the database, such as `sqlite:///auth.db`.
        secret: at least 32 random bytes, which seal the signing keys; the environment's
            `BEARERGUARD_SERVER_SECRET` by default. A list, the newest first, renews it.
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
        unknown_scopes: what becomes of scopes that the server or the client does not know:
            "ignore" leaves them out, as long as one remains (RFC 6749 §3.3), "refuse" refuses
            the request. `openid` and `offline_access` beside others are never refused.
        insecure_allow_http: allow an issuer with plain http beyond loopback.
        threads: how many requests are answered at once under ASGI; half as many logins may
            wait for their password's check besides, under WSGI among the threads there are.
        on_event: called with every `Event`.
        clock: returns Unix seconds.
        environ: where `BEARERGUARD_SERVER_SECRET` is looked for.

    Attributes:
        clients: the registered clients.
        users: the accounts of users.
        keys: the signing keys.
        authentication_methods: how clients authenticate; `register` adds a method of your own.
        paths: the paths that it serves, the well-known ones too.
        database: where it keeps everything.

    Raises:
        ConfigurationError: an option is missing or unsafe, or the store cannot be used.
    """

    def __init__(
        self,
        issuer: str,
        *,
        store: str = "sqlite:///auth.db",
        secret: GivenSecret | None = None,
        scopes: Mapping[str, str] | None = None,
        resources: Sequence[str | Resource] | None = None,
        people: PeopleOptions | None = None,
        access_token_lifetime: float = defaults.ACCESS_TOKEN_LIFETIME,
        refresh_token_lifetime: float = defaults.REFRESH_TOKEN_LIFETIME,
        refresh_token_max_lifetime: float = defaults.REFRESH_TOKEN_MAX_LIFETIME,
        refresh_grace: float = defaults.REFRESH_GRACE,
        code_lifetime: float = defaults.CODE_LIFETIME,
        algorithm: str = defaults.ALGORITHM,
        key_lifetime: float = defaults.KEY_LIFETIME,
        secret_overlap: float = defaults.SECRET_OVERLAP,
        accept_endpoint_audiences: bool = False,
        unknown_scopes: defaults.UnknownScopes = defaults.IGNORE,
        insecure_allow_http: bool = False,
        threads: int = _THREADS,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(threads, int) or threads < 1:
            raise ConfigurationError("threads=: at least one is needed")
        self.settings = Settings(
            issuer=issuer,
            resources=checked_resources(resources),
            scopes=scopes,
            access_token_lifetime=access_token_lifetime,
            refresh_token_lifetime=refresh_token_lifetime,
            refresh_token_max_lifetime=refresh_token_max_lifetime,
            refresh_grace=refresh_grace,
            code_lifetime=code_lifetime,
            algorithm=algorithm,
            key_lifetime=key_lifetime,
            secret_overlap=secret_overlap,
            accept_endpoint_audiences=accept_endpoint_audiences,
            unknown_scopes=unknown_scopes,
            insecure_allow_http=insecure_allow_http,
        )
        self.threads = threads
        self.login_threads = max(1, threads // 2)
        connections = threads + self.login_threads + _SPARE_CONNECTIONS
        self.database = database = Database(store, connections=connections)
        server_secret = find_secret(secret, database.path, environ)
        migrate(database)
        self._engine = Engine(
            settings=self.settings,
            database=database,
            secret=server_secret,
            people=people,
            audit=Audit(on_event, clock, issuer=issuer),
            clock=clock,
            password_places=self.login_threads,
        )
        self.clients = self._engine.clients
        self.users = self._engine.people.accounts
        self.keys = self._engine.keys
        self.authentication_methods = self._engine.authentication_methods
        self.paths = self._engine.paths
        self.keys.ensure()
        # Whoever forks now, such as gunicorn with --preload, hands no connection on.
        database.close()

    # Answering

    def handle(self, request: Request) -> Response:
        """Answer a request to one of `paths`, in the calling thread."""
        return self._engine.router.handle(request)

    def is_login(self, method: str, path: str) -> bool:
        """Whether a request brings a password, whose check takes its time."""
        return method == "POST" and path == self.settings.base_path + LOGIN

    def busy(self) -> Response:
        """Return the answer to a login when too many are waiting already."""
        return self._engine.people.busy()

    def too_large(self, path: str) -> Response:
        """Return the answer to a request to one of `paths` that is too long to be read."""
        return self._engine.router.too_large(path)

    def asgi_app(
        self, api: ASGIApp | None = None, *, trusted_proxies: Sequence[str] = ()
    ) -> AsgiHost:
        """Return an ASGI app that serves `paths` and hands everything else to `api`.

        `trusted_proxies` are the addresses or networks of your own proxies, "unix" for one that
        comes by a Unix socket. Their `X-Forwarded-For` says from which address logins come,
        which are throttled by it; not needed where the web server or a middleware sees to that.
        """
        from bearerguard.server.hosting.asgi import AsgiHost  # noqa: PLC0415 - one world is enough

        return AsgiHost(self, api, Proxies(trusted_proxies))

    def wsgi_app(
        self, api: WSGIApp | None = None, *, trusted_proxies: Sequence[str] = ()
    ) -> WsgiHost:
        """Return a WSGI app that serves `paths` and hands everything else to `api`.

        `trusted_proxies` are as with `asgi_app`.
        """
        from bearerguard.server.hosting.wsgi import WsgiHost  # noqa: PLC0415 - one world is enough

        return WsgiHost(self, api, Proxies(trusted_proxies))

    def served_path(self, root: str, path: str) -> str | None:
        """Return which of `paths` a request for `path` means, None for none.

        `root` is where an app is mounted (`root_path`, `SCRIPT_NAME`), as part of `path` or
        not. The mount may be the issuer's own path, or something the issuer does not know.
        """
        root = root.rstrip("/")
        below = path[len(root) :] if root and (path + "/").startswith(root + "/") else path
        for candidate in (root + below, self.settings.base_path + below if root else ""):
            if candidate in self.paths:
                return candidate
        return None

    # Ending what was given

    def revoke(self, token: str) -> bool:
        """Revoke an access token, or a refresh token with its grant; False if it was none."""
        return self._engine.revocation.revoke(token)

    def revoke_grant(self, grant_id: str) -> bool:
        """Revoke a grant (a token's `sid`) with all its tokens; False if it was none."""
        return self._engine.revocations.grant(grant_id, reason="revoked")

    def revoke_user(
        self,
        *,
        login: str | None = None,
        user_id: str | None = None,
        client_id: str | None = None,
    ) -> int:
        """Revoke all that a user allowed, to one client or to all; return how many grants.

        The user is named by `login`, or by `user_id`: the `sub` of tokens, and the id of a
        user whom `current_user=` brings. Raises `AccountError` for a login name that is
        nobody's, and `ClientError` for a client that is not registered.
        """
        return self._engine.revoke_user(login=login, user_id=user_id, client_id=client_id)

    def disable_user(self, login: str) -> Account:
        """Keep a user from signing in, and end the user's sessions and tokens."""
        return self.users.disable(login)

    def on_revocation(self, listener: Callable[[Revoked], object]) -> None:
        """Call `listener` after each revocation that this process makes."""
        self._engine.revocations.listen(listener)

    def on_revocations(self, listener: Callable[[Sequence[Revoked]], object]) -> None:
        """Call `listener` after each change with all that this revoked: a user's grants at once."""
        self._engine.revocations.listen_to_batches(listener)

    # For a guard in this process, and for tests

    def issuer(self, **options: Any) -> Issuer:
        """Return this server as the issuer of a guard in this process: `Guard(server.issuer())`.

        The guard gets keys, and answers about opaque tokens, without HTTP. `options` are
        those of `Issuer`; the audience is the first resource by default.
        """
        from bearerguard.server.hosting import embedding  # noqa: PLC0415 - it alone knows the guard

        return embedding.issuer(self, **options)

    def introspect(self, token: str) -> Mapping[str, Any]:
        """Return what RFC 7662 §2.2 has about an access token, without asking who wants it."""
        return self._engine.introspection.describe(token)

    def prune(self) -> int:
        """Remove what is over from the store, as happens by itself; return how many rows went."""
        return self._engine.upkeep.prune()

    def close(self) -> None:
        """Close this process's connections; the next request opens new ones."""
        self._engine.upkeep.close()
        self._engine.database.close()

    def __repr__(self) -> str:
        return f"AuthorizationServer({self.settings.issuer!r})"
