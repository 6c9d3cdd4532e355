"""A browser's websocket: its token or ticket comes as a subprotocol, and becomes Authorization.

Everything else then handles it like any websocket. The app sees neither the token nor the
subprotocol, and the server responds with the subprotocol if the app chooses none. Knows no
framework.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from bearerguard.errors import ORIGIN_REFUSED, IssuerUnavailable, TokenError, quoted
from bearerguard.guard.config.websockets import Tickets, WebSockets
from bearerguard.guard.decision import Deny, Unavailable, failed
from bearerguard.protocol import names
from bearerguard.runtime.flow import arun

if TYPE_CHECKING:
    from bearerguard.guard.guard import Guard

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_FIELD, _AUTHORIZATION = b"sec-websocket-protocol", b"authorization"


class RefusedHandshake(NamedTuple):
    """A handshake that is refused: the decision, and the cause and remedy for the log."""

    decision: Deny | Unavailable
    detail: str


class BrowserWebSockets:
    """Takes the credentials of a guard's websockets from their subprotocols.

    Args:
        guard: whose option `websockets` says what is accepted.
        options: that option.
    """

    def __init__(self, guard: Guard, options: WebSockets) -> None:
        self._guard = guard
        # What gives the Authorization field, by the subprotocol.
        self._sent_as: dict[str, Callable[[str], Awaitable[bytes]]] = {}
        if options.subprotocol:
            self._sent_as[names.BEARER_SUBPROTOCOL] = _sent
        if options.tickets is not None:
            self._sent_as[names.TICKET_SUBPROTOCOL] = partial(_redeemed, options.tickets)
        origins = options.origins
        self._origins = None if origins is None else frozenset(each.encode() for each in origins)

    async def admit(self, scope: Scope) -> RefusedHandshake | str | None:
        """Rewrite the scope of a handshake.

        Return the subprotocol with which credentials came, None without, or a refusal.
        """
        if self._origins is not None:
            origins = [value for name, value in scope["headers"] if name.lower() == b"origin"]
            if not self._origins.issuperset(each.lower() for each in origins):
                sent = quoted(b", ".join(origins).decode("latin-1"))
                return RefusedHandshake(
                    Deny(403, ORIGIN_REFUSED, (self._guard.challenge,)),
                    f"its page is of the origin {sent}: add it to WebSockets(origins=) if it is"
                    " yours",
                )
        chosen, fields = None, list[bytes]()
        for name, sent_as in self._sent_as.items():
            for credentials in _taken(scope, name):
                chosen = name
                try:
                    fields.append(await sent_as(credentials))
                except (TokenError, IssuerUnavailable) as error:
                    detail = error.remedy if isinstance(error, TokenError) else str(error)
                    return RefusedHandshake(failed(self._guard.challenge, error), detail)
        # Beside another Authorization there are two, which is refused like any repeated field.
        scope["headers"] = [*scope["headers"], *((_AUTHORIZATION, each) for each in fields)]
        if chosen == names.TICKET_SUBPROTOCOL:
            self._guard.accept_ticket(fields[-1], scope)
        return chosen


async def _sent(token: str) -> bytes:
    return b"Bearer " + token.encode("latin-1", "replace")


async def _redeemed(tickets: Tickets, ticket: str) -> bytes:
    return await arun(tickets.redeem(ticket), tickets.async_handlers)


def _taken(scope: Scope, name: str) -> list[str]:
    """Remove a subprotocol, and what follows it, from a scope; return what followed."""
    offered = [*(scope.get("subprotocols") or ())]
    taken: list[str] = []
    while name in offered:
        at = offered.index(name)
        taken += offered[at + 1 : at + 2]
        del offered[at : at + 2]
    if taken:
        scope["subprotocols"] = offered
        # Servers decode the field in several ways, some into what no encoding has.
        rest = [(_FIELD, ", ".join(offered).encode("latin-1", "replace"))] if offered else []
        others = [each for each in scope["headers"] if each[0].lower() != _FIELD]
        scope["headers"] = others + rest
    return taken


def choosing(send: Send, subprotocol: str) -> Send:
    """Return a `send` that responds with this subprotocol where the app chooses none."""

    async def send_chosen(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "websocket.accept" and not message.get("subprotocol"):
            message = {**message, "subprotocol": subprotocol}
        await send(message)

    return send_chosen
