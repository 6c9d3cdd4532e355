"""`protect`: the ASGI middleware around an MCP app, and what each operation requires.

The middleware authenticates. Inside it `OperationGuard` names the caller to the app, and decides on
tools, resources and prompts: first on the headers, then on the body, which must agree with them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Unpack

from bearerguard import asgi
from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import combined
from bearerguard.guard.events import Place
from bearerguard.guard.guard import Guard
from bearerguard.mcp.context import caller
from bearerguard.mcp.registered import unknown_names
from bearerguard.mcp.requirements import OperationRequirements, Requirements
from bearerguard.mcp.sessions import SessionIds
from bearerguard.middleware.admission import Admission, AdmissionOptions, PathPatterns, RequestInfo
from bearerguard.principal import Principal
from bearerguard.protocol import mcp
from bearerguard.runtime.bodies import asgi_body
from bearerguard.runtime.extras import MissingExtra
from bearerguard.runtime.messages import Response
from bearerguard.runtime.sealing import Secret

try:
    from bearerguard.mcp import callers
except MissingExtra:  # an app of its own needs no SDK
    callers = None  # type: ignore[assignment] # pyright has no complaint

_log = logging.getLogger("bearerguard")

# What the SDK reads at most, so that no request is refused here that it would accept.
MAX_BODY_BYTES = 4 * 1024 * 1024
# These carry no message: they open and end what a session has (revision 2025-11-25).
_WITHOUT_MESSAGE = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_NO_WEBSOCKET = "MCP is served over Streamable HTTP"
_TOO_LONG = "Request body too large"


def protect(
    app: asgi.ASGIApp,
    *,
    guard: Guard,
    tools: Requirements | None = None,
    resources: Requirements | None = None,
    prompts: Requirements | None = None,
    check_names: bool = True,
    other_routes: Sequence[str] = (),
    max_body_bytes: int = MAX_BODY_BYTES,
    secret: Secret | Sequence[Secret] | None = None,
    **options: Unpack[AdmissionOptions],
) -> asgi.BearerMiddleware:
    """Protect an MCP server: the app of the MCP SDK or of fastmcp, or any other ASGI app.

    A request that may not call a tool gets a 403, whose challenge names the scopes that the tool
    needs. The keys of `tools`, `resources` (URIs) and `prompts` are names, or beginnings with `*`
    at the end; the longest key that matches decides.

    Args:
        app: serves MCP over Streamable HTTP.
        guard: validates the tokens.
        tools: what calls of tools require, besides `require`.
        resources: what reading a resource, subscribing to it, or completing its URI requires.
        prompts: what getting a prompt, or completing its arguments, requires.
        check_names: whether the app is refused at its start if it lacks a tool, resource or prompt
            that is named here. Pass False for an app that adds them later.
        other_routes: path patterns, exact or `prefix*`, of routes of the app that do not serve
            MCP: the bodies of their requests are not read.
        max_body_bytes: the longest body that is read to decide on it; a longer one gets a 413.
        secret: at least 32 bytes, or a list of such secrets, newest first. With it a
            session id that the app issues works for the same caller only, in every process with
            that secret. The MCP SDK and fastmcp bind sessions by themselves.
        options: `require`, `optional`, `exclude` and `pass_preflights`, as for
            `bearerguard.asgi.BearerMiddleware`.

    Raises:
        ConfigurationError: an option is malformed.
    """
    requirements = OperationRequirements(tools, resources, prompts)
    inner = OperationGuard(
        app,
        guard,
        requirements,
        check_names=check_names,
        other_routes=other_routes,
        max_body_bytes=max_body_bytes,
        session_ids=None if secret is None else SessionIds(secret),
    )
    middleware = asgi.BearerMiddleware(inner, guard=guard, **options)
    for each in requirements:
        combined(middleware.admission.requirement, each)  # or it has too many alternatives
    return middleware


class OperationGuard:
    """Stands between the middleware and an MCP app; its options are those of `protect`.

    Attributes:
        app: as passed.
    """

    def __init__(
        self,
        app: asgi.ASGIApp,
        guard: Guard,
        requirements: OperationRequirements,
        *,
        check_names: bool,
        other_routes: Sequence[str],
        max_body_bytes: int,
        session_ids: SessionIds | None,
    ) -> None:
        if not isinstance(max_body_bytes, int) or max_body_bytes < 1:
            raise ConfigurationError("max_body_bytes=: pass a number of bytes, at least 1")
        self.app: asgi.ASGIApp = app
        self._guard = guard
        self._requirements = requirements
        self._has_requirements = bool(requirements)
        self._checks_names = check_names and self._has_requirements
        self._other_routes = PathPatterns("other_routes", other_routes)
        self._max_body_bytes = max_body_bytes
        self._session_ids = session_ids
        self._decides = self._has_requirements or session_ids is not None

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Handle a connection as an ASGI app."""
        kind = scope["type"]
        if kind == "lifespan" and self._checks_names:
            await self._start(scope, receive, send)
            return
        if kind not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        if self._checks_names:  # it is mounted in an app that does not start it
            await self._check_names_late()
        if self._decides and not self._is_other(scope):
            passing = await self._passing(scope, receive, send)
            if passing is None:
                return
            scope, receive, send = passing
        principal: Principal = scope["state"]["principal"]
        with ExitStack() as stack:
            if callers is not None and principal.is_authenticated:
                stack.enter_context(callers.calling(self._guard, scope, principal))
            stack.callback(caller.reset, caller.set(principal))
            await self.app(scope, receive, send)

    async def _passing(
        self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send
    ) -> tuple[asgi.Scope, asgi.Receive, asgi.Send] | None:
        """Return what the app is called with; None where a request has been refused."""
        received = await self._received(scope, receive)
        if isinstance(received, Response):
            await asgi.send_response(scope, receive, send, received)
            return None
        if received is None:
            return None  # the client has disconnected
        if self._session_ids is not None:
            principal: Principal = scope["state"]["principal"]
            headers = self._session_ids.of_client(scope["headers"], principal)
            if headers is None:
                await asgi.send_response(scope, receive, send, self._no_session(scope))
                return None
            scope = {**scope, "headers": headers}
            send = _marking(self._session_ids, principal, send)
        return scope, received, send

    def _is_other(self, scope: asgi.Scope) -> bool:
        if not self._other_routes:
            return False
        info = asgi.request_info(scope)
        return self._other_routes.match(info.path, info.raw_path)

    async def _received(
        self, scope: asgi.Scope, receive: asgi.Receive
    ) -> asgi.Receive | Response | None:
        """Decide on the operations of a request; None where the client has disconnected.

        Return what the app receives, or the response to a request that is refused.
        """
        if not self._has_requirements or scope.get("method") in _WITHOUT_MESSAGE:
            return receive
        if scope["type"] == "websocket":  # its messages would pass undecided
            return self._malformed(scope, 403, mcp.INVALID_REQUEST, _NO_WEBSOCKET)
        try:
            return await self._decided(scope, receive)
        except mcp.MessageError as error:
            return self._malformed(scope, 400, error.code, str(error), error.request_id)

    async def _decided(
        self, scope: asgi.Scope, receive: asgi.Receive
    ) -> asgi.Receive | Response | None:
        declared = mcp.from_headers(scope["headers"])
        refusal = None if declared is None else self._refusal(scope, [declared])
        if refusal is not None:
            return refusal
        body = await asgi_body(receive, self._max_body_bytes)
        if body is None:
            return None
        if len(body) > self._max_body_bytes:
            return self._malformed(scope, 413, mcp.INVALID_REQUEST, _TOO_LONG)
        # Also where the headers name it: other methods name a resource in the body alone.
        operations = mcp.from_body(body, declared)
        return self._refusal(scope, operations) or asgi.replaying(body, receive)

    def _refusal(self, scope: asgi.Scope, operations: Iterable[mcp.Operation]) -> Response | None:
        """Return the response to a caller who may not do one of these operations."""
        admission: Admission = scope["bearerguard"]
        for named, requirement in self._requirements.of(operations).items():
            info = partial(_request_info, scope, named)
            decision = admission.authorize(scope["state"]["principal"], requirement, info)
            if decision is not None:
                return admission.refusal(decision, info())
        return None

    def _malformed(
        self,
        scope: asgi.Scope,
        status: int,
        code: int,
        message: str,
        request_id: mcp.RequestId = None,
    ) -> Response:
        self._guard.report("message_refused", message, place=_place(scope))
        return _error(status, code, message, request_id)

    def _no_session(self, scope: asgi.Scope) -> Response:
        detail = "the session id is of another caller, or of nobody"
        self._guard.report("session_refused", detail, place=_place(scope))
        return _error(404, mcp.INVALID_REQUEST, "Session not found")

    async def _check_names_late(self) -> None:
        self._checks_names = False
        unknown = await unknown_names(self.app, self._requirements)
        if unknown is not None:
            _log.error("%s", unknown)

    async def _start(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Start the app, unless it lacks what an option names: then its server is told so."""
        unknown: str | None = None

        async def checked(message: asgi.Message) -> None:
            nonlocal unknown
            if message["type"] == "lifespan.startup.complete":
                self._checks_names = False
                unknown = await unknown_names(self.app, self._requirements)
                if unknown is not None:
                    raise ConfigurationError(unknown)  # the app ends what it has started
            if unknown is None:
                await send(message)

        try:
            await self.app(scope, receive, checked)
        except Exception:
            if unknown is None:
                raise
        if unknown is not None:
            await send({"type": "lifespan.startup.failed", "message": unknown})
            raise ConfigurationError(unknown)


def _place(scope: asgi.Scope) -> Place:
    admission: Admission = scope["bearerguard"]
    return admission.place(asgi.request_info(scope))


def _request_info(scope: asgi.Scope, named: str) -> RequestInfo:
    info = asgi.request_info(scope)
    return replace(info, route=f"{info.whole_path} {named}")


def _marking(session_ids: SessionIds, principal: Principal, send: asgi.Send) -> asgi.Send:
    """Return a `send` that marks the session id in a response."""

    async def send_marked(message: asgi.Message) -> None:
        if message["type"] == "http.response.start":
            headers = session_ids.of_app(message.get("headers", ()), principal)
            message = {**message, "headers": headers}
        await send(message)

    return send_marked


def _error(status: int, code: int, message: str, request_id: mcp.RequestId = None) -> Response:
    body = mcp.error_body(code, message, request_id)
    headers = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    )
    return Response(status, headers, body)
