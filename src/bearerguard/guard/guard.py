"""The guard: decides whether a request may pass, for every adapter, sync and async.

Owns the order of the decision: the cache of validated tokens first, as a plain call, and a flow
only on a miss. Knows no ASGI, no WSGI and no framework. The constructor does no I/O.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping, Sequence
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Self,
    TypeAlias,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
)

from bearerguard.errors import (
    MISSING_CREDENTIALS,
    ConfigurationError,
    CredentialsError,
    IssuerUnavailable,
    Refusal,
)
from bearerguard.guard import binding, driving, introspection, revocation
from bearerguard.guard.config import options
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.protected_resource import ProtectedResource, protected_resource
from bearerguard.guard.config.requirement import Moment, Requirement, combined
from bearerguard.guard.config.scope_hierarchy import Implies, ScopeHierarchy
from bearerguard.guard.decision import (
    Allow,
    Decision,
    Deny,
    Pending,
    Unavailable,
    failed,
    insufficient,
    refused,
    unauthenticated,
)
from bearerguard.guard.events import UNKNOWN_ABSENCE, Events, Place, request_id
from bearerguard.guard.keys.refresher import Refresher
from bearerguard.guard.observers import Observer, Observers, check_observers
from bearerguard.guard.resource_metadata import PublishedResource
from bearerguard.guard.stream_tokens import StreamToken, StreamTokens
from bearerguard.guard.token_cache import (
    SCHEME_BYTES,
    RecentCredentials,
    TokenCache,
    VerifiedToken,
    digest,
    octets,
)
from bearerguard.guard.tokens.authenticator import Authenticator
from bearerguard.guard.tokens.authenticator import Pending as PendingToken
from bearerguard.guard.tokens.jwt_validator import JwtValidator, SignedClaims
from bearerguard.guard.tokens.routing import RouteOpaque
from bearerguard.guard.tokens.trusted_issuers import TrustedIssuers, check_issuers
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol import resource_metadata
from bearerguard.protocol.http.certificate_header import Certificates, CertificateSource
from bearerguard.protocol.http.certificates import X5T_S256
from bearerguard.protocol.http.challenge import Challenge
from bearerguard.protocol.http.credentials import (
    Credentials,
    absence,
    bearer_credentials,
    credentials,
)
from bearerguard.protocol.http.expiry import ExpiryHeaders
from bearerguard.protocol.http.proxies import Proxies
from bearerguard.protocol.jose import jwt
from bearerguard.protocol.names import DPOP, DPOP_ALGORITHMS
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.flow import Flow, arun, run
from bearerguard.runtime.messages import Request
from bearerguard.runtime.reporting.events import Event
from bearerguard.transports.default import default_transport

if TYPE_CHECKING:
    from bearerguard.guard.binding.binding import Binding, Check, Mode, Proved
    from bearerguard.guard.binding.received_request import ReceivedRequest
    from bearerguard.guard.binding.replays import MemoryReplays
    from bearerguard.guard.config.websockets import WebSockets
    from bearerguard.guard.explanation import Explanation
    from bearerguard.guard.stores import ReplayStore
    from bearerguard.guard.tokens.trace import Trace, Tracer
    from bearerguard.runtime.sealing import Secret

T = TypeVar("T")


class _About(NamedTuple):
    """What a request needs besides a token, and how the guard reports on it; see `decide`."""

    requirement: Requirement | None
    place: Callable[[], Place] | None
    request: Callable[[], ReceivedRequest] | None
    trace: Trace | None


DenialBody: TypeAlias = Callable[[Deny | Unavailable], tuple[str, bytes]]
"""Makes the body of a refusal from the decision: `(media type, bytes)`."""

# About 100 MB of tokens with ten claims each.
_CACHE_SIZE = 50_000


class GuardOptions(TypedDict, total=False):
    """The options of `Guard` besides its issuers."""

    realm: str
    resource: str | ProtectedResource | Literal[False] | None
    require: Requirement | None
    implies: Implies | None
    expiry_headers: ExpiryHeaders | None
    cache_control: str | None
    denial_body: DenialBody | None
    request_id_headers: Sequence[str]
    revocations: revocation.Revocations | None
    route_opaque: RouteOpaque | None
    introspection_cache: introspection.IntrospectionCache | None
    dpop: Mode
    replay: MemoryReplays | ReplayStore | None
    dpop_nonces: Secret | Sequence[Secret] | None
    dpop_content_digest: bool
    dpop_algorithms: Sequence[str]
    dpop_max_age: float
    certificates: Certificates | None
    public_url: str | None
    trusted_proxies: Sequence[str]
    transport: Transport | None
    on_event: Callable[[Event], None] | None
    observers: Sequence[Observer]
    clock: Callable[[], float]
    monotonic: Callable[[], float] | None
    cache_size: int
    max_token_bytes: int
    stream_grace: float
    stream_until_expiry: bool
    websockets: WebSockets | None


class Guard:
    """Validates the bearer tokens of one API.

    Usable as a context manager, sync and async: leaving it closes the guard.

    Args:
        issuers: the issuers trusted; the `iss` of a token selects one.
        realm: the name of the protected space in challenges (RFC 9110 §11.5).
        resource: this API as its metadata describes it (RFC 9728): its URL, or a
            `ProtectedResource`. Adapters then serve the metadata to everybody, and challenges name
            it. By default it is the issuers' audience, if that is one URL; False for no metadata.
        require: what every request needs, such as `scopes("read")`.
        implies: scopes that imply others, such as `{"admin": ["read", "write"]}`: a requirement of
            `read` is met by a token with `admin`. `Principal.scopes` stays what the token has.
        expiry_headers: the response headers with the token's expiry, None for none.
        cache_control: the `Cache-Control` of responses to requests with a token, where the app
            sets none; None leaves it out.
        denial_body: makes the body of a refusal from the decision: `(media type, bytes)`.
        request_id_headers: the header fields, the preferred first, by which proxies and other
            services name a request; log lines and events of refusals have the id too. The id in a
            `traceparent` is its trace-id. An empty list leaves it out.
        revocations: tokens revoked before they expire, such as `Revocations(RedisStore(...))`;
            in the database of an embedded server by default.
        route_opaque: returns the issuer, or its url, of a token that is not a JWT; required where
            several issuers introspect.
        introspection_cache: where workers share introspection responses.
        dpop: whether tokens may be bound to a key of their sender, which each request proves
            (RFC 9449): "off", "allowed" or "required". With "off", bound tokens are refused.
        replay: where the proofs that were used are stored: a `RedisStore`, which all workers
            share; by default `MemoryReplays()`, of this process alone.
        dpop_nonces: a secret of at least 32 bytes, the same in each process, or a list, newest
            first. With it a proof must have a recent nonce of this API (§9).
        dpop_content_digest: whether a proof must have the digest of the request's body, as
            `content_digest`; the middleware reads the body then, before the app does.
        dpop_algorithms: the signature algorithms of proofs, the preferred first.
        dpop_max_age: by how many seconds the `iat` of a proof may differ from the clock.
        certificates: where the certificates of TLS clients come from, to which tokens may be bound
            (RFC 8705): "tls" for the connection itself, as the ASGI or WSGI server reports it; or
            the header of your proxies, "nginx", "envoy", "traefik", "alb", "rfc9440" or a
            `CertificateHeader`, which is believed from `trusted_proxies` alone. With None, such
            tokens are refused.
        public_url: the URL by which clients reach this API, as proofs name it (`htu`): scheme and
            host, and a path if a proxy removes it; by default those of `resource`.
        trusted_proxies: the addresses or networks of your own proxies, "unix" for one that
            connects by a Unix socket. Without `public_url`, their `Forwarded` or `X-Forwarded-Host`
            and `X-Forwarded-Proto` say scheme and host.
        transport: sends the requests to issuers, and is closed with the guard; an `HttpTransport`
            by default.
        on_event: called with an `Event` for every refusal and every fetch of keys.
        observers: get a record of every decision and every fetch, such as
            `[PrometheusObserver()]`. With any, a request whose token is cached takes longer.
        clock: returns Unix seconds.
        monotonic: returns seconds that clock changes do not affect, for ages and pauses; by default
            the system's monotonic clock, or derived from `clock` if that is passed.
        cache_size: how many validated tokens are cached at most.
        max_token_bytes: the longest token that is parsed, JWT or opaque.
        stream_grace: for how many seconds longer than its token a websocket or a long response may
            go on; 0 by default. A revocation ends it at once, and so does a newer status list.
        stream_until_expiry: False lets them go on when their token expires; only a revocation, or a
            status list, ends them then.
        websockets: how a browser's websocket carries its credentials, such as
            `WebSockets(subprotocol=True)`; by the Authorization field alone by default.

    Attributes:
        issuers: as passed.
        options: all other arguments, by their names.
        resource: what the metadata says; None for no metadata.
        challenge: what each challenge of this guard has: the realm, and where the metadata is.

    Raises:
        ConfigurationError: an option is missing or unsafe.
    """

    #: Where client certificates come from (RFC 8705), None for nowhere.
    certificates: CertificateSource | None = None
    #: The metadata of this API (RFC 9728), None for none.
    published: PublishedResource | None = None
    # Called when the state is replaced: objects that hold parts of this guard read them again.
    _dependents: tuple[weakref.WeakMethod[Callable[[], None]], ...] = ()
    #: The names of the settings that `from_env` or `from_mapping` has read.
    settings_read: frozenset[str] = frozenset()

    def __init__(  # noqa: PLR0915 - each option takes a statement
        self,
        *issuers: Issuer,
        realm: str = "api",
        resource: str | ProtectedResource | Literal[False] | None = None,
        require: Requirement | None = None,
        implies: Implies | None = None,
        expiry_headers: ExpiryHeaders | None = ExpiryHeaders(),  # noqa: B008 - it is immutable
        cache_control: str | None = "private",
        denial_body: DenialBody | None = None,
        request_id_headers: Sequence[str] = ("X-Request-ID", "traceparent"),
        revocations: revocation.Revocations | None = None,
        route_opaque: RouteOpaque | None = None,
        introspection_cache: introspection.IntrospectionCache | None = None,
        dpop: Mode = "off",
        replay: MemoryReplays | ReplayStore | None = None,
        dpop_nonces: Secret | Sequence[Secret] | None = None,
        dpop_content_digest: bool = False,
        dpop_algorithms: Sequence[str] = DPOP_ALGORITHMS,
        dpop_max_age: float = options.DPOP_MAX_AGE,
        certificates: Certificates | None = None,
        public_url: str | None = None,
        trusted_proxies: Sequence[str] = (),
        transport: Transport | None = None,
        on_event: Callable[[Event], None] | None = None,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] | None = None,
        cache_size: int = _CACHE_SIZE,
        max_token_bytes: int = jwt.MAX_TOKEN_BYTES,
        stream_grace: float = 0,
        stream_until_expiry: bool = True,
        websockets: WebSockets | None = None,
    ) -> None:
        self.options: GuardOptions = _options(locals())
        check_issuers(issuers, route_opaque)
        options.check_requirement(require)
        self._hierarchy = None if implies is None else ScopeHierarchy(implies)
        options.check_expiry_headers(expiry_headers)
        options.check_cache_control(cache_control)
        self.request_id_headers: tuple[str, ...] = options.checked_request_id_headers(
            request_id_headers
        )
        if revocations is not None:
            revocation.check_revocations(revocations)
        if introspection_cache is not None:
            introspection.check_introspection_cache(introspection_cache)
        check_observers(observers)
        options.check_cache_size(cache_size)
        options.check_max_token_bytes(max_token_bytes)
        options.check_streams(stream_grace, stream_until_expiry)
        if websockets is not None:
            from bearerguard.guard.config.websockets import check_websockets  # noqa: PLC0415 - few

            check_websockets(websockets)
        self.websockets: WebSockets | None = websockets
        self.issuers: tuple[Issuer, ...] = issuers
        self.realm: str = realm
        self.resource: ProtectedResource | None = protected_resource(resource, issuers)
        self.challenge: Challenge = _challenge(realm, self.resource)
        self._binding = self._bound()
        self.requirement: Requirement | None = require
        self.expiry_headers: ExpiryHeaders = expiry_headers or ExpiryHeaders(None, None)
        self.cache_control: str | None = cache_control
        self.denial_body: DenialBody | None = denial_body
        self.clock: Callable[[], float] = clock
        monotonic = elapsed_by(clock) if monotonic is None else monotonic
        self._observers = Observers(observers, monotonic)
        self._events = Events(on_event, clock, self._observers)
        local = [issuer.local for issuer in issuers if issuer.local is not None]
        if local:  # a server keeps its revocations in its database
            if revocations is None:
                longest = max(each.longest_token_life for each in local)
                revocations = revocation.Revocations(max_token_life=longest)
            revocations.use_log(local[0].revocation_store)
        used = (
            None
            if revocations is None
            else revocations.attach(
                clock, self._events.emit, self._observers.watch("revocations", None, None)
            )
        )
        self._revocations = used
        self.max_token_bytes: int = max_token_bytes
        # The longest field of which more than the scheme is read.
        self._longest = max_token_bytes + SCHEME_BYTES
        self._credentials = (
            bearer_credentials if self._binding is None else self._binding.credentials
        )
        self._transport = transport or default_transport()
        self._cache_store = None if introspection_cache is None else introspection_cache.store
        self._handlers, self._async_handlers = driving.handlers(
            self._transport,
            local,
            None if revocations is None else revocations.store,
            self._cache_store,
            None if self._binding is None else self._binding.store,
        )
        self._refresher = Refresher(partial(run, handlers=self._handlers))
        self._events.schedule = self._refresher.schedule
        # The refresher's thread refers to the key caches, which do not refer to the guard.
        weakref.finalize(self, self._refresher.close)
        self._tokens = TokenCache(
            cache_size, clock, used, monotonic=monotonic, longest=max_token_bytes
        )
        self._trust = TrustedIssuers(
            issuers,
            route_opaque=route_opaque,
            tokens=self._tokens,
            shared=None
            if introspection_cache is None
            else introspection_cache.responses(self._events.emit, monotonic),
            clock=clock,
            monotonic=monotonic,
            events=self._events,
            schedule=self._refresher.schedule,
            max_token_bytes=max_token_bytes,
            revocations=used,
            hierarchy=self._hierarchy,
            binding=self._binding,
        )
        self._validator = JwtValidator(
            self._trust.find,
            clock,
            max_token_bytes,
            names=self._trust.urls,
            hierarchy=self._hierarchy,
            binding=self._binding,
        )
        self._authenticator = Authenticator(
            self._validator,
            self._trust.routing,
            self._tokens,
            clock=clock,
            monotonic=monotonic,
            revocations=used,
            statuses=self._trust.statuses,
            max_token_bytes=max_token_bytes,
            accepts_bound=self._binding is not None,
        )
        self.cached: Callable[[bytes | str], RecentCredentials | None] = self._tokens.cached
        self.recent: dict[bytes | str, RecentCredentials] = self._tokens.recent
        self._stream_grace = stream_grace
        self._streams_expire = stream_until_expiry
        #: The rule for open streams; None if nothing ends them.
        self.stream_tokens: StreamTokens | None = None
        if stream_until_expiry or used is not None or self._trust.statuses is not None:
            self.stream_tokens = StreamTokens(clock, used, self._trust.statuses)
        self._tracer: Tracer | None = self._observed() if self._observers else None
        self.publish(require)
        for server in local:
            forwards = revocations is not None and revocations.forwards(server.revocation_store)
            server.on_revocation(self._forward if forwards else self._add_revoked)

    @property
    def implies(self) -> Implies | None:
        """Which scopes imply others, as passed."""
        return self.options.get("implies")

    @property
    def _revoker(self) -> revocation.Revoker:
        """What revokes on behalf of this guard: it has no state, and few guards need it."""
        return revocation.Revoker(
            self._revocations,
            identify=self._authenticator.identify,
            issuers=self._trust,
            clock=self.clock,
            events=self._events,
        )

    def _bound(self) -> Binding | None:
        """Return what checks the binding of tokens, None where bound tokens are refused."""
        given = cast("Mapping[str, Any]", self.options)
        wanted = given["certificates"]
        if wanted is not None:
            self.certificates = CertificateSource(wanted, Proxies(given["trusted_proxies"]))
        # The confirmation methods besides `jkt`, each with what checks it.
        checks: dict[str, Check] = {}
        if self.certificates is not None:
            from bearerguard.guard.binding import certificate  # noqa: PLC0415 - for few guards

            checks[X5T_S256] = certificate.CertificateCheck(self.certificates)
        options.check_unused_of_requests(given, reads_header=self._reads_header)
        if given["dpop"] == "off":
            if any(
                each.local is not None and each.local.binds_every_token for each in self.issuers
            ):
                raise ConfigurationError(
                    "Guard(dpop=): every token of this server is bound to a key of its client: pass"
                    ' dpop="allowed" or "required", or AuthorizationServer(dpop="allowed")'
                )
            if not checks:
                return None
        chosen = binding.DpopOptions(
            mode=given["dpop"],
            replay=given["replay"],
            nonces=given["dpop_nonces"],
            content_digest=given["dpop_content_digest"],
            algorithms=given["dpop_algorithms"],
            max_age=given["dpop_max_age"],
            public_url=given["public_url"],
            trusted_proxies=given["trusted_proxies"],
        )
        return binding.made(chosen, checks, self.resource, self.challenge)

    @property
    def _reads_header(self) -> bool:
        return self.certificates is not None and self.certificates.header is not None

    def _observed(self) -> Tracer:
        """Attach the observers; adapters then find no cached token, and each decision is seen."""
        from bearerguard.guard.tokens.trace import Tracer  # noqa: PLC0415 - few guards are observed

        self.cached, self.recent = _not_cached, {}
        self._observers.configured = self._trust.configured
        self._observers.attach(self.health)
        return Tracer(self._observers, self._authenticator.is_stale)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] | None = None, **options: Unpack[GuardOptions]
    ) -> Self:
        """Return a guard that is configured by `BEARERGUARD_ISSUER`, `BEARERGUARD_AUDIENCE`, ….

        `environ` is the process's environment by default. `options` are those of `Guard` and
        override the variables.

        Raises:
            ConfigurationError: a variable is missing, misspelt or malformed; it is named.
        """
        return cls.from_mapping(os.environ if environ is None else environ, **options)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], **options: Unpack[GuardOptions]) -> Self:
        """Return a guard that is configured by any mapping with the names of `from_env`.

        Its values may be text as in an environment, or lists, booleans and numbers.
        """
        from bearerguard.guard.config import settings  # noqa: PLC0415 - only for guards made so

        issuer, given = settings.read(values)
        chosen: dict[str, Any] = {**given, **options}
        if "transport" in given:
            if options.get("transport") is not None:
                raise ConfigurationError(
                    "BEARERGUARD_FETCH_HEADERS: cannot be combined with transport=: pass the"
                    " headers to that transport"
                )
            chosen["transport"] = given["transport"]
        guard = cls(issuer, **chosen)
        guard.settings_read = settings.given_in(values)
        return guard

    def publish(self, requirement: Requirement | None) -> None:
        """Publish the metadata of this API, every request to which needs `requirement`.

        An embedded server serves it from now on, wherever the guard stands in the app.
        """
        if self.resource is not None:
            self.published = published = PublishedResource(self.resource, self.issuers, requirement)
            for issuer in self.issuers:
                if issuer.local is not None:
                    issuer.local.publish(published.path, published.respond)

    def report(self, code: str, detail: str, *, place: Place | None = None) -> None:
        """Report an `Event` of an adapter; `place` is the request that it concerns."""
        self._events.emit(code, None, detail, place=place)

    def request_id(self, header: Callable[[str], str | None]) -> str:
        """Return the id that a request has in one of `request_id_headers`, "" for none.

        `header` returns the value of a header field by its lower-case name.
        """
        return request_id(self.request_id_headers, header)

    # Deciding

    def authenticate(self, request: Request) -> Flow[Decision]:
        """Decide on a request, the guard's own requirement included; drive the flow with `run`."""

        def header(name: str) -> str | None:
            values = request.values(name.encode())
            return values[0].decode("latin-1") if values else None

        def place() -> Place:
            path = request.url.partition("?")[0]
            return Place(request.method, path, request_id=self.request_id(header))

        def received() -> ReceivedRequest:
            from bearerguard.guard.binding.received_request import received  # noqa: PLC0415 - rare

            return received(request)

        return self.decide(
            request.values(b"authorization"), self.requirement, place=place, request=received
        )

    def decide(
        self,
        authorization: Sequence[bytes],
        requirement: Requirement | None = None,
        *,
        optional: bool = False,
        place: Callable[[], Place] | None = None,
        request: Callable[[], ReceivedRequest] | None = None,
    ) -> Flow[Decision]:
        """Decide by the values of a request's Authorization fields.

        With `optional`, a request without bearer credentials passes as `ANONYMOUS`. `place` names
        the request in the event of a refusal, and is called for one only. `request` returns what
        the sender of a bound token has to prove something about, and is called for those only.
        """
        decision = self.decide_now(
            authorization, requirement, optional=optional, place=place, request=request
        )
        return (yield from decision.flow) if isinstance(decision, Pending) else decision

    def decide_now(
        self,
        authorization: Sequence[bytes],
        requirement: Requirement | None = None,
        *,
        optional: bool = False,
        place: Callable[[], Place] | None = None,
        request: Callable[[], ReceivedRequest] | None = None,
    ) -> Decision | Pending:
        """Do what `decide` does, without I/O; return `Pending` if I/O is needed."""
        tracer = self._tracer
        if tracer is None:
            return self._decide_now(authorization, requirement, optional, place, request)
        trace = tracer.begin()
        # Adapters do the same for a guard without observers.
        known = self._tokens.find(authorization[0]) if len(authorization) == 1 else None
        decision: Decision | Pending
        if known is None:
            decision = self._decide_now(authorization, requirement, optional, place, request, trace)
        else:
            trace.is_cached, trace.token = True, known.token
            refusal = self._authorize(known.principal, requirement, place)
            decision = refusal or Allow(known.principal, known)
        if isinstance(decision, Pending):
            return Pending(_traced(decision.flow, tracer, trace))
        tracer.end(trace, decision)
        return decision

    def _decide_now(  # noqa: PLR0911, PLR0917 - a call for each step would cost time
        self,
        authorization: Sequence[bytes],
        requirement: Requirement | None,
        optional: bool,  # noqa: FBT001 - as `decide_now` was called
        place: Callable[[], Place] | None,
        request: Callable[[], ReceivedRequest] | None,
        trace: Trace | None = None,
    ) -> Decision | Pending:
        bound = self._binding
        try:
            sent = self._credentials(authorization, self._longest)
        except CredentialsError as refusal:
            return self._failed(refusal, refusal.scheme, place)
        if sent is None:
            if optional:
                return Allow(ANONYMOUS)
            return self._unauthenticated(requirement, place, absence(authorization))
        proved = None
        try:
            entry = self._authenticator.validate_now(sent.token, trace)
            if isinstance(entry, VerifiedToken):
                if bound is None:
                    return self._admitted(entry, requirement, place)
                now = self.clock()
                proved = bound.check(entry, sent, request, now)
                if proved is None or bound.use_now(proved, now):
                    return self._admitted(entry, requirement, place, proved)
        except (IssuerUnavailable, Refusal) as error:
            return self._failed(error, sent.scheme, place)
        about = _About(requirement, place, request, trace)
        return Pending(self._prove(entry, sent, about, proved))

    def _prove(
        self,
        found: VerifiedToken | PendingToken,
        sent: Credentials,
        about: _About,
        proved: Proved | None,
    ) -> Flow[Decision]:
        """Do the rest with I/O; `proved` is for a verified token, and its use is not noted yet."""
        bound = self._binding
        try:
            if isinstance(found, VerifiedToken):
                entry = found
            else:
                entry = yield from self._authenticator.validate(found, about.trace)
                if bound is not None:
                    proved = bound.check(entry, sent, about.request, self.clock())
            if bound is not None and proved is not None:
                yield from bound.use(proved, self.clock())
        except (IssuerUnavailable, Refusal) as error:
            return self._failed(error, sent.scheme, about.place)
        return self._admitted(entry, about.requirement, about.place, proved)

    def _admitted(
        self,
        entry: VerifiedToken,
        requirement: Requirement | None,
        place: Callable[[], Place] | None,
        proved: Proved | None = None,
    ) -> Allow | Deny:
        principal = entry.principal
        deny = self._authorize(principal, requirement, place)
        if deny is not None:
            return deny
        allow, bound = Allow(principal, entry.bound), self._binding
        if proved is None or bound is None:
            return allow
        return bound.allowed(allow, proved.proof, self.clock())

    def _failed(
        self,
        error: IssuerUnavailable | Refusal,
        scheme: str | None,
        place: Callable[[], Place] | None,
    ) -> Deny | Unavailable:
        self._report(error, place)
        if isinstance(error, IssuerUnavailable):
            return Unavailable(error.retry_after, error.reason)
        deny, bound = refused(self.challenge, error), self._binding
        return deny if bound is None else bound.challenged(deny, scheme, self.clock(), error)

    def check_body(
        self, digest: str, body: bytes | None, *, place: Callable[[], Place] | None = None
    ) -> Deny | None:
        """Return a refusal unless `Allow.content_digest` is the digest of a request's body.

        `body` is None where it is longer than what is read of it. An adapter calls it before the
        app reads the body.
        """
        bound = self._binding
        assert bound is not None, "another guard wants no digest"  # noqa: S101 - for mypy
        try:
            bound.check_body(digest, body)
        except Refusal as error:
            self._report(error, place)
            return bound.challenged(refused(self.challenge, error), DPOP, self.clock())
        return None

    def accept_ticket(self, authorization: bytes, kept: MutableMapping[str, Any]) -> None:
        """Let a websocket pass by the credentials of a ticket without another proof.

        The request that got the ticket has proved that its sender holds the key. `kept` is the ASGI
        scope of the websocket; `authorization` is in its headers.
        """
        if self._binding is not None:
            self._binding.accept_ticket(authorization, kept)

    def authorize(
        self,
        principal: Principal,
        requirement: Requirement | None,
        *,
        place: Callable[[], Place] | None = None,
    ) -> Deny | None:
        """Return a refusal if `principal` does not meet the requirement, else None.

        For the requirement of a route, after `decide` has allowed the request. `place` is as for
        `decide`.
        """
        tracer = self._tracer
        if tracer is None:
            return self._authorize(principal, requirement, place)
        trace = tracer.begin()
        deny = self._authorize(principal, requirement, place)
        if deny is not None:
            tracer.end(trace, deny, "route")
        return deny

    def meets(self, principal: Principal, requirement: Requirement) -> bool:
        """Whether a caller meets a requirement, `implies=` included; nothing is reported.

        The principal may be one that the application has made.
        """
        at = self._moment_for(principal) if requirement.depends_on_time else None
        return self._meets(principal, requirement, at)

    def meeting(self, requirement: Requirement | None) -> Callable[[Principal], bool] | None:
        """Return what says whether a principal of this guard meets a requirement; None if any does.

        For the warm path of an adapter, which asks nothing else of most requests.
        """
        if requirement is None:
            return None
        if requirement.depends_on_time:
            return partial(self.meets, requirement=requirement)
        return requirement.met_by

    def _meets(self, principal: Principal, requirement: Requirement, at: Moment | None) -> bool:
        if requirement.met_by(principal, at):
            return True
        hierarchy = self._hierarchy
        return hierarchy is not None and requirement.met_by(hierarchy.applied_to(principal), at)

    def _moment_for(self, principal: Principal) -> Moment:
        return Moment(self.clock(), self._trust.leeway(principal.issuer))

    def _authorize(
        self,
        principal: Principal,
        requirement: Requirement | None,
        place: Callable[[], Place] | None,
    ) -> Deny | None:
        if not principal.is_authenticated:
            return self._unauthenticated(requirement, place)
        if requirement is None or requirement.met_by(principal):
            return None
        at = self._moment_for(principal)
        if self._meets(principal, requirement, at):
            return None
        deny = insufficient(self.challenge, requirement, principal, at)
        if self._binding is not None:
            deny = self._binding.forbidden(deny, principal, self.clock())
        needs, has = requirement.unmet_by(principal, at)
        where = None if place is None else place()
        detail = f"{where or 'the request'} needs {needs}; the token has {has}"
        self._events.emit(
            deny.reason.code,
            principal.issuer,
            detail,
            about=needs,
            place=where,
            details={"needed": needs, "present": has},
        )
        return deny

    def verify(
        self, token: str | bytes, request: Request | ReceivedRequest | None = None
    ) -> Principal:
        """Return the principal of a token.

        A token that is bound to a key of its sender is accepted only with the `request` that
        carries it, which proves the possession of the key.

        Raises:
            TokenError: the token is invalid, or is bound and there is no request.
            ProofError: the request does not prove the possession of the key.
            IssuerUnavailable: the token cannot be validated at the moment.
        """
        if self._tracer is not None:
            return self.run(self._verification(token, self._tracer, request))
        try:
            found = self._authenticator.validate_now(octets(token))
            if not isinstance(found, VerifiedToken):
                found = self.run(self._authenticator.validate(found))
            if self._binding is not None:
                self.run(self._binding.prove(found, octets(token), request, self.clock()))
        except (IssuerUnavailable, Refusal) as error:
            self._report(error)
            raise
        return found.principal

    async def averify(
        self, token: str | bytes, request: Request | ReceivedRequest | None = None
    ) -> Principal:
        """Do what `verify` does, in an event loop."""
        if self._tracer is not None:
            return await self.arun(self._verification(token, self._tracer, request))
        try:
            found = self._authenticator.validate_now(octets(token))
            if not isinstance(found, VerifiedToken):
                found = await self.arun(self._authenticator.validate(found))
            if self._binding is not None:
                await self.arun(self._binding.prove(found, octets(token), request, self.clock()))
        except (IssuerUnavailable, Refusal) as error:
            self._report(error)
            raise
        return found.principal

    def _verification(
        self, token: str | bytes, tracer: Tracer, request: Request | ReceivedRequest | None
    ) -> Flow[Principal]:
        """Return the principal of a token, and report it to the observers."""
        trace = tracer.begin()
        try:
            found = self._authenticator.validate_now(octets(token), trace)
            if not isinstance(found, VerifiedToken):
                found = yield from self._authenticator.validate(found, trace)
            if self._binding is not None:
                yield from self._binding.prove(found, octets(token), request, self.clock())
        except (IssuerUnavailable, Refusal) as error:
            self._report(error)
            tracer.end(trace, failed(self.challenge, error), "token")
            raise
        tracer.end(trace, Allow(found.principal), "token")
        return found.principal

    def verify_signature(
        self, token: str | bytes, check_type: Callable[[str | None], None]
    ) -> Flow[SignedClaims]:
        """Return the claims of a JWT of a trusted issuer that is no access token; drive the flow.

        For an authorization server, which receives assertions (RFC 7523). `check_type` raises
        `TokenError` unless the `typ` fits. The signature and its algorithm are checked, and no
        claim. Nothing is reported. Raises `TokenError` or `IssuerUnavailable`.
        """
        return self._validator.verify_signature(octets(token), check_type)

    def stream_token(self, principal: Principal, authorization: Sequence[bytes]) -> StreamToken:
        """Return the token that holds a stream of `principal` open.

        `authorization` are the values of the request's Authorization fields, for an adapter that
        has admitted it.
        """
        sent = credentials(authorization)
        cached = None if sent is None else self._tokens.get_any(digest(sent.token))
        key_id = None if cached is None else cached.validity.key_id
        deadline = math.inf
        if self._streams_expire and principal.expires_at is not None:
            deadline = principal.expires_at + self._leeway(principal) + self._stream_grace
        statuses = self._trust.statuses
        status = None if statuses is None else statuses.of_stream(principal)
        return StreamToken(principal, deadline, key_id, status)

    def _leeway(self, principal: Principal) -> float:
        """Return the leeway of a caller's issuer; none if nobody can tell which issuer it is."""
        try:
            trusted = self._trust.find(principal.issuer or "")
        except IssuerUnavailable:  # the application's own function cannot say whose tenant it is
            return 0.0
        return 0.0 if trusted is None else trusted[0].leeway

    def explain(
        self, token: str | bytes, *, require: Requirement | None = None, at: float | None = None
    ) -> Explanation:
        """Say why a token is accepted or refused: every check, with what was expected and found.

        The keys of the issuer are fetched if necessary, and an opaque token is introspected again.
        Nothing is cached or reported. `require` is what a route requires besides the guard's own
        requirement; `at` is the time of the decision in Unix seconds, now by default. No token
        makes it raise an exception.
        """
        return self.run(self._explaining(token, require, at))

    async def aexplain(
        self, token: str | bytes, *, require: Requirement | None = None, at: float | None = None
    ) -> Explanation:
        """Do what `explain` does, in an event loop."""
        return await self.arun(self._explaining(token, require, at))

    def _explaining(
        self, token: str | bytes, require: Requirement | None, at: float | None
    ) -> Flow[Explanation]:
        from bearerguard.guard.tokens.explainer import Explainer  # noqa: PLC0415 - for few tokens

        options.check_requirement(require)
        explainer = Explainer(
            self._trust,
            challenge=self.challenge,
            hierarchy=self._hierarchy,
            requirement=combined(self.requirement, require),
            clock=self.clock,
            at=self.clock() if at is None else at,
            revocations=self._revocations,
            max_token_bytes=self.max_token_bytes,
            binding=self._binding,
        )
        return explainer.explain(octets(token))

    def revoke(self, token: str | bytes | None = None, **names: Unpack[revocation.Names]) -> None:
        """Refuse one token, or all tokens of a user, a client, a session or a key, from now on.

        Pass the token, or one of: `token_id` (its `jti`), `subject` (a user's `sub`), `client_id`,
        `session_id` (`sid`), `key_id` (the `kid` of a key that the issuer withdrew). Of a
        subject, client or session, the tokens issued before `issued_before` (Unix seconds, now
        by default) are refused; of a key, all. `issuer` is the url of the issuer or of the
        tenant; it is required where the guard has several.

        Raises:
            RevocationFailed: the store did not acknowledge it.
        """
        self.run(self._revoker.revoke(token, **names))

    async def arevoke(
        self, token: str | bytes | None = None, **names: Unpack[revocation.Names]
    ) -> None:
        """Do what `revoke` does, in an event loop."""
        await self.arun(self._revoker.revoke(token, **names))

    @property
    def revocations(self) -> revocation.Revocations | None:
        """The revocations in use: those passed, or those of an embedded server."""
        return None if self._revocations is None else self._revocations.shared

    def logout_receiver(self, client_id: str | Collection[str]) -> revocation.LogoutReceiver:
        """Return the receiver of back-channel logouts that `BackchannelLogout` serves over HTTP."""
        return self._revoker.logout_receiver(client_id, self._validator)

    def event_receiver(
        self,
        validator: Guard | None = None,
        *,
        issuer: str | None = None,
        bearer: str | Iterable[str] | None = None,
        subject_of: revocation.SubjectOf | None = None,
    ) -> revocation.EventReceiver:
        """Return what the apps of `bearerguard.security_events` work with.

        `validator` verifies what transmitters sign, this guard by default.
        """
        return self._revoker.event_receiver(
            validator or self,
            issuer=issuer,
            is_delegated=validator is not None,
            bearer=bearer,
            subject_of=subject_of,
        )

    def health(self) -> dict[str, Any]:
        """Return the state of each issuer and the number of cached tokens, ready for JSON.

        `ready`: whether tokens can be validated now. Stale keys, and a stale list of revocations,
        are still used, so they are ready; absent or dead ones are not, and are fetched in the
        background. `fresh`, for alerts: whether nothing is stale, and introspection works.
        Introspection and status lists do not affect `ready`: only arriving requests can show that
        they have recovered. The keys of tenants are listed and affect neither: an outage of one
        tenant's issuer does not affect the others.

        The keys of an issuer are fresh, static, absent (not fetched yet), stale (the last refresh
        failed, or is overdue), dead (too old to be used) or unused. Introspection is ok, failing,
        or down (paused). A status list that tokens have named is fresh, stale, dead (they get
        503) or unused (none names it now). Revocations are local (this process's own), absent,
        fresh, stale or dead.
        Each has `ready`, `fresh`, `age` or `failures`, `last_success` and `last_error` (its kind,
        and when: Unix seconds), and `latencies` of the last five fetches; durations are in seconds.
        """
        health = {**self._trust.health(), "cached_tokens": len(self._tokens)}
        return health if self._revocations is None else self._revoker.health(health)

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        # Frameworks copy what their routers hold; the keys and the cache of a guard are shared.
        return self

    def __repr__(self) -> str:
        return f"Guard({self._trust!r})"

    # Driving flows, opening and closing

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow of this guard in the calling thread."""
        return run(flow, self._handlers)

    async def arun(self, flow: Flow[T]) -> T:
        """Drive a flow of this guard in the running event loop."""
        return await arun(flow, self._async_handlers)

    def warm(self) -> None:
        """Fetch keys and revocations ahead of the first request; failures are only reported."""
        for flow in self._warming():
            self.run(flow)

    async def awarm(self) -> None:
        """Do what `warm` does, in an event loop: for a lifespan."""
        for flow in self._warming():
            await self.arun(flow)

    def close(self) -> None:
        """Stop refreshing, close connections and clear caches; the guard stays usable."""
        self._refresher.close()
        self._events.close()
        if self._revocations is not None:
            self._revocations.shared.close()
        driving.close(self._cache_store)
        if self._binding is not None:
            driving.close(self._binding.store)
        self._tokens.clear()
        self._trust.clear()
        driving.close(self._transport)

    async def aclose(self) -> None:
        """Do what `close` does, and close the connections of the running event loop too."""
        self.close()
        await driving.aclose(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def on_state_replaced(self, prepare: Callable[[], None]) -> None:
        """Have `prepare`, a bound method that is held weakly, called by each `replace_state`.

        An object that holds `recent`, `clock` or another part of this guard reads it again there.
        """
        alive = [each for each in self._dependents if each() is not None]
        self._dependents = (*alive, weakref.WeakMethod(prepare))

    def replace_state(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Act with the state of another guard, its `vars`; return the state until now.

        For `bearerguard.testing` alone: a guard that was made for a real issuer is tested with one
        that is not. What was taken out of this guard is taken again. If that fails, it is done for
        all the others before the first exception is raised: none must keep the other state.
        """
        own = vars(self)
        before = dict(own)
        own.update({**state, "_dependents": self._dependents})
        failures: list[Exception] = []
        for dependent in self._dependents:
            prepare = dependent()
            if prepare is not None:
                try:
                    prepare()
                except Exception as error:
                    failures.append(error)
        if failures:
            raise failures[0]
        return before

    def _warming(self) -> Iterable[Flow[None]]:
        """Return the flows that warm up; none of them raises for an issuer that is down."""
        yield from self._trust.warming()
        if self._revocations is not None:
            yield self._revocations.warm()

    def _add_revoked(self, revoked: Iterable[Mapping[str, Any]]) -> None:
        self._revoker.add(revoked)

    def _forward(self, _revoked: object) -> None:
        self.run(self._revoker.forward())

    def _report(
        self, error: Refusal | IssuerUnavailable, place: Callable[[], Place] | None = None
    ) -> None:
        detail = error.remedy if isinstance(error, Refusal) else str(error)
        where = None if place is None else place()
        self._events.emit(error.reason.code, error.issuer, detail, place=where)

    def _unauthenticated(
        self,
        requirement: Requirement | None,
        place: Callable[[], Place] | None,
        found: str = UNKNOWN_ABSENCE,
    ) -> Deny:
        where = None if place is None else place()
        if where is not None and where.absence != UNKNOWN_ABSENCE:
            found = where.absence  # an adapter has seen all of the request
        # Each gets its own line: what lacks a header altogether must not hide a wrong scheme.
        self._events.emit(MISSING_CREDENTIALS.code, None, found, about=found, place=where)
        deny = unauthenticated(self.challenge, requirement)
        bound = self._binding
        return deny if bound is None else bound.challenged(deny, None, self.clock())


def _traced(flow: Flow[Decision], tracer: Tracer, trace: Trace) -> Flow[Decision]:
    decision = yield from flow
    tracer.end(trace, decision)
    return decision


def _not_cached(_authorization: bytes | str) -> None:
    """Find no credentials, as `Guard.cached` does for those that the guard must decide on."""


def _challenge(realm: str, resource: ProtectedResource | None) -> Challenge:
    options.check_realm(realm)
    if resource is None:
        return Challenge(realm)
    return Challenge(realm, resource_metadata=resource_metadata.metadata_url(resource.url))


def _options(arguments: Mapping[str, Any]) -> GuardOptions:
    """Return the options among the arguments of the constructor."""
    return cast("GuardOptions", {name: arguments[name] for name in GuardOptions.__annotations__})
