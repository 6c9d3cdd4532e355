"""The engine of a server: its parts put together, and the paths of its endpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.clients import client as client_options
from bearerguard.server.clients.authentication import ClientAuthentication
from bearerguard.server.clients.authentication_methods import (
    AuthenticationMethods,
    ClientSecretBasic,
    ClientSecretPost,
    NoAuthentication,
)
from bearerguard.server.clients.private_key_jwt import PrivateKeyJwt
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.endpoints import health, metadata
from bearerguard.server.endpoints.authorization import AuthorizationEndpoint
from bearerguard.server.endpoints.health import Health, Probe
from bearerguard.server.endpoints.introspection import IntrospectionEndpoint, TokenIntrospection
from bearerguard.server.endpoints.revocation import RevocationEndpoint, TokenRevocation
from bearerguard.server.endpoints.token import TokenEndpoint
from bearerguard.server.grants.authorization_code import AuthorizationCodeGrant
from bearerguard.server.grants.client_credentials import ClientCredentialsGrant
from bearerguard.server.grants.refresh_token import RefreshTokenGrant
from bearerguard.server.grants.registry import GrantRegistry
from bearerguard.server.grants.token_issuer import TokenIssuer
from bearerguard.server.http import responses
from bearerguard.server.http.router import Endpoint, Readers, Router
from bearerguard.server.login.consent import CONSENT
from bearerguard.server.login.login_endpoint import LOGIN
from bearerguard.server.login.passwords import PLACES
from bearerguard.server.login.people import People, PeopleOptions
from bearerguard.server.revocations import Revocations
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store.database import Database
from bearerguard.server.store.versions import Versions
from bearerguard.server.tokens import key_ring as signing
from bearerguard.server.tokens.access_token import AccessTokens
from bearerguard.server.tokens.refresh_token_format import RefreshTokens
from bearerguard.server.upkeep import Upkeep


class Engine:
    """All parts of one server over one database."""

    revocations: Revocations
    keys: signing.KeyRing
    upkeep: Upkeep
    grants: GrantRegistry
    clients: ClientRegistry
    people: People
    introspection: TokenIntrospection
    revocation: TokenRevocation
    tokens: TokenIssuer
    codes: AuthorizationCodeGrant
    health: Health
    paths: frozenset[str]

    def __init__(
        self,
        *,
        settings: Settings,
        database: Database,
        secret: ServerSecret,
        people: PeopleOptions | None,
        audit: Audit,
        clock: Callable[[], float],
        password_places: int = PLACES,
        any_issuer: bool = False,
        health_path: str | None = None,
        ready_path: str | None = None,
    ) -> None:
        self.settings = settings
        self.database = database
        database.on_restored = lambda outage: audit.emit("store_restored", outage=outage)
        self.password_places = password_places
        shared: dict[str, Any] = {"database": database, "audit": audit, "clock": clock}
        self.versions: Versions = Versions(database)
        self.revocations = Revocations(settings=settings, **shared)
        self.keys = signing.KeyRing(
            secret=secret,
            settings=settings,
            revocations=self.revocations,
            versions=self.versions,
            **shared,
        )
        elapsed = elapsed_by(clock)
        self.upkeep = Upkeep(database, self.keys, settings, clock, elapsed, audit=audit)
        self.grants = GrantRegistry(any_extension=settings.any_resource)
        self.authentication_methods: AuthenticationMethods = AuthenticationMethods()
        self.clients = ClientRegistry(
            secret=secret,
            rules=client_options.Rules(settings, self.grants, self.authentication_methods),
            revocations=self.revocations,
            finish_removals=self.upkeep.finish_removals,
            versions=self.versions,
            **shared,
        )
        self.people = People(
            database,
            issuer=settings.issuer,
            secret=secret,
            clock=clock,
            audit=audit,
            on_disabled=lambda user_id: self.end_user(user_id, reason="user_disabled"),
            options=people,
            password_places=password_places,
        )
        access = AccessTokens(
            database=database,
            settings=settings,
            clients=self.clients,
            keys=self.keys,
            secret=secret,
            clock=clock,
            any_issuer=any_issuer,
        )
        refresh = RefreshTokens(secret, settings, clock)
        self.introspection = TokenIntrospection(access, settings, audit)
        self.revocation = TokenRevocation(
            access=access, refresh=refresh, revocations=self.revocations, **shared
        )
        shared |= {"settings": settings, "access": access, "refresh": refresh}
        self.tokens = TokenIssuer(**shared)
        shared |= {"revocations": self.revocations}
        self.codes = AuthorizationCodeGrant(secret=secret, tokens=self.tokens, **shared)
        self.grants.register(self.codes)
        self.grants.register(ClientCredentialsGrant(self.tokens))
        self.grants.register(RefreshTokenGrant(**shared))
        audiences = (metadata.TOKEN, metadata.REVOKE, metadata.INTROSPECT)
        for method in (
            ClientSecretBasic(self.clients),
            ClientSecretPost(self.clients),
            PrivateKeyJwt(self.clients, settings, clock, tuple(map(settings.url, audiences))),
            NoAuthentication(),
        ):
            self.authentication_methods.register(method)
        authentication = ClientAuthentication(self.clients, self.authentication_methods, elapsed)
        self._token = TokenEndpoint(authentication, self.grants)
        self._authorize = AuthorizationEndpoint(
            settings=settings,
            registry=self.clients,
            codes=self.codes,
            people=self.people,
            audit=audit,
        )
        self._revoke = RevocationEndpoint(authentication, self.revocation)
        self._introspect = IntrospectionEndpoint(
            authentication=authentication,
            introspection=self.introspection,
            keys=self.keys,
            settings=settings,
            clock=clock,
        )
        endpoints = self._endpoints()
        probes = health.paths(health_path, ready_path, frozenset(endpoints))
        served = {
            path: replace(each, handle=self._with_upkeep(each.handle))
            for path, each in endpoints.items()
        }
        self.health = Health(self.keys, elapsed)
        handlers = {Probe.READINESS: self.health.handle, Probe.LIVENESS: self.health.live}
        served |= {path: Endpoint(handlers[probe]) for path, probe in probes.items()}
        self._live_paths = frozenset(path for path in probes if probes[path] is Probe.LIVENESS)
        self.paths = frozenset(served)
        self._router = Router(served, is_origin=self.clients.is_origin, audit=audit)

    def handle(self, request: Request) -> Response:
        """Return the response to a request to one of `paths`."""
        return self._router.handle(request)

    def too_large(self, path: str) -> Response:
        """Return the response to a request to one of `paths` whose body exceeds the limit."""
        return self._router.too_large(path)

    def is_login(self, method: str, path: str) -> bool:
        """Whether a request carries a password, which takes long to check."""
        return method == "POST" and path == self.settings.base_path + LOGIN

    def is_live(self, path: str) -> bool:
        """Whether a request to one of `paths` needs neither the database nor a thread."""
        return path in self._live_paths

    def served_path(self, root: str, path: str) -> str | None:
        """Return which of `paths` a request for `path` means, or None.

        `root` is where the app is mounted (`root_path`, `SCRIPT_NAME`); `path` may contain it or
        not. The issuer's URL may contain it, too, or not.
        """
        root = root.rstrip("/")
        below = path[len(root) :] if root and (path + "/").startswith(root + "/") else path
        for candidate in (root + below, self.settings.base_path + below if root else ""):
            if candidate in self.paths:
                return candidate
        return None

    def revoke_user(self, *, login: str | None, user_id: str | None, client_id: str | None) -> int:
        """Revoke all grants of a user; see `AuthorizationServer.revoke_user`."""
        if (login is None) == (user_id is None):
            raise ConfigurationError("revoke_user(): name the user by login= or by user_id=")
        if client_id is not None:
            self.clients.get(client_id)
        if login is not None:
            user_id = self.people.accounts.get(login).user_id
        return self.end_user(str(user_id), client_id)

    def end_user(self, user_id: str, client_id: str | None = None, *, reason: str = "asked") -> int:
        """Revoke all grants of a user, to one client or to all; return how many."""
        self.people.forget(user_id, client_id)
        return self.revocations.user(user_id, client_id, reason=reason)

    def _endpoints(self) -> dict[str, Endpoint]:
        base = self.settings.base_path
        endpoints = {
            base + metadata.AUTHORIZE: self._for_people(self._authorize.handle),
            base + CONSENT: self._for_people(self._authorize.decide),
            base + metadata.TOKEN: Endpoint(self._token.handle, Readers.REGISTERED),
            base + metadata.REVOKE: Endpoint(self._revoke.handle, Readers.REGISTERED),
            base + metadata.INTROSPECT: Endpoint(self._introspect.handle),
            base + metadata.JWKS: Endpoint(self._jwks, Readers.EVERYBODY),
        }
        oauth = Endpoint(self._published(metadata.document), Readers.EVERYBODY)
        openid = Endpoint(self._published(metadata.openid_document), Readers.EVERYBODY)
        endpoints[metadata.oauth_path(self.settings)] = oauth
        endpoints |= dict.fromkeys(metadata.openid_paths(self.settings), openid)
        for path in self.people.paths:
            endpoints[base + path] = self._for_people(self.people.handle)
        return endpoints

    def _for_people(self, handle: Callable[[Request], Response]) -> Endpoint:
        return Endpoint(
            handle, unavailable=self.people.unavailable, too_large=self.people.too_large
        )

    def _with_upkeep(self, handle: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """Return `handle`, which reads the versions once, followed by the upkeep that is due."""

        def handling(request: Request) -> Response:
            try:
                with self.versions.once():
                    return handle(request)
            finally:
                self.upkeep.run_if_due()

        return handling

    def _jwks(self, request: Request) -> Response:
        responses.check_method(request, "GET", "HEAD")
        return responses.public(self.keys.jwks(), signing.CACHE_SECONDS)

    def _published(self, document: Callable[..., dict[str, Any]]) -> Callable[[Request], Response]:
        """Return a handler that responds with a metadata document."""

        def handling(request: Request) -> Response:
            responses.check_method(request, "GET", "HEAD")
            content = document(
                self.settings,
                self.keys.algorithms(),
                grant_types=self.grants,
                auth_methods=self.authentication_methods,
            )
            return responses.public(content, metadata.CACHE_SECONDS)

        return handling
