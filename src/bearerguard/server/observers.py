"""Observers of a server: one record for each request that it has responded to, for metrics.

A record holds names and codes from fixed sets, so that it can label a metric: nothing that whoever
sends a request may choose, and no client, user, token or address.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from bearerguard.runtime.messages import Response
from bearerguard.runtime.reporting import observing

_log = logging.getLogger("bearerguard.server")

OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST"})
_BAD_REQUEST, _SERVER_ERROR = 400, 500

Outcome: TypeAlias = Literal["ok", "refused", "unavailable"]
TokenKind: TypeAlias = Literal["access_token", "refresh_token"]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """A request to an endpoint of the server, after the response was made.

    A request whose client disconnected before its body was complete makes no record.

    Attributes:
        endpoint: `token`, `authorization`, `pushed_authorization`, `device_authorization`,
            `device`, `consent`, `login`, `logout`, `account`, `personal_tokens`,
            `personal_tokens_api`, `backchannel_logout`, `revocation`, `introspection`,
            `registration`, `jwks`, `metadata`, `resource_metadata`, `health` or `live`.
        method: `GET`, `HEAD`, `OPTIONS`, `POST` or `other`.
        grant_type: of a token request, if it is that of a registered grant, else `other`; None
            for other endpoints, and where the parameter is absent or the form is malformed.
        status: the HTTP status.
        error: the OAuth error code of the response, also of one sent by a redirect, or None.
        seconds: how long the server took for it, without the wait for a thread.
        issued: the kinds of the tokens in the response: `access_token`, `refresh_token`.
    """

    endpoint: str
    method: str
    grant_type: str | None
    status: int
    error: str | None
    seconds: float
    issued: tuple[TokenKind, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """`unavailable` for a status of 500 or more, `refused` for any other error, else `ok`."""
        if self.status >= _SERVER_ERROR:
            return "unavailable"
        return "refused" if self.error or self.status >= _BAD_REQUEST else "ok"


class ServerObserver(Protocol):
    """Receives the records of a server, in the thread that responds: it must be quick.

    An exception is logged, at most once a minute, and changes no response.
    """

    def responded(self, record: RequestRecord) -> None:
        """Note a request, before its response is sent."""
        ...

    def store_failed(self) -> None:
        """Note that the database failed, for a request or for upkeep."""
        ...

    def store_restored(self) -> None:
        """Note that the database works again, after one or more failures."""
        ...


class _Notes:
    """What the endpoints know of the request that they handle."""

    __slots__ = ("error", "grant_type", "issued")

    def __init__(self) -> None:
        self.error: str | None = None
        self.grant_type: str | None = None
        self.issued: tuple[TokenKind, ...] = ()


_notes: ContextVar[_Notes | None] = ContextVar("bearerguard-notes", default=None)


def note_grant_type(grant_type: str | None, *, is_registered: bool) -> None:
    """Note the grant type of the token request that this thread handles."""
    notes = _notes.get()
    if notes is not None and grant_type is not None:
        notes.grant_type = grant_type if is_registered else OTHER


def note_issued(*kinds: TokenKind) -> None:
    """Note which tokens the response to the current request contains."""
    notes = _notes.get()
    if notes is not None:
        notes.issued = kinds


def note_error(code: str) -> None:
    """Note the OAuth error code of the response to the current request."""
    notes = _notes.get()
    if notes is not None:
        notes.error = code


class Observers(observing.ObserverList[ServerObserver]):
    """The observers of one server.

    Args:
        observers: as passed.
        monotonic: returns seconds that clock changes do not affect.
    """

    def __init__(
        self,
        observers: Iterable[ServerObserver] = (),
        monotonic: Callable[[], float] = lambda: 0.0,
    ) -> None:
        super().__init__(observers, monotonic, _log)

    def observed(self, endpoint: str, method: str, respond: Callable[[], Response]) -> Response:
        """Return what `respond` returns, and report it."""
        if not self:
            return respond()
        notes = _Notes()
        before = _notes.set(notes)
        began = self.monotonic()
        status = _SERVER_ERROR  # an exception that the web server turns into a response
        try:
            response = respond()
            status = response.status
        finally:
            _notes.reset(before)
            record = RequestRecord(
                endpoint=endpoint,
                method=method if method in _METHODS else OTHER,
                grant_type=notes.grant_type,
                status=status,
                error=notes.error,
                seconds=self.monotonic() - began,
                issued=notes.issued,
            )
            self.call(lambda observer: observer.responded(record))
        return response

    def store_failed(self) -> None:
        """Report a failure of the database."""
        self.call(lambda observer: observer.store_failed())

    def store_restored(self) -> None:
        """Report that the database works again."""
        self.call(lambda observer: observer.store_restored())


def check_observers(observers: object) -> None:
    """Raise `ConfigurationError` unless these are observers of a server."""
    methods = ("responded", "store_failed", "store_restored")
    observing.check(observers, methods, "PrometheusServerObserver")
