"""How the guard's flows are driven: which handler answers which effect, in both worlds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from bearerguard.runtime.fetching import Transport, tables
from bearerguard.runtime.flow import AsyncHandlers, Fetch, Handlers, Load, Store
from bearerguard.runtime.messages import Response

if TYPE_CHECKING:
    from bearerguard.guard.revocation.store import RevocationStore


class LocalTransport(Transport, Protocol):
    """Answers, in this process, what is for one issuer's own URLs."""

    def answers(self, request: Fetch) -> bool:
        """Whether `request` is for it."""
        ...

    def on_revocation(self, revoke: Callable[[Sequence[Mapping[str, Any]]], object]) -> None:
        """Call `revoke` after each change, with the arguments of `Guard.revoke` for all of it."""
        ...

    @property
    def revocation_store(self) -> RevocationStore:
        """The log of revocations of the server, which has them before `revoke` is called."""
        ...


class Routed:
    """A transport that lets local ones answer what is for them."""

    def __init__(self, local: Sequence[LocalTransport], other: Transport) -> None:
        self._local = local
        self._other = other

    def fetch(self, request: Fetch) -> Response:
        """Answer, or raise `FetchFailed`."""
        return self._chosen(request).fetch(request)

    async def afetch(self, request: Fetch) -> Response:
        """Answer, or raise `FetchFailed`."""
        return await self._chosen(request).afetch(request)

    def _chosen(self, request: Fetch) -> Transport:
        return next((each for each in self._local if each.answers(request)), self._other)


class SharedStore(Protocol):
    """Answers the effects of what workers share; `bearerguard.redis.RedisStore` is one."""

    def handlers(self) -> Handlers:
        """Return what answers in a thread."""
        ...

    def async_handlers(self) -> AsyncHandlers:
        """Return what answers in an event loop."""
        ...


def handlers(
    transport: Transport,
    local: Sequence[LocalTransport] = (),
    store: SharedStore | None = None,
    cache: SharedStore | None = None,
) -> tuple[Handlers, AsyncHandlers]:
    """Return the tables of the synchronous and of the asynchronous driver.

    `local` transports are asked first. `store` answers all that workers share, `cache` what
    they only need not ask twice.
    """
    sync, asynchronous = tables(transport)
    if local:
        routed = Routed(local, transport)
        sync[Fetch], asynchronous[Fetch] = routed.fetch, routed.afetch
    if store is not None:
        sync |= store.handlers()
        asynchronous |= store.async_handlers()
    if cache is not None:
        answers, async_answers = cache.handlers(), cache.async_handlers()
        for effect in (Load, Store):
            sync[effect], asynchronous[effect] = answers[effect], async_answers[effect]
    return sync, asynchronous


def close(transport: object) -> None:
    """Close what a transport keeps open for threads, if it keeps anything."""
    end = getattr(transport, "close", None)
    if end is not None:
        end()


async def aclose(transport: object) -> None:
    """Close what a transport keeps open for the running event loop too."""
    end = getattr(transport, "aclose", None)
    if end is not None:
        await end()
