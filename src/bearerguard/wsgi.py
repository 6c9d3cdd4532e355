"""The WSGI adapter: translates the environ for the guard, and its decisions back (PEP 3333).

Decides nothing; imports no framework. An iterable that is no list may be long: it is returned as
`Chunks`, which end with the token. A `wsgi.file_wrapper` is returned as it is, for the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from io import BytesIO
from types import MethodType
from typing import Any, TypeAlias

from bearerguard.errors import Reason
from bearerguard.guard.binding.received_request import ReceivedRequest, sent_path
from bearerguard.guard.decision import Allow, Decision, Deny, Pending, Unavailable
from bearerguard.guard.events import Place
from bearerguard.guard.token_cache import SUFFIX
from bearerguard.middleware.adapter import NOT_FOUND, Adapter, MetadataAdapter
from bearerguard.middleware.admission import Admission, RequestInfo
from bearerguard.middleware.chunks import Chunks
from bearerguard.middleware.expiry_headers import ResponseHeaders
from bearerguard.middleware.stream_end import may_look_complete
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol import resource_metadata
from bearerguard.protocol.http.certificate_header import CertificateSource
from bearerguard.protocol.http.credentials import MAX_FIELD_BYTES
from bearerguard.protocol.http.proxies import environ_peer
from bearerguard.runtime.bodies import MAX_BODY_BYTES, wsgi_body
from bearerguard.runtime.messages import Response

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

# The server's `start_response`, the token's headers, and the response's once it has started.
_Response: TypeAlias = list[Any]

__all__ = [
    "BearerMiddleware",
    "Environ",
    "ResourceMetadata",
    "StartResponse",
    "WSGIApp",
    "received_request",
    "request_info",
]


class BearerMiddleware(Adapter[WSGIApp]):
    """Authenticates every request of a WSGI app.

    Sets `environ["bearerguard.principal"]` to the `Principal`, and
    `environ["bearerguard.admission"]` to its `Admission`, for decorators.
    """

    __slots__ = ("_response_headers", "_warm")

    def _prepare(self) -> None:
        self._response_headers = ResponseHeaders(self.guard, encode=str, name=str)
        certificates = self.guard.certificates
        self._warm = (
            # As in asgi.py: the app does not see a header that only a proxy may send.
            self.app
            if certificates is None or certificates.header is None
            else _without_forged(self.app, certificates),
            self.admission,
            self.admission.has_exceptions,
            self.guard.meeting(self.admission.requirement),
            self.guard.recent,
            self.guard.clock,
            None if self._response_headers.is_empty else _completing(self._response_headers),
            self.guard.stream_tokens is not None,
            None if self.guard.published is None else resource_metadata.PATH,
        )

    # As in asgi.py: a warm request runs this function alone, as another call or attribute would add
    # much to its cost.
    def __call__(  # noqa: C901, PLR0912 - see above
        self, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Handle a request as a WSGI app."""
        app, admission, has_exceptions, meets, recent, clock, complete, holds, known_path = (
            self._warm
        )
        if known_path is not None and known_path in environ.get("PATH_INFO", ""):
            metadata = metadata_response(admission, environ)
            if metadata is not None:
                return send_response(start_response, metadata)
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
        if known is not None and (meets is None or meets(known.principal)):
            principal, token_headers = known.principal, known.token_headers
        else:
            fields = () if authorization is None else (_octets(authorization[_READ]),)
            place = partial(self._place, environ)
            decision = self.guard.decide_now(
                fields,
                admission.requirement,
                optional=is_optional,
                place=place,
                request=partial(received_request, environ),
            )
            if isinstance(decision, Pending):
                decision = self.guard.run(decision.flow)
            if isinstance(decision, Allow) and decision.content_digest is not None:
                decision = self._checked_body(environ, decision, place)
            if not isinstance(decision, Allow):
                environ["bearerguard.principal"] = ANONYMOUS
                return self.refuse(environ, start_response, decision)
            principal, known = decision.principal, decision.kept
            token_headers = None if known is None else known.token_headers
            if decision.headers:
                start_response = _adding(start_response, decision.headers)
        environ["bearerguard.principal"] = principal
        has_origin = "HTTP_ORIGIN" in environ
        if has_origin or is_optional:
            start_response = _adding_to_lists(
                start_response, self._response_headers, has_origin=has_origin, optional=is_optional
            )
        sent: _Response | None = None
        if complete is not None:
            if token_headers is None:
                token_headers = self._response_headers.of_token(principal)
                if known is not None:
                    known.token_headers = token_headers
            sent = [start_response, token_headers, ()]
            # Making a bound method takes half the time of making a closure.
            start_response = MethodType(complete, sent)
        if not holds:
            return app(environ, start_response)
        body = app(environ, start_response)
        return body if type(body) is list else self._hold(environ, principal, body, sent)

    def _hold(
        self,
        environ: Environ,
        principal: Principal,
        body: Iterable[bytes],
        response: _Response | None,
    ) -> Iterable[bytes]:
        """Return a body that ends with the token of its request."""
        tokens, wrapper = self.guard.stream_tokens, environ.get("wsgi.file_wrapper")
        if (
            tokens is None
            or not principal.is_authenticated
            or isinstance(body, tuple)
            or (isinstance(wrapper, type) and isinstance(body, wrapper))
        ):
            return body
        fields = [_octets(environ.get("HTTP_AUTHORIZATION", ""))]
        token = partial(self.guard.stream_token, principal, fields)
        return Chunks(body, tokens, token, partial(self._ended, environ, response))

    def _ended(self, environ: Environ, response: _Response | None, reason: Reason) -> bool:
        """Report the end of a stream, and return whether it may look complete."""
        self.admission.report_end(reason, self._place(environ))
        return response is not None and may_look_complete(response[2])

    def describe(self, environ: Environ) -> RequestInfo:
        """Describe a request that is refused; a framework that knows its route overrides it."""
        return request_info(environ)

    def _place(self, environ: Environ) -> Place:
        return self.admission.place(self.describe(environ))

    def _checked_body(self, environ: Environ, allow: Allow, place: Callable[[], Place]) -> Decision:
        """Compare a body with the digest that it must have; the app reads it again then."""
        body = wsgi_body(environ, MAX_BODY_BYTES)
        deny = self.guard.check_body(allow.content_digest or "", body, place=place)
        if deny is not None:
            return deny
        environ["wsgi.input"] = BytesIO(body or b"")
        environ["CONTENT_LENGTH"] = str(len(body or b""))
        return allow

    def refuse(
        self, environ: Environ, start_response: StartResponse, decision: Deny | Unavailable
    ) -> Iterable[bytes]:
        """Refuse a request; override it to refuse in another way."""
        response = self.admission.refusal(decision, request_info(environ))
        return send_response(start_response, response)


