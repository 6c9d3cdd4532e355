"""The server in front of a WSGI app: serves its own paths and passes other requests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any, TypeAlias

from bearerguard.protocol.http.certificate_header import CertificateSource
from bearerguard.protocol.http.certificates import of_connection
from bearerguard.protocol.http.proxies import Proxies, environ_peer
from bearerguard.runtime.bodies import wsgi_body
from bearerguard.runtime.messages import ClientCertificate, Request, Response
from bearerguard.server.engine import Engine
from bearerguard.server.http.parameters import MAX_BYTES

Environ: TypeAlias = dict[str, Any]
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
WSGIApp: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]

# Header fields that PEP 3333 has without the prefix.
_UNPREFIXED = {"CONTENT_TYPE": b"content-type", "CONTENT_LENGTH": b"content-length"}


class WsgiHost:
    """A WSGI app around another. Made by `AuthorizationServer.wsgi_app`."""

    def __init__(
        self,
        engine: Engine,
        api: WSGIApp | None,
        proxies: Proxies,
        certificates: CertificateSource | None,
    ) -> None:
        self._certificates = certificates
        self._engine = engine
        self._proxies = proxies
        self.api: WSGIApp = api or self._alone

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Respond, or pass the request on."""
        root, below = _decoded(environ, "SCRIPT_NAME"), _decoded(environ, "PATH_INFO")
        path = self._engine.served_path(root, root.rstrip("/") + below)
        if path is None:
            return self.api(environ, start_response)
        body = wsgi_body(environ, MAX_BYTES)
        if body is None:
            refusal = self._engine.too_large(path, environ["REQUEST_METHOD"])
            return _start(environ, start_response, refusal)
        query = environ.get("QUERY_STRING", "")
        headers = _headers(environ)
        forwarded_for = [value for name, value in headers if name == b"x-forwarded-for"]
        certificate, problem = self._certificate(environ)
        request = Request(
            environ["REQUEST_METHOD"],
            f"{path}?{query}" if query else path,
            headers,
            body,
            peer=self._proxies.client(environ.get("REMOTE_ADDR", ""), forwarded_for),
            certificate=certificate,
            certificate_problem=problem,
        )
        return _start(environ, start_response, self._engine.handle(request))

    def _alone(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """The app behind a server that stands alone."""
        root, below = _decoded(environ, "SCRIPT_NAME"), _decoded(environ, "PATH_INFO")
        method, accept = environ["REQUEST_METHOD"], environ.get("HTTP_ACCEPT", "")
        response = self._engine.alone(root, root.rstrip("/") + below, method, accept)
        return _start(environ, start_response, response)

    def _certificate(self, environ: Environ) -> tuple[ClientCertificate | None, str]:
        """Return the certificate of the TLS client, or None and what is wrong with it."""
        if self._certificates is None:
            return None, ""

        def values(name: str) -> list[bytes]:
            field: str | None = environ.get("HTTP_" + name.upper().replace("-", "_"))
            return [] if field is None else [field.encode("latin-1", "replace")]

        return self._certificates.look(
            partial(of_connection, environ), partial(environ_peer, environ), values
        )


def _decoded(environ: Environ, name: str) -> str:
    octets: bytes = environ.get(name, "").encode("latin-1", "replace")
    return octets.decode("utf-8", "replace")


def _headers(environ: Environ) -> list[tuple[bytes, bytes]]:
    headers: list[tuple[bytes, bytes]] = []
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            field = name[5:].replace("_", "-").lower().encode("latin-1", "replace")
            headers.append((field, value.encode("latin-1", "replace")))
        elif name in _UNPREFIXED and value:
            headers.append((_UNPREFIXED[name], value.encode("latin-1", "replace")))
    return headers


def _start(environ: Environ, start_response: StartResponse, response: Response) -> Iterable[bytes]:
    headers = list(response.headers)
    if response.status != HTTPStatus.NO_CONTENT and response.header("content-length") is None:
        headers.append(("Content-Length", str(len(response.body))))
    start_response(f"{response.status} {HTTPStatus(response.status).phrase}", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]
