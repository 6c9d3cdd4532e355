"""The engine of a server: its parts put together, and the paths of its endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from bearerguard.errors import ConfigurationError
from bearerguard.protocol import names, resource_metadata
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.account.access import Access
from bearerguard.server.account.account_page import AccountPage
from bearerguard.server.account.password_page import PASSWORD
from bearerguard.server.audit import Audit
from bearerguard.server.clients import client as client_options
from bearerguard.server.clients.authentication import ClientAuthentication
from bearerguard.server.clients.authentication_methods import (
    AuthenticationMethods,
    ClientSecretBasic,
    ClientSecretPost,
    NoAuthentication,
)
from bearerguard.server.clients.metadata_documents import ClientMetadataDocuments, Documents
from bearerguard.server.clients.private_key_jwt import PrivateKeyJwt
from bearerguard.server.clients.registration import Registration
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.clients.tls_client_auth import (
    CertificateMethod,
    SelfSignedTlsClientAuth,
    TlsClientAuth,
)
from bearerguard.server.clients.trusted_issuers import (
    AssertionVerifier,
    TrustedIssuer,
    TrustedIssuers,
)
from bearerguard.server.clients.workload_identity import WorkloadIdentity
from bearerguard.server.endpoints import health, metadata
from bearerguard.server.endpoints.authorization import AuthorizationEndpoint
from bearerguard.server.endpoints.device import DeviceEndpoint
from bearerguard.server.endpoints.device_authorization import DeviceAuthorizationEndpoint
from bearerguard.server.endpoints.health import Health, Probe
from bearerguard.server.endpoints.introspection import IntrospectionEndpoint, TokenIntrospection
from bearerguard.server.endpoints.personal_tokens_api import API, PersonalTokensApi
from bearerguard.server.endpoints.personal_tokens_page import PAGE, PersonalTokensPage
from bearerguard.server.endpoints.pushed_authorization import PushedAuthorizationEndpoint
from bearerguard.server.endpoints.registration import RegistrationEndpoint
from bearerguard.server.endpoints.revocation import RevocationEndpoint, TokenRevocation
from bearerguard.server.endpoints.token import TokenEndpoint, asks_for_own_token
from bearerguard.server.grants.authorization_code import AuthorizationCodeGrant
from bearerguard.server.grants.client_credentials import ClientCredentialsGrant
from bearerguard.server.grants.device_code import DeviceCodeGrant
from bearerguard.server.grants.jwt_bearer import JwtBearerGrant
from bearerguard.server.grants.pushed_requests import PushedRequests
from bearerguard.server.grants.refresh_token import RefreshTokenGrant
from bearerguard.server.grants.registry import GrantRegistry
from bearerguard.server.grants.token_exchange import TokenExchangeGrant
from bearerguard.server.grants.token_issuer import TokenIssuer
from bearerguard.server.http import responses
from bearerguard.server.http.router import Endpoint, Readers, Router
from bearerguard.server.login.consent import CONSENT
from bearerguard.server.login.devices import DEVICE
from bearerguard.server.login.login_endpoint import ACCOUNT, LOGOUT
from bearerguard.server.login.passwords import PLACES
from bearerguard.server.login.people import People, PeopleOptions
from bearerguard.server.login.steps import LOGIN
from bearerguard.server.login.upstream_endpoint import LOGOUT_TOKENS
from bearerguard.server.mutual_tls import MutualTls
from bearerguard.server.observers import Observers, ServerObserver
from bearerguard.server.revocations import Revocations
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store.database import Database
from bearerguard.server.store.versions import Versions
from bearerguard.server.tokens import key_ring as signing
from bearerguard.server.tokens.access_token import AccessTokens
from bearerguard.server.tokens.dpop import TokenRequestProofs
from bearerguard.server.tokens.personal_tokens import PersonalTokenRegistry, PersonalTokens
from bearerguard.server.tokens.refresh_token_format import RefreshTokens
from bearerguard.server.upkeep import Upkeep
from bearerguard.server.upstream.provider import Provider

# The endpoints at which a client authenticates.
_AUDIENCES = (
    metadata.TOKEN,
    metadata.REVOKE,
    metadata.INTROSPECT,
    metadata.PUSH,
    metadata.DEVICE_AUTHORIZATION,
)
# The methods that a process may have which serves, where this one only administers.
_ELSEWHERE = (
    client_options.WORKLOAD_IDENTITY,
    client_options.TLS_CLIENT_AUTH,
    client_options.SELF_SIGNED_TLS_CLIENT_AUTH,
)


class Engine:
    """All parts of one server over one database."""

    revocations: Revocations
    keys: signing.KeyRing
    upkeep: Upkeep
    grants: GrantRegistry
    clients: ClientRegistry
    people: People
    access: Access
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
        client_metadata: ClientMetadataDocuments | None = None,
        registration: Registration | None = None,
        health_path: str | None = None,
        ready_path: str | None = None,
        observers: Sequence[ServerObserver] = (),
        trusted_issuers: Sequence[TrustedIssuer] = (),
        verifier: AssertionVerifier | None = None,
        personal_tokens: PersonalTokens | None = None,
        providers: Sequence[Provider] = (),
    ) -> None:
        self.settings = settings
        self._clock = clock
        self.database = database
        elapsed = elapsed_by(clock)
        watching = Observers(observers, elapsed)
        database.on_failed = watching.store_failed
        database.on_restored = partial(_restored, audit, watching)
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
        self.upkeep = Upkeep(database, self.keys, settings, clock, elapsed, audit=audit)
        self.grants = GrantRegistry(any_extension=settings.any_resource)
        self.verifier = verifier
        self._trusted: TrustedIssuers = TrustedIssuers(
            trusted_issuers, verifier, settings, settings.url(metadata.TOKEN), clock
        )
        # A process that only administers a store does not know the issuers of those that serve.
        elsewhere = _ELSEWHERE if settings.any_resource else ()
        self.authentication_methods: AuthenticationMethods = AuthenticationMethods(elsewhere)
        rules = client_options.Rules(settings, self.grants, self.authentication_methods)
        self._documents = (
            None
            if client_metadata is None
            else Documents(
                client_metadata,
                rules=rules,
                scopes=settings.scopes_of_strangers("client_metadata=", client_metadata.scopes),
                clock=clock,
                elapsed=elapsed,
                audit=audit,
                # A trusted issuer decides about each, and names the client in its ID-JAG.
                further_grants=(names.JWT_BEARER,) if self._trusted.name_users else (),
            )
        )
        strangers = {
            client_options.BY_DOCUMENT: client_metadata,
            client_options.BY_REQUEST: registration,
        }
        self.clients = ClientRegistry(
            secret=secret,
            rules=rules,
            revocations=self.revocations,
            finish_removals=self.upkeep.finish_removals,
            versions=self.versions,
            documents=self._documents,
            unused_lifetimes={
                name: each.unused_lifetime for name, each in strangers.items() if each is not None
            },
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
            providers=providers,
            end_logins=self.revocations.login,
        )
        self.personal_tokens: PersonalTokenRegistry = PersonalTokenRegistry(
            personal_tokens,
            settings=settings,
            secret=secret,
            registry=self.clients,
            revocations=self.revocations,
            **shared,
        )
        self.access, self._account = self._account_parts()
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
        self.introspection = TokenIntrospection(access, settings, audit, self.personal_tokens)
        self.revocation = TokenRevocation(
            access=access,
            refresh=refresh,
            revocations=self.revocations,
            personal=self.personal_tokens,
            **shared,
        )
        shared |= {"settings": settings, "access": access, "refresh": refresh}
        self.tokens = TokenIssuer(**shared)
        shared |= {"revocations": self.revocations}
        self.codes = AuthorizationCodeGrant(
            secret=secret, tokens=self.tokens, note_use=self.clients.note_use, **shared
        )
        self._device_codes = DeviceCodeGrant(
            database=database,
            secret=secret,
            settings=settings,
            tokens=self.tokens,
            audit=audit,
            clock=clock,
            note_use=self.clients.note_use,
        )
        self._register_grants(RefreshTokenGrant(**shared), access)
        self._register_methods()
        # Readers of SQLite wait for no writer. With an older secret a client's digest is renewed,
        # an opaque token has a row, a callback may do anything, and a client's document may have
        # to be fetched.
        self._may_be_brief = (
            database.path is not None
            and self._documents is None
            and not secret.is_being_renewed
            and not audit.calls_back
            and all(each.tokens == "jwt" for each in settings.resources)
        )
        authentication = self._authentication = ClientAuthentication(
            self.clients, self.authentication_methods, elapsed
        )
        proofs = self._proofs(metadata.TOKEN, secret)
        self._token = TokenEndpoint(authentication, self.grants, proofs)
        self._make_authorization(authentication, secret, audit, elapsed)
        self._revoke = RevocationEndpoint(authentication, self.revocation)
        self._introspect = IntrospectionEndpoint(
            authentication=authentication,
            introspection=self.introspection,
            keys=self.keys,
            settings=settings,
            clock=clock,
        )
        self._register = (
            None
            if registration is None
            else RegistrationEndpoint(
                registration,
                rules=rules,
                scopes=settings.scopes_of_strangers("registration=", registration.scopes),
                registry=self.clients,
                throttle=self.people.throttle,
                clock=clock,
            )
        )
        self.health = Health(self.keys, elapsed)
        personal, self._below = self._of_personal_tokens(access, proofs)
        endpoints = self._endpoints() | self._endpoints_of_devices(audit) | personal
        self._serve(endpoints, health_path, ready_path, audit, watching)

    def _serve(
        self,
        endpoints: dict[str, Endpoint],
        health_path: str | None,
        ready_path: str | None,
        audit: Audit,
        watching: Observers,
    ) -> None:
        """Make the router of all paths."""
        probes = health.paths(health_path, ready_path, frozenset(endpoints))
        served = self._served(endpoints, probes)
        self._live_paths = frozenset(path for path in probes if probes[path] is Probe.LIVENESS)
        self.paths = frozenset(served)
        # Where the metadata is of the API that the well-known root describes.
        self._at_root: str | None = None
        self._router = Router(
            served,
            below=self._below,
            is_origin=self.clients.is_origin,
            audit=audit,
            observers=watching,
        )

    def _account_parts(self) -> tuple[Access, AccountPage]:
        """Return what lists and ends grants, and the page on which users do it."""
        access = Access(
            database=self.database,
            clients=self.clients,
            revocations=self.revocations,
            end_user=self.end_user,
            forget=self.people.forget,
            user_id=lambda login: self.people.accounts.get(login).user_id,
            clock=self._clock,
        )
        page = AccountPage(
            self.people,
            access,
            registry=self.clients,
            settings=self.settings,
            clock=self._clock,
            tokens=self.settings.base_path + PAGE if self.personal_tokens.options else "",
        )
        return access, page

    def _make_authorization(
        self,
        authentication: ClientAuthentication,
        secret: ServerSecret,
        audit: Audit,
        elapsed: Callable[[], float],
    ) -> None:
        """Make the endpoints to which authorization requests are sent."""
        settings = self.settings
        pushed = PushedRequests(
            database=self.database, secret=secret, settings=settings, clock=self._clock
        )
        self._authorize = AuthorizationEndpoint(
            settings=settings,
            registry=self.clients,
            codes=self.codes,
            pushed=pushed,
            people=self.people,
            audit=audit,
        )
        self._push = PushedAuthorizationEndpoint(
            authentication=authentication,
            authorization=self._authorize,
            pushed=pushed,
            proofs=self._proofs(metadata.PUSH, secret),
            settings=settings,
            throttle=self.people.throttle,
            elapsed=elapsed,
        )

    def _proofs(self, path: str, secret: ServerSecret) -> TokenRequestProofs:
        """Return what checks the DPoP proofs of requests to an endpoint."""
        return TokenRequestProofs(
            self.settings.url(path),
            database=self.database,
            secret=secret,
            settings=self.settings,
            clock=self._clock,
        )

    def _of_personal_tokens(
        self, access: AccessTokens, proofs: TokenRequestProofs
    ) -> tuple[dict[str, Endpoint], dict[str, Endpoint]]:
        """Return the endpoints of personal access tokens: by path, and by what is above the path.

        There may be none. Those of the second mapping serve all paths that have one more segment.
        """
        registry, settings = self.personal_tokens, self.settings
        options, base = registry.options, settings.base_path
        below: dict[str, Endpoint] = {}
        if options is None:
            return {}, below
        page = PersonalTokensPage(
            registry,
            options,
            people=self.people,
            settings=settings,
            account=base + ACCOUNT,
        )
        endpoints = {base + PAGE: self._for_people("personal_tokens", page.handle)}
        if options.api_scope is not None:
            api = PersonalTokensApi(
                registry,
                options.api_scope,
                max_login_age=options.max_login_age,
                access=access,
                proofs=proofs,
                settings=settings,
                database=self.database,
                throttle=self.people.throttle,
                is_enabled=self.people.is_enabled,
            )
            endpoints[base + API] = Endpoint("personal_tokens_api", api.handle)
            handle_one = self._with_upkeep(api.handle_one)
            below[base + API] = Endpoint("personal_tokens_api", handle_one)
        return endpoints, below

    def _register_grants(self, refresh_tokens: RefreshTokenGrant, access: AccessTokens) -> None:
        """Register the grants, in the order in which metadata list them."""
        settings, tokens, trusted = self.settings, self.tokens, self._trusted
        exchange = TokenExchangeGrant(
            trusted, settings=settings, access=access, tokens=tokens, clock=self._clock
        )
        for grant in (self.codes, ClientCredentialsGrant(tokens), refresh_tokens, exchange):
            self.grants.register(grant)
        self.grants.register(self._device_codes)
        if trusted:
            self.grants.register(
                JwtBearerGrant(trusted, registry=self.clients, settings=settings, tokens=tokens)
            )

    def _register_methods(self) -> None:
        """Register the client authentication methods."""
        settings, clients, trusted = self.settings, self.clients, self._trusted
        endpoints = tuple(map(settings.url, _AUDIENCES))
        for method in (
            ClientSecretBasic(clients),
            ClientSecretPost(clients),
            PrivateKeyJwt(clients, settings, self._clock, endpoints, trusted),
            *((WorkloadIdentity(trusted),) if trusted else ()),
            *_certificate_methods(settings.mutual_tls, self._clock),
            NoAuthentication(),
        ):
            self.authentication_methods.register(method)
        self._token_path = settings.base_path + metadata.TOKEN
        self._own_methods = len(self.authentication_methods)

    def _served(
        self, endpoints: Mapping[str, Endpoint], probes: Mapping[str, Probe]
    ) -> dict[str, Endpoint]:
        """Return the endpoints of all paths; requests to some are followed by upkeep."""
        handlers = {
            Probe.READINESS: Endpoint("health", self.health.handle),
            Probe.LIVENESS: Endpoint("live", self.health.live),
        }
        served = {
            path: replace(each, handle=self._with_upkeep(each.handle))
            for path, each in endpoints.items()
        }
        return served | {path: handlers[probe] for path, probe in probes.items()}

    def handle(self, request: Request) -> Response:
        """Return the response to a request to one of `paths`."""
        return self._router.handle(request)

    async def prepare(self, request: Request) -> None:
        """Fetch ahead what a request needs from a stranger, in the running event loop."""
        if self._documents is None:
            return
        for client_id in self._authentication.named(request):
            if self._documents.covers(client_id):
                await self._documents.prepare(client_id)

    def too_large(self, path: str, method: str) -> Response:
        """Return the response to a request to one of `paths` whose body exceeds the limit."""
        return self._router.too_large(path, method)

    def busy(self, request: Request) -> Response:
        """Return the response to a request to one of `paths` for which there is no thread."""
        return self._router.busy(request)

    def alone(self, root: str, path: str, method: str, accept: str) -> Response:
        """Return the response to a request to none of `paths`, if no API is behind the server.

        Browsers, which ask for HTML, get pages. Anybody can ask for anything: it is not logged.

        Args:
            root: where the app is mounted (`root_path`, `SCRIPT_NAME`).
            path: the requested path, which may contain `root`.
            method: the method.
            accept: the request's `Accept`.
        """
        if "text/html" not in accept.lower():
            return responses.not_found()
        places = {"", self.settings.base_path, root.rstrip("/")}
        is_start = path.rstrip("/") in places and method in {"GET", "HEAD"}
        response = self.people.start() if is_start else self.people.not_found()
        return replace(response, body=b"") if method == "HEAD" else response

    def publish(
        self, path: str, respond: Callable[[str, Callable[[str], str | None]], Response]
    ) -> None:
        """Serve the metadata of an API (RFC 9728), whose guard is in this process.

        It is served at `path`, and at the well-known root where no other API's is. `respond` takes
        the method, and what returns a header field by its lower-case name.
        """
        endpoint = Endpoint(
            "resource_metadata", lambda request: respond(request.method, request.header)
        )
        places = {path, f"{path}/"}
        if path == resource_metadata.PATH or self._at_root in {None, path}:
            self._at_root = path
            places.add(resource_metadata.PATH)
        self._router.add(dict.fromkeys(places, endpoint))
        self._live_paths |= places
        self.paths |= places

    def is_login(self, method: str, path: str) -> bool:
        """Whether a request carries a password, which takes long to check."""
        below = path.removeprefix(self.settings.base_path)
        return method == "POST" and below in {LOGIN, PASSWORD}

    @property
    def upstream_places(self) -> frozenset[str]:
        """The names of the places for requests that may wait for an issuer elsewhere."""
        return frozenset(self.people.waiting_paths.values())

    def upstream_place(self, path: str) -> str | None:
        """Return the name of the places that a request to one of `paths` waits in, or None."""
        return self.people.waiting_paths.get(path.removeprefix(self.settings.base_path))

    def is_live(self, path: str) -> bool:
        """Whether a request to one of `paths` needs neither the database nor a thread."""
        return path in self._live_paths

    def is_brief(self, path: str, request: Request) -> bool:
        """Whether a request to one of `paths` is handled in less time than a thread costs.

        It is a client's request for a JWT of its own. Nothing in it may wait, write, sign slowly or
        call what an application has added, other than observers, which must be quick.
        """
        return (
            self._may_be_brief
            and path == self._token_path
            and asks_for_own_token(request.body)
            # Whose use is recorded.
            and not request.values(b"dpop")
            and len(self.authentication_methods) == self._own_methods
            and self.keys.signs_quickly()
            and self.database.is_at_hand
        )

    def served_path(self, root: str, path: str) -> str | None:
        """Return which path of this server a request for `path` means, or None.

        `root` is where the app is mounted (`root_path`, `SCRIPT_NAME`); `path` may contain it or
        not. The issuer's URL may contain it, too, or not.
        """
        root = root.rstrip("/")
        below = path[len(root) :] if root and (path + "/").startswith(root + "/") else path
        for candidate in (root + below, self.settings.base_path + below if root else ""):
            if candidate in self.paths or (self._below and self._router.endpoint(candidate)):
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

    def end_user(
        self,
        user_id: str,
        client_id: str | None = None,
        *,
        reason: str = "asked",
        personal: bool = True,
    ) -> int:
        """Revoke all grants of a user, to one client or to all; see `Revocations.user`."""
        self.people.forget(user_id, client_id)
        return self.revocations.user(user_id, client_id, reason=reason, personal=personal)

    def _endpoints(self) -> dict[str, Endpoint]:
        base = self.settings.base_path
        endpoints = {
            base + metadata.AUTHORIZE: self._for_people("authorization", self._authorize.handle),
            base + CONSENT: self._for_people("consent", self._authorize.decide),
            base + metadata.TOKEN: Endpoint("token", self._token.handle, Readers.REGISTERED),
            base + metadata.REVOKE: Endpoint("revocation", self._revoke.handle, Readers.REGISTERED),
            base + metadata.INTROSPECT: Endpoint("introspection", self._introspect.handle),
            base + metadata.PUSH: Endpoint(
                "pushed_authorization", self._push.handle, Readers.REGISTERED
            ),
            base + metadata.JWKS: Endpoint("jwks", self._jwks, Readers.EVERYBODY),
        }
        if self._register is not None:
            endpoints[base + metadata.REGISTER] = Endpoint(
                "registration", self._register.handle, Readers.SENDERS
            )
        oauth = Endpoint("metadata", self._published(metadata.document), Readers.EVERYBODY)
        openid = Endpoint("metadata", self._published(metadata.openid_document), Readers.EVERYBODY)
        endpoints[metadata.oauth_path(self.settings)] = oauth
        endpoints |= dict.fromkeys(metadata.openid_paths(self.settings), openid)
        for path in self.people.paths:
            name = "logout" if path == LOGOUT else "login"
            endpoints[base + path] = self._for_people(name, self.people.handle)
        for path in self._account.paths:
            endpoints[base + path] = self._for_people("account", self._account.handle)
        for key in self.people.upstreams.providers:
            endpoints[base + LOGOUT_TOKENS + key] = Endpoint(
                "backchannel_logout", self.people.upstreams.log_out
            )
        return endpoints

    def _endpoints_of_devices(self, audit: Audit) -> dict[str, Endpoint]:
        base, settings = self.settings.base_path, self.settings
        asking = DeviceAuthorizationEndpoint(
            authentication=self._authentication,
            codes=self._device_codes,
            settings=settings,
            throttle=self.people.throttle,
        )
        page = DeviceEndpoint(
            settings=settings,
            registry=self.clients,
            codes=self._device_codes,
            people=self.people,
            audit=audit,
        )
        return {
            base + metadata.DEVICE_AUTHORIZATION: Endpoint(
                "device_authorization", asking.handle, Readers.REGISTERED
            ),
            base + DEVICE: self._for_people("device", page.handle),
        }

    def _for_people(self, name: str, handle: Callable[[Request], Response]) -> Endpoint:
        return Endpoint(name, handle, errors=self.people)

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
                grant_profiles=[names.ID_JAG_PROFILE] if self._trusted.name_users else [],
                acr_values=self.people.acr_values,
                registers=self._register is not None,
                takes_documents=self._documents is not None,
            )
            return responses.public(content, metadata.CACHE_SECONDS)

        return handling


def _restored(audit: Audit, watching: Observers, outage: str) -> None:
    audit.emit("store_restored", outage=outage)
    watching.store_restored()


def _certificate_methods(
    options: MutualTls | None, clock: Callable[[], float]
) -> list[CertificateMethod]:
    """Return the methods in which a certificate authenticates a client."""
    if options is None:
        return []
    authorities = options.trusted()
    by_authority = [TlsClientAuth(authorities, clock)] if authorities else []
    return [*by_authority, SelfSignedTlsClientAuth()]
