"""How the guard's flows are driven: which handler performs which effect, sync and async.

Knows no sockets: it combines the handlers of the transport and of the shared stores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from bearerguard.guard.stores import ReplayStore, RevocationStore, SharedStore
from bearerguard.runtime.fetching import Transport, tables
from bearerguard.runtime.flow import AsyncHandlers, Fetch, Handlers
from bearerguard.runtime.messages import Response


class LocalTransport(Transport, Protocol):
    """A transport that handles requests to one issuer's URLs within this process."""

    def serves(self, request: Fetch) -> bool:
        """Whether the URL of `request` is one of the issuer's."""
        ...

    def on_revocation(self, revoke: Callable[[Sequence[Mapping[str, Any]]], object]) -> None:
        """Call `revoke` after each change with the revocations, as arguments of `Guard.revoke`.

        Each has `expires_at` besides: until when the server's log has it, in Unix seconds.
        """
        ...

    def publish(
        self, path: str, respond: Callable[[str, Callable[[str], str | None]], Response]
    ) -> None:
        """Serve an API's metadata at `path` and at the well-known root.

        `respond` takes the method, and what returns a header field by its lower-case name.
        """
        ...

    @property
    def revocation_store(self) -> RevocationStore:
        """The server's log of revocations, complete before `revoke` is called."""
        ...

    @property
    def binds_every_token(self) -> bool:
        """Whether the server issues only tokens that are bound to a key (RFC 9449)."""
        ...

    @property
    def longest_token_life(self) -> float:
        """For how many seconds revocations are kept, unless the guard's `revocations=` says it."""
        ...


class Routed:
    """A transport that passes each request to the local transport of its URL, else to `other`."""

    def __init__(self, local: Sequence[LocalTransport], other: Transport) -> None:
        self._local = local
        self._other = other

    def fetch(self, request: Fetch) -> Response:
        """Return the response, or raise `FetchFailed`."""
        return self._chosen(request).fetch(request)

    async def afetch(self, request: Fetch) -> Response:
        """Return the response, or raise `FetchFailed`."""
        return await self._chosen(request).afetch(request)

    def _chosen(self, request: Fetch) -> Transport:
        return next((each for each in self._local if each.serves(request)), self._other)


def handlers(
    transport: Transport,
    local: Sequence[LocalTransport] = (),
    store: SharedStore | None = None,
    cache: SharedStore | None = None,
    replays: ReplayStore | None = None,
) -> tuple[Handlers, AsyncHandlers]:
    """Return the tables of handlers for the sync and for the async driver.

    Args:
        transport: sends the requests to issuers.
        local: transports to the issuers in this process.
        store: holds the revocations that workers share.
        cache: holds the introspection responses that workers share.
        replays: holds the used DPoP proofs that workers share.
    """
    sync, asynchronous = tables(transport)
    if local:
        routed = Routed(local, transport)
        sync[Fetch], asynchronous[Fetch] = routed.fetch, routed.afetch
    if store is not None:
        sync |= store.handlers()
        asynchronous |= store.async_handlers()
    if cache is not None:
        from bearerguard.runtime.effects import Load, Store  # noqa: PLC0415 - few guards share it

        cached, async_cached = cache.handlers(), cache.async_handlers()
        for effect in (Load, Store):
            sync[effect], asynchronous[effect] = cached[effect], async_cached[effect]
    if replays is not None:
        from bearerguard.runtime.effects import Insert  # noqa: PLC0415 - few guards have them

        sync[Insert] = replays.handlers()[Insert]
        asynchronous[Insert] = replays.async_handlers()[Insert]
    return sync, asynchronous


def close(transport: object) -> None:
    """Close the connections that a transport keeps for threads, if it has a `close`."""
    end = getattr(transport, "close", None)
    if end is not None:
        end()


async def aclose(transport: object) -> None:
    """Close the connections that it keeps for the running event loop, if it has an `aclose`."""
    end = getattr(transport, "aclose", None)
    if end is not None:
        await end()
