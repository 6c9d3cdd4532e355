"""Quart behind hypercorn and Litestar behind uvicorn: requests, websockets and refusals."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from bearerguard.testing import LocalIssuer
from tests.adapters.tokens import bearer
from tests.processes import free_port, program

AUDIENCE = "https://api.example.com"
COMMANDS = {
    "quart_app on hypercorn": "hypercorn quart_app:app --bind 127.0.0.1:{port}",
    "litestar_app on uvicorn": "uvicorn litestar_app:app --port {port} --log-level warning",
    "litestar_app on hypercorn": "hypercorn litestar_app:app --bind 127.0.0.1:{port}",
    "quart_app on uvicorn": "uvicorn quart_app:app --port {port} --log-level warning",
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[LocalIssuer]:
    issuer = LocalIssuer(audience=AUDIENCE, algorithm="ES256")
    with issuer.serve():
        yield issuer


@pytest.fixture(scope="module", params=COMMANDS)
def url(request: pytest.FixtureRequest, issuer: LocalIssuer) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", *COMMANDS[request.param].format(port=port).split()]
    environ = {"BEARERGUARD_ISSUER": issuer.url, "BEARERGUARD_AUDIENCE": AUDIENCE}
    with program(command, cwd=Path(__file__).parent, environ=environ) as running:
        running.wait_for_port(port)
        yield f"http://127.0.0.1:{port}"


def test_requests_pass_and_are_refused_in_full(url: str, issuer: LocalIssuer) -> None:
    with httpx2.Client(base_url=url) as client:
        who = client.get("/who", headers=bearer(issuer, subject="ada"))
        assert (who.status_code, "ada" in who.text) == (200, True)
        assert 3500 < int(who.headers["access-token-expires-in"]) <= 3600
        assert client.get("/health").text == "well"
        missing = client.get("/who")
        assert missing.status_code == 401
        assert missing.headers["www-authenticate"].startswith('Bearer realm="api"')
        assert missing.headers["cache-control"] == "no-store"
        weak = client.post("/recordings", headers=bearer(issuer, "read"))
        assert weak.status_code == 403
        assert 'scope="write"' in weak.headers["www-authenticate"]
        added = client.post("/recordings", headers=bearer(issuer, "write"))
        assert added.status_code == 201
        head = client.head("/who")
        assert head.status_code in {401, 405}  # Litestar has no HEAD of its own
        assert head.content == b""


def test_a_websocket_passes_and_is_refused_by_http(url: str, issuer: LocalIssuer) -> None:
    address = url.replace("http", "ws") + "/echo"
    sent = bearer(issuer, "write", subject="ada")
    with connect(address, additional_headers=sent) as socket:
        assert socket.recv() == "ada"
        socket.send("hello")
        assert socket.recv() == "hello"
    for headers, status, challenge in (
        ({}, 401, 'Bearer realm="api"'),
        (bearer(issuer, "read"), 403, 'scope="write"'),
    ):
        with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers=headers):
            pass
        assert refused.value.response.status_code == status
        assert challenge in refused.value.response.headers["WWW-Authenticate"]