class ResourceMetadata(MetadataAdapter[WSGIApp]):
    """Serves the metadata of an API (RFC 9728) at the root of a WSGI app, and passes the rest on.

    `ResourceMetadata(app, guard=guard)` stands outside an app in which the guarded one is mounted.
    """

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request as a WSGI app."""
        if self._published.is_at(_paths(environ)[0], _root(environ)):
            response = self._published.respond(environ["REQUEST_METHOD"], partial(header, environ))
            return send_response(start_response, response)
        if self.app is not None:
            return self.app(environ, start_response)
        return send_response(start_response, NOT_FOUND)


def metadata_response(admission: Admission, environ: Environ) -> Response | None:
    """Return the response to a request for the API's metadata, None for another request."""
    path, _ = _paths(environ)
    method = environ["REQUEST_METHOD"]
    return admission.metadata(method, path, _root(environ), partial(header, environ))


def send_response(start_response: StartResponse, response: Response) -> Iterable[bytes]:
    """Start a response, and return its body."""
    status = f"{response.status} {HTTPStatus(response.status).phrase}"
    start_response(status, list(response.headers))
    return [response.body]


def _without_forged(app: WSGIApp, certificates: CertificateSource) -> WSGIApp:
    """Return an app that sees no certificate that another peer than a proxy has sent."""

    def call(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        certificates.drop_forged(environ)
        return app(environ, start_response)

    return call


def _completing(
    response_headers: ResponseHeaders[str],
) -> Callable[..., Callable[[bytes], object]]:
    """Return a function that starts a response, with the token's headers added."""
    complete = response_headers.complete

    def start_complete(
        response: _Response,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: Any = None,
    ) -> Callable[[bytes], object]:
        start_response: StartResponse = response[0]
        response[2] = headers = complete(response[1], headers)
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


def _adding(start_response: StartResponse, fields: Iterable[tuple[str, str]]) -> StartResponse:
    """Return a `start_response` that adds a nonce, so that no cache may store the response."""
    added = [("Cache-Control", "no-store"), *fields]
    replaced = {name.lower() for name, _ in added}

    def start_added(
        status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], object]:
        headers = [*(each for each in headers if each[0].lower() not in replaced), *added]
        if exc_info is None:
            return start_response(status, headers)
        return start_response(status, headers, exc_info)

    return start_added


def received_request(environ: Environ) -> ReceivedRequest:
    """Return the request of `environ` as the sender of a bound token proves it."""
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    return ReceivedRequest(
        environ["REQUEST_METHOD"],
        sent_path(_whole_path(environ), _root(environ), raw),
        partial(_values, environ),
        environ.get("wsgi.url_scheme", "http"),
        partial(environ_peer, environ),
        environ,
        kept=environ,
    )


def _values(environ: Environ, wanted: str) -> list[bytes]:
    value = header(environ, wanted)
    return [] if value is None else [_octets(value)]


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


def _root(environ: Environ) -> str:
    """Return where the app is mounted."""
    return _decoded(environ.get("SCRIPT_NAME", "")).rstrip("/")


def _whole_path(environ: Environ) -> str:
    return _decoded(environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", ""))


def _paths(environ: Environ) -> tuple[str, str]:
    """Return the path below the mount, and the raw path where the server reports it."""
    path = _decoded(environ.get("PATH_INFO", ""))
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


def _decoded(text: str) -> str:
    return _octets(text).decode("utf-8", "replace")


# Of a longer field, no more than shows its length is copied.
_READ = slice(MAX_FIELD_BYTES + 1)


def _octets(text: str) -> bytes:
    # PEP 3333: each character is one octet. A text with others matches no credentials or path.
    return text.encode("latin-1", "replace")
