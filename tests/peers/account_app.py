"""A server for the browser: a user who has allowed apps something; started by uvicorn."""

from __future__ import annotations

import os

from bearerguard.server import AuthorizationServer, Parameters, PersonalTokens, Resource, Scope

server = AuthorizationServer(
    os.environ["ORIGIN"],
    store=os.environ["STORE"],
    secret="a secret of this test's own, long enough",
    scopes={
        "read": "See your recordings and their titles",
        "write": "Add recordings",
        "x": "x",
        "delete": Scope("Delete recordings for good", powerful=True),
    },
    resources=[os.environ["ORIGIN"], Resource("https://maps.example.com")],
    personal_tokens=PersonalTokens(),
)
user_id = server.users.add("ada", "correct horse battery", name="Ada Lovelace").user_id
for name in (
    "Field Notes",
    "<b>Evil</b> & Co",
    "יומן שדה",
    "Averyveryveryveryverylongapplicationnamewithoutanyspacesinit",
    *(f"App {number:03}" for number in range(196)),
):
    added = server.clients.add(
        name,
        redirect_uris=[f"https://a-host-of-{'many-words-' * 4}.example.com/callback"],
        scopes=["read", "write", "x"],
    )
    for _ in range(2 if name == "Field Notes" else 1):
        server.tokens.issue(
            added.client, Parameters({"grant_type": "x"}), subject=user_id, refreshable=True
        )
app = server.asgi_app()
