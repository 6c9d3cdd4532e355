"""The MCP server of the examples: what it tells a client that knows its URL, and a step-up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2

from tests.examples.servers import EXAMPLES
from tests.mcp.calls import LEGACY, MODERN, McpClient, structured
from tests.processes import free_port, program

COMMAND = [sys.executable, "-c", "from bearerguard.cli import main; main()"]
METADATA = "/.well-known/oauth-protected-resource/mcp"


def token(url: str, client: dict[str, str], scope: str) -> str:
    fields = {name: client[name] for name in ("client_id", "client_secret")}
    form = {"grant_type": "client_credentials", "scope": scope, "resource": f"{url}/mcp", **fields}
    response = httpx2.post(f"{url}/oauth/token", data=form)
    granted: str = response.raise_for_status().json()["access_token"]
    return granted


def test_the_mcp_server_says_where_to_log_in_and_what_each_tool_needs(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    environ = {
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{tmp_path}/auth.db",
        "BEARERGUARD_SERVER_SECRET": "a secret of this test's own that is long enough",
        "BEARERGUARD_SERVER_ISSUER": url,
    }
    added = subprocess.run(
        [*COMMAND, "client", "add", "Notes", "--scope", "read", "--scope", "write", "--json"],
        env={"PATH": "/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    client: dict[str, Any] = json.loads(added.stdout)
    port = url.rpartition(":")[2]
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", port]
    with program(command, cwd=EXAMPLES / "mcp_server", environ=environ) as running:
        running.wait_for_port(int(port))
        challenge = httpx2.post(f"{url}/mcp").headers["www-authenticate"]
        assert f'resource_metadata="{url}{METADATA}"' in challenge
        resource = httpx2.get(f"{url}{METADATA}").json()
        assert (resource["resource"], resource["authorization_servers"]) == (f"{url}/mcp", [url])
        found = httpx2.get(f"{url}/.well-known/oauth-authorization-server").json()
        assert found["client_id_metadata_document_supported"] is True
        registered = httpx2.post(
            found["registration_endpoint"],
            json={"redirect_uris": ["http://127.0.0.1/callback"], "client_name": "Agent"},
        )
        assert registered.status_code == 201
        for revision in (MODERN, LEGACY):
            reader = McpClient(f"{url}/mcp", token(url, client, "read"), revision)
            writer = McpClient(f"{url}/mcp", token(url, client, "write"), revision)
            if revision == LEGACY:
                reader.open()
                writer.open()
            titles = structured(reader.call("list_recordings"))
            refused = reader.call("delete_recording", title=titles[0])
            assert refused.status_code == 403
            assert 'scope="read write"' in refused.headers["www-authenticate"]
            said = structured(writer.call("delete_recording", title=titles[0]))
            assert said == f"{titles[0]} was deleted for {client['client_id']}"
        assert "Traceback" not in running.output
