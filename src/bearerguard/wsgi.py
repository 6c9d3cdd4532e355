"""The WSGI adapter: translates the environ for the guard, and its decisions back (PEP 3333).

Decides nothing; imports no framework. The app's iterable is returned as it is, so that
streaming, `close()` and `wsgi.file_wrapper` stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from types import MethodType
from typing import Any, TypeAlias

from bearerguard.guard.decision import Allow, Deny, Pending, Unavailable
from bearerguard.guard.events import Place
from bearerguard.guard.token_cache import SUFFIX
from bearerguard.middleware.adapter import Adapter
from bearerguard.middleware.admission import RequestInfo
from bearerguard.middleware.expiry_headers import ResponseHeaders, TokenHeaders
from bearerguard.principal import ANONYMOUS

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

__all__ = ["BearerMiddleware", "Environ", "StartResponse", "WSGIApp", "request_info"]


class BearerMiddleware(Adapter[WSGIApp]):
    """Authenticates every request of a WSGI app.

    Sets `environ["bearerguard.principal"]` to the `Principal`, and
    `environ["bearerguard.admission"]` to its `Admission`, for decorators.
    """

    __slots__ = ("_response_headers", "_warm")

    def _prepare(self) -> None:
        self._response_headers = ResponseHeaders(self.guard, encode=str, name=str)
        self._warm = (
            self.app,
            self.admission,
            self.admission.has_exceptions,
            self.admission.requirement,
            self.guard.recent,
            self.guard.clock,
            None if self._response_headers.is_empty else _completing(self._response_headers),
        )

    # As in asgi.py: a warm request runs this function alone, as another call or attribute would add
    # much to its cost.
    def __call__(  # noqa: C901 - see above
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Handle a request as a WSGI app."""
        app, admission, has_exceptions, requirement, recent, clock, complete = self._warm
        environ["bearerguard.admission"] = admission
        is_optional = False
        if has_exceptions:
            path, raw_path = _paths(environ)
            if admission.excludes(path, raw_path) or (
                admission.passes_preflights and is_preflight(environ)
            ):
                environ["bearerguard.principal"] = ANONYMOUS
                return app(environ, start_response)
            is_optional = admission.is_optional(path, raw_path)
        authorization = environ.get("HTTP_AUTHORIZATION")
        known = None
        if authorization is not None:
            known = recent.get(authorization[SUFFIX])
            if (
                known is None
                or known.authorization != authorization
                or not known.since <= clock() < known.until
            ):
                known = self.guard.cached(authorization)
        if known is not None and (requirement is None or requirement.met_by(known.principal)):
            principal, token_headers = known.principal, known.token_headers
        else:
            fields = () if authorization is None else (_octets(authorization),)
            place = partial(self._place, environ)
            decision = self.guard.decide_now(fields, requirement, optional=is_optional, place=place)
            if isinstance(decision, Pending):
                decision = self.guard.run(decision.flow)
            if not isinstance(decision, Allow):
                environ["bearerguard.principal"] = ANONYMOUS
                return self.refuse(environ, start_response, decision)
            principal, known = decision.principal, decision.kept
            token_headers = None if known is None else known.token_headers
        environ["bearerguard.principal"] = principal
        has_origin = "HTTP_ORIGIN" in environ
        if has_origin or is_optional:
            start_response = _adding_to_lists(
                start_response, self._response_headers, has_origin=has_origin, optional=is_optional
            )
        if complete is not None:
            if token_headers is None:
                token_headers = self._response_headers.of_token(principal)
                if known is not None:
                    known.token_headers = token_headers
            # Making a bound method takes half the time of making a closure.
            start_response = MethodType(complete, (start_response, token_headers))
        return app(environ, start_response)

    def describe(self, environ: Environ) -> RequestInfo:
        """Describe a request that is refused; a framework that knows its route overrides it."""
        return request_info(environ)

    def _place(self, environ: Environ) -> Place:
        return self.admission.place(self.describe(environ))

    def refuse(
        self, environ: Environ, start_response: StartResponse, decision: Deny | Unavailable
    ) -> Iterable[bytes]:
        """Refuse a request; override it to refuse in another way."""
        response = self.admission.refusal(decision, request_info(environ))
        status = f"{response.status} {HTTPStatus(response.status).phrase}"
        start_response(status, list(response.headers))
        return [response.body]


def _completing(
    response_headers: ResponseHeaders[str],
) -> Callable[..., Callable[[bytes], object]]:
    """Return a function that starts a response, with the token's headers added."""
    complete = response_headers.complete

    def start_complete(
        response: tuple[StartResponse, TokenHeaders[str]],
        status: str,
        headers: list[tuple[str, str]],
        exc_info: Any = None,
    ) -> Callable[[bytes], object]:
        start_response, token_headers = response
        headers = complete(token_headers, headers)
        if exc_info is None:
            return start_response(status, headers)
        return start_response(status, headers, exc_info)

    return start_complete


def _adding_to_lists(
    start_response: StartResponse,
    response_headers: ResponseHeaders[str],
    *,
    has_origin: bool,
    optional: bool,
) -> StartResponse:
    def start_complete(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        headers = [*headers]
        response_headers.add_to_lists(headers, has_origin=has_origin, optional=optional)
        if exc_info is None:
            return start_response(status, headers)
        return start_response(status, headers, exc_info)

    return start_complete


def request_info(environ: Environ) -> RequestInfo:
    """Describe the request of `environ`."""
    path, raw_path = _paths(environ)
    return RequestInfo(
        environ["REQUEST_METHOD"],
        path,
        raw_path,
        whole_path=_whole_path(environ),
        has_origin="HTTP_ORIGIN" in environ,
        is_preflight=is_preflight(environ),
        header=partial(header, environ),
    )


def header(environ: Environ, wanted: str) -> str | None:
    """Return the value of a header field by its lower-case name, None for none."""
    value: str | None = environ.get("HTTP_" + wanted.upper().replace("-", "_"))
    return value


def _whole_path(environ: Environ) -> str:
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return _octets(path).decode("utf-8", "replace")


def _paths(environ: Environ) -> tuple[str, str]:
    """Return the path below the mount, and the raw path where the server reports it."""
    path = _octets(environ.get("PATH_INFO", "")).decode("utf-8", "replace")
    raw_path = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    # In whatever form the request target is: a host in it can only make a path ambiguous.
    return path or "/", raw_path.partition("?")[0]


def is_preflight(environ: Environ) -> bool:
    """Whether it is a CORS preflight (Fetch, §3.2.2): without credentials."""
    return (
        environ["REQUEST_METHOD"] == "OPTIONS"
        and "HTTP_ORIGIN" in environ
        and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ
        and "HTTP_AUTHORIZATION" not in environ
    )


def _octets(text: str) -> bytes:
    # PEP 3333: each character is one octet. A text with others matches no credentials or path.
    return text.encode("latin-1", "replace")
