"""The guard: decides whether a request may pass, for every adapter, sync and async.

Owns the order of the decision: the cache of validated tokens first, as a plain call, and a flow
only on a miss. Knows no ASGI, no WSGI and no framework. The constructor does no I/O.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypedDict, TypeVar, Unpack, cast

from bearerguard.errors import (
    MISSING_CREDENTIALS,
    ConfigurationError,
    CredentialsError,
    IssuerUnavailable,
    Refusal,
)
from bearerguard.guard import driving, introspection, revocation
from bearerguard.guard.config import options
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.requirement import Requirement, combined
from bearerguard.guard.decision import (
    Allow,
    Decision,
    Deny,
    Pending,
    Unavailable,
    failed,
    forbidden,
    refused,
    unauthenticated,
)
from bearerguard.guard.events import UNKNOWN_ABSENCE, Events, Place, request_id
from bearerguard.guard.keys.refresher import Refresher
from bearerguard.guard.observers import Observer, Observers, check_observers
from bearerguard.guard.token_cache import (
    RecentCredentials,
    TokenCache,
    VerifiedToken,
    octets,
)
from bearerguard.guard.tokens.authenticator import Authenticator
from bearerguard.guard.tokens.authenticator import Pending as PendingToken
from bearerguard.guard.tokens.jwt_validator import JwtValidator
from bearerguard.guard.tokens.routing import RouteOpaque
from bearerguard.guard.tokens.trace import Trace, Tracer
from bearerguard.guard.tokens.trusted_issuers import TrustedIssuers, check_issuers
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol.http.credentials import absence, bearer_token
from bearerguard.protocol.http.expiry import ExpiryHeaders
from bearerguard.protocol.jose import jwt
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.flow import Flow, arun, run
from bearerguard.runtime.messages import Request
from bearerguard.runtime.reporting.events import Event
from bearerguard.transports.default import default_transport

if TYPE_CHECKING:
    from bearerguard.guard.explanation import Explanation

T = TypeVar("T")

DenialBody: TypeAlias = Callable[[Deny | Unavailable], tuple[str, bytes]]
"""Makes the body of a refusal from the decision: `(media type, bytes)`."""

# About 100 MB of tokens with ten claims each.
_CACHE_SIZE = 50_000


class GuardOptions(TypedDict, total=False):
    """The options of `Guard` besides its issuers."""

    realm: str
    require: Requirement | None
    expiry_headers: ExpiryHeaders | None
    cache_control: str | None
    denial_body: DenialBody | None
    request_id_headers: Sequence[str]
    revocations: revocation.Revocations | None
    route_opaque: RouteOpaque | None
    introspection_cache: introspection.IntrospectionCache | None
    transport: Transport | None
    on_event: Callable[[Event], None] | None
    observers: Sequence[Observer]
    clock: Callable[[], float]
    monotonic: Callable[[], float] | None
    cache_size: int
    max_token_bytes: int


class Guard:
    """Validates the bearer tokens of one API.

    Usable as a context manager, sync and async: leaving it closes the guard.

    Args:
        issuers: the issuers trusted; the `iss` of a token selects one.
        realm: the name of the protected space in challenges (RFC 9110 §11.5).
        require: what every request needs, such as `scopes("read")`.
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

    Attributes:
        issuers: as passed.
        options: all other arguments, by their names.

    Raises:
        ConfigurationError: an option is missing or unsafe.
    """

    # Called when the state is replaced: objects that hold parts of this guard read them again.
    _dependents: tuple[weakref.WeakMethod[Callable[[], None]], ...] = ()
    #: The names of the settings that `from_env` or `from_mapping` has read.
    settings_read: frozenset[str] = frozenset()

    def __init__(
        self,
        *issuers: Issuer,
        realm: str = "api",
        require: Requirement | None = None,
        expiry_headers: ExpiryHeaders | None = ExpiryHeaders(),  # noqa: B008 - it is immutable
        cache_control: str | None = "private",
        denial_body: DenialBody | None = None,
        request_id_headers: Sequence[str] = ("X-Request-ID", "traceparent"),
        revocations: revocation.Revocations | None = None,
        route_opaque: RouteOpaque | None = None,
        introspection_cache: introspection.IntrospectionCache | None = None,
        transport: Transport | None = None,
        on_event: Callable[[Event], None] | None = None,
        observers: Sequence[Observer] = (),
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] | None = None,
        cache_size: int = _CACHE_SIZE,
        max_token_bytes: int = jwt.MAX_TOKEN_BYTES,
    ) -> None:
        self.options: GuardOptions = _options(locals())
        check_issuers(issuers, route_opaque)
        options.check_realm(realm)
        options.check_requirement(require)
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
        self.issuers: tuple[Issuer, ...] = issuers
        self.realm: str = realm
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
            revocations = revocation.Revocations() if revocations is None else revocations
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
        self._transport = transport or default_transport()
        self._cache_store = None if introspection_cache is None else introspection_cache.store
        self._handlers, self._async_handlers = driving.handlers(
            self._transport,
            local,
            None if revocations is None else revocations.store,
            self._cache_store,
        )
        self._refresher = Refresher(partial(run, handlers=self._handlers))
        self._events.schedule = self._refresher.schedule
        # The refresher's thread refers to the key caches, which do not refer to the guard.
        weakref.finalize(self, self._refresher.close)
        self._tokens = TokenCache(cache_size, clock, used, monotonic=monotonic)
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
        )
        self._validator = JwtValidator(
            self._trust.find, clock, max_token_bytes, names=self._trust.urls
        )
        self._authenticator = Authenticator(
            self._validator,
            self._trust.routing,
            self._tokens,
            clock=clock,
            monotonic=monotonic,
            revocations=used,
            max_token_bytes=max_token_bytes,
        )
        self.cached: Callable[[bytes | str], RecentCredentials | None] = self._tokens.cached
        self.recent: dict[bytes | str, RecentCredentials] = self._tokens.recent
        self._tracer: Tracer | None = None
        if self._observers:
            self._tracer = self._observed()
        for server in local:
            forwards = revocations is not None and revocations.forwards(server.revocation_store)
            server.on_revocation(self._forward if forwards else self._add_revoked)

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

    def _observed(self) -> Tracer:
        """Attach the observers; adapters then find no cached token, and each decision is seen."""
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

        return self.decide(request.values(b"authorization"), self.requirement, place=place)

    def decide(
        self,
        authorization: Sequence[bytes],
        requirement: Requirement | None = None,
        *,
        optional: bool = False,
        place: Callable[[], Place] | None = None,
    ) -> Flow[Decision]:
        """Decide by the values of a request's Authorization fields.

        With `optional`, a request without bearer credentials passes as `ANONYMOUS`. `place` names
        the request in the event of a refusal, and is called for one only.
        """
        decision = self.decide_now(authorization, requirement, optional=optional, place=place)
        return (yield from decision.flow) if isinstance(decision, Pending) else decision

    def decide_now(
        self,
        authorization: Sequence[bytes],
        requirement: Requirement | None = None,
        *,
        optional: bool = False,
        place: Callable[[], Place] | None = None,
    ) -> Decision | Pending:
        """Do what `decide` does, without I/O; return `Pending` if I/O is needed."""
        tracer = self._tracer
        if tracer is None:
            return self._decide_now(authorization, requirement, optional, place)
        trace = tracer.begin()
        # Adapters do the same for a guard without observers.
        known = self._tokens.find(authorization[0]) if len(authorization) == 1 else None
        decision: Decision | Pending
        if known is None:
            decision = self._decide_now(authorization, requirement, optional, place, trace)
        else:
            trace.is_cached, trace.token = True, known.token
            refusal = self._authorize(known.principal, requirement, place)
            decision = refusal or Allow(known.principal, known)
        if isinstance(decision, Pending):
            return Pending(_traced(decision.flow, tracer, trace))
        tracer.end(trace, decision)
        return decision

    def _decide_now(
        self,
        authorization: Sequence[bytes],
        requirement: Requirement | None,
        optional: bool,  # noqa: FBT001 - as `decide_now` was called
        place: Callable[[], Place] | None,
        trace: Trace | None = None,
    ) -> Decision | Pending:
        try:
            token = bearer_token(authorization)
        except CredentialsError as refusal:
            self._report(refusal, place)
            return refused(self.realm, refusal)
        if token is None:
            if optional:
                return Allow(ANONYMOUS)
            return self._unauthenticated(requirement, place, absence(authorization))
        try:
            found = self._authenticator.validate_now(token, trace)
        except (IssuerUnavailable, Refusal) as error:
            self._report(error, place)
            return failed(self.realm, error)
        if not isinstance(found, VerifiedToken):
            return Pending(self._prove(found, requirement, place, trace))
        principal = found.principal
        return self._authorize(principal, requirement, place) or Allow(principal)

    def _prove(
        self,
        found: PendingToken,
        requirement: Requirement | None,
        place: Callable[[], Place] | None,
        trace: Trace | None,
    ) -> Flow[Decision]:
        try:
            entry = yield from self._authenticator.validate(found, trace)
        except (IssuerUnavailable, Refusal) as error:
            self._report(error, place)
            return failed(self.realm, error)
        principal = entry.principal
        return self._authorize(principal, requirement, place) or Allow(principal)

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
        deny = forbidden(self.realm, requirement, principal)
        needs, has = requirement.unmet_by(principal)
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

    def verify(self, token: str | bytes) -> Principal:
        """Return the principal of a token.

        Raises:
            TokenError: the token is invalid.
            IssuerUnavailable: the token cannot be validated at the moment.
        """
        if self._tracer is not None:
            return self.run(self._verification(token, self._tracer))
        try:
            found = self._authenticator.validate_now(octets(token))
            if not isinstance(found, VerifiedToken):
                found = self.run(self._authenticator.validate(found))
        except (IssuerUnavailable, Refusal) as error:
            self._report(error)
            raise
        return found.principal

    async def averify(self, token: str | bytes) -> Principal:
        """Do what `verify` does, in an event loop."""
        if self._tracer is not None:
            return await self.arun(self._verification(token, self._tracer))
        try:
            found = self._authenticator.validate_now(octets(token))
            if not isinstance(found, VerifiedToken):
                found = await self.arun(self._authenticator.validate(found))
        except (IssuerUnavailable, Refusal) as error:
            self._report(error)
            raise
        return found.principal

    def _verification(self, token: str | bytes, tracer: Tracer) -> Flow[Principal]:
        """Return the principal of a token, and report it to the observers."""
        trace = tracer.begin()
        try:
            found = self._authenticator.validate_now(octets(token), trace)
            if not isinstance(found, VerifiedToken):
                found = yield from self._authenticator.validate(found, trace)
        except (IssuerUnavailable, Refusal) as error:
            self._report(error)
            tracer.end(trace, failed(self.realm, error), "token")
            raise
        tracer.end(trace, Allow(found.principal), "token")
        return found.principal

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
            realm=self.realm,
            requirement=combined(self.requirement, require),
            clock=self.clock,
            at=self.clock() if at is None else at,
            revocations=self._revocations,
            max_token_bytes=self.max_token_bytes,
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

    def health(self) -> dict[str, Any]:
        """Return the state of each issuer and the number of cached tokens, ready for JSON.

        `ready`: whether tokens can be validated now. Stale keys, and a stale list of revocations,
        are still used, so they are ready; absent or dead ones are not, and are fetched in the
        background. `fresh`, for alerts: whether nothing is stale, and introspection works.
        Introspection does not affect `ready`: only arriving requests can show that it has
        recovered. The keys of tenants are listed and affect neither: an outage of one tenant's
        issuer does not affect the others.

        The keys of an issuer are fresh, static, absent (not fetched yet), stale (the last refresh
        failed, or is overdue), dead (too old to be used) or unused. Introspection is ok, failing,
        or down (paused). Revocations are local (this process's own), absent, fresh, stale or dead.
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
        found: str | None = None,
    ) -> Deny:
        where = None if place is None else place()
        if found is None:
            found = UNKNOWN_ABSENCE if where is None else where.absence
        # Each gets its own line: what lacks a header altogether must not hide a wrong scheme.
        self._events.emit(MISSING_CREDENTIALS.code, None, found, about=found, place=where)
        return unauthenticated(self.realm, requirement)


def _traced(flow: Flow[Decision], tracer: Tracer, trace: Trace) -> Flow[Decision]:
    decision = yield from flow
    tracer.end(trace, decision)
    return decision


def _not_cached(_authorization: bytes | str) -> None:
    """Find no credentials, as `Guard.cached` does for those that the guard must decide on."""


def _options(arguments: Mapping[str, Any]) -> GuardOptions:
    """Return the options among the arguments of the constructor."""
    return cast("GuardOptions", {name: arguments[name] for name in GuardOptions.__annotations__})
