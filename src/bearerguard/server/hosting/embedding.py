"""A guard in the process of the server gets keys and introspects tokens without HTTP.

Only this file, `revocation_store` and `assertions` know the guard. For the guard this is a
transport for the server's URLs, and the store of revocations. For the server it is a client that
needs no secret, because it is in the same process.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack
from urllib.parse import parse_qs, urlsplit

from bearerguard.errors import StoreUnavailable
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer, IssuerOptions
from bearerguard.protocol.revocation import ARGUMENT_OF_CLAIM
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.endpoints import metadata
from bearerguard.server.engine import Engine
from bearerguard.server.hosting.revocation_store import DatabaseRevocationStore
from bearerguard.server.hosting.threads import Threads
from bearerguard.server.http import responses
from bearerguard.server.revocations import Revoked
from bearerguard.server.settings import DAY, REQUIRED

# The guard needs no credentials in this process.
_NO_SECRET = "in-process"  # noqa: S105 - as it says


class EmbeddedIssuerOptions(IssuerOptions, total=False):
    """The options of `AuthorizationServer.issuer`."""

    audience: str | Sequence[str]


class InProcess:
    """A transport that responds to a guard's requests to one server's URLs."""

    revocation_store: DatabaseRevocationStore

    def __init__(self, engine: Engine, threads: int) -> None:
        self._engine = engine
        parts = urlsplit(engine.settings.issuer)
        self._origin = (parts.scheme, parts.netloc)
        self._threads = Threads(self._respond, threads)
        self.revocation_store = DatabaseRevocationStore(engine.database, engine.settings.issuer)

    def serves(self, request: Fetch) -> bool:
        """Whether this server serves the URL of a request."""
        parts = urlsplit(request.url)
        return (parts.scheme, parts.netloc) == self._origin and parts.path in self._engine.paths

    def fetch(self, request: Fetch) -> Response:
        """Return the response, in the calling thread."""
        return self._respond(_request(request))

    async def afetch(self, request: Fetch) -> Response:
        """Return the response, in a thread of the server."""
        return await self._threads.run(_request(request))

    def on_revocation(self, revoke: Callable[[Sequence[Mapping[str, Any]]], object]) -> None:
        """Call `revoke` after each change in this process, with all that it revoked.

        Each revocation is a mapping of arguments of `Guard.revoke`, and `expires_at`. A bound
        method is referenced weakly, so that the server does not keep guards alive.
        """
        held = weakref.WeakMethod(revoke) if inspect.ismethod(revoke) else lambda: revoke

        def notify(batch: Sequence[Revoked]) -> None:
            call = held()
            if call is not None:
                call([names(each, self._issuer) for each in batch])

        self._engine.revocations.listen_to_batches(notify)

    def publish(
        self, path: str, respond: Callable[[str, Callable[[str], str | None]], Response]
    ) -> None:
        """Serve an API's metadata at `path`; see `LocalTransport`."""
        self._engine.publish(path, respond)

    @property
    def binds_every_token(self) -> bool:
        """Whether the server issues only tokens that are bound to a key."""
        return self._engine.settings.dpop == REQUIRED

    @property
    def longest_token_life(self) -> float:
        """A day, or the longest lifetime of personal access tokens."""
        options = self._engine.personal_tokens.options
        return DAY if options is None else max(DAY, options.max_lifetime)

    @property
    def _issuer(self) -> str:
        return self._engine.settings.issuer

    def _respond(self, request: Request) -> Response:
        path = urlsplit(request.url).path
        if path != self._engine.settings.base_path + metadata.INTROSPECT:
            return self._engine.handle(request)
        tokens = parse_qs(request.body.decode("utf-8", "replace")).get("token", [""])
        try:
            return responses.private(self._engine.introspection.describe(tokens[0]))
        except StoreUnavailable:
            return responses.unavailable()


def names(revoked: Revoked, issuer: str) -> Mapping[str, Any]:
    """Return a revocation as the arguments of `Guard.revoke`, with the end of its entry."""
    argument = ARGUMENT_OF_CLAIM[revoked.kind]
    return {argument: revoked.value, "issuer": issuer, "expires_at": revoked.expires_at}


def issuer(engine: Engine, threads: int, **options: Unpack[EmbeddedIssuerOptions]) -> Issuer:
    """Return the server as an `Issuer` of a guard; `options` are those of `Issuer`."""
    settings = engine.settings
    given: EmbeddedIssuerOptions = {
        "audience": settings.resources[0].identifier,
        "insecure_allow_http": settings.insecure_allow_http,
        "local": InProcess(engine, threads),
    }
    has_personal = engine.personal_tokens.options is not None
    if has_personal or any(each.tokens == "opaque" for each in settings.resources):
        given["introspection"] = Introspection(token=_NO_SECRET)
    given.update(options)
    return Issuer(settings.issuer, **given)


def _request(request: Fetch) -> Request:
    return Request(request.method, urlsplit(request.url).path, request.headers, request.body)
