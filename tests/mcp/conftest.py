"""The servers that these tests call, each started once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bearerguard import Guard, scopes
from bearerguard.mcp import protect
from bearerguard.testing import LocalIssuer
from tests import uvicorn_thread
from tests.mcp import apps

OPTIONS: dict[str, Any] = {
    "require": scopes("read"),
    "tools": {"delete_*": scopes("write"), "aufnahme_löschen": scopes("write")},
    "resources": {"recordings://private/*": scopes("private")},
    "prompts": {"summarize": scopes("prompts")},
}
MAKERS: dict[str, Callable[[], Any]] = {
    "sdk": lambda: apps.sdk_server().streamable_http_app(),
    "sdk without sessions": lambda: apps.sdk_server().streamable_http_app(
        stateless_http=True, json_response=True
    ),
    "fastmcp": lambda: apps.fastmcp_server().http_app(),
}


@pytest.fixture(scope="package")
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


@pytest.fixture(scope="package")
def guard(issuer: LocalIssuer) -> Iterator[Guard]:
    with issuer.guard() as guard:
        yield guard


@pytest.fixture(scope="package", params=MAKERS)
def url(request: pytest.FixtureRequest, guard: Guard) -> Iterator[str]:
    """Return the endpoint of a protected server, of each kind."""
    app = protect(MAKERS[request.param](), guard=guard, **OPTIONS)
    with uvicorn_thread.running(app, lifespan="on") as origin:
        yield f"{origin}/mcp"


@pytest.fixture(scope="package", params=["sdk", "fastmcp"])
def stateful_url(request: pytest.FixtureRequest, guard: Guard) -> Iterator[str]:
    app = protect(MAKERS[request.param](), guard=guard, **OPTIONS)
    with uvicorn_thread.running(app, lifespan="on") as origin:
        yield f"{origin}/mcp"
