"""The guard: decides whether a request may pass, for every face and every world.

Owns the order of things: the verified-token cache first, as a plain call, and a flow only
on a miss. Knows no ASGI, no WSGI and no framework, and opens nothing when it is made.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Self, TypeAlias, Unpack

from bearerguard.errors import (
    MISSING_CREDENTIALS,
    ConfigurationError,
    CredentialsError,
    IssuerUnavailable,
    Refusal,
    quoted,
)
from bearerguard.guard import driving, verdict
from bearerguard.guard.config import options, settings
from bearerguard.guard.config.introspection_cache import IntrospectionCache
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.decision import Allow, Decision, Deny, Pending, Unavailable
from bearerguard.guard.events import Event, Events
from bearerguard.guard.keys.refresher import Refresher
from bearerguard.guard.life_cycle import LifeCycle
from bearerguard.guard.revocation.back_channel_logout import LogoutReceiver
from bearerguard.guard.revocation.revocations import Revocations
from bearerguard.guard.revocation.revoker import Names, Revoker
from bearerguard.guard.tokens.authenticator import Authenticator
from bearerguard.guard.tokens.authenticator import Pending as PendingToken
from bearerguard.guard.tokens.jwt_validator import JwtValidator
from bearerguard.guard.tokens.routing import RouteOpaque
from bearerguard.guard.tokens.token_cache import TokenCache, VerifiedToken, octets
from bearerguard.guard.tokens.trusted_issuers import TrustedIssuers, check_issuers
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol.http.credentials import bearer_token
from bearerguard.protocol.http.expiry import ExpiryHeaders
from bearerguard.protocol.jose import jwt
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.fetching import Transport, default_transport
from bearerguard.runtime.flow import Flow, run
from bearerguard.runtime.messages import Request

DenialBody: TypeAlias = Callable[[Deny | Unavailable], tuple[str, bytes]]

# About 100 MB of tokens with ten claims each.
_CACHE_SIZE = 50_000


class Guard(LifeCycle):
    """Validates the bearer tokens of one API.

    Args:
        issuers: the issuers trusted; each token's `iss` picks its own.
        realm: the name of the protected space in challenges (RFC 9110 §11.5).
        require: what every request needs, such as `scopes("read")`.
        expiry_headers: the response headers that tell a token's expiry, None for none.
        cache_control: the `Cache-Control` of a response to a token where the app sets none;
            None leaves it out.
        denial_body: makes the body of a refusal from its decision: `(media type, bytes)`.
        revocations: what was revoked before it expired, such as `Revocations(RedisStore(...))`;
            beside an embedded server, in its database by default.
        route_opaque: returns the issuer, or its url, of a token that is no JWT; needed when
            several issuers introspect.
        introspection_cache: where workers share what issuers answered about opaque tokens.
        transport: how issuers are asked, closed with the guard; an `HttpTransport` by default.
        on_event: called with an `Event` for every refusal and every fetch of keys.
        clock: returns Unix seconds.
        monotonic: returns seconds that no change of the clock disturbs, by which ages and
            pauses are measured; the system's, or made from a `clock` that is passed.
        cache_size: how many verified tokens are remembered at most.
        max_token_bytes: the longest token that is looked into, whatever its kind.

    Raises:
        ConfigurationError: an option is missing or unsafe.
    """

    def __init__(
        self,
        *issuers: Issuer,
        realm: str = "api",
        require: Requirement | None = None,
        expiry_headers: ExpiryHeaders | None = ExpiryHeaders(),  # noqa: B008 - it is immutable
        cache_control: str | None = "private",
        denial_body: DenialBody | None = None,
        revocations: Revocations | None = None,
        route_opaque: RouteOpaque | None = None,
        introspection_cache: IntrospectionCache | None = None,
        transport: Transport | None = None,
        on_event: Callable[[Event], None] | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] | None = None,
        cache_size: int = _CACHE_SIZE,
        max_token_bytes: int = jwt.MAX_TOKEN_BYTES,
    ) -> None:
        check_issuers(issuers, route_opaque)
        options.check_realm(realm)
        options.check_requirement(require)
        options.check_expiry_headers(expiry_headers)
        options.check_cache_control(cache_control)
        options.check_revocations(revocations)
        options.check_introspection_cache(introspection_cache)
        options.check_cache_size(cache_size)
        options.check_max_token_bytes(max_token_bytes)
        self.realm = realm
        self.requirement = require
        self.expiry_headers = expiry_headers or ExpiryHeaders(None, None)
        self.cache_control = cache_control
        self.denial_body = denial_body
        self.clock = clock
        monotonic = elapsed_by(clock) if monotonic is None else monotonic
        self._events = Events(on_event, monotonic)
        local = [issuer.local for issuer in issuers if issuer.local is not None]
        if local:  # a server keeps its revocations in its database
            revocations = Revocations() if revocations is None else revocations
            revocations.use_log(local[0].revocation_store)
        used = None if revocations is None else revocations.attach(clock, self._events.emit)
        self._transport = transport or default_transport()
        self._cache_store = None if introspection_cache is None else introspection_cache.store
        self._handlers, self._async_handlers = driving.handlers(
            self._transport,
            local,
            None if revocations is None else revocations.store,
            self._cache_store,
        )
        handlers = self._handlers
        self._refresher = Refresher(lambda flow: run(flow, handlers))
        # The thread holds the key caches, and they hold no guard.
        weakref.finalize(self, self._refresher.close)
        self._tokens = TokenCache(cache_size, clock, used, monotonic=monotonic)
        self._trust = TrustedIssuers(
            issuers,
            route_opaque=route_opaque,
            tokens=self._tokens,
            shared=None
            if introspection_cache is None
            else introspection_cache.responses(self._events.emit),
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
            events=self._events,
            clock=clock,
            monotonic=monotonic,
            revocations=used,
            max_token_bytes=max_token_bytes,
        )
        self._revoker = Revoker(
            used,
            identify=self._authenticator.identify,
            issuers=self._trust,
            clock=clock,
            events=self._events,
        )
        self.cached, self.recent = self._tokens.cached, self._tokens.recent
        for server in local:
            forwards = revocations is not None and revocations.forwards(server.revocation_store)
            server.on_revocation(self._forward if forwards else self._revoker.add)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **options: Any) -> Self:
        """Make a guard from the variables `BEARERGUARD_ISSUER`, `BEARERGUARD_AUDIENCE`, ….

        `environ` is the process's environment by default; `options` are the constructor's.
        Raises `ConfigurationError` naming the variable.
        """
        return cls.from_settings(os.environ if environ is None else environ, **options)

    @classmethod
    def from_settings(cls, values: Mapping[str, Any], **options: Any) -> Self:
        """Make a guard from any mapping with the names that `from_env` reads."""
        realm = settings.realm(values)
        if realm is not None:
            options.setdefault("realm", realm)
        longest = settings.max_token_bytes(values)
        if longest is not None:
            options.setdefault("max_token_bytes", longest)
        transport = settings.transport(values)
        if transport is not None:
            if options.get("transport") is not None:
                raise ConfigurationError(
                    "BEARERGUARD_FETCH_HEADERS: not together with transport=: give it the headers"
                )
            options["transport"] = transport
        return cls(settings.issuer(values), **options)

    def report(self, code: str, detail: str) -> None:
        """Report what an adapter found, as an `Event`."""
        self._events.emit(code, None, detail)

    # Deciding

    def authenticate(self, request: Request) -> Flow[Decision]:
        """Decide on a request, the guard's own requirement included. Drive it with `run`."""
        place = f"{request.method} {request.url.partition('?')[0]}"
        return self.decide(request.values(b"authorization"), self.requirement, place=place)

    def decide(
        self,
        authorization: Sequence[bytes],
        requirement: Requirement | None = None,
        *,
        optional: bool = False,
        place: str = "",
    ) -> Flow[Decision]:
        """Decide by the values of a request's Authorization lines.

        With `optional`, a request without bearer credentials passes as `ANONYMOUS`. `place` is
        what a refusal's event calls the request: its method and path.
        """
        decision = self.look(authorization, requirement, optional=optional, place=place)
        return (yield from decision.flow) if isinstance(decision, Pending) else decision

    def look(
        self,
        authorization: Sequence[bytes],
        requirement: Requirement | None = None,
        *,
        optional: bool = False,
        place: str = "",
    ) -> Decision | Pending:
        """Decide as `decide` does, if nothing need be asked of the world for it."""
        try:
            token = bearer_token(authorization)
        except CredentialsError as refusal:
            self._report(refusal)
            return verdict.refused(self.realm, refusal)
        if token is None:
            return Allow(ANONYMOUS) if optional else self._unauthenticated(requirement)
        try:
            found = self._authenticator.validate_now(token)
        except (IssuerUnavailable, Refusal) as error:
            return verdict.failed(self.realm, error)
        if not isinstance(found, VerifiedToken):
            return Pending(self._prove(found, requirement, place))
        principal = found.principal
        return self.authorize(principal, requirement, place=place) or Allow(principal)

    def _prove(
        self, found: PendingToken, requirement: Requirement | None, place: str
    ) -> Flow[Decision]:
        try:
            entry = yield from self._authenticator.validate(found)
        except (IssuerUnavailable, Refusal) as error:
            return verdict.failed(self.realm, error)
        principal = entry.principal
        return self.authorize(principal, requirement, place=place) or Allow(principal)

    def authorize(
        self, principal: Principal, requirement: Requirement | None, *, place: str = ""
    ) -> Deny | None:
        """Return why `principal` may not do what has this requirement, None when it may.

        `place` is as for `decide`.
        """
        if not principal.is_authenticated:
            return self._unauthenticated(requirement)
        if requirement is None or requirement.met_by(principal):
            return None
        deny = verdict.forbidden(self.realm, requirement, principal)
        needs, has = requirement.unmet_by(principal)
        # A path is what a stranger wrote: one line, and not a long one.
        subject = quoted(place)[1:-1] if place else "the request"
        detail = f"{subject} needs {needs}; the token has {has}"
        self._events.emit(deny.reason.code, principal.issuer, detail, about=needs)
        return deny

    def verify(self, token: str | bytes) -> Principal:
        """Return the bearer of a token.

        Raises:
            TokenError: the token does not prove what it must.
            IssuerUnavailable: the issuer's keys cannot be had at the moment.
        """
        found = self._authenticator.validate_now(octets(token))
        if not isinstance(found, VerifiedToken):
            found = self.run(self._authenticator.validate(found))
        return found.principal

    async def averify(self, token: str | bytes) -> Principal:
        """Do as `verify` in an event loop."""
        found = self._authenticator.validate_now(octets(token))
        if not isinstance(found, VerifiedToken):
            found = await self.arun(self._authenticator.validate(found))
        return found.principal

    def revoke(self, token: str | bytes | None = None, **names: Unpack[Names]) -> None:
        """Refuse a token from now on, or all that have one of these names.

        One token, or one of: `token_id` (its `jti`), `subject` (a user's `sub`: log out
        everywhere), `client_id`, `session_id` (`sid`). Those three concern what was issued
        `issued_before` (Unix seconds), by default until now. `key_id` is the `kid` of a key that
        the issuer withdrew: all that it proves is refused, whenever it was issued. `issuer` says
        whose, where the guard has several or one with tenants: it is the url of the issuer or
        the tenant.
        Raises `RevocationFailed` when the store did not acknowledge it.
        """
        self.run(self._revoker.revoke(token, **names))

    async def arevoke(self, token: str | bytes | None = None, **names: Unpack[Names]) -> None:
        """Do as `revoke` in an event loop."""
        await self.arun(self._revoker.revoke(token, **names))

    def logout_receiver(self, client_id: str | Collection[str]) -> LogoutReceiver:
        """Return what answers back-channel logouts; `BackchannelLogout` puts a face on it."""
        return self._revoker.logout_receiver(client_id, self._validator)

    def health(self) -> dict[str, Any]:
        """Return, ready for JSON, how each issuer is, and how full the cache is.

        An issuer's `status` is fresh, static, absent (not fetched yet), stale (the last
        refresh failed, or is overdue) or dead (too old to be believed); `age` is in seconds. Its
        introspection is ok, failing, or down (not asked for a while). Tenants are told of, and
        make no guard unfit: an outage of one is no other's. Revocations are local (this
        process's own), absent, fresh, stale or dead.
        """
        return self._revoker.health({**self._trust.health(), "cached_tokens": len(self._tokens)})

    def __repr__(self) -> str:
        return f"Guard({self._trust!r})"

    # Inside

    def _warming(self) -> Iterable[Flow[None]]:
        return (*self._trust.warming(), self._revoker.warm())

    def _end(self) -> None:
        self._refresher.close()
        self._revoker.close()
        driving.close(self._cache_store)
        self._tokens.clear()
        self._trust.clear()

    def _forward(self, _revoked: object) -> None:
        self.run(self._revoker.forward())

    def _report(self, refusal: Refusal) -> None:
        self._events.emit(refusal.reason.code, refusal.issuer, refusal.remedy)

    def _unauthenticated(self, requirement: Requirement | None) -> Deny:
        self._events.emit(MISSING_CREDENTIALS.code, None, "the request carries no bearer token")
        return verdict.unauthenticated(self.realm, requirement)
