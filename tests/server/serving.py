"""Running the server as real processes, and speaking HTTP to it."""

from __future__ import annotations

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

from bearerguard.protocol import pkce
from bearerguard.server import AuthorizationServer, Registered
from tests.processes import Program, free_port, program
from tests.server.harness import CALLBACK, SCOPES, SECRET, VERIFIER
from tests.server.stores import Store, sqlite_store

ROOT = Path(__file__).parents[2]
UVICORN = ("uvicorn", "tests.server.served:app", "--no-access-log", "--port", "{port}")
GUNICORN = ("gunicorn", "tests.server.served:wsgi", "--threads", "8", "-b", "127.0.0.1:{port}")


@dataclass
class Served:
    """A running server, and this process's own hold on its store."""

    url: str
    program: Program
    server: AuthorizationServer
    store: Store

    def add(self, name: str = "App", **options: Any) -> Registered:
        given: dict[str, Any] = {"redirect_uris": [CALLBACK], "scopes": list(SCOPES)}
        if not options.get("public"):
            given["require_consent"] = False
        return self.server.clients.add(name, **(given | options))

    def token(self, client: Registered, **fields: str) -> httpx2.Response:
        credentials = {"client_id": client.client_id, "client_secret": client.client_secret}
        return httpx2.post(f"{self.url}/oauth/token", data=credentials | fields, timeout=60)

    def code(self, client: Registered, user: str = "ada") -> str:
        response = httpx2.get(
            f"{self.url}/oauth/authorize",
            params={
                "client_id": client.client_id,
                "redirect_uri": CALLBACK,
                "response_type": "code",
                "scope": "read write",
                "code_challenge": pkce.challenge(VERIFIER),
                "code_challenge_method": "S256",
            },
            headers={"cookie": f"user={user}"},
            timeout=60,
        )
        assert response.status_code == 303, response.text
        return parse_qs(urlsplit(response.headers["location"]).query)["code"][0]

    def redeem(self, client: Registered, code: str) -> httpx2.Response:
        return self.token(
            client,
            grant_type="authorization_code",
            code=code,
            redirect_uri=CALLBACK,
            code_verifier=VERIFIER,
        )


@contextmanager
def served(
    folder: Path,
    command: Sequence[str] = UVICORN,
    store: Store | None = None,
    *,
    path: str = "",
    **environ: str,
) -> Generator[Served]:
    """Run a server with `command`, whose `{port}` is filled in; by default, on SQLite."""
    port = free_port()
    url = f"http://127.0.0.1:{port}{path}"
    store = store or sqlite_store(folder)
    variables = {
        "ISSUER": url,
        "STORE": store.url,
        "BEARERGUARD_SERVER_SECRET": SECRET,
        "PYTHONPATH": str(ROOT),
    }
    arguments = [part.format(port=port) for part in command]
    with program(
        [sys.executable, "-m", *arguments], cwd=ROOT, environ=variables | environ
    ) as running:
        running.wait_for_port(port)
        server = AuthorizationServer(url, store=store.url, secret=SECRET, scopes=SCOPES)
        try:
            yield Served(url, running, server, store)
        finally:
            server.close()
