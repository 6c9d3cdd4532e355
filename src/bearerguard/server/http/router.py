"""Routes requests to endpoints by path, and does what all have in common: CORS, errors, HEAD.

Each response is reported to the observers here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol
from urllib.parse import urlsplit

from bearerguard.errors import ConfigurationError, StoreUnavailable
from bearerguard.protocol import names
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit, causing, new_reference
from bearerguard.server.http import cors, responses
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.observers import Observers, note_error

_log = logging.getLogger("bearerguard.server")


class Readers(Enum):
    """Pages of which origins may read an endpoint's responses (CORS-01)."""

    NOBODY = "nobody"
    REGISTERED = "registered"
    EVERYBODY = "everybody"
    # They may post to it, too: a page that registers itself has no client yet.
    SENDERS = "senders"


class HasErrorPages(Protocol):
    """Has the pages for what the router refuses."""

    def unavailable(self, reference: str, /) -> Response:
        """Return the page for a server that has a problem."""
        ...

    def too_large(self, reference: str, /) -> Response:
        """Return the page for a request that is too long."""
        ...

    def busy(self, reference: str, /) -> Response:
        """Return the page for a request that found no thread."""
        ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint of a path.

    Attributes:
        name: what records of its requests call it.
        handle: returns the response to a request.
        readers: pages of which origins may read it.
        errors: the error pages of an endpoint for people; None for one for programs, with JSON.
    """

    name: str
    handle: Callable[[Request], Response]
    readers: Readers = Readers.NOBODY
    errors: HasErrorPages | None = None

    def unavailable(self, reference: str | None) -> Response:
        """Return the response of a server that has a problem; an event has its `reference`."""
        if self.errors is None:
            return responses.unavailable()
        return self.errors.unavailable(reference or "")

    def too_large(self, reference: str | None) -> Response:
        """Return the response to a request that is too long; an event has its `reference`."""
        if self.errors is None:
            return responses.too_large()
        return self.errors.too_large(reference or "")

    def busy(self, reference: str | None) -> Response:
        """Return the response to a request that found no thread; an event has its `reference`."""
        if self.errors is None:
            return responses.unavailable()
        return self.errors.busy(reference or "")

    def reference(self) -> str | None:
        """Return a new reference for an event, where a page can show it."""
        return None if self.errors is None else new_reference()


class Router:
    """Routes requests by their path.

    Args:
        endpoints: the endpoints by their whole path.
        below: those of all paths that have one more segment than these.
        is_origin: whether a client registered an origin.
        audit: where errors are reported.
        observers: what each response is reported to.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        *,
        below: Mapping[str, Endpoint],
        is_origin: Callable[[str], bool],
        audit: Audit,
        observers: Observers,
    ) -> None:
        self._endpoints = endpoints
        self._below = below
        self._is_origin = is_origin
        self._audit = audit
        self._observers = observers

    def handle(self, request: Request) -> Response:
        """Return the response to any request."""
        path = _path(request)
        endpoint = self.endpoint(path)
        if endpoint is None:
            return responses.not_found()
        with causing("request"):
            return self._observers.observed(
                endpoint.name, request.method, lambda: self._handled(endpoint, path, request)
            )

    def _handled(self, endpoint: Endpoint, path: str, request: Request) -> Response:
        try:
            response = self._cross_origin(endpoint, path, request)
        except StoreUnavailable as error:
            reference = endpoint.reference()
            self._audit.emit("store_unavailable", cause=str(error), reference=reference)
        except ConfigurationError:
            reference = endpoint.reference()
            named = f" (reference {reference})" if reference else ""
            _log.exception("the server's configuration is invalid%s", named)
        else:
            return replace(response, body=b"") if request.method == "HEAD" else response
        note_error(names.TEMPORARILY_UNAVAILABLE)
        return endpoint.unavailable(reference)

    def endpoint(self, path: str) -> Endpoint | None:
        """Return the endpoint of a path, None if there is none."""
        found = self._endpoints.get(path)
        if found is None and self._below:
            parent, _, last = path.rpartition("/")
            return self._below.get(parent) if last else None
        return found

    def add(self, endpoints: Mapping[str, Endpoint]) -> None:
        """Route to further endpoints, or to others than before."""
        self._endpoints = {**self._endpoints, **endpoints}

    def too_large(self, path: str, method: str) -> Response:
        """Return the response to a request to `path` whose body exceeds the limit."""
        endpoint = self._served(path)
        refusal = OAuthError("invalid_request", "The request is too large", reason="too_large")
        refusal.note(reference=(reference := endpoint.reference()))

        def respond() -> Response:
            refusal.report(self._audit, path)
            return endpoint.too_large(reference)

        with causing("request"):
            return self._observers.observed(endpoint.name, method, respond)

    def busy(self, request: Request) -> Response:
        """Return the response to a request for which there is no thread."""
        path = _path(request)
        endpoint = self._served(path)
        refusal = OAuthError(names.TEMPORARILY_UNAVAILABLE, "Too many wait", reason="no_thread")
        refusal.note(reference=(reference := endpoint.reference()))

        def respond() -> Response:
            refusal.report(self._audit, path)
            return endpoint.busy(reference)

        with causing("request"):
            return self._observers.observed(endpoint.name, request.method, respond)

    def _served(self, path: str) -> Endpoint:
        """Return the endpoint of a path that has one."""
        return self._endpoints.get(path) or self._below[path.rpartition("/")[0]]

    def _cross_origin(self, endpoint: Endpoint, path: str, request: Request) -> Response:
        if endpoint.readers is Readers.NOBODY:
            return self._response(endpoint, path, request)
        if endpoint.readers is Readers.EVERYBODY:
            if request.method == "OPTIONS":
                return cors.preflight(request, "GET, HEAD", "*")
            return self._response(endpoint, path, request)
        if endpoint.readers is Readers.SENDERS:
            origin: str | None = "*"
        else:
            origin = cors.registered_origin(request, self._is_origin)
        if request.method == "OPTIONS":
            return cors.preflight(request, "POST", origin)
        return cors.readable(self._response(endpoint, path, request), origin)

    def _response(self, endpoint: Endpoint, path: str, request: Request) -> Response:
        try:
            return endpoint.handle(request)
        except OAuthError as error:
            error.report(self._audit, path)
            return responses.refusal(error)


def _path(request: Request) -> str:
    try:
        return urlsplit(request.url).path
    except ValueError:
        return ""  # an invalid host: no path matches
