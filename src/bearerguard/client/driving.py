"""The drivers of the client's flows: the handler of each effect, sync and async.

A storage waits for disks and other processes, and a login for a person. In an event loop such
calls run in a worker thread, which is abandoned when the task is cancelled.
"""

from __future__ import annotations

import time
from typing import Any

from bearerguard.runtime.effects import Blocking, Sleep
from bearerguard.runtime.fetching import Transport, tables
from bearerguard.runtime.flow import AsyncHandlers, Handlers


def handlers(transport: Transport) -> tuple[Handlers, AsyncHandlers]:
    """Return the tables of the synchronous and of the asynchronous driver."""
    sync, asynchronous = tables(transport)
    sync |= {
        Sleep: lambda effect: time.sleep(effect.seconds),
        Blocking: lambda effect: effect.call(),
    }
    asynchronous |= {Sleep: _slept, Blocking: _in_thread}
    return sync, asynchronous


async def _slept(effect: Sleep) -> None:
    import anyio  # noqa: PLC0415 - only async callers pay for its import

    await anyio.sleep(effect.seconds)


async def _in_thread(effect: Blocking[Any]) -> Any:
    from anyio import to_thread  # noqa: PLC0415 - only async callers pay for its import

    return await to_thread.run_sync(effect.call, abandon_on_cancel=True)
