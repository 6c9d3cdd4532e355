"""The conformance table through Django: its WSGI handler, and its ASGI handler."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.django_project import project

# isort: split
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.urls import re_path

from tests.conformance.drivers import Call, Protected, Received, Sent, through_asgi, through_wsgi
from tests.conformance.scenario import Scenario
from tests.conformance.test_table import IDS, TABLE


@contextmanager
def serving(protected: Protected) -> Generator[None]:
    def view(request: Any) -> HttpResponse:
        response = HttpResponse(request.principal.identity, content_type="text/plain")
        for name, value in protected.app_headers:
            response[name] = value
        if request.method == "HEAD":  # a server sends no content
            response.content = b""
        return response

    options = {name.upper(): value for name, value in protected.options.items()}
    with project(re_path("", view), guard=protected.guard, **options):
        yield


def call_sync(protected: Protected, request: Sent) -> Received:
    with serving(protected):
        return through_wsgi(WSGIHandler(), request)


def call_async(protected: Protected, request: Sent) -> Received:
    with serving(protected):
        received = through_asgi(ASGIHandler(), request)
    # Django leaves names in their usual case, and servers send them in lower case.
    return replace(
        received, headers=tuple((name.lower(), value) for name, value in received.headers)
    )


@pytest.mark.parametrize("call", [call_sync, call_async])
@pytest.mark.parametrize("scenario", TABLE, ids=IDS)
def test_django_responds_as_the_adapters_do(scenario: Scenario, call: Call) -> None:
    scenario.run(call)
