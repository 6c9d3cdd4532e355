"""The issuer, the servers and what the tests say to them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.peers.processes import free_port, program

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"


class OidcProvider:
    """A running oidc-provider."""

    def __init__(self, url: str) -> None:
        self.url = url

    def token(self, algorithm: str = "RS256", scope: str = "read") -> str:
        answer = httpx2.post(
            f"{self.url}/token",
            auth=("caller", "caller-secret"),
            data={
                "grant_type": "client_credentials",
                "resource": f"urn:api:{algorithm}",
                "scope": scope,
            },
        )
        token: str = answer.raise_for_status().json()["access_token"]
        return token

    def rotate(self, *, keep: bool) -> None:
        httpx2.post(f"{self.url}/test/rotate", params={"keep": int(keep)}).raise_for_status()

    def outage(self, *, on: bool) -> None:
        httpx2.post(f"{self.url}/test/outage", params={"on": int(on)}).raise_for_status()

    def delay(self, milliseconds: int) -> None:
        httpx2.post(f"{self.url}/test/delay", params={"ms": milliseconds}).raise_for_status()

    @property
    def hits(self) -> int:
        """How often its JWKS was asked for."""
        counted: int = httpx2.get(f"{self.url}/test/hits").json().get("/jwks", 0)
        return counted


@contextmanager
def oidc_provider(**environ: str) -> Generator[OidcProvider]:
    if shutil.which("node") is None or not (HERE / "node_modules").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    with program(["node", "oidc_provider.mjs"], cwd=HERE, environ=environ) as running:
        yield OidcProvider(running.wait_for_line(r"^READY (\S+)"))


@pytest.fixture
def issuer() -> Generator[OidcProvider]:
    """A fresh issuer, whose keys, hits and outages are this test's own."""
    with oidc_provider() as provider:
        yield provider


_PYTHON = [sys.executable, "-m"]
_COMMANDS: dict[str, tuple[str, Callable[[int], list[str]]]] = {
    "uvicorn": (
        "starlette_app",
        lambda port: ["uvicorn", "app:app", "--port", str(port), "--log-level", "warning"],
    ),
    "hypercorn": (
        "starlette_app",
        lambda port: ["hypercorn", "app:app", "--bind", f"127.0.0.1:{port}"],
    ),
    "granian": (
        "starlette_app",
        lambda port: ["granian", "app:app", "--interface", "asgi", "--port", str(port)],
    ),
    "gunicorn": (
        "flask_app",
        lambda port: [
            *("gunicorn", "app:app", "--bind", f"127.0.0.1:{port}", "--preload"),
            *("--workers", "2", "--threads", "8"),
        ],
    ),
    "waitress": (
        "flask_app",
        lambda port: ["waitress", f"--listen=127.0.0.1:{port}", "--threads=16", "app:app"],
    ),
    "flask": ("flask_app", lambda port: ["flask", "run", "--port", str(port)]),
}
SERVERS = list(_COMMANDS)


@contextmanager
def serving(server: str, issuer_url: str, audience: str) -> Generator[str]:
    """Serve the example that fits the server; gives its URL."""
    example, command = _COMMANDS[server]
    port = free_port()
    environ = {
        f"{prefix}BEARERGUARD_{name}": value
        for prefix in ("", "FLASK_")
        for name, value in (("ISSUER", issuer_url), ("AUDIENCE", audience))
    }
    with program([*_PYTHON, *command(port)], cwd=EXAMPLES / example, environ=environ) as running:
        running.wait_for_port(port)
        yield f"http://127.0.0.1:{port}"


def bearer(token: str, **more: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **more}
