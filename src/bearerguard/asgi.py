"""The ASGI adapter: translates scopes and messages for the guard, and its decisions back.

Decides nothing; imports no framework; runs on asyncio and trio.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from functools import partial
from types import MethodType
from typing import Any, Self, TypeAlias

from bearerguard.errors import ConfigurationError
from bearerguard.guard.binding.received_request import ReceivedRequest, sent_path
from bearerguard.guard.decision import Allow, Decision, Deny, Pending, Unavailable
from bearerguard.guard.events import Place
from bearerguard.guard.guard import Guard
from bearerguard.guard.token_cache import SUFFIX
from bearerguard.middleware.adapter import NOT_FOUND, Adapter, MetadataAdapter
from bearerguard.middleware.admission import Admission, RequestInfo
from bearerguard.middleware.browser_websockets import BrowserWebSockets, RefusedHandshake, choosing
from bearerguard.middleware.expiry_headers import (
    MAX_NAME_LENGTH,
    MAX_NAMES,
    ResponseHeaders,
)
from bearerguard.middleware.stream_end import (
    STREAM,
    forget_frames,
    is_stream_end,
    may_look_complete,
)
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol import names, resource_metadata
from bearerguard.protocol.http.certificate_header import CertificateSource
from bearerguard.protocol.http.credentials import credentials
from bearerguard.protocol.http.proxies import scope_peer
from bearerguard.runtime.bodies import MAX_BODY_BYTES, asgi_body
from bearerguard.runtime.flow import arun
from bearerguard.runtime.messages import Response

# A server's dicts, whose values may be of any type.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# A response as it is sent: the server's `send`, the token's headers, the scope, the principal, and
# the message with which it has started. A list, as an object would take longer to make.
_Response: TypeAlias = list[Any]

__all__ = [
    "REFUSAL",
    "ASGIApp",
    "BearerMiddleware",
    "Message",
    "Receive",
    "RequestState",
    "ResourceMetadata",
    "Scope",
    "Send",
    "issue_ticket",
    "raw_headers",
    "reauthenticate",
    "received_request",
    "request_info",
    "send_response",
    "sending_refusals",
]

_OF_PREFLIGHTS = frozenset({b"origin", b"access-control-request-method"})
_PRINCIPAL = "principal"
_UNSTARTED: Message = {}
# The key of the scope under which a framework's module stores the response to a refused request.
REFUSAL = "bearerguard.refusal"


class BearerMiddleware(Adapter[ASGIApp]):
    """Authenticates every request and websocket of an ASGI app.

    Sets `scope["user"]` and `scope["auth"]` to the `Principal`, `scope["state"]["principal"]`
    likewise, and `scope["bearerguard"]` to its `Admission`, for decorators. Lifespan and unknown
    scopes pass untouched.
    """

    __slots__ = ("_browsers", "_response_headers", "_warm")

    def _prepare(self) -> None:
        self._response_headers = response_headers(self.guard)
        certificates = self.guard.certificates
        options = self.guard.websockets
        self._browsers = None if options is None else BrowserWebSockets(self.guard, options)
        self._warm = (
            # The app does not see a header that only a proxy may send; without one, no request
            # costs more.
            self.app
            if certificates is None or certificates.header is None
            else _without_forged(self.app, certificates),
            self.admission,
            self.admission.has_exceptions,
            self.guard.meeting(self.admission.requirement),
            self.guard.recent,
            self.guard.clock,
            self._completing(),
            set[bytes](),
            # Compared with each path: one that is longer than most paths costs least.
            None if self.guard.published is None else resource_metadata.PATH,
        )

    # A warm request runs this function alone. It unpacks what it needs from one tuple, and looks
    # its token up without another method: attributes or a call would each cost a tenth of F
    # (docs/performance.md).
    async def __call__(  # noqa: C901, PLR0912, PLR0915 - see above
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Handle a connection as an ASGI app."""
        app, admission, has_exceptions, meets, recent, clock, complete, other, known_path = (
            self._warm
        )
        kind = scope["type"]
        is_http = kind == "http"
        if not is_http:
            if kind != "websocket":
                await self.pass_on(scope, receive, send)
                return
            if self._browsers is not None:
                admitted = await self._browsers.admit(scope)
                if isinstance(admitted, RefusedHandshake):
                    self._report_handshake(scope, admitted)
                    admit(scope, admission, ANONYMOUS)
                    await self.refuse(scope, receive, send, admitted.decision)
                    return
                if admitted is not None:
                    send = choosing(send, admitted)
        if known_path is not None and known_path in scope["path"] and is_http:
            response = self._metadata(scope)
            if response is not None:
                await send_response(scope, receive, send, response)
                return
        authorization: bytes | None = None
        has_origin = False
        for name, value in scope["headers"]:
            # `other` collects the names of all other headers, however a server spells them: a
            # look-up in it is faster than `lower`.
            if name not in other:
                lower = name.lower()
                if lower == b"authorization":
                    # A repeated field is refused: the empty value matches no cached token.
                    authorization = value if authorization is None else b""
                elif lower == b"origin":
                    has_origin = True
                elif len(other) < MAX_NAMES and len(name) <= MAX_NAME_LENGTH:
                    other.add(name)
        is_excluded = is_optional = False
        if has_exceptions:
            is_excluded, is_optional = self._exceptions(scope)
            if is_excluded:
                authorization = None
        known = None
        if authorization is not None:
            known = recent.get(authorization[SUFFIX])
            if (
                known is None
                or known.authorization != authorization
                or not known.since <= clock() < known.until
            ):
                known = self.guard.cached(authorization)
        token_headers = None
        if known is not None and (meets is None or meets(known.principal)):
            principal, token_headers = known.principal, known.token_headers
        elif is_excluded:
            principal, is_http = ANONYMOUS, False  # nothing is added to its response
        else:
            fields = [authorization] if authorization else authorization_fields(scope)
            place = partial(self._place, scope)
            decision = self.guard.decide_now(
                fields,
                admission.requirement,
                optional=is_optional,
                place=place,
                request=partial(received_request, scope),
            )
            if isinstance(decision, Pending):
                decision = await self.guard.arun(decision.flow)
            if isinstance(decision, Allow) and decision.content_digest is not None:
                body = receive if kind == "http" else _no_body
                decision, body = await checked_body(self.guard, decision, body, place)
                receive = body if kind == "http" else receive
            if not isinstance(decision, Allow):
                # An override of `refuse` may call an app: its caller is `ANONYMOUS`, not the
                # principal that an outer guard has set.
                admit(scope, admission, ANONYMOUS)
                await self.refuse(scope, receive, send, decision)
                return
            principal, known = decision.principal, decision.kept
            if known is not None:
                token_headers = known.token_headers
            if decision.headers:
                send = adding(send, decision.headers)
        scope["bearerguard"] = admission
        scope["user"] = scope["auth"] = principal
        state = scope.get("state")
        if state is None:
            scope["state"] = {"principal": principal}
        else:
            scope["state"] = inner = RequestState(state, principal=principal)
            inner.outer = state
        if is_http:
            if has_origin or is_optional:
                send = _adding_to_lists(
                    send, self._response_headers, has_origin=has_origin, optional=is_optional
                )
            if complete is not None:
                if token_headers is None:
                    token_headers = self._response_headers.of_token(principal)
                    if known is not None:
                        known.token_headers = token_headers
                # Making a bound method takes half the time of making a closure.
                send = MethodType(complete, [send, token_headers, scope, principal, _UNSTARTED])
        elif kind == "websocket" and principal.is_authenticated:
            await self._hold_websocket(app, scope, receive, send, principal)
            return
        try:
            await app(scope, receive, send)
        except Exception as error:
            if not is_stream_end(error):
                raise
            forget_frames(error)

    def _report_handshake(self, scope: Scope, refused: RefusedHandshake) -> None:
        code = refused.decision.reason.code
        self.guard.report(code, refused.detail, place=self._place(scope))

    async def _hold_websocket(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send, principal: Principal
    ) -> None:
        """Run the app of a websocket until it returns, or the token ends."""
        from bearerguard.middleware import streams  # noqa: PLC0415 - it needs anyio

        tokens = self.guard.stream_tokens
        if tokens is None:
            await app(scope, receive, send)
            return
        token = self.guard.stream_token(principal, authorization_fields(scope))
        place = partial(self._place, scope)
        held = streams.open_streams(tokens)
        stream = streams.WebSocketStream(receive, send, token, held, self.admission, place)
        scope[STREAM] = weakref.ref(stream)
        try:
            await stream.run(app, scope)
        except Exception as error:
            if not is_stream_end(error):
                raise
            forget_frames(error)

    def _hold_response(self, response: _Response) -> Send:
        """Return the `send` of a response that its first body message did not finish."""
        from bearerguard.middleware import streams  # noqa: PLC0415 - it needs anyio

        send: Send
        send, _, scope, principal, started = response
        response[3] = ANONYMOUS  # nothing more is to be held
        tokens = self.guard.stream_tokens
        assert tokens is not None, "a guard without them holds nothing"  # noqa: S101 - for mypy
        headers = started.get("headers", ())
        texts = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        stream = streams.ResponseStream(
            send,
            self.guard.stream_token(principal, authorization_fields(scope)),
            streams.open_streams(tokens),
            self.admission,
            partial(self._place, scope),
            is_event_stream=may_look_complete(texts),
        )
        scope[STREAM] = weakref.ref(stream)
        stream.streams.add(stream)
        return stream.send

    def _completing(self) -> Callable[[_Response, Message], Awaitable[None]] | None:
        """Return what sends a response's messages, None where the server's `send` does."""
        if self.guard.stream_tokens is not None:
            return _holding(self._response_headers, self._hold_response)
        return None if self._response_headers.is_empty else _completing(self._response_headers)

    def describe(self, scope: Scope) -> RequestInfo:
        """Describe a request that is refused; a framework that knows its route overrides it."""
        return request_info(scope)

    def _place(self, scope: Scope) -> Place:
        return self.admission.place(self.describe(scope))

    async def refuse(
        self, scope: Scope, receive: Receive, send: Send, decision: Deny | Unavailable
    ) -> None:
        """Refuse a request or websocket; override it to refuse in another way."""
        response = self.admission.refusal(decision, request_info(scope))
        await send_response(scope, receive, send, response)

    async def pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is neither a request nor a websocket, such as the lifespan."""
        await self.app(scope, receive, send)

    def _metadata(self, scope: Scope) -> Response | None:
        """Return the response to a request for the API's metadata, None for another request."""
        path, _ = _paths(scope)
        return self.admission.metadata(scope["method"], path, _root(scope), partial(_header, scope))

    def _exceptions(self, scope: Scope) -> tuple[bool, bool]:
        """Return whether a request is excluded, and whether its token is optional."""
        admission, (path, raw_path) = self.admission, _paths(scope)
        if admission.excludes(path, raw_path) or (
            admission.passes_preflights and _is_preflight(scope)
        ):
            return True, False
        return False, admission.is_optional(path, raw_path)


