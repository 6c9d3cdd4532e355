"""The ASGI face: translates scopes and messages to the guard and its verdicts back.

Decides nothing; imports no framework; runs on asyncio and trio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from types import MethodType
from typing import Any, TypeAlias

from bearerguard.guard.admission import Admission
from bearerguard.guard.answer import refusal
from bearerguard.guard.completion import Completion, Telling
from bearerguard.guard.decision import Allow, Deny, Pending, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.guard.requirement import Requirement
from bearerguard.guard.token_cache import END
from bearerguard.messages import Response
from bearerguard.principal import ANONYMOUS, Principal

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1


class Face:
    """What whoever stands behind the middleware needs of it: its guard, and how it refuses."""

    def __init__(self, admission: Admission) -> None:
        self.guard = admission.guard
        self.requirement = admission.requirement
        self.has_paths = admission.has_paths
        self._admission = admission

    def answer(self, scope: Scope, decision: Deny | Unavailable) -> Response:
        """Return the response that refuses the request of `scope`."""
        return refusal(
            self.guard,
            decision,
            method=scope.get("method", "GET"),
            with_origin=any(name == b"origin" for name, _ in scope["headers"]),
            optional=self.is_optional(scope),
        )

    def is_optional(self, scope: Scope) -> bool:
        """Whether the request of `scope` passes without a token."""
        return self._admission.is_optional(*_path(scope))

    def passes_unasked(self, scope: Scope, *, with_origin: bool) -> bool:
        """Whether it is excluded, or a CORS preflight, which carries no credentials."""
        if (
            with_origin
            and scope.get("method") == "OPTIONS"
            and any(name == b"access-control-request-method" for name, _ in scope["headers"])
        ):
            return True
        return self._admission.is_excluded(*_path(scope))


# A function, though it goes by the name of a class: calling an instance costs as much as
# finding a token in use.
def BearerMiddleware(  # noqa: N802 - the name of a class
    app: ASGIApp,
    *,
    guard: Guard,
    require: Requirement | None = None,
    optional: bool | Sequence[str] = False,
    exclude: Sequence[str] = (),
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

    Raises:
        ConfigurationError: an option is malformed.
    """
    admission = Admission(guard, require=require, optional=optional, exclude=exclude)
    return _authenticating(app, Face(admission))


# In one piece: here a call of its own would cost as much as what it does.
def _authenticating(app: ASGIApp, face: Face) -> ASGIApp:  # noqa: C901, PLR0915 - in one piece
    guard, requirement, has_paths = face.guard, face.requirement, face.has_paths
    in_use, recall, clock = guard.in_use, guard.recall, guard.clock
    completion = Completion(guard, encode=_octets, name=_name)
    complete = _completing(completion, clock) if completion.is_due else None

    async def authenticate(  # noqa: C901, PLR0912 - in one piece
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
            if name in {b"authorization", b"origin"}:
                if name == b"authorization":
                    # Sent twice it is nobody's: the guard says so.
                    authorization = value if authorization is None else b""
                else:
                    with_origin = True
        is_optional = False
        if has_paths or (with_origin and scope.get("method") == "OPTIONS"):
            if face.passes_unasked(scope, with_origin=with_origin):
                _attach(scope, face, ANONYMOUS)
                await app(scope, receive, send)
                return
            is_optional = face.is_optional(scope)
        known = None
        if authorization is not None:
            known = in_use.get(authorization[END])
            if (
                known is None
                or known.authorization != authorization
                or not known.since <= clock() < known.until
            ):
                known = recall(authorization)
        if known is None or not (requirement is None or requirement.met_by(known.principal)):
            fields = [value for name, value in scope["headers"] if name == b"authorization"]
            decision = guard.look(fields, requirement, optional=is_optional)
            if isinstance(decision, Pending):
                decision = await guard.arun(decision.flow)
            if not isinstance(decision, Allow):
                await send_answer(scope, receive, send, face.answer(scope, decision))
                return
            principal, telling = decision.principal, None
        else:
            principal, telling = known.principal, known.telling
        scope["bearerguard"] = face  # as `_attach` does
        scope["user"] = scope["auth"] = principal
        state = scope.get("state")
        scope["state"] = {**state, "principal": principal} if state else {"principal": principal}
        if is_http:
            if with_origin or is_optional:
                send = _merging(send, completion, with_origin=with_origin, optional=is_optional)
            if complete is not None:
                if telling is None:
                    telling = completion.telling(principal)
                    if known is not None:
                        known.telling = telling
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
    # A copy: some servers share the state between the requests of a connection.
    state = scope.get("state")
    scope["state"] = {**state, "principal": principal} if state else {"principal": principal}


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
