"""The client and the authorization server against the conformance suite of MCP.

For a client, the suite runs an MCP server and an authorization server for each scenario, and judges
each request. As a client, it judges the authorization server of the example.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bearerguard.server import AuthorizationServer
from tests.peers import test_agents as agents
from tests.processes import free_port

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
# The suite needs a later Node than a fresh machine has.
NODE = PACKAGES / "node" / "bin" / "node"
SUITE = PACKAGES / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
LATEST = "2026-07-28"

SCENARIOS = [
    "metadata-default",
    "metadata-var1",
    "metadata-var2",
    "metadata-var3",
    "basic-cimd",
    "scope-from-www-authenticate",
    "scope-from-scopes-supported",
    "scope-omitted-when-undefined",
    "scope-step-up",
    "scope-retry-limit",
    "token-endpoint-auth-basic",
    "token-endpoint-auth-post",
    "token-endpoint-auth-none",
    "pre-registration",
    "resource-mismatch",
    "offline-access-scope",
    "offline-access-not-supported",
    "authorization-server-migration",
    "iss-supported",
    "iss-not-advertised",
    "iss-supported-missing",
    "iss-wrong-issuer",
    "iss-unexpected",
    "iss-normalized",
    "metadata-issuer-mismatch",
    "client-credentials-jwt",
    "client-credentials-basic",
    "dpop",
    "dpop-nonce",
    "enterprise-managed-authorization",
    "wif-jwt-bearer",
]


SERVER_SCENARIOS = ["authorization-server-metadata-endpoint", "authorization-code-grant"]


def suite(*arguments: str) -> list[str]:
    """Return the command of the suite."""
    if not (NODE.exists() and SUITE.exists()):
        pytest.skip("the conformance suite is not installed: run `npm install` in tests/peers")
    return [str(NODE), str(SUITE), *arguments]


def judged(scenario: str, version: str) -> str:
    """Run a scenario, and return what the suite printed."""
    result = subprocess.run(
        [
            *suite("client", "--force", "--timeout", "60000"),
            *("--scenario", f"auth/{scenario}", "--spec-version", version),
            *("--command", f"{sys.executable} -m tests.peers.conformance_client"),
        ],
        cwd=HERE.parents[1],
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return result.stdout + result.stderr


@pytest.mark.parametrize(
    ("scenario", "version"),
    [
        *((each, LATEST) for each in SCENARIOS),
        ("2025-03-26-oauth-metadata-backcompat", "2025-03-26"),
        ("scope-step-up", "2025-11-25"),
    ],
)
def test_CL_11_the_suite_finds_no_fault(scenario: str, version: str) -> None:
    printed = judged(scenario, version)
    found = re.search(r"Passed: (\d+)/(\d+), 0 failed, 0 warnings", printed)
    assert found is not None, printed
    assert int(found[1]) > 0
    assert "OVERALL: PASSED" in printed, printed


def test_the_suite_finds_no_fault_in_our_authorization_server(tmp_path: Path) -> None:
    with agents.example(tmp_path) as url:
        issuer = url.removesuffix("/mcp")
        port = free_port()
        server = AuthorizationServer(
            issuer, store=f"sqlite:///{tmp_path}/auth.db", secret=agents.SECRET
        )
        redirect_uri = f"http://127.0.0.1:{port}/callback"
        client = server.clients.add(
            "Suite", public=True, redirect_uris=[redirect_uri], scopes=["read", "write"]
        )
        server.close()
        command = [
            *suite("authorization", "--url", issuer, "--client-id", client.client_id),
            *("--resource", url, "--port", str(port), "--spec-version", LATEST),
        ]
        printed = ""
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    printed += line
                    if line.startswith(f"{issuer}/oauth/authorize?"):
                        agents.Person(tmp_path / "profile").log_in(line.strip())
            finally:
                process.kill()
    assert re.search(r"Total: \d+ passed, 0 failed", printed), printed
    for scenario in SERVER_SCENARIOS:
        assert re.search(rf"{scenario}: [1-9]\d* passed, 0 failed", printed), printed
