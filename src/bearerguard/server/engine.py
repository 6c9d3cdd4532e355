"""The parts of a server put together: who needs whom, and which path has which endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
from bearerguard.server.endpoints import metadata
from bearerguard.server.endpoints.authorize import AuthorizeEndpoint
from bearerguard.server.endpoints.introspection import IntrospectEndpoint, Introspection
from bearerguard.server.endpoints.revocation import RevokeEndpoint, TokenRevocation
from bearerguard.server.endpoints.token import OwnGrant, TokenEndpoint
from bearerguard.server.grants.authorization_code import CodeGrant
from bearerguard.server.grants.refresh_token import RefreshGrant
from bearerguard.server.hosting.upkeep import Upkeep
from bearerguard.server.http import responses
from bearerguard.server.http.router import Endpoint, Readers, Router
from bearerguard.server.login.consent import CONSENT
from bearerguard.server.login.passwords import PLACES
from bearerguard.server.login.people import People, PeopleOptions
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store.database import Database
from bearerguard.server.tokens import key_ring as signing
from bearerguard.server.tokens.access_token import AccessTokens
from bearerguard.server.tokens.refresh_token import RefreshTokens
from bearerguard.server.tokens.revocations import Revocations


class _GrantTypes(tuple[str, ...]):
    __slots__ = ()

    def is_allowed(self, name: str) -> bool:
        return name in self


_GRANTS = _GrantTypes(client_options.GRANT_TYPES)


class Engine:
    """Everything that one server consists of, over one database."""

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
    ) -> None:
        self.settings = settings
        self.database = database
        shared: dict[str, Any] = {"database": database, "audit": audit, "clock": clock}
        self.revocations = Revocations(settings=settings, **shared)
        self.keys = signing.KeyRing(
            secret=secret, settings=settings, revocations=self.revocations, **shared
        )
        elapsed = elapsed_by(clock)
        self.upkeep = Upkeep(database, self.keys, settings, clock, elapsed)
        self.authentication_methods = AuthenticationMethods()
        self.clients = ClientRegistry(
            secret=secret,
            rules=client_options.Rules(settings, _GRANTS, self.authentication_methods),
            revocations=self.revocations,
            finish_removals=self.upkeep.finish_removals,
            **shared,
        )
        self.people = People(
            database,
            issuer=settings.issuer,
            secret=secret,
            clock=clock,
            audit=audit,
            on_disabled=self.end_user,
            options=people,
            password_places=password_places,
        )
        access = AccessTokens(settings, self.keys, secret, clock, any_issuer=any_issuer)
        refresh = RefreshTokens(secret, settings, clock)
        self.introspection = Introspection(database, access, settings, audit)
        self.revocation = TokenRevocation(
            access=access, refresh=refresh, revocations=self.revocations, **shared
        )
        shared |= {"access": access, "refresh": refresh, "revocations": self.revocations}
        self.codes = CodeGrant(secret=secret, settings=settings, **shared)
        endpoints = (metadata.TOKEN, metadata.REVOKE, metadata.INTROSPECT)
        for method in (
            ClientSecretBasic(self.clients),
            ClientSecretPost(self.clients),
            PrivateKeyJwt(self.clients, settings, clock, tuple(map(settings.url, endpoints))),
            NoAuthentication(),
        ):
            self.authentication_methods.register(method)
        authentication = ClientAuthentication(self.clients, self.authentication_methods, elapsed)
        self._token = TokenEndpoint(
            authentication=authentication,
            code=self.codes,
            refresh=RefreshGrant(settings=settings, **shared),
            own=OwnGrant(database, settings, access, audit),
        )
        self._authorize = AuthorizeEndpoint(
            settings=settings,
            registry=self.clients,
            codes=self.codes,
            people=self.people,
            audit=audit,
        )
        self._revoke = RevokeEndpoint(authentication, self.revocation)
        self._introspect = IntrospectEndpoint(
            authentication=authentication,
            introspection=self.introspection,
            keys=self.keys,
            settings=settings,
            clock=clock,
        )
        served = self._endpoints()
        self.paths = frozenset(served)
        kept_up = {
            path: replace(each, handle=self._kept_up(each.handle)) for path, each in served.items()
        }
        self.router = Router(kept_up, is_origin=self.clients.is_origin, audit=audit)

    def revoke_user(self, *, login: str | None, user_id: str | None, client_id: str | None) -> int:
        """Do as `end_user`, for the user of a login name or of an id; there must be such ones."""
        if (login is None) == (user_id is None):
            raise ConfigurationError("revoke_user(): name the user by login= or by user_id=")
        if client_id is not None:
            self.clients.get(client_id)
        if login is not None:
            user_id = self.people.accounts.get(login).user_id
        return self.end_user(str(user_id), client_id)

    def end_user(self, user_id: str, client_id: str | None = None) -> int:
        """End all that a user allowed, one client or all; return how many grants that were."""
        self.people.forget(user_id, client_id)
        return self.revocations.user(user_id, client_id)

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

    def _kept_up(self, handle: Callable[[Request], Response]) -> Callable[[Request], Response]:
        """Return `handle` with the upkeep begun afterwards that is due."""

        def handling(request: Request) -> Response:
            try:
                return handle(request)
            finally:
                self.upkeep.run_if_due()

        return handling

    def _jwks(self, request: Request) -> Response:
        responses.check_method(request, "GET", "HEAD")
        return responses.public(self.keys.jwks(), signing.CACHE_SECONDS)

    def _published(
        self, document: Callable[[Settings, Sequence[str], Iterable[str]], dict[str, Any]]
    ) -> Callable[[Request], Response]:
        """Return what answers with a metadata document."""

        def handling(request: Request) -> Response:
            responses.check_method(request, "GET", "HEAD")
            content = document(self.settings, self.keys.algorithms(), self.authentication_methods)
            return responses.public(content, metadata.CACHE_SECONDS)

        return handling
