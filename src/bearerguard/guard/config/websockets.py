"""The option `websockets=`: how a browser's websocket carries its credentials.

A script cannot set the Authorization of a websocket. It can name subprotocols (RFC 6455 §1.9), so
the token, or a ticket for it, is sent as one. Owns what a ticket is and where it is kept; knows no
ASGI. A token or a ticket in a URL is never read: URLs are logged.
"""

from __future__ import annotations

import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from bearerguard.errors import BAD_TICKET, ConfigurationError, IssuerUnavailable, TokenError
from bearerguard.guard.stores import SharedStore
from bearerguard.protocol.http.credentials import Credentials
from bearerguard.runtime.effects import Store, Take
from bearerguard.runtime.flow import AsyncHandlers, Flow, ask
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.sealing import Sealer, SealError, Secret, secret_list

# An origin (RFC 6454 §6.2).
_ORIGIN = r"[a-z][a-z0-9+.-]*://[^/?#\s]+"
_MAX_SECONDS = 30
_PURPOSE = "websocket tickets"
# A memory store refuses more: each ticket takes about 2 kB. One caller may have this part of them:
# the pages of one person need a few.
_MAX_TICKETS, _SHARE = 100_000, 100


class Tickets:
    """Single-use tickets: each opens one websocket with the token for which it was issued.

    Unlike the token, a ticket that a proxy has logged opens nothing: it was used, or is over within
    seconds. The token is validated again when the ticket is used. That it is bound to a key of its
    sender was proved by the request that got the ticket: a browser's websocket can send no proof.

    Args:
        store: a store that all workers reach, such as `bearerguard.redis.RedisStore` or any
            `SharedStore` that also handles `Take`; None keeps tickets in this process, for an API
            with one worker: 100,000 at most, and 1,000 of one caller.
        secret: at least 32 bytes, the same for all workers, under which tokens are sealed in the
            store; or a list, newest first, to renew it.
        seconds: how long a ticket may wait to be used, 30 at most.
        monotonic: returns the seconds by which tickets in this process age.

    Raises:
        ConfigurationError: an option is missing or malformed.
    """

    def __init__(
        self,
        store: SharedStore | None = None,
        *,
        secret: Secret | Sequence[Secret] | None = None,
        seconds: float = _MAX_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise ConfigurationError("Tickets(seconds=): pass a number of seconds, 30 at most")
        if not 0 < seconds <= _MAX_SECONDS:
            raise ConfigurationError("Tickets(seconds=): pass more than 0 and 30 at most")
        if store is None:
            if secret is not None:
                raise ConfigurationError(
                    "Tickets(secret=): it is for a store: pass one, or leave it out"
                )
            self._memory: _Memory | None = _Memory(monotonic)
            self._handlers: AsyncHandlers = {}
            self._prefix, self._sealer = "", Sealer(secrets.token_bytes(32), purpose=_PURPOSE)
            self.seconds: float = seconds
            return
        if secret is None:
            raise ConfigurationError("Tickets(secret=): pass at least 32 bytes, as to the store")
        self._memory, self._handlers = None, _handlers(store)
        self._prefix = f"{getattr(store, 'prefix', 'bearerguard')}:ticket:"
        self._sealer = Sealer(*secret_list(secret), purpose=_PURPOSE)
        self.seconds = seconds

    def issue(self, sent: Credentials, caller: Hashable) -> Flow[str]:
        """Return a ticket for valid credentials; raises `IssuerUnavailable` if it cannot be kept.

        `caller` is whose share of the memory it counts for.
        """
        ticket = secrets.token_urlsafe(32)
        key = self._key(ticket)
        content = sent.scheme.encode("ascii") + b" " + sent.token
        try:
            sealed = self._sealer.seal(content, key.encode())
            if self._memory is not None:
                self._memory.put(key, sealed, self.seconds, caller)
            else:
                yield from ask(Store(key, sealed, self.seconds))
        except StoreFailed as error:
            raise _unavailable(error) from error
        return ticket

    def redeem(self, ticket: str) -> Flow[bytes]:
        """Return the credentials of a ticket, which no other request can use after that.

        They are the value of an Authorization field.

        Raises `TokenError` for one that is unknown, used or over, and `IssuerUnavailable`.
        """
        key = self._key(ticket)
        try:
            if self._memory is not None:
                sealed = self._memory.take(key)
            else:
                sealed = yield from ask(Take(key))
        except StoreFailed as error:
            raise _unavailable(error) from error
        if sealed is None:
            raise TokenError(
                BAD_TICKET,
                "the ticket is unknown, was used or is over: get a new one for each websocket, and"
                " share Tickets(store) among the workers",
            )
        try:
            return self._sealer.open(sealed, key.encode())
        except SealError as error:
            raise TokenError(
                BAD_TICKET,
                "the ticket was not sealed with this Tickets(secret=): pass the same one to all"
                " workers",
            ) from error

    @property
    def async_handlers(self) -> AsyncHandlers:
        """The handlers of its flows for an event loop."""
        return self._handlers

    def _key(self, ticket: str) -> str:
        # The store has the digest alone: whoever reads it cannot use the ticket.
        return self._prefix + sha256(ticket.encode(errors="replace")).hexdigest()


class _Memory:
    """Keeps tickets in this process."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, bytes, Hashable]] = {}
        self._by_caller: dict[Hashable, int] = {}

    def put(self, key: str, value: bytes, seconds: float, caller: Hashable) -> None:
        """Keep a ticket; raises `StoreFailed` if there are too many."""
        now = self._monotonic()
        with self._lock:
            # All live equally long, so the oldest are over first.
            while self._kept and (oldest := next(iter(self._kept))):
                if self._kept[oldest][0] > now:
                    break
                self._pop(oldest)
            if len(self._kept) >= _MAX_TICKETS:
                raise StoreFailed("too many tickets wait to be used")
            of_caller = self._by_caller.get(caller, 0)
            if of_caller >= _MAX_TICKETS // _SHARE:
                raise StoreFailed("too many tickets of this caller wait to be used")
            self._by_caller[caller] = of_caller + 1
            self._kept[key] = now + seconds, value, caller

    def take(self, key: str) -> bytes | None:
        """Return a ticket's content and forget it; None if it is unknown or over."""
        with self._lock:
            until, value = self._pop(key) if key in self._kept else (-math.inf, b"")
        return value if self._monotonic() < until else None

    def _pop(self, key: str) -> tuple[float, bytes]:
        until, value, caller = self._kept.pop(key)
        left = self._by_caller.pop(caller) - 1
        if left:
            self._by_caller[caller] = left
        return until, value


@dataclass(frozen=True, slots=True)
class WebSockets:
    """How a browser's websocket carries its credentials, besides the Authorization field.

    Attributes:
        subprotocol: whether `new WebSocket(url, ["bearer", token])` is accepted. The server
            responds with the subprotocol `bearer`, and the app sees neither.
        tickets: what issues and redeems single-use tickets, for
            `new WebSocket(url, ["bearer-ticket", ticket])`; None for none.
        origins: the origins whose pages may open a websocket, such as `https://app.example.com`;
            None for all. A page of another origin has no token, so that this only adds to it. A
            client that is no browser sends no origin, and passes.

    Raises:
        ConfigurationError: an option is malformed.
    """

    subprotocol: bool = False
    tickets: Tickets | None = None
    origins: Sequence[str] | None = None

    def __post_init__(self) -> None:
        """Check the options."""
        if not isinstance(self.subprotocol, bool):
            raise ConfigurationError("WebSockets(subprotocol=): pass True or False")
        if self.tickets is not None and not isinstance(self.tickets, Tickets):
            raise ConfigurationError("WebSockets(tickets=): pass Tickets(...), or None for none")
        if self.origins is None:
            return
        if isinstance(self.origins, str) or not all(
            isinstance(each, str) and re.fullmatch(_ORIGIN, each) for each in self.origins
        ):
            raise ConfigurationError(
                'WebSockets(origins=): pass a list of origins such as ["https://app.example.com"],'
                " in lower case and without a path"
            )


def check_websockets(websockets: object) -> None:
    """Raise `ConfigurationError` unless this is `WebSockets` or None."""
    if websockets is not None and not isinstance(websockets, WebSockets):
        raise ConfigurationError("websockets=: pass WebSockets(...), or None for none")


def _handlers(store: SharedStore) -> AsyncHandlers:
    try:
        handlers = store.async_handlers()
    except AttributeError:
        handlers = {}
    if Store not in handlers or Take not in handlers:
        raise ConfigurationError(
            'Tickets(store): pass a RedisStore("redis://...", ...), or another object with the'
            " methods of bearerguard.stores.SharedStore that handles Store and Take"
        )
    return handlers


def _unavailable(error: StoreFailed) -> IssuerUnavailable:
    return IssuerUnavailable(None, 1, f"the store of the tickets: {error}")
