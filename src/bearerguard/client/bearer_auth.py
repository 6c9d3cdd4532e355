"""The base of every HTTP library's `BearerAuth`: where a token may go, and what is retried.

Tokens go to the bound origins only: a request to any other is an error, and a redirect to one
carries no token. The rules and the retry loop are defined here once. Each library has its own
class in a file of its own, which only applies them.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any, ClassVar, Never, TypeAlias, TypeVar

from bearerguard.client import discovery
from bearerguard.client.manager import Refused, TokenManager
from bearerguard.client.single_flight import finished
from bearerguard.client.sources.token_source import Interactive
from bearerguard.client.token import NO_LEASE, Lease
from bearerguard.errors import (
    BearerGuardError,
    ConfigurationError,
    InsufficientScope,
    LoginFailed,
    LoginRequired,
    StepUpRequired,
    TokenRefused,
    TokenUnavailable,
)
from bearerguard.protocol import names
from bearerguard.protocol.http import received_challenge
from bearerguard.protocol.http.received_challenge import ReceivedChallenge
from bearerguard.protocol.resource_metadata import origin

S = TypeVar("S")
R = TypeVar("R")

_UNAUTHORIZED, _FORBIDDEN = 401, 403
REFUSALS = (_UNAUTHORIZED, _FORBIDDEN)
_MAX_DIGITS = 10
# An API that refuses a new token probably refuses the next as well: no other token is fetched for
# so many seconds.
_HOPELESS_SECONDS = 10.0
# A login that did not help is not repeated sooner: the API decides when a browser would be opened,
# and its own authorization server may send the browser back without any person.
_FRUITLESS_SECONDS = 60.0


class _Step(Enum):
    """A step after a response that refuses a token; each is taken at most once per request."""

    RENEW = auto()
    NEW_PROOF = auto()
    LOG_IN = auto()
    STEP_UP = auto()


_STEPS = frozenset(_Step)
_LOGINS = frozenset({_Step.LOG_IN, _Step.STEP_UP})
_WITHOUT_LOGIN = _STEPS - _LOGINS
# How a login ends for which a browser was opened.
_ENDS_OF_LOGINS = (LoginFailed, LoginRequired, TokenRefused, TokenUnavailable)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response that refuses a request: its status, its challenges, and the URL it came from."""

    status: int
    challenges: Iterable[str]
    url: str


