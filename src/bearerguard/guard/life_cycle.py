"""How a guard drives its flows, begins and ends, in both worlds.

Knows no tokens: what there is to warm and to close is the guard's to say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Self, TypeVar

from bearerguard.guard import driving
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.flow import AsyncHandlers, Flow, Handlers, arun, run

T = TypeVar("T")


class LifeCycle(ABC):
    """What drives flows, can be warmed and closed, and be used in a `with` block."""

    _handlers: Handlers
    _async_handlers: AsyncHandlers
    _transport: Transport

    def run(self, flow: Flow[T]) -> T:
        """Drive a flow of this guard in the calling thread."""
        return run(flow, self._handlers)

    async def arun(self, flow: Flow[T]) -> T:
        """Drive a flow of this guard in the running event loop."""
        return await arun(flow, self._async_handlers)

    def warm(self) -> None:
        """Fetch what is absent or due, keys above all; an issuer that is down is only reported."""
        for flow in self._warming():
            self.run(flow)

    async def awarm(self) -> None:
        """Do as `warm` in an event loop: for a lifespan."""
        for flow in self._warming():
            await self.arun(flow)

    def close(self) -> None:
        """End refreshing, close connections, forget all tokens; the guard can be used again."""
        self._end()
        driving.close(self._transport)

    async def aclose(self) -> None:
        """Do as `close` in an event loop, whose connections are closed too."""
        self.close()
        await driving.aclose(self._transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @abstractmethod
    def _warming(self) -> Iterable[Flow[None]]:
        """Return what warms; each flow fails softly."""

    @abstractmethod
    def _end(self) -> None:
        """End what runs in the background, and forget all tokens."""