async def reauthenticate(
    connection: Any, token: str | bytes, *, proof: str | bytes | None = None
) -> Principal:
    """Let a newer token hold an open websocket or response, and return its principal.

    The token is validated as that of a request is. It must be of the same issuer, subject and
    client as the one before, and have all its scopes and roles. From then on the stream ends when
    this token ends.

    Args:
        connection: the websocket or request as its framework has it, or its ASGI scope.
        token: the newer token, which the client has sent over the connection.
        proof: a DPoP proof for that token and for the request that opened the connection, its
            method (GET for a websocket) and its URL; None for a token that is bound to no key.

    Raises:
        TokenError: the token is invalid, or of another caller, or not bound to the key of `proof`.
        ProofError: the token is bound to a key, and `proof` does not prove its possession.
        IssuerUnavailable: it cannot be validated at the moment.
        StreamEnded: the stream has ended.
        ConfigurationError: the connection is no open stream of a guard.
    """
    scope: Scope = getattr(connection, "scope", connection)
    reference = scope.get(STREAM)
    stream = None if reference is None else reference()
    if stream is None:
        raise ConfigurationError(
            "reauthenticate(): this connection is no open stream: pass the websocket or the request"
            " of a BearerMiddleware whose guard ends streams, while its response is sent"
        )
    fields = [] if proof is None else [proof.encode() if isinstance(proof, str) else proof]
    opening = received_request(scope)

    def values(name: str) -> list[bytes]:
        return fields if name == "dpop" else opening.values(name)

    # Without what the request keeps: its own proof was for the former token.
    request = ReceivedRequest(
        opening.method, opening.path, values, opening.scheme, opening.peer, opening.tls
    )
    principal: Principal = await stream.renew(token, request)
    scope["user"] = scope["auth"] = principal
    dict.__setitem__(scope["state"], _PRINCIPAL, principal)
    return principal


