"""The ASGI adapter: translates scopes and messages for the guard, and its decisions back.

Decides nothing; imports no framework; runs on asyncio and trio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from types import MethodType
from typing import Any, Self, TypeAlias

from bearerguard.guard.decision import Allow, Deny, Pending, Unavailable
from bearerguard.guard.events import Place
from bearerguard.guard.guard import Guard
from bearerguard.guard.token_cache import SUFFIX
from bearerguard.middleware.adapter import Adapter
from bearerguard.middleware.admission import Admission, RequestInfo
from bearerguard.middleware.expiry_headers import (
    MAX_NAME_LENGTH,
    MAX_NAMES,
    ResponseHeaders,
    TokenHeaders,
)
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.runtime.messages import Response

# A server's dicts, whose values may be of any type.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = [
    "REFUSAL",
    "ASGIApp",
    "BearerMiddleware",
    "Message",
    "Receive",
    "RequestState",
    "Scope",
    "Send",
    "raw_headers",
    "request_info",
    "send_response",
    "sending_refusals",
]

POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1
_OF_PREFLIGHTS = frozenset({b"origin", b"access-control-request-method"})
_PRINCIPAL = "principal"
# The key of the scope under which a framework's module stores the response to a refused request.
REFUSAL = "bearerguard.refusal"


class BearerMiddleware(Adapter[ASGIApp]):
    """Authenticates every request and websocket of an ASGI app.

    Sets `scope["user"]` and `scope["auth"]` to the `Principal`, `scope["state"]["principal"]`
    likewise, and `scope["bearerguard"]` to its `Admission`, for decorators. Lifespan and unknown
    scopes pass untouched.
    """

    __slots__ = ("_response_headers", "_warm")

    def _prepare(self) -> None:
        self._response_headers = response_headers(self.guard)
        self._warm = (
            self.app,
            self.admission,
            self.admission.has_exceptions,
            self.admission.requirement,
            self.guard.recent,
            self.guard.clock,
            None if self._response_headers.is_empty else _completing(self._response_headers),
            set[bytes](),
        )

    # A warm request runs this function alone. It unpacks what it needs from one tuple, and looks
    # its token up without another method: attributes or a call would each cost a tenth of F
    # (docs/performance.md).
    async def __call__(  # noqa: C901, PLR0912, PLR0915 - see above
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Handle a connection as an ASGI app."""
        app, admission, has_exceptions, requirement, recent, clock, complete, other = self._warm
        kind = scope["type"]
        is_http = kind == "http"
        if not is_http and kind != "websocket":
            await self.pass_on(scope, receive, send)
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
        if known is not None and (requirement is None or requirement.met_by(known.principal)):
            principal, token_headers = known.principal, known.token_headers
        elif is_excluded:
            principal, is_http = ANONYMOUS, False  # nothing is added to its response
        else:
            fields = [authorization] if authorization else authorization_fields(scope)
            place = partial(self._place, scope)
            decision = self.guard.decide_now(fields, requirement, optional=is_optional, place=place)
            if isinstance(decision, Pending):
                decision = await self.guard.arun(decision.flow)
            if not isinstance(decision, Allow):
                # An override of `refuse` may call an app: its caller is `ANONYMOUS`, not the
                # principal that an outer guard has set.
                admit(scope, admission, ANONYMOUS)
                await self.refuse(scope, receive, send, decision)
                return
            principal, known = decision.principal, decision.kept
            if known is not None:
                token_headers = known.token_headers
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
                send = MethodType(complete, (send, token_headers))
        await app(scope, receive, send)

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

    def _exceptions(self, scope: Scope) -> tuple[bool, bool]:
        """Return whether a request is excluded, and whether its token is optional."""
        admission, (path, raw_path) = self.admission, _paths(scope)
        if admission.excludes(path, raw_path) or (
            admission.passes_preflights and _is_preflight(scope)
        ):
            return True, False
        return False, admission.is_optional(path, raw_path)


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


def _completing(
    response_headers: ResponseHeaders[bytes],
) -> Callable[[tuple[Send, TokenHeaders[bytes]], Message], Awaitable[None]]:
    """Return a function that sends a message, adding the token's headers to a response's start."""
    complete = response_headers.complete

    def send_complete(
        response: tuple[Send, TokenHeaders[bytes]], message: Message
    ) -> Awaitable[None]:
        send, token_headers = response
        if message["type"] == "http.response.start":
            message = dict(message)  # the app may send the same one again
            message["headers"] = complete(token_headers, message.get("headers", ()))
        return send(message)

    return send_complete


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


async def send_response(scope: Scope, receive: Receive, send: Send, response: Response) -> None:
    """Send a refusal; to a websocket as an HTTP response where the server can, else close 1008."""
    prefix = "http.response"
    if scope["type"] == "websocket":
        await receive()  # the handshake, which is being refused
        if not takes_responses(scope):
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
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
            await send({**message, "code": POLICY_VIOLATION})

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


def _header(scope: Scope, wanted: str) -> str | None:
    field = wanted.encode()
    values = (value for name, value in scope["headers"] if name.lower() == field)
    found: bytes | None = next(values, None)
    return None if found is None else found.decode("latin-1")


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


def _paths(scope: Scope) -> tuple[str, str]:
    """Return the path below the mount, and the raw path."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in {"", "/"}:
        path = path[len(root) :] or "/"
    raw = scope.get("raw_path") or b""
    return path, raw.decode("latin-1")


def _octets(text: str) -> bytes:
    return text.encode("latin-1")


def _name(text: str) -> bytes:
    return text.lower().encode("latin-1")