@dataclass(frozen=True, slots=True)
class FirstLease:
    """Asks for the first token; the reply is its lease, None to send the request without one."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Asks for another token than that of `lease`; the reply is its lease, None without a login."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Meet:
    """Asks for a lease on a token that meets what the API demands; a person has to act for it."""

    lease: Lease
    demand: Refused


@dataclass(frozen=True, slots=True)
class SendAgain:
    """Asks to send the request again with `lease`.

    The reply is the new refusal, or None when the request was accepted or cannot be sent again.
    """

    lease: Lease


Retries: TypeAlias = Generator[Renew | Meet | SendAgain, Lease | Refusal | None, None]


class BoundAuth:
    """Sends a fresh token to the origins that it is bound to.

    After a 401, the token is renewed and the request is sent again, once. A request whose body is
    a stream cannot be sent again: the caller gets the 401.

    Args:
        manager: hands out tokens.
        origins: where they may go, such as "https://api.example.com"; by default those of the
            source's `resources`.
        login: have the person log in when the API demands it, or more scopes or another login, and
            send the request again, once. Without a token, the request is sent as it is: its
            refusal says where to log in (RFC 9728 §5.1). After a login that failed, or whose token
            is refused, there is none for a minute. For sources with a login alone.
        content_digest: have each DPoP proof name the digest of the request's body, for an API with
            `Guard(dpop_content_digest=True)`. The body must be known before it is sent.
        insecure_allow_http: allow plain http beyond loopback.

    Raises:
        ConfigurationError: no origin is known, or one is unsafe; or a request goes elsewhere, or
            has a stream as its body and needs its digest.
        InsufficientScope: the API demands more scopes (RFC 6750 §3.1).
        StepUpRequired: the API demands another login (RFC 9470 §3).
        LoginRequired, TokenRefused, TokenUnavailable, StorageError: there is no token.
    """

    def __init__(
        self,
        manager: TokenManager,
        *,
        origins: Sequence[str] | None = None,
        login: bool = False,
        content_digest: bool = False,
        insecure_allow_http: bool = False,
    ) -> None:
        if not isinstance(manager, TokenManager):
            raise ConfigurationError(
                f"BearerAuth: pass a TokenManager, not {type(manager).__name__}"
            )
        if isinstance(origins, str):
            origins = (origins,)
        given = manager.source.resources if origins is None else origins
        if not given:
            raise ConfigurationError(
                'origins=: pass where tokens may go, such as origins=("https://api.example.com",)'
            )
        if login and not isinstance(manager.source, Interactive):
            raise ConfigurationError(f"login=: {manager.source!r} has no login")
        if not isinstance(content_digest, bool):
            raise ConfigurationError("content_digest=: pass True or False")
        if content_digest and getattr(manager.source, "dpop", True) is False:
            raise ConfigurationError(
                f"content_digest=: it has no effect without proofs: pass dpop=True to"
                f" {type(manager.source).__name__}"
            )
        self._manager = manager
        self._login = login
        self._content_digest = content_digest
        self._origins = frozenset(
            origin(discovery.secure_url("origins=", each, insecure_allow_http=insecure_allow_http))
            for each in given
        )
        # Authorities known to be bound, in the form in which the library parses URLs.
        self._known: set[tuple[str, str, int | None]] = set()
        # The lease whose expiry header has been read.
        self._read: Lease | None = None
        # A new token that was refused, and until when no other is fetched in its place.
        self._hopeless = ("", 0.0)
        # Until when there is no other login, and how the last one failed.
        self._fruitless: tuple[float, BearerGuardError | None] = (-math.inf, None)

    def __repr__(self) -> str:
        return f"BearerAuth({', '.join(sorted(self._origins))})"

    def _check(self, url: str) -> None:
        """Raise `ConfigurationError` unless tokens may go to `url`."""
        if origin(url) not in self._origins:
            raise ConfigurationError(
                f"a token for {', '.join(sorted(self._origins))} does not go to {origin(url)}:"
                " name it in origins= if it may, or send the request without auth="
            )

    def _headers(
        self, lease: Lease, method: str, url: str, body: Callable[[], bytes | None]
    ) -> list[tuple[str, str]]:
        """Return the header fields of a request, with a DPoP proof for a bound token.

        `body` returns the request's body, None for a stream; it is called for a digest alone.
        """
        found = [("Authorization", lease.header)]
        proofs = self._manager.proofs(lease)
        if proofs is not None:
            content = body() if self._content_digest else None
            if content is None and self._content_digest:
                raise ConfigurationError(
                    "content_digest=: the body is a stream, whose digest is not known before it is"
                    " sent: pass it as bytes or text"
                )
            proof = proofs.proof(method, url, lease.token.access_token, content)
            found.append((names.DPOP_PROOF, proof))
        return found

    def _note(self, lease: Lease, url: str, headers: Any) -> None:
        """Read from a response when the token expires, once, and the next DPoP nonce."""
        if lease is self._read or lease is NO_LEASE or origin(url) not in self._origins:
            return
        seconds = (headers.get("access-token-expires-in") or "").strip()
        if seconds.isascii() and seconds.isdigit() and len(seconds) <= _MAX_DIGITS:
            self._manager.note_expiry(lease, float(seconds))
        proofs = self._manager.proofs(lease)
        if proofs is None:
            self._read = lease
        else:
            proofs.note(url, headers.get("dpop-nonce"))

    def _retries(self, lease: Lease, refusal: Refusal | None) -> Retries:
        """Yield the steps after a refusal; when it ends, the caller gets the response.

        Raises `InsufficientScope` or `StepUpRequired` for what no other token of the same
        kind would do, unless a login may.
        """
        left = _STEPS if self._login else _WITHOUT_LOGIN
        while refusal is not None:
            step, demand = self._step(lease, refusal, left)
            if step is None:
                return
            left -= {step}
            if step is not _Step.NEW_PROOF:
                renewed = yield Renew(lease) if step is _Step.RENEW else Meet(lease, demand)
                if renewed is None:  # nobody has logged in
                    continue
                assert isinstance(renewed, Lease)  # noqa: S101 - the reply to `Renew` and `Meet`
                if renewed.header == lease.header:
                    if step is _Step.RENEW and _Step.LOG_IN in left:
                        continue
                    return
                lease = renewed
            answer = yield SendAgain(lease)
            refusal = answer if isinstance(answer, Refusal) else None
        if self._login and not left >= _LOGINS:
            self._fruitless = (-math.inf, None)  # the login helped

    def _step(
        self, lease: Lease, refusal: Refusal, left: frozenset[_Step]
    ) -> tuple[_Step | None, Refused]:
        """Return the step of `left` to take after a refusal; None to leave it to the caller."""
        if origin(refusal.url) not in self._origins:
            return None, ()  # a redirect led elsewhere
        challenges = tuple(refusal.challenges)
        if self._login and not left >= _LOGINS:  # the token of a login is refused
            self._note_fruitless(None)
        try:
            step = _demanded(refusal.status, challenges, lease.token.token_type.lower())
        except (InsufficientScope, StepUpRequired) as demand:
            if _Step.STEP_UP in left and lease is not NO_LEASE and self._may_log_in(left):
                return _Step.STEP_UP, demand
            raise
        if step is _Step.NEW_PROOF and lease.token.dpop_key is None:
            return None, ()
        if step is _Step.RENEW and (
            lease is NO_LEASE or self._is_hopeless(lease, is_new=step not in left)
        ):
            step = _Step.LOG_IN
        if step is _Step.LOG_IN and not self._may_log_in(left):
            return None, ()
        return (step, challenges) if step in left else (None, ())

    def _leased(self, wanted: Renew | Meet | FirstLease) -> Lease | None:
        """Return the lease that is wanted; None when a person must log in, and may."""
        try:
            if isinstance(wanted, Meet):
                return self._manager.meet(wanted.lease, wanted.demand).result()
            if isinstance(wanted, Renew):
                return self._manager.renew(wanted.lease)
            return self._manager.lease()
        except _ENDS_OF_LOGINS as error:
            self._failed(wanted, error)
            return None

    async def _aleased(self, wanted: Renew | Meet | FirstLease) -> Lease | None:
        """Return the lease that is wanted; None when a person must log in, and may."""
        try:
            if isinstance(wanted, Meet):
                return await finished(self._manager.meet(wanted.lease, wanted.demand))
            if isinstance(wanted, Renew):
                return await self._manager.arenew(wanted.lease)
            return await self._manager.alease()
        except _ENDS_OF_LOGINS as error:
            self._failed(wanted, error)
            return None

    def _failed(self, wanted: Renew | Meet | FirstLease, error: BearerGuardError) -> None:
        """Raise the error, unless it says that a person must log in, who may."""
        if isinstance(wanted, Meet):
            self._note_fruitless(error)
            raise error
        if not (self._login and isinstance(error, LoginRequired)):
            raise error

    def _note_fruitless(self, error: BearerGuardError | None) -> None:
        self._fruitless = (self._manager.monotonic() + _FRUITLESS_SECONDS, error)

    def _may_log_in(self, left: frozenset[_Step]) -> bool:
        """Whether a login may be asked for; raises how the last one failed, if just now."""
        until, failure = self._fruitless
        # Within one request, more scopes may be demanded after the first login.
        if not left >= _LOGINS or self._manager.monotonic() >= until:
            return True
        if failure is not None:
            raise failure.with_traceback(None)
        return False

    def _is_hopeless(self, lease: Lease, *, is_new: bool) -> bool:
        """Whether the API has refused a new token just now, so that another would not help."""
        token, now = lease.token.access_token, self._manager.monotonic()
        if is_new:
            self._hopeless = (token, now + _HOPELESS_SECONDS)
        return self._hopeless[0] == token and now < self._hopeless[1]


class FlowingAuth(BoundAuth):
    """For httpx and httpx2, whose `auth` is a generator of requests."""

    # The library's name, and what it raises for a body that was a stream.
    _library: ClassVar[str]
    _not_read: ClassVar[type[Exception]]

    def __call__(self, request: Never, /) -> Never:
        """Raise `TypeError` for a library that calls its `auth`: no 401 would be seen."""
        raise wrong_library(self._library, request)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Send a request, and once again if that helps."""
        exchange = self._exchange(request)
        wanted = following(exchange, None)
        while wanted is not None:
            if isinstance(wanted, Renew | Meet | FirstLease):
                reply: Any = self._leased(wanted)
            else:
                reply = yield wanted
            wanted = following(exchange, reply)

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Send a request, and once again if that helps."""
        exchange = self._exchange(request)
        wanted = following(exchange, None)
        while wanted is not None:
            if isinstance(wanted, Renew | Meet | FirstLease):
                reply: Any = await self._aleased(wanted)
            else:
                reply = yield wanted
            wanted = following(exchange, reply)

    def _exchange(self, request: Any) -> Generator[Any, Any, None]:
        """Yield the requests to send, and between them the leases that are needed."""
        authority = _authority(request)
        if authority not in self._known:
            self._check(str(request.url))
            self._known.add(authority)
        lease = self._manager.fresh() or (yield FirstLease()) or NO_LEASE
        self._put(request, lease)
        response = yield request
        refusal = self._refusal(request, response, lease)
        if refusal is None:
            return
        retries = self._retries(lease, refusal)
        step = following(retries, None)
        while step is not None:
            if not isinstance(step, SendAgain):
                reply = yield step
            else:
                again = self._again(request, response)
                if again is None:
                    return
                request = again
                self._put(request, step.lease)
                response = yield request
                reply = self._refusal(request, response, step.lease)
            step = following(retries, reply)

    def _put(self, request: Any, lease: Lease) -> None:
        if lease is NO_LEASE:
            return
        if lease.token.dpop_key is None:
            request.headers["Authorization"] = lease.header
        else:
            body = partial(self._body, request)
            request.headers.update(self._headers(lease, request.method, str(request.url), body))

    def _body(self, request: Any) -> bytes | None:
        """Return the body of a request, None for a stream that has not been read."""
        try:
            return request.content  # type: ignore[no-any-return]
        except self._not_read:
            return None

    def _refusal(self, request: Any, response: Any, lease: Lease) -> Refusal | None:
        """Return the response as a refusal of the token; None for any other response."""
        url = str(response.request.url)
        self._note(lease, url, response.headers)
        if response.status_code not in REFUSALS:
            return None
        if _authority(response.request) != _authority(request):
            return None  # a redirect went elsewhere, and without the token
        return Refusal(response.status_code, response.headers.get_list("www-authenticate"), url)

    def _again(self, request: Any, response: Any) -> Any:
        """Return the request to send again, after redirects; None if its stream has been read."""
        if self._body(request) is None:
            return None
        response.request.read()
        return response.request


def following(steps: Generator[S, R, None], reply: Any) -> S | None:
    """Return what a generator yields for `reply`, None when it has ended."""
    try:
        return steps.send(reply)
    except StopIteration:
        return None


def _authority(request: Any) -> tuple[str, str, int | None]:
    url = request.url
    return url.scheme, url.host, url.port


def _demanded(status: int, challenges: Sequence[str], scheme: str) -> _Step | None:
    parsed = received_challenge.parse(challenges)
    found = received_challenge.find(parsed, scheme)  # of several, the one for this token type
    if found is None or "error" not in found.parameters:
        found = received_challenge.find(parsed, "bearer", "dpop")
    error = None if found is None else found.parameters.get("error")
    forbidden = status == _FORBIDDEN
    # Some servers put the code into the body alone, and the scopes into the challenge.
    if found is not None and (
        error == names.INSUFFICIENT_SCOPE
        or (forbidden and error is None and _words(found, "scope"))
    ):
        raise InsufficientScope(_words(found, "scope"))
    if forbidden:
        return None
    if found is not None and error == names.INSUFFICIENT_USER_AUTHENTICATION:
        age = found.parameters.get("max_age", "")
        raise StepUpRequired(
            _words(found, "acr_values"),
            int(age) if age.isascii() and age.isdigit() and len(age) <= _MAX_DIGITS else None,
            _words(found, "scope"),
        )
    if error in {names.USE_DPOP_NONCE, names.INVALID_DPOP_PROOF}:
        return _Step.NEW_PROOF
    # A token was sent: without an error code, the API is taken to refuse the token.
    return _Step.RENEW if error in {None, "invalid_token"} else None


def _words(challenge: ReceivedChallenge, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(challenge.parameters.get(name, "").split()))


def wrong_library(own: str, request: object) -> TypeError:
    """Return the error for a library that was given the `BearerAuth` of another."""
    places = {"httpx2": "", "httpx": ".httpx", "requests": ".requests"}
    others = " or ".join(
        f"that of bearerguard.client{place} for {library}"
        for library, place in places.items()
        if library != own
    )
    module = type(request).__module__.partition(".")[0]
    return TypeError(f"this BearerAuth is for {own}, not for {module}: use {others}")
