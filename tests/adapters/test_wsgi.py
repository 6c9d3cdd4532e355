"""What is particular to WSGI."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.test import Client, EnvironBuilder

from bearerguard import ANONYMOUS, Guard
from bearerguard.testing import LocalIssuer
from bearerguard.wsgi import BearerMiddleware


def environ(token: str | None = None, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = EnvironBuilder(path="/x").get_environ()
    if token is not None:
        given["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return {**given, **more}


class Body:
    """A streaming body that can be closed."""

    closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b"a"
        yield b"b"

    def close(self) -> None:
        self.closed = True


def test_the_apps_iterable_is_closed_as_before(issuer: LocalIssuer, guard: Guard) -> None:
    body = Body()

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return body

    middleware = BearerMiddleware(app, guard=guard)
    client = Client(middleware)
    response = client.get("/", headers={"Authorization": f"Bearer {issuer.token()}"})
    assert (response.data, response.headers["Cache-Control"]) == (b"ab", "private")
    response.close()
    assert body.closed


@pytest.mark.parametrize("silent", [True, False])
def test_an_app_may_pass_headers_as_an_iterator_and_exc_info_by_name(
    issuer: LocalIssuer, guard: Guard, *, silent: bool
) -> None:
    trouble = (ValueError, ValueError(), None)
    calls: list[Any] = []

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", iter([("X-One", "1")]))
        start_response("500 X", iter([("Set-Cookie", "a=b"), ("X", "y")]), exc_info=trouble)
        return []

    if silent:
        guard = issuer.guard(expiry_headers=None, cache_control=None)
    given = environ(issuer.token(), HTTP_ORIGIN="https://app.example")

    def start_response(*arguments: Any) -> Any:
        calls.append(arguments)

    BearerMiddleware(app, guard=guard)(given, start_response)
    (_, first), (status, second, exc_info) = calls
    assert first[0] == ("X-One", "1")
    assert (status, second[:2]) == ("500 X", [("Set-Cookie", "a=b"), ("X", "y")])
    assert exc_info is trouble


def test_start_response_keeps_its_exc_info_and_its_write(issuer: LocalIssuer, guard: Guard) -> None:
    calls: list[Any] = []
    written: list[bytes] = []

    def start_response(*arguments: Any) -> Any:
        calls.append(arguments)
        return written.append

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        try:
            raise LookupError  # noqa: TRY301 - an app that fails half-way
        except LookupError:
            start_response("500 Oops", [("X-Name", "J\xfcrgen")], sys.exc_info())(b"chunk")
        return []

    BearerMiddleware(app, guard=guard)(environ(issuer.token()), start_response)
    assert [len(call) for call in calls] == [2, 3]
    assert calls[1][2][0] is LookupError
    assert dict(calls[1][1])["X-Name"] == "J\xfcrgen"
    assert written == [b"chunk"]


@pytest.mark.parametrize(
    ("more", "passes"),
    [
        ({"SCRIPT_NAME": "/api", "PATH_INFO": "/health"}, True),
        ({"PATH_INFO": "/api/health"}, False),
        ({"PATH_INFO": "/health", "REQUEST_URI": "/health?x=%2f"}, True),
        ({"PATH_INFO": "/static/a/b", "REQUEST_URI": "/static/a%2fb"}, False),
        ({"PATH_INFO": "/static/a/b", "RAW_URI": "/static/a%2fb"}, False),
        ({"PATH_INFO": "/static/\u00c3\u00a4"}, True),
        ({"PATH_INFO": "/static/\u20ac"}, True),
        ({"PATH_INFO": ""}, False),
        ({"PATH_INFO": "/static/a", "RAW_URI": "http://api.test/static/a"}, True),
        ({"PATH_INFO": "/static/x", "RAW_URI": "http://api.test/static/%2e%2e/x"}, False),
        ({"PATH_INFO": "/health", "RAW_URI": "http://[bad/health"}, True),
    ],
)
def test_only_paths_below_the_mount_are_excluded(
    more: dict[str, Any], passes: bool, guard: Guard
) -> None:
    seen: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        seen.append(environ["bearerguard.principal"])
        start_response("200 OK", [])
        return []

    middleware = BearerMiddleware(app, guard=guard, exclude=("/health", "/static/*"))
    given = {"RAW_URI": "", "REQUEST_URI": "", **more}
    middleware(environ(**given), lambda *_: print)
    assert seen == ([ANONYMOUS] if passes else [])


def test_credentials_outside_latin_1_are_400(guard: Guard) -> None:
    statuses: list[str] = []
    middleware = BearerMiddleware(lambda *_: [], guard=guard)
    given = environ(HTTP_AUTHORIZATION="Bearer \u20ac")
    middleware(given, lambda status, _headers: statuses.append(status))  # type: ignore[arg-type, return-value]
    assert statuses == ["400 Bad Request"]


def test_an_anonymous_response_gets_only_vary(guard: Guard) -> None:
    started: list[Any] = []

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("X", "y")])
        return []

    middleware = BearerMiddleware(app, guard=guard, optional=("/x",))

    def start_response(*arguments: Any) -> Any:
        started.append(arguments)
        return print

    middleware(environ(), start_response)
    assert started == [("200 OK", [("X", "y"), ("Vary", "Authorization")])]


def test_the_middleware_is_a_class(issuer: LocalIssuer, guard: Guard) -> None:
    """It can be annotated, subclassed, and refuse in another way."""

    class Teapot(BearerMiddleware):
        def refuse(self, environ: Any, start_response: Any, decision: Any) -> Any:
            start_response("418 I'm a teapot", [])
            return []

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return []

    middleware: BearerMiddleware = Teapot(app, guard=guard)
    assert (middleware.app, middleware.guard) == (app, guard)
    client = Client(middleware)
    assert client.get("/").status_code == 418
    headers = {"Authorization": f"Bearer {issuer.token()}"}
    assert client.get("/", headers=headers).status_code == 200
