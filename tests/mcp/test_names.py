"""A name in `tools`, `resources` or `prompts` that the app lacks is refused at its start."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import anyio
import fastmcp
import pytest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Mount

from bearerguard import ConfigurationError, Guard, scopes
from bearerguard.mcp import protect
from bearerguard.testing import LocalIssuer
from tests.mcp import apps
from tests.mcp.bare import call, message

NEEDED = scopes("write")


def start(app: Any) -> list[dict[str, Any]]:
    """Start and stop an app; return what it tells its server."""
    told: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.shutdown" if told else "lifespan.startup"}

    async def send(message: Any) -> None:
        told.append(message)

    anyio.run(app, {"type": "lifespan", "asgi": {}}, receive, send)
    return told


@pytest.fixture(params=["sdk", "fastmcp"])
def make(request: pytest.FixtureRequest) -> Callable[[], Any]:
    if request.param == "sdk":
        return lambda: apps.sdk_server().streamable_http_app()
    return lambda: apps.fastmcp_server().http_app()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"tools": {"delete_recordin": NEEDED}},
            "tools=: the MCP app has no tool 'delete_recordin': did you mean 'delete_recording'?",
        ),
        ({"tools": {"recordings_*": NEEDED}}, "tools=: the MCP app has no tool 'recordings_*': "),
        ({"prompts": {"x": NEEDED}}, "prompts=: the MCP app has no prompt 'x': correct the name"),
    ],
    ids=str,
)
def test_a_name_that_the_app_lacks_ends_its_start(
    make: Callable[[], Any], guard: Guard, options: Any, said: str
) -> None:
    app = protect(make(), guard=guard, **options)
    told: list[Any] = []

    async def send(message: Any) -> None:
        told.append(message)

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    with pytest.raises(ConfigurationError) as caught:
        anyio.run(app, {"type": "lifespan", "asgi": {}}, receive, send)
    assert str(caught.value).startswith(said)
    assert told == [{"type": "lifespan.startup.failed", "message": str(caught.value)}]


def test_an_app_that_has_every_name_starts(make: Callable[[], Any], guard: Guard) -> None:
    app = protect(
        make(),
        guard=guard,
        tools={"delete_*": NEEDED, "whoami": NEEDED, "*": NEEDED},
        prompts={"summarize": NEEDED, "*": NEEDED},
        resources={"recordings://whatever": NEEDED},  # a template may serve it
    )
    assert [each["type"] for each in start(app)] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


def test_a_resource_is_missing_where_no_template_may_serve_it(guard: Guard) -> None:
    server = fastmcp.FastMCP[Any]("files")
    server.resource("files://one")(lambda: "1")
    start(protect(server.http_app(), guard=guard, resources={"files://one": NEEDED}))
    app = protect(server.http_app(), guard=guard, resources={"files://two": NEEDED})
    with pytest.raises(ConfigurationError, match=r"resources=: .* no resource 'files://two'"):
        start(app)


def test_a_tool_that_fastmcp_hides_from_callers_is_known(guard: Guard) -> None:
    server = fastmcp.FastMCP[Any]("hidden")
    server.tool(lambda: None, name="hidden", auth=lambda _context: False)
    start(protect(server.http_app(), guard=guard, tools={"hidden": NEEDED}))


def test_an_app_may_add_tools_later(make: Callable[[], Any], guard: Guard) -> None:
    start(protect(make(), guard=guard, tools={"later": NEEDED}, check_names=False))


def test_the_server_is_found_within_middleware_and_mounts(guard: Guard) -> None:
    inner: Any = apps.sdk_server().streamable_http_app()
    outer = Starlette(
        routes=[Mount("/a", GZipMiddleware(inner))],
        lifespan=lambda _app: inner.router.lifespan_context(inner),
    )
    with pytest.raises(ConfigurationError, match="no tool 'nothing'"):
        start(protect(outer, guard=guard, tools={"nothing": NEEDED}))


def test_an_app_whose_tools_cannot_be_known_is_not_examined(guard: Guard) -> None:
    from mcp.server.lowlevel import Server

    for app in (Starlette(), Server("low-level").streamable_http_app()):
        start(protect(app, guard=guard, tools={"any": NEEDED}))


def test_an_app_that_cannot_list_its_tools_starts_and_says_so(
    guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    server = apps.sdk_server()

    async def failing() -> Any:
        raise OSError("https://user:secret@elsewhere.test is down")

    server.list_tools = failing  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING, "bearerguard"):
        start(protect(server.streamable_http_app(), guard=guard, tools={"any": NEEDED}))
    (line,) = (each.getMessage() for each in caplog.records if each.name == "bearerguard")
    assert line.endswith("listing them raised OSError")


def test_an_app_that_fails_to_start_fails_as_it_did(guard: Guard) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise RuntimeError("no database")

    with pytest.raises(RuntimeError, match="no database"):
        start(protect(app, guard=guard, tools={"any": NEEDED}))


def test_an_app_that_is_mounted_is_examined_at_its_first_request(
    make: Callable[[], Any], guard: Guard, issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    app = protect(make(), guard=guard, tools={"delete_recordin": NEEDED})
    token = issuer.token()
    for _ in range(2):
        sent = call(app, message("tools/call", name="delete_recordin"), token=token)
        assert sent[0]["status"] == 403
    lines = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert len(lines) == 1
    assert "did you mean 'delete_recording'?" in lines[0]


def test_an_app_that_has_started_is_not_examined_again(
    make: Callable[[], Any], guard: Guard, issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    app = protect(make(), guard=guard, tools={"delete_recording": NEEDED})
    start(app)
    call(app, message("tools/call", name="delete_recording"), token=issuer.token())
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
