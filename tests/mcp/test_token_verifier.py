"""`GuardTokenVerifier` behind the authentication of the MCP SDK and of fastmcp."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import fastmcp
import pytest
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl

from bearerguard import ANONYMOUS, ConfigurationError, Guard, IssuerUnavailable, scopes
from bearerguard.mcp import GuardTokenVerifier, UnavailableMiddleware, get_principal
from bearerguard.testing import LocalIssuer
from tests import uvicorn_thread
from tests.mcp import apps
from tests.mcp.calls import client, structured


def sdk_app(guard: Guard, issuer: LocalIssuer) -> Any:
    server = MCPServer(
        "recordings",
        token_verifier=GuardTokenVerifier(guard),
        auth=AuthSettings(
            issuer_url=AnyHttpUrl(issuer.url),
            resource_server_url=AnyHttpUrl(issuer.audience),
            required_scopes=["read"],
            validate_token_resource=True,
        ),
    )
    server.tool("whoami")(apps.whoami_of_sdk)
    app = server.streamable_http_app()
    app.add_middleware(UnavailableMiddleware, guard=guard)
    return app


def fastmcp_app(guard: Guard, _issuer: LocalIssuer) -> Any:
    auth = GuardTokenVerifier(guard, required_scopes=["read"])
    server = fastmcp.FastMCP[Any]("recordings", auth=auth)
    server.tool(apps.whoami_of_fastmcp, name="whoami")
    return server.http_app()


@pytest.fixture(scope="module", params=[sdk_app, fastmcp_app])
def verified_url(
    request: pytest.FixtureRequest, guard: Guard, issuer: LocalIssuer
) -> Iterator[str]:
    with uvicorn_thread.running(request.param(guard, issuer), lifespan="on") as origin:
        yield f"{origin}/mcp"


def test_a_tool_sees_the_caller(verified_url: str, issuer: LocalIssuer) -> None:
    ada = client(
        verified_url, issuer, "read", subject="ada", claims={"aud": ["x", issuer.audience]}
    )
    ada.open()
    seen = structured(ada.call("whoami"))
    assert seen["token"]["subject"] == "ada"
    assert seen["token"]["client_id"] == "app"
    assert seen["token"]["resource"] == issuer.audience
    assert seen["issuer"] == issuer.url
    assert seen["principal"] == [issuer.url, "ada", "app"]
    assert get_principal() == ANONYMOUS


def test_a_session_is_its_callers_alone(verified_url: str, issuer: LocalIssuer) -> None:
    ada = client(verified_url, issuer, "read", subject="ada")
    ada.open()
    bob = client(verified_url, issuer, "read", subject="bob")
    bob.session = ada.session
    assert bob.call("whoami").status_code == 404


def test_an_invalid_token_is_401_and_a_weak_one_403(verified_url: str, issuer: LocalIssuer) -> None:
    expired = client(verified_url, issuer, "read", expires_in=-60)
    assert expired.open().status_code == 401
    elsewhere = client(verified_url, issuer, "read", claims={"aud": "https://other.test"})
    assert elsewhere.open().status_code == 401
    weak = client(verified_url, issuer, "write").open()
    assert weak.status_code == 403
    assert "insufficient_scope" in weak.headers["www-authenticate"]


def test_an_issuer_that_is_down_is_503_and_not_500(issuer: LocalIssuer) -> None:
    for make in (sdk_app, fastmcp_app):
        with (
            issuer.guard() as cold,
            uvicorn_thread.running(make(cold, issuer), lifespan="on") as origin,
        ):
            issuer.outage = True
            response = client(f"{origin}/mcp", issuer, "read").open()
            issuer.outage = False
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1


def test_a_requirement_of_the_guard_is_refused_at_the_start(issuer: LocalIssuer) -> None:
    guard = issuer.guard(require=scopes("read"))
    with pytest.raises(ConfigurationError, match="required_scopes"):
        GuardTokenVerifier(guard)
    with pytest.raises(ConfigurationError, match="pass a Guard"):
        GuardTokenVerifier("guard")  # type: ignore[arg-type]


def test_without_the_middleware_of_an_outage_the_log_names_it_once(
    issuer: LocalIssuer, caplog: pytest.LogCaptureFixture
) -> None:
    with issuer.guard() as cold:
        verifier = GuardTokenVerifier(cold)
        issuer.outage = True
        for _ in range(2):
            with pytest.raises(IssuerUnavailable):
                anyio.run(verifier.verify_token, issuer.token())
        issuer.outage = False
    lines = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert len(lines) == 1
    assert "app.add_middleware(UnavailableMiddleware, guard=guard)" in lines[0]


def test_a_guard_without_metadata_adds_no_routes_to_fastmcp(issuer: LocalIssuer) -> None:
    auth = GuardTokenVerifier(issuer.guard(resource=False), base_url="https://mcp.test")
    app = fastmcp.FastMCP[Any]("recordings", auth=auth).http_app()
    assert [getattr(route, "path", None) for route in app.routes] == ["/mcp"]


WITHOUT_FASTMCP = """
import asyncio, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "fastmcp":  # as if not installed
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder())
from bearerguard.mcp import GuardTokenVerifier
from bearerguard.testing import LocalIssuer

issuer = LocalIssuer(algorithm="ES256")
verifier = GuardTokenVerifier(issuer.guard())
token = asyncio.run(verifier.verify_token(issuer.token(subject="ada")))
print(type(token).__module__, token.subject)
print(asyncio.run(verifier.verify_token("nothing")))
"""


def test_the_sdk_alone_is_enough() -> None:
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT_FASTMCP],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert said.splitlines() == ["mcp.server.auth.provider ada", "None"]
