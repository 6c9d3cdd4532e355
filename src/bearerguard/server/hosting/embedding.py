"""A guard in the same process as the server: it asks for keys and tokens without HTTP.

This file and `embedded_log` alone know the guard. To the guard it is a transport for the server's
own URLs, and where revocations are kept; to the server, one more caller, whom no secret has to
prove: it is in the same process.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.protocol.revocation import ARGUMENT_OF_CLAIM
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.endpoints import metadata
from bearerguard.server.hosting.embedded_log import EmbeddedLog
from bearerguard.server.hosting.threads import Threads
from bearerguard.server.http import responses
from bearerguard.server.store.database import StoreUnavailable
from bearerguard.server.tokens.revocations import Revoked

if TYPE_CHECKING:
    from bearerguard.server.authorization_server import AuthorizationServer

# Whoever is in this process is asked for no credentials.
_NO_SECRET = "in-process"  # noqa: S105 - as it says


class InProcess:
    """Answers a guard's requests to one server's own URLs."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server
        parts = urlsplit(server.settings.issuer)
        self._origin = (parts.scheme, parts.netloc)
        self._threads = Threads(self._answer, server.threads)
        self.revocation_store = EmbeddedLog(server.database, server.settings.issuer)

    def answers(self, request: Fetch) -> bool:
        """Whether a request is for this server."""
        parts = urlsplit(request.url)
        return (parts.scheme, parts.netloc) == self._origin and parts.path in self._server.paths

    def fetch(self, request: Fetch) -> Response:
        """Answer in the calling thread."""
        return self._answer(_request(request))

    async def afetch(self, request: Fetch) -> Response:
        """Answer in a thread of the server's."""
        return await self._threads.answer(_request(request))

    def on_revocation(self, revoke: Callable[[Sequence[Mapping[str, Any]]], object]) -> None:
        """Call `revoke` after each change in this process, with all that this revoked.

        Each is a mapping of the arguments of `Guard.revoke`. A guard's own method is held weakly:
        a server does not keep guards alive.
        """
        held = weakref.WeakMethod(revoke) if inspect.ismethod(revoke) else lambda: revoke

        def tell(batch: Sequence[Revoked]) -> None:
            call = held()
            if call is not None:
                call([names(each, self._issuer) for each in batch])

        self._server.on_revocations(tell)

    @property
    def _issuer(self) -> str:
        return self._server.settings.issuer

    def _answer(self, request: Request) -> Response:
        path = urlsplit(request.url).path
        if path != self._server.settings.base_path + metadata.INTROSPECT:
            return self._server.handle(request)
        tokens = parse_qs(request.body.decode("utf-8", "replace")).get("token", [""])
        try:
            return responses.private(self._server.introspect(tokens[0]))
        except StoreUnavailable:
            return responses.unavailable()


def names(revoked: Revoked, issuer: str) -> Mapping[str, Any]:
    """Return a revocation as the arguments of `Guard.revoke`."""
    return {ARGUMENT_OF_CLAIM[revoked.kind]: revoked.value, "issuer": issuer}


def issuer(server: AuthorizationServer, **options: Any) -> Issuer:
    """Return the server as a guard's issuer; `options` are those of `Issuer`."""
    settings = server.settings
    given: dict[str, Any] = {
        "audience": settings.resources[0].identifier,
        "insecure_allow_http": settings.insecure_allow_http,
        "local": InProcess(server),
    }
    if any(each.tokens == "opaque" for each in settings.resources):
        given["introspection"] = Introspection(token=_NO_SECRET)
    return Issuer(settings.issuer, **(given | options))


def _request(request: Fetch) -> Request:
    return Request(request.method, urlsplit(request.url).path, request.headers, request.body)
