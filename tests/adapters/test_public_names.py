"""The public names of the adapters and of the framework modules: a change of them is deliberate."""

from __future__ import annotations

import importlib
import inspect

import pytest

from bearerguard import asgi, starlette, wsgi

NAMES = {
    "asgi": "REFUSAL ASGIApp BearerMiddleware Message Receive RequestState ResourceMetadata"
    " Scope Send issue_ticket raw_headers reauthenticate received_request request_info"
    " send_response sending_refusals",
    "wsgi": "BearerMiddleware Environ ResourceMetadata StartResponse WSGIApp received_request"
    " request_info",
    "starlette": "BearerMiddleware require require_scopes",
    "fastapi": "BearerMiddleware BearerSecurity",
    "flask": "BearerGuard current_principal require require_scopes",
    "litestar": "BearerMiddleware BearerPlugin RouteGuard provide_principal require require_scopes",
    "quart": "BearerGuard current_principal require require_scopes",
    "middleware": "Adapter Admission AdmissionOptions Admitted RequestInfo ResponseHeaders"
    " RouteDecorators TokenHeaders check_routes check_takes",
}


@pytest.mark.parametrize("module", NAMES)
def test_a_module_has_these_public_names(module: str) -> None:
    assert importlib.import_module(f"bearerguard.{module}").__all__ == NAMES[module].split()


@pytest.mark.parametrize("middleware", [asgi, wsgi, starlette])
def test_the_middlewares_take_the_same_arguments(middleware: object) -> None:
    parameters = inspect.signature(middleware.BearerMiddleware).parameters  # type: ignore[attr-defined]
    assert list(parameters) == [
        "app",
        "guard",
        "require",
        "optional",
        "exclude",
        "pass_preflights",
    ]
