"""FastAPI by real servers: websockets are refused before they open, misuse before the start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from bearerguard.testing import LocalIssuer
from tests.peers.conftest import HERE
from tests.processes import free_port, program

AUDIENCE = "https://api.example.com"
ROOT = HERE.parent.parent
SERVERS = {
    "uvicorn with websockets": ["uvicorn", "--ws", "websockets", "--port"],
    "uvicorn with wsproto": ["uvicorn", "--ws", "wsproto", "--port"],
    "hypercorn": ["hypercorn", "--bind"],
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    issuer = LocalIssuer(audience=AUDIENCE, algorithm="ES256")
    with issuer.serve():
        yield issuer


@pytest.fixture(params=SERVERS)
def address(request: pytest.FixtureRequest, issuer: LocalIssuer) -> Iterator[str]:
    port = free_port()
    command = [*SERVERS[request.param], f"127.0.0.1:{port}"]
    if command[0] == "uvicorn":
        command[-1] = str(port)
    environ = {"BEARERGUARD_ISSUER": issuer.url, "BEARERGUARD_AUDIENCE": AUDIENCE}
    example = ROOT / "examples" / "fastapi_app"
    with program(
        [sys.executable, "-m", *command, "app:app"], cwd=example, environ=environ
    ) as running:
        running.wait_for_port(port)
        yield f"127.0.0.1:{port}"


def test_a_websocket_opens_for_a_good_token_only(address: str, issuer: LocalIssuer) -> None:
    url = f"ws://{address}/api/v1/live"
    good = {"Authorization": f"Bearer {issuer.token(scopes=['read'], subject='ada')}"}
    with connect(url, additional_headers=good) as socket:
        assert socket.recv(5) == "Dawn chorus, for ada"
    weak = {"Authorization": f"Bearer {issuer.token()}"}
    for headers, status in (({}, 401), (weak, 403)):
        with pytest.raises(InvalidStatus) as refused, connect(url, additional_headers=headers):
            pass
        response = refused.value.response
        assert response.status_code == status
        assert 'scope="read"' in response.headers["WWW-Authenticate"]
        assert response.headers["Cache-Control"] == "no-store"


def test_a_request_is_refused_in_full(address: str, issuer: LocalIssuer) -> None:
    response = httpx2.get(f"http://{address}/api/v1/recordings")
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith('Bearer realm="api", scope="read", ')
    described = httpx2.get(f"http://{address}/openapi.json").json()
    assert {"401", "403", "503"} <= set(
        described["paths"]["/api/v1/recordings"]["get"]["responses"]
    )


@pytest.mark.parametrize("around", ["middleware", "nothing"])
@pytest.mark.parametrize("server", ["uvicorn", "hypercorn"])
def test_a_server_does_not_start_an_app_with_a_route_that_cannot_work(
    server: str, around: str
) -> None:
    option = ["--port", str(free_port())]
    if server == "hypercorn":
        option = ["--bind", f"127.0.0.1:{free_port()}"]
    done = subprocess.run(
        [sys.executable, "-m", server, *option, "tests.peers.fastapi_misused:app"],
        cwd=ROOT,
        env={**os.environ, "AROUND": around},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if server == "uvicorn":  # hypercorn ends with 0
        assert done.returncode != 0
    assert "Security(scopes='read'): pass a list of scopes: ['read']" in done.stderr + done.stdout