async def issue_ticket(connection: Any) -> str:
    """Return a single-use ticket with which a browser opens one websocket as this caller.

    For an endpoint that a page calls with its token: `Guard(websockets=WebSockets(tickets=...))`.
    The ticket of a token that is bound to a key needs no other proof than that of this request.

    Args:
        connection: the request as its framework has it, or its ASGI scope.

    Raises:
        IssuerUnavailable: the store of the tickets does not respond, or is full; or, in memory,
            1,000 tickets of this caller wait to be used.
        ConfigurationError: the guard has no tickets, or the request came without a token.
    """
    scope: Scope = getattr(connection, "scope", connection)
    admission = scope.get("bearerguard")
    caller = ANONYMOUS
    if isinstance(admission, Admission):
        caller = scope["state"][_PRINCIPAL]
    sent = credentials(authorization_fields(scope)) if caller.is_authenticated else None
    if not isinstance(admission, Admission) or sent is None:
        raise ConfigurationError(
            "issue_ticket(): pass a request that a BearerMiddleware has admitted by its token"
        )
    options = admission.guard.websockets
    if options is None or options.tickets is None:
        raise ConfigurationError(
            "issue_ticket(): give the guard websockets=WebSockets(tickets=Tickets())"
        )
    whose = caller.issuer, caller.subject or caller.client_id
    return await arun(options.tickets.issue(sent, whose), options.tickets.async_handlers)


