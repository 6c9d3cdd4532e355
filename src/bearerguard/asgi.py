"""The ASGI face: translates scopes and messages to the guard and its verdicts back.

Decides nothing; imports no framework; runs on asyncio and trio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from types import MethodType
from typing import Any, Self, TypeAlias

from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.decision import Allow, Deny, Pending, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.guard.tokens.token_cache import SUFFIX
from bearerguard.middleware.admission import Admission
from bearerguard.middleware.refusal import refusal
from bearerguard.middleware.response_headers import Completion, Telling
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.runtime.messages import Response

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# How many header names are remembered: strangers may make up any.
_MAX_NAMES, _LONGEST_NAME = 500, 64
_POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1
_OF_PREFLIGHTS = frozenset({b"origin", b"access-control-request-method"})
_PRINCIPAL = "principal"


class Face:
    """What whoever stands behind the middleware needs of it: its guard, and how it refuses."""

    def __init__(self, admission: Admission) -> None:
        self.guard = admission.guard
        self.requirement = admission.requirement
        self.asks_first = admission.asks_first
        self._admission = admission

    def answer(self, scope: Scope, decision: Deny | Unavailable) -> Response:
        """Return the response that refuses the request of `scope`."""
        if isinstance(decision, Deny) and _is_preflight(scope):
            self._admission.preflight_refused()
        return refusal(
            self.guard,
            decision,
            method=scope.get("method", "GET"),
            with_origin=any(name.lower() == b"origin" for name, _ in scope["headers"]),
            optional=self.is_optional(scope),
        )

    def is_optional(self, scope: Scope) -> bool:
        """Whether the request of `scope` passes without a token."""
        return self._admission.is_optional(*_path(scope))

    def passes_unasked(self, scope: Scope) -> bool:
        """Whether it is excluded, or a CORS preflight where those pass."""
        admission = self._admission
        return admission.is_excluded(*_path(scope)) or (
            admission.passes_preflights and _is_preflight(scope)
        )


# A function, though it goes by the name of a class: calling an instance costs as much as
# finding a token in use.
def BearerMiddleware(  # noqa: N802 - the name of a class
    app: ASGIApp,
    *,
    guard: Guard,
    require: Requirement | None = None,
    optional: bool | Sequence[str] = False,
    exclude: Sequence[str] = (),
    pass_preflights: bool = False,
) -> ASGIApp:
    """Return an ASGI app that authenticates every request and websocket of `app`.

    Sets `scope["user"]` and `scope["auth"]` to the `Principal`, `scope["state"]["principal"]`
    likewise, and `scope["bearerguard"]` to a `Face` for whoever needs the guard. Lifespan and
    unknown scopes pass untouched. What is returned is a function: it goes where an app goes,
    such as into a `Mount`; as the endpoint of a `Route`, Starlette would take it for a view.

    Args:
        app: the app to protect.
        guard: who decides.
        require: what every request of this app needs, besides the guard's own requirement.
        optional: True, or paths, where a request without a token passes as `ANONYMOUS`.
        exclude: paths that are not authenticated at all; exact, or `prefix*`, below the mount.
        pass_preflights: let CORS preflights through without a token, for CORS middleware inside
            `app`. Whoever writes such a request reaches whatever `app` does with OPTIONS.

    Raises:
        ConfigurationError: an option is malformed.
    """
    admission = Admission(
        guard,
        require=require,
        optional=optional,
        exclude=exclude,
        pass_preflights=pass_preflights,
        app=app,
    )
    return _authenticating(app, Face(admission))


# In one piece: here a call of its own would cost as much as what it does.
def _authenticating(app: ASGIApp, face: Face) -> ASGIApp:  # noqa: C901, PLR0915 - in one piece
    guard, requirement, asks_first = face.guard, face.requirement, face.asks_first
    recent, cached, clock = guard.recent, guard.cached, guard.clock
    # Names that are not asked for in any spelling: looking one up is cheaper than lowering it.
    others: set[bytes] = set()
    completion = Completion(guard, encode=_octets, name=_name)
    complete = _completing(completion, clock) if completion.is_due else None

    async def authenticate(  # noqa: C901, PLR0912, PLR0915 - in one piece
        scope: Scope, receive: Receive, send: Send
    ) -> None:
        kind = scope["type"]
        is_http = kind == "http"
        if not is_http and kind != "websocket":
            await app(scope, receive, send)
            return
        authorization: bytes | None = None
        with_origin = False
        for name, value in scope["headers"]:
            if name not in others:  # servers may leave names as they were sent
                lower = name.lower()
                if lower == b"authorization":
                    # Sent twice it is nobody's: the guard says so.
                    authorization = value if authorization is None else b""
                elif lower == b"origin":
                    with_origin = True
                elif len(others) < _MAX_NAMES and len(name) <= _LONGEST_NAME:
                    others.add(name)
        is_optional = False
        if asks_first:
            if face.passes_unasked(scope):
                _attach(scope, face, ANONYMOUS)
                await app(scope, receive, send)
                return
            is_optional = face.is_optional(scope)
        known = None
        if authorization is not None:
            known = recent.get(authorization[SUFFIX])
            if (
                known is None
                or known.authorization != authorization
                or not known.since <= clock() < known.until
            ):
                known = cached(authorization)
        if known is None or not (requirement is None or requirement.met_by(known.principal)):
            fields = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
            place = f"{scope.get('method', 'WEBSOCKET')} {scope['path']}"
            decision = guard.decide_now(fields, requirement, optional=is_optional, place=place)
            if isinstance(decision, Pending):
                decision = await guard.arun(decision.flow)
            if not isinstance(decision, Allow):
                await send_answer(scope, receive, send, face.answer(scope, decision))
                return
            principal, telling = decision.principal, None
        else:
            principal, telling = known.principal, known.token_headers
        scope["bearerguard"] = face  # as `_attach` does
        scope["user"] = scope["auth"] = principal
        state = scope.get("state")
        if state is None:
            scope["state"] = {"principal": principal}
        else:
            scope["state"] = inner = RequestState(state, principal=principal)
            inner.outer = state
        if is_http:
            if with_origin or is_optional:
                send = _merging(send, completion, with_origin=with_origin, optional=is_optional)
            if complete is not None:
                if telling is None:
                    telling = completion.telling(principal)
                    if known is not None:
                        known.token_headers = telling
                # A bound method is made in half the time of a closure.
                send = MethodType(complete, (send, telling))
        await app(scope, receive, send)

    return authenticate


# In one piece, as in wsgi.py: a call for what both do takes a tenth of the floor per response.
def _completing(
    completion: Completion[bytes], clock: Callable[[], float]
) -> Callable[[tuple[Send, Telling], Message], Awaitable[None]]:
    """Return what sends a message, and adds to the response what is told of a token."""
    lengths, ours = completion.lengths, completion.ours

    def complete(response: tuple[Send, Telling], message: Message) -> Awaitable[None]:
        send, telling = response
        if message["type"] == "http.response.start":
            since, until, told = telling.present
            now = clock()
            if not since < now <= until:
                told = completion.renewed(telling, now)
            headers = message.get("headers", ())
            if type(headers) is not list:
                headers = list(headers)
            for name, _ in headers:
                if len(name) in lengths and name.lower() in ours:
                    told = completion.unsaid(told, headers)
                    break
            message = dict(message)  # the app may send the same one again
            message["headers"] = headers + told
        return send(message)

    return complete


def _merging(
    send: Send, completion: Completion[bytes], *, with_origin: bool, optional: bool
) -> Send:
    def merge(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ())]
            completion.merge(headers, with_origin=with_origin, optional=optional)
            message = {**message, "headers": headers}
        return send(message)

    return merge


async def send_answer(scope: Scope, receive: Receive, send: Send, answer: Response) -> None:
    """Send a refusal; to a websocket as an HTTP response where the server can, else 1008."""
    prefix = "http.response"
    if scope["type"] == "websocket":
        await receive()  # the handshake, which is being refused
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        prefix = "websocket.http.response"
    headers = [(_name(name), _octets(value)) for name, value in answer.headers]
    await send({"type": f"{prefix}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": answer.body})


def _attach(scope: Scope, face: Face, principal: Principal) -> None:
    scope["bearerguard"] = face
    scope["user"] = scope["auth"] = principal
    state = scope.get("state")
    if state is None:
        scope["state"] = {"principal": principal}
    else:
        scope["state"] = inner = RequestState(state, principal=principal)
        inner.outer = state


class RequestState(dict[str, Any]):
    """A request's state with its principal; what else is set in it is set in `outer` too.

    Middleware outside the guard holds `outer`, and reads there what an endpoint has set. The
    principal stays out of it: some servers share that dict between requests.
    """

    # Set by whoever makes one: a constructor here would cost more than the rest of attaching.
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

    # Those of `dict` would change this copy alone, and those of `MutableMapping` need what its
    # subclasses have.
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
    """Whether a browser asks by this request whether it may send another (Fetch, §3.2.2).

    It asks so without credentials (§4.8), and never for a websocket.
    """
    if scope["type"] != "http" or scope["method"] != "OPTIONS":
        return False
    names = {name.lower() for name, _ in scope["headers"]}
    return names >= _OF_PREFLIGHTS and b"authorization" not in names


def _path(scope: Scope) -> tuple[str, str]:
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
