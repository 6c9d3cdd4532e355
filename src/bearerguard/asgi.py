"""The ASGI face: translates scopes and messages to the guard and its verdicts back.

Decides nothing; imports no framework; runs on asyncio and trio.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

from bearerguard.guard.admission import Admission
from bearerguard.guard.answer import Completion, refusal
from bearerguard.guard.decision import Allow, Deny, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.guard.requirement import Requirement
from bearerguard.messages import Response
from bearerguard.principal import ANONYMOUS, Principal

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Complete: TypeAlias = Callable[..., list[tuple[bytes, bytes]]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1


class BearerMiddleware:
    """Authenticates every request and websocket of an ASGI app.

    Sets `scope["user"]` and `scope["auth"]` to the `Principal`, `scope["state"]["principal"]`
    likewise, and `scope["bearerguard"]` to itself for whoever needs its guard.

    Args:
        app: the app to protect.
        guard: who decides.
        require: what every request of this app needs, besides the guard's own requirement.
        optional: True, or paths, where a request without a token passes as `ANONYMOUS`.
        exclude: paths that are not authenticated at all; exact, or `prefix*`, below the mount.

    Raises:
        ConfigurationError: an option is malformed.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        guard: Guard,
        require: Requirement | None = None,
        optional: bool | Sequence[str] = False,
        exclude: Sequence[str] = (),
    ) -> None:
        self.app = app
        self.admission = Admission(guard, require=require, optional=optional, exclude=exclude)
        self.guard = guard
        self.requirement = self.admission.requirement
        completion = Completion(guard, encode=_octets, name=_name)
        self._complete = completion.complete
        self._completes = completion.is_due
        self._has_paths = self.admission.has_paths
        self._recall = guard.recall

    # In one piece: here a call of its own would cost as much as what it does.
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: C901
        """Answer or pass on; lifespan and unknown scopes pass untouched."""
        kind = scope["type"]
        if kind != "http" and kind != "websocket":  # noqa: PLR1714 - a set is slower
            await self.app(scope, receive, send)
            return
        authorization: bytes | None = None
        with_origin = is_repeated = False
        for name, value in scope["headers"]:
            if name in {b"authorization", b"origin"}:
                if name == b"authorization":
                    is_repeated = authorization is not None
                    authorization = value
                else:
                    with_origin = True
        optional = False
        if self._has_paths or (with_origin and scope.get("method") == "OPTIONS"):
            if self._passes_unasked(scope, with_origin=with_origin):
                _attach(scope, self, ANONYMOUS)
                await self.app(scope, receive, send)
                return
            optional = self.admission.is_optional(*_path(scope))
        requirement = self.requirement
        principal = None
        if authorization is not None and not is_repeated:
            principal = self._recall(authorization)
        if principal is None or not (requirement is None or requirement.met_by(principal)):
            fields = [value for name, value in scope["headers"] if name == b"authorization"]
            decision = await self.guard.arun(
                self.guard.decide(fields, requirement, optional=optional)
            )
            if not isinstance(decision, Allow):
                await send_answer(scope, receive, send, self.answer(scope, decision))
                return
            principal = decision.principal
        scope["bearerguard"] = self  # as `_attach` does
        scope["user"] = scope["auth"] = principal
        state = scope.get("state")
        scope["state"] = {**state, "principal": principal} if state else {"principal": principal}
        if kind == "http" and (self._completes or optional or with_origin):
            send = _completing(send, self._complete, principal, with_origin, optional)
        await self.app(scope, receive, send)

    def answer(self, scope: Scope, decision: Deny | Unavailable) -> Response:
        """Return the response that refuses the request of `scope`."""
        return refusal(
            self.guard,
            decision,
            method=scope.get("method", "GET"),
            with_origin=any(name == b"origin" for name, _ in scope["headers"]),
            optional=self.admission.is_optional(*_path(scope)),
        )

    def _passes_unasked(self, scope: Scope, *, with_origin: bool) -> bool:
        """Whether it is excluded, or a CORS preflight, which carries no credentials."""
        if (
            with_origin
            and scope.get("method") == "OPTIONS"
            and any(name == b"access-control-request-method" for name, _ in scope["headers"])
        ):
            return True
        return self.admission.is_excluded(*_path(scope))


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


def _completing(
    send: Send,
    complete: Complete,
    principal: Principal,
    with_origin: bool,  # noqa: FBT001 - by position: called for each request
    optional: bool,  # noqa: FBT001
) -> Send:
    def completing(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            message = {**message}  # the app may send the same one again
            message["headers"] = complete(headers, principal, with_origin, optional)
        return send(message)

    return completing


def _attach(scope: Scope, face: BearerMiddleware, principal: Principal) -> None:
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
