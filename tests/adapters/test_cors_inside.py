"""CORS middleware inside the guard is reported when the app is made."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask_cors import CORS
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from bearerguard import Guard, asgi, wsgi
from bearerguard.testing import LocalIssuer


async def nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    raise AssertionError("a refused request came through")


def starlette(*middleware: Any) -> Any:
    return Starlette(middleware=[Middleware(each) for each in middleware])


class Litestar:
    """As an app whose CORS is a setting."""

    def __init__(self, cors_config: object = None) -> None:
        self.cors_config = cors_config

    def __call__(self, *_: Any) -> Any:
        """Be an app."""


class Unlucky:
    """An app that wraps itself, and whose name is no text."""

    def __init__(self) -> None:
        self.__qualname__ = 3
        self.app = self
        self.after_request_funcs = self.user_middleware = "none"

    def __call__(self, *_: Any) -> Any:
        """Be an app."""


class Slotted:
    """An app without attributes."""

    __slots__ = ()

    def __call__(self, *_: Any) -> Any:
        """Be an app."""


def flask_app(*, cors: bool) -> Any:
    app = Flask("inner")
    if cors:
        CORS(app)
    return ProxyFix(app.wsgi_app)


def guarded(app: Any) -> Any:
    """Return an app that has a guard of its own."""
    return asgi.BearerMiddleware(app, guard=LocalIssuer().guard(), pass_preflights=True)


def cors_by_hand(app: Any) -> Any:
    def with_cors(scope: Any, receive: Any, send: Any) -> Any:
        return app(scope, receive, send)

    return with_cors


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: starlette(CORSMiddleware), "CORSMiddleware"),
        (lambda: starlette(GZipMiddleware, CORSMiddleware), "CORSMiddleware"),
        (lambda: GZipMiddleware(CORSMiddleware(nothing)), "CORSMiddleware"),
        (lambda: cors_by_hand(nothing), "with_cors"),
        (lambda: Litestar(object()), "cors_config"),
        (lambda: flask_app(cors=True), "cors_after_request"),
        (lambda: starlette(GZipMiddleware), None),
        (Litestar, None),
        (Unlucky, None),
        (Slotted, None),
        (lambda: flask_app(cors=False), None),
        (lambda: guarded(CORSMiddleware(nothing)), "CORSMiddleware"),
    ],
)
def test_cors_middleware_inside_is_reported_with_the_remedy(
    make: Callable[[], Any], named: str | None, guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    for middleware in (asgi.BearerMiddleware, wsgi.BearerMiddleware):
        app: Any = make()
        caplog.clear()
        middleware(app, guard=guard, pass_preflights=True)
        assert caplog.records == []
        middleware(app, guard=guard)
        reported = [(each.levelno, each.getMessage()) for each in caplog.records]
        if named is None:
            assert reported == []
        else:
            ((level, line),) = reported
            assert level == logging.WARNING
            assert line.startswith(f"{named} lies inside the guard")
            assert line.endswith("put the CORS middleware outside, or pass_preflights=True")