class ResourceMetadata(MetadataAdapter[ASGIApp]):
    """Serves the metadata of an API (RFC 9728) at the root of an ASGI app, and passes the rest on.

    `ResourceMetadata(app, guard=guard)` stands outside an app in which the guarded one is mounted.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a connection as an ASGI app."""
        if scope["type"] == "http" and self._published.is_at(_paths(scope)[0], _root(scope)):
            response = self._published.respond(scope["method"], partial(_header, scope))
            await send_response(scope, receive, send, response)
        elif self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] in {"http", "websocket"}:
            await send_response(scope, receive, send, NOT_FOUND)


def authorization_fields(scope: Scope) -> list[bytes]:
    return [value for name, value in scope["headers"] if name.lower() == b"authorization"]


def admit(scope: Scope, admission: Admission, principal: Principal) -> None:
    """Store an admission and a caller in the scope, where apps and decorators read them."""
    # `__call__` has these lines too: a call would cost a warm request a tenth of F.
    scope["bearerguard"] = admission
    scope["user"] = scope["auth"] = principal
    state = scope.get("state")
    if state is None:
        scope["state"] = {"principal": principal}
    else:
        scope["state"] = inner = RequestState(state, principal=principal)
        inner.outer = state


def _without_forged(app: ASGIApp, certificates: CertificateSource) -> ASGIApp:
    """Return an app that sees no certificate that another peer than a proxy has sent."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope["headers"]
        forged = certificates.forged((name for name, _ in headers), partial(scope_peer, scope))
        if forged is not None:
            scope["headers"] = [each for each in headers if each[0] not in forged]
        await app(scope, receive, send)

    return call


def _completing(
    response_headers: ResponseHeaders[bytes],
) -> Callable[[_Response, Message], Awaitable[None]]:
    """Return a function that sends a message, adding the token's headers to a response's start."""
    complete = response_headers.complete

    def send_complete(response: _Response, message: Message) -> Awaitable[None]:
        send: Send = response[0]
        if message["type"] == "http.response.start":
            message = {**message}  # the app may send the same one again
            message["headers"] = complete(response[1], message.get("headers", ()))
        return send(message)

    return send_complete


def _holding(
    response_headers: ResponseHeaders[bytes], hold: Callable[[_Response], Send]
) -> Callable[[_Response, Message], Awaitable[None]]:
    """Return a function as `_completing` does, which has long responses end with their token."""
    complete = response_headers.complete

    # Without local variables, which would cost each message more than they save.
    def send_held(response: _Response, message: Message) -> Awaitable[None]:
        # The start has no such member, nor has the only body message of most responses.
        if "more_body" not in message:
            response[4] = message
        elif message["more_body"] and response[3] is not ANONYMOUS:
            response[0] = hold(response)
        return response[0](message)  # type: ignore[no-any-return] # the server's, or `hold`'s

    def send_complete(response: _Response, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message}  # the app may send the same one again
            message["headers"] = complete(response[1], message.get("headers", ()))
            response[4] = message
        elif "more_body" in message and message["more_body"] and response[3] is not ANONYMOUS:
            response[0] = hold(response)
        return response[0](message)  # type: ignore[no-any-return] # as above

    return send_held if response_headers.is_empty else send_complete


def _adding_to_lists(
    send: Send, response_headers: ResponseHeaders[bytes], *, has_origin: bool, optional: bool
) -> Send:
    def send_complete(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ())]
            response_headers.add_to_lists(headers, has_origin=has_origin, optional=optional)
            message = {**message, "headers": headers}
        return send(message)

    return send_complete


def adding(send: Send, fields: Sequence[tuple[str, str]]) -> Send:
    """Return a `send` that adds a nonce to the response, which no cache may store then."""

    def send_added(message: Message) -> Awaitable[None]:
        if message["type"] in {"http.response.start", "websocket.accept"}:
            message = {**message, "headers": with_fields(message.get("headers", ()), fields)}
        return send(message)

    return send_added


def with_fields(
    headers: Iterable[tuple[bytes, bytes]], fields: Sequence[tuple[str, str]]
) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response with `Allow.headers`, so that no cache may store them."""
    if not fields:
        return list(headers)
    added = [(b"cache-control", b"no-store")]
    added += [(_name(name), _octets(value)) for name, value in fields]
    replaced = {name for name, _ in added}
    return [*(each for each in headers if each[0].lower() not in replaced), *added]


