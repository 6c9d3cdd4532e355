"""Our authorization server for the docs of a FastAPI app; served by uvicorn, or around the app."""

from __future__ import annotations

import os

from bearerguard.server import AuthorizationServer

API = os.environ["API"]
server = AuthorizationServer(
    os.environ["ISSUER"],
    store=os.environ["STORE"],
    secret="a secret of this test's own, long enough",
    scopes={"read": "See your recordings"},
    resources=[API],
)
server.users.add("ada", "correct horse battery", name="Ada Lovelace")
server.clients.add(
    "Recordings API",
    client_id="swagger",
    public=True,
    redirect_uris=[f"{API}/docs/oauth2-redirect"],
    origins=[API],
    scopes=["read"],
)
app = server.asgi_app()
