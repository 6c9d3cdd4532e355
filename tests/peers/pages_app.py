"""A server of its own for the browser: one user and three apps; started by uvicorn."""

from __future__ import annotations

import os

from bearerguard.server import AuthorizationServer

server = AuthorizationServer(
    os.environ["ORIGIN"],
    store=os.environ["STORE"],
    secret="a secret of this test's own, long enough",
    scopes={"read": "See your recordings and their titles", "write": "Add recordings"},
)
server.users.add("ada", "correct horse battery", name="Ada Lovelace")
for client_id, redirect_uri, public in (
    ("notes", "http://127.0.0.1/callback", True),
    ("web", "https://web.example.com/callback", False),
    ("native", "com.example.app:/cb", True),
):
    server.clients.add(
        "Field Notes",
        client_id=client_id,
        public=public,
        redirect_uris=[redirect_uri],
        scopes=["read", "write"],
    )
server.clients.add(
    "Living room",
    client_id="screen",
    public=True,
    grant_types=["device_code", "refresh_token"],
    scopes=["read", "write"],
)
app = server.asgi_app()