async def checked_body(
    guard: Guard, allow: Allow, receive: Receive, place: Callable[[], Place]
) -> tuple[Decision, Receive]:
    """Compare a body with the digest that it must have; return what the app receives then."""
    body = await asgi_body(receive, MAX_BODY_BYTES)
    if body is None:  # the client has disconnected: so the app is told
        return allow, _disconnected
    given = body if len(body) <= MAX_BODY_BYTES else None
    deny = guard.check_body(allow.content_digest or "", given, place=place)
    return (allow, replaying(body, receive)) if deny is None else (deny, receive)


async def _no_body() -> Message:
    # A websocket's handshake has none, and its messages are the app's.
    return {"type": "http.request"}


async def _disconnected() -> Message:
    return {"type": "http.disconnect"}


def replaying(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that begins with a body that was read before."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def send_response(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    """Send a refusal; to a websocket as an HTTP response where the server can, else close 1008."""
    prefix = "http.response"
    if scope["type"] == "websocket":
        await receive()  # the handshake, which is being refused
        if not takes_responses(scope):
            await send({"type": "websocket.close", "code": names.POLICY_VIOLATION})
            return
        prefix = "websocket.http.response"
    await _send_http(send, response, prefix)


def sending_refusals(scope: Scope, send: Send) -> Send:
    """Return a `send` that sends the whole refusal when the app closes a refused websocket.

    Frameworks handle the exception of a route by closing the websocket with a code of their own.
    `scope[REFUSAL]` is the refusal, if a route has refused the websocket.
    """
    accepted = False

    async def send_refusal(message: Message) -> None:
        nonlocal accepted
        accepted = accepted or message["type"] == "websocket.accept"
        refusal = scope.get(REFUSAL)
        if refusal is None or message["type"] != "websocket.close":
            await send(message)
        elif not accepted and takes_responses(scope):
            await _send_http(send, refusal, "websocket.http.response")
        else:
            await send({**message, "code": names.POLICY_VIOLATION})

    return send_refusal


async def _send_http(send: Send, response: Response, prefix: str) -> None:
    headers = raw_headers(response)
    await send({"type": f"{prefix}.start", "status": response.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": response.body})


def takes_responses(scope: Scope) -> bool:
    """Whether the server can respond to a websocket's handshake by HTTP."""
    return "websocket.http.response" in (scope.get("extensions") or {})


def response_headers(guard: Guard) -> ResponseHeaders[bytes]:
    """Return what adds a guard's headers to responses as ASGI has them."""
    return ResponseHeaders(guard, encode=_octets, name=_name)


def raw_headers(response: Response) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response as ASGI has them."""
    return [(_name(name), _octets(value)) for name, value in response.headers]


def request_info(scope: Scope) -> RequestInfo:
    """Describe the request or websocket of `scope`."""
    path, raw_path = _paths(scope)
    return RequestInfo(
        scope.get("method", "WEBSOCKET"),
        path,
        raw_path,
        whole_path=scope["path"],
        has_origin=any(name.lower() == b"origin" for name, _ in scope["headers"]),
        is_preflight=_is_preflight(scope),
        header=partial(_header, scope),
    )


def received_request(scope: Scope) -> ReceivedRequest:
    """Return the request or websocket of `scope` as the sender of a bound token proves it."""
    root, path = _root(scope), scope["path"]
    whole = path if not root or f"{path}/".startswith(f"{root}/") else root + path
    raw = (scope.get("raw_path") or b"").decode("latin-1")
    return ReceivedRequest(
        scope.get("method", "GET"),
        sent_path(whole, root, raw),
        partial(_values, scope),
        scope.get("scheme", "http"),
        partial(scope_peer, scope),
        (scope.get("extensions") or {}).get("tls"),
        kept=scope,
    )


def _values(scope: Scope, wanted: str) -> list[bytes]:
    field = wanted.encode()
    length = len(field)  # compared first: it takes half as long
    return [
        value for name, value in scope["headers"] if len(name) == length and name.lower() == field
    ]


# Of a header field that describes a request; servers admit 64 KiB at most.
_SHOWN = slice(2**16)


def _header(scope: Scope, wanted: str) -> str | None:
    field = wanted.encode()
    values = (value for name, value in scope["headers"] if name.lower() == field)
    found: bytes | None = next(values, None)
    return None if found is None else found[_SHOWN].decode("latin-1")


class RequestState(dict[str, Any]):
    """A request's state with its principal; every other change is made in `outer` too.

    Middleware outside the guard holds `outer`, and reads there what an endpoint has set. The
    principal stays out of it: some servers share that dict between requests.
    """

    # Set by the caller: a constructor would double the cost. The dict is a copy of `outer`: a
    # mapping that only refers to it is no faster to make, as measured.
    __slots__ = ("outer",)

    outer: MutableMapping[str, Any]

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if key != _PRINCIPAL:
            self.outer[key] = value

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        if key != _PRINCIPAL:
            self.outer.pop(key, None)

    # The methods of `dict` do not call the two above.
    def update(self, *args: Any, **kwargs: Any) -> None:  # noqa: D102 - as a dict's
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def setdefault(self, key: str, default: Any = None) -> Any:  # noqa: D102 - as a dict's
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:  # noqa: D102 - as a dict's
        if key not in self and default:
            return default[0]
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:  # noqa: D102 - as a dict's
        key = next(reversed(self))
        return key, self.pop(key)

    def clear(self) -> None:  # noqa: D102 - as a dict's
        for key in tuple(self):
            del self[key]

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc] # as `dict` has it
        self.update(other)
        return self


def _is_preflight(scope: Scope) -> bool:
    """Whether it is a CORS preflight (Fetch, §3.2.2): without credentials, and no websocket."""
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    names = {name.lower() for name, _ in scope["headers"]}
    return names >= _OF_PREFLIGHTS and b"authorization" not in names


def _root(scope: Scope) -> str:
    """Return where the app is mounted."""
    root: str = scope.get("root_path", "")
    return root.rstrip("/")


def _paths(scope: Scope) -> tuple[str, str]:
    """Return the path below the mount, and the raw path."""
    path: str = scope["path"]
    root = _root(scope)
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in {"", "/"}:
        path = path[len(root) :] or "/"
    raw = scope.get("raw_path") or b""
    return path, raw.decode("latin-1")


def _octets(text: str) -> bytes:
    return text.encode("latin-1")


def _name(text: str) -> bytes:
    return text.lower().encode("latin-1")
