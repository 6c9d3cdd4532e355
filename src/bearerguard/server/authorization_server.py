"""The public class of the authorization server. It delegates all work to the engine.

Creating one opens the store, migrates its schema and makes the first signing key. Connections are
opened by each process when it needs them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from bearerguard.errors import ConfigurationError
from bearerguard.protocol.http.certificate_header import CertificateSource
from bearerguard.protocol.http.proxies import Proxies
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.messages import Request, Response
from bearerguard.runtime.reporting.events import Event
from bearerguard.server.administration import ManagedServer
from bearerguard.server.audit import Audit, causing
from bearerguard.server.clients.metadata_documents import ClientMetadataDocuments
from bearerguard.server.clients.registration import Registration
from bearerguard.server.clients.trusted_issuers import (
    AssertionVerifier,
    TrustedIssuer,
    check_trusted_issuers,
)
from bearerguard.server.engine import Engine
from bearerguard.server.grants.registry import GrantRegistry
from bearerguard.server.grants.token_issuer import TokenIssuer
from bearerguard.server.hosting.asgi import ASGIApp, AsgiHost
from bearerguard.server.hosting.wsgi import WSGIApp, WsgiHost
from bearerguard.server.login.people import PeopleOptions
from bearerguard.server.mutual_tls import MutualTls
from bearerguard.server.observers import ServerObserver, check_observers
from bearerguard.server.revocations import Revoked
from bearerguard.server.secret import GivenSecret, find_secret
from bearerguard.server.settings import (
    ALLOWED,
    IGNORE,
    Dpop,
    Lifetimes,
    Resource,
    Scope,
    Settings,
    SigningKeys,
    UnknownScopes,
    checked_resources,
)
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import HEAD, migrate
from bearerguard.server.tokens.personal_tokens import PersonalTokens
from bearerguard.server.upstream.provider import Provider

if TYPE_CHECKING:
    from bearerguard.guard.config.issuer import Issuer
    from bearerguard.server.hosting.embedding import EmbeddedIssuerOptions

_LIFETIMES, _SIGNING = Lifetimes(), SigningKeys()
_THREADS = 8
# Connections for others than requests under ASGI: threads of the app that call the server, upkeep,
# and guards in this process that read the revocation log.
_SPARE_CONNECTIONS = 4


class AuthorizationServer(ManagedServer):
    """An OAuth 2 authorization server over one database.

    Args:
        issuer: its URL, the `iss` of its tokens; its endpoints are below it.
        store: the database: `sqlite:///auth.db` for the processes of one machine, or
            `postgresql://user:password@host/database` for several machines.
        secret: at least 32 random bytes, which seal the signing keys; by default that of
            `BEARERGUARD_SERVER_SECRET`. To renew it, pass a list, the newest first.
        scopes: every scope with its description for people, as text or as a `Scope`; by default
            those that clients are registered for.
        resources: the APIs that tokens are for; the first is the default. Without any, the
            API is the issuer's own URL.
        people: how users sign in, and what the pages look like.
        lifetimes: how long tokens, codes and clients' old secrets live.
        signing: the algorithm and the lifetime of signing keys.
        accept_endpoint_audiences: whether the audience of client assertions may be an endpoint
            instead of the issuer (RFC 9126 §2).
        unknown_scopes: what happens to scopes that the server or the client does not have:
            "ignore" leaves them out as long as one remains (RFC 6749 §3.3), "refuse" refuses
            the request. `openid` and `offline_access` beside others are never refused.
        dpop: whether clients may bind their access tokens to a key by a DPoP proof (RFC 9449):
            "allowed", "required" (each token request needs a proof) or "off" (proofs are not
            read). A client with `dpop_bound_access_tokens` always needs one.
        dpop_nonces: whether proofs must contain a nonce of this server (RFC 9449 §8), so that
            none can be made long before it is used.
        require_par: whether clients must push their authorization requests (RFC 9126 §5). A client
            with `require_pushed_authorization_requests` always must; any client may.
        mutual_tls: takes the certificates of TLS clients (RFC 8705), which authenticate them, and
            which tokens can be bound to; by default none is taken.
        client_metadata: accepts clients that are identified by the URL of their metadata
            document; by default none.
        registration: lets clients register themselves (RFC 7591); by default none can.
        personal_tokens: lets users make personal access tokens; by default none can.
        insecure_allow_http: allow an issuer with plain http beyond loopback.
        threads: how many requests are handled at once under ASGI. Half as many passwords are
            checked at once besides; under WSGI, in the web server's threads.
        health_path: where `health` is served for probes, such as "/health"; "/live" below it
            responds without the database. Not served by default, since the path may be the API's.
        ready_path: another path of `health`, such as "/ready".
        on_event: called with every `Event`.
        observers: receive a record of each response, and what the database does; for metrics.
        trusted_issuers: identity providers and workload platforms whose assertions are accepted,
            each a `TrustedIssuer` (RFC 7523).
        transport: sends the requests to trusted issuers and upstreams; an `HttpTransport` by
            default.
        clock: returns Unix seconds.
        environ: replaces the process's environment, for `BEARERGUARD_SERVER_SECRET`.

    Attributes:
        clients: the registered clients.
        users: the accounts of users.
        access: what clients may do for users: their grants, which it lists and revokes.
        keys: the signing keys.
        personal_tokens: the personal access tokens of users.
        authentication_methods: how clients authenticate; `register` adds a method of your own.
        grants: the grants by grant type; `register` adds one of your own.
        tokens: issues tokens, for grants of your own.
        database: its database.

    Raises:
        ConfigurationError: an option is missing or unsafe, or the store cannot be used.
    """

    def __init__(
        self,
        issuer: str,
        *,
        store: str = "sqlite:///auth.db",
        secret: GivenSecret | None = None,
        scopes: Mapping[str, str | Scope] | None = None,
        resources: Sequence[str | Resource] | None = None,
        people: PeopleOptions | None = None,
        lifetimes: Lifetimes = _LIFETIMES,
        signing: SigningKeys = _SIGNING,
        accept_endpoint_audiences: bool = False,
        unknown_scopes: UnknownScopes = IGNORE,
        dpop: Dpop = ALLOWED,
        dpop_nonces: bool = False,
        require_par: bool = False,
        mutual_tls: MutualTls | None = None,
        client_metadata: ClientMetadataDocuments | None = None,
        registration: Registration | None = None,
        personal_tokens: PersonalTokens | None = None,
        insecure_allow_http: bool = False,
        threads: int = _THREADS,
        health_path: str | None = None,
        ready_path: str | None = None,
        on_event: Callable[[Event], None] | None = None,
        observers: Sequence[ServerObserver] = (),
        trusted_issuers: Sequence[TrustedIssuer] = (),
        transport: Transport | None = None,
        clock: Callable[[], float] = time.time,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(threads, int) or threads < 1:
            raise ConfigurationError("threads=: at least one is needed")
        check_observers(observers)
        given: object
        for option, given, kind in (
            ("client_metadata", client_metadata, ClientMetadataDocuments),
            ("registration", registration, Registration),
            ("personal_tokens", personal_tokens, PersonalTokens),
        ):
            if given is not None and not isinstance(given, kind):
                raise ConfigurationError(f"{option}=: pass {kind.__name__}(...)")
        self.settings: Settings = Settings(
            issuer=issuer,
            resources=checked_resources(resources),
            scopes=scopes,
            lifetimes=lifetimes,
            signing=signing,
            accept_endpoint_audiences=accept_endpoint_audiences,
            unknown_scopes=unknown_scopes,
            dpop=dpop,
            dpop_nonces=dpop_nonces,
            require_par=require_par,
            mutual_tls=mutual_tls,
            insecure_allow_http=insecure_allow_http,
            api_scope=None if personal_tokens is None else personal_tokens.api_scope,
        )
        trusted = check_trusted_issuers(trusted_issuers)
        verifier: AssertionVerifier | None = None
        if trusted:
            from bearerguard.server.hosting import assertions  # noqa: PLC0415 - it knows the guard

            verifier = assertions.verifier(
                trusted, transport=transport, clock=clock, on_event=on_event
            )
        providers: Sequence[Provider] = ()
        if people is not None and people.upstreams:
            from bearerguard.server.hosting import assertions  # noqa: PLC0415 - it knows the guard

            providers = assertions.providers(
                people.upstreams, transport=transport, clock=clock, on_event=on_event
            )
        self._threads = threads
        login_threads = max(1, threads // 2)
        # Each upstream has as many, which wait without a connection for most of the time.
        upstream_threads = login_threads if providers else 0
        connections = threads + login_threads + upstream_threads + _SPARE_CONNECTIONS
        database = Database(store, connections=connections, patient=True)
        self.database: Database = database
        server_secret = find_secret(secret, database, environ)
        audit = Audit(on_event, clock, issuer=issuer)
        engine = Engine(
            settings=self.settings,
            database=database,
            secret=server_secret,
            people=people,
            audit=audit,
            clock=clock,
            password_places=login_threads,
            client_metadata=client_metadata,
            registration=registration,
            health_path=health_path,
            ready_path=ready_path,
            observers=observers,
            trusted_issuers=trusted,
            verifier=verifier,
            personal_tokens=personal_tokens,
            providers=providers,
        )
        super().__init__(engine)
        self.grants: GrantRegistry = engine.grants
        self.tokens: TokenIssuer = engine.tokens

        def prepare() -> None:
            with causing("upkeep"):
                before = migrate(database)
                if before is not None:
                    audit.emit("store_migrated", before=before, after=HEAD)
                self.keys.ensure()

        database.prepare(prepare)
        # A process that forks now, such as gunicorn with --preload, shares no connection.
        database.close()

    @property
    def paths(self) -> frozenset[str]:
        """The paths that it serves, the well-known ones included.

        Among them is the metadata of the API behind it, once a guard has its `issuer`.
        """
        return self._engine.paths

    # Serving

    def handle(self, request: Request) -> Response:
        """Return the response to a request to one of `paths`, in the calling thread."""
        return self._engine.handle(request)

    def asgi_app(
        self, api: ASGIApp | None = None, *, trusted_proxies: Sequence[str] = ()
    ) -> AsgiHost:
        """Return an ASGI app that serves `paths` and passes everything else to `api`.

        Args:
            api: the app behind it; without one, other paths get 404.
            trusted_proxies: the addresses or networks of your own proxies, "unix" for one that
                connects by a Unix socket. Logins are throttled by the address that their
                `X-Forwarded-For` names. Not needed for that if the web server evaluates that
                header. A certificate in a header is taken from them alone.

        Raises:
            ConfigurationError: a proxy is neither address nor network, or certificates are in a
                header and no proxy is named.
        """
        proxies = Proxies(trusted_proxies)
        certificates = self._certificates(proxies)
        return AsgiHost(self._engine, api, proxies, certificates, threads=self._threads)

    def wsgi_app(
        self, api: WSGIApp | None = None, *, trusted_proxies: Sequence[str] = ()
    ) -> WsgiHost:
        """Return a WSGI app that serves `paths` and passes everything else to `api`.

        The arguments are those of `asgi_app`.
        """
        proxies = Proxies(trusted_proxies)
        return WsgiHost(self._engine, api, proxies, self._certificates(proxies))

    def _certificates(self, proxies: Proxies) -> CertificateSource | None:
        options = self.settings.mutual_tls
        return None if options is None else CertificateSource(options.certificates, proxies)

    # Revocations by this process

    def on_revocation(self, listener: Callable[[Revoked], object]) -> None:
        """Call `listener` after each revocation that this process makes."""
        self._engine.revocations.listen(listener)

    def on_revocations(self, listener: Callable[[Sequence[Revoked]], object]) -> None:
        """Call `listener` after each change, once with all that it revoked."""
        self._engine.revocations.listen_to_batches(listener)

    # For a guard in this process

    def issuer(self, **options: Unpack[EmbeddedIssuerOptions]) -> Issuer:
        """Return this server as the issuer of a guard in this process: `Guard(server.issuer())`.

        The guard gets keys and introspects opaque tokens without HTTP. `options` are those of
        `Issuer`; the audience is the first resource by default.
        """
        from bearerguard.server.hosting import embedding  # noqa: PLC0415 - it knows the guard

        return embedding.issuer(self._engine, self._threads, **options)

    def introspect(self, token: str) -> Mapping[str, Any]:
        """Return the introspection response about an access token (RFC 7662 §2.2)."""
        return self._engine.introspection.describe(token)

    def health(self) -> dict[str, Any]:
        """Return whether the server can issue tokens now, ready for JSON; a second old at most.

        `ready`: whether both are so: `database` is `reachable`, and `signing_key` is `present`.
        Else they are `unreachable`; `missing`, `unusable` (sealed with another secret) or
        `unknown`. After `begin_stop`, `ready` is false and `stopping` is true.
        """
        return self._engine.health.state()

    def begin_stop(self) -> None:
        """Announce that this process stops soon; call it some seconds before it does.

        From now on `health` is not ready, so that load balancers send no more requests, and
        responses under ASGI have `Connection: close`, so that clients open no request on a
        connection that is about to be closed (RFC 9112 §9.6). Requests are handled as before.
        """
        self._engine.health.is_stopping = True

    def prune(self) -> int:
        """Remove expired rows now, as happens once a minute; return how many."""
        return self._engine.upkeep.prune()

    def __repr__(self) -> str:
        return f"AuthorizationServer({self.settings.issuer!r})"
