"""Calling a WSGI app as a server does, without the server: a fresh environ for each request."""

from __future__ import annotations

import io
from itertools import repeat
from typing import Any

from benchmarks.floor import OTHER_HEADERS
from benchmarks.peers import PeerError
from benchmarks.peers.asgi import PATH
from benchmarks.peers.wsgi import WSGIApp
from benchmarks.rounds import Case
from benchmarks.token_issuer import altered

_TEMPLATE: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": PATH,
    "RAW_URI": PATH,
    "QUERY_STRING": "",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.input": io.BytesIO(),
    "wsgi.errors": io.StringIO(),
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
    **{
        f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode()
        for name, value in OTHER_HEADERS
    },
}


def environ(token: str) -> dict[str, Any]:
    """Return what a server makes of a request: a new one, the token too."""
    return {**_TEMPLATE, "HTTP_AUTHORIZATION": "Bearer " + token}


def _write(_octets: bytes) -> None:
    return


def _start_response(_status: str, _headers: Any, _exc_info: Any = None) -> Any:
    return _write


def case(app: WSGIApp, token: str) -> Case:
    """Return requests with this token, their bodies read and closed, as a case."""

    def run(count: int) -> None:
        for _ in repeat(None, count):
            body = app(environ(token), _start_response)
            for _ in body:
                pass
            close = getattr(body, "close", None)
            if close is not None:
                close()

    return Case(run)


def respond(app: WSGIApp, token: str) -> dict[str, str]:
    """Return the headers of one response, and its status as `:status`."""
    response: dict[str, str] = {}

    def start_response(status: str, headers: Any, _exc_info: Any = None) -> Any:
        response.update((name.lower(), value) for name, value in headers)
        response[":status"] = status[:3]
        return _write

    body = app(environ(token), start_response)
    for _ in body:
        pass
    close = getattr(body, "close", None)
    if close is not None:
        close()
    return response


def check(name: str, app: WSGIApp, token: str) -> dict[str, str]:
    """Raise unless the token passes and an altered one does not; return the good response."""
    good, bad = respond(app, token), respond(app, altered(token))
    if good[":status"] != "200" or bad[":status"][:1] != "4":
        raise PeerError(f"{name} responds {good[':status']} and {bad[':status']}")
    return good
