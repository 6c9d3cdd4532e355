"""Who is calling, in the context of a request: for tools, which get no request of ours."""

from __future__ import annotations

from contextvars import ContextVar

from bearerguard.principal import ANONYMOUS, Principal

#: Set for the time of a request, by what has validated its token.
caller: ContextVar[Principal] = ContextVar("bearerguard.mcp.caller", default=ANONYMOUS)


def get_principal() -> Principal:
    """Return who is calling the tool, resource or prompt that runs; `ANONYMOUS` outside of one."""
    return caller.get()
