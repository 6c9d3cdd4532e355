"""What a client that knows the URL alone is told: where the metadata is, and what it says."""

from __future__ import annotations

from typing import Any

import fastmcp
import httpx2
import pytest

from bearerguard import Guard, scopes
from bearerguard.mcp import GuardTokenVerifier, protect
from bearerguard.testing import LocalIssuer
from tests import uvicorn_thread
from tests.mcp import apps
from tests.mcp.calls import client, structured
from tests.processes import free_port

METADATA = "/.well-known/oauth-protected-resource"


def sdk(guard: Guard) -> Any:
    app = apps.sdk_server().streamable_http_app()
    return protect(
        app, guard=guard, require=scopes("read"), tools={"delete_recording": scopes("write")}
    )


def fastmcp_app(guard: Guard) -> Any:
    app = apps.fastmcp_server().http_app()
    return protect(
        app, guard=guard, require=scopes("read"), tools={"delete_recording": scopes("write")}
    )


def fastmcp_auth(guard: Guard) -> Any:
    auth = GuardTokenVerifier(guard, required_scopes=["read"])
    return fastmcp.FastMCP[Any]("recordings", auth=auth).http_app()


@pytest.mark.parametrize("make", [sdk, fastmcp_app, fastmcp_auth])
def test_PRM_03_challenges_name_the_metadata_which_anybody_may_read(
    issuer: LocalIssuer, make: Any
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    with (
        issuer.guard(resource=url, implies={"admin": ["read", "write"]}) as guard,
        uvicorn_thread.running(make(guard), port, lifespan="on"),
    ):
        nobody = httpx2.post(url)
        assert nobody.status_code == 401
        place = f"http://127.0.0.1:{port}{METADATA}/mcp"
        assert f'resource_metadata="{place}"' in nobody.headers["www-authenticate"]
        assert 'scope="read"' in nobody.headers["www-authenticate"]
        for each in (place, place.removesuffix("/mcp")):
            content = httpx2.get(each).raise_for_status().json()
            assert content["resource"] == url
            assert content["authorization_servers"] == [issuer.url]
        if make is not fastmcp_auth:
            reader = client(url, issuer, "read")
            reader.open()
            refused = reader.call("delete_recording", title="Dawn chorus")
            assert refused.status_code == 403
            assert f'resource_metadata="{place}"' in refused.headers["www-authenticate"]
        admin = client(url, issuer, "admin")  # SCOPE-01: it implies the others
        assert admin.open().status_code == 200


def test_SCOPE_01_a_tool_sees_the_scopes_that_a_scope_implies(issuer: LocalIssuer) -> None:
    with (
        issuer.guard(implies={"admin": ["read", "write"]}) as guard,
        uvicorn_thread.running(sdk(guard), lifespan="on") as origin,
    ):
        admin = client(f"{origin}/mcp", issuer, "admin")
        admin.open()
        assert structured(admin.call("whoami"))["token"]["scopes"] == ["admin", "read", "write"]
        title = "Dawn chorus"
        assert structured(admin.call("delete_recording", title=title)) == f"deleted {title}"
