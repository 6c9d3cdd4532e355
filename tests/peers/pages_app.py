"""A server of its own for the browser: one user and some apps; started by uvicorn.

With a `LOGO`, the pages are branded. With an `UPSTREAM`, the URL of an issuer that cannot be
reached, users can sign in there, too.
"""

from __future__ import annotations

import os

from bearerguard.server import (
    AuthorizationServer,
    Colors,
    GitHubLogin,
    PeopleOptions,
    Scope,
    UpstreamLogin,
)

# As long as a name may be, and more than a screen of scopes.
NAME = "Field Notes of Ornithologists, Sound Engineers and All Others"
NAME += " Who Record Birds Outdoors at Night !!!"
MANY = {f"shelf-{number}": f"See shelf {number} of your archive" for number in range(1, 38)}


def people() -> PeopleOptions | None:
    if "LOGO" in os.environ:
        return PeopleOptions(
            site_name="Field Recordings",
            logo=os.environ["LOGO"],
            colors=Colors(accent="#0b6e4f", background="#f3f1ec", background_dark="#000000"),
        )
    if "UPSTREAM" in os.environ:
        return PeopleOptions(
            upstreams=[
                UpstreamLogin(
                    os.environ["UPSTREAM"],
                    client_id="x",
                    client_secret="only for tests",
                    name="Wetlands Ornithological Society",
                    domains=["example.com"],
                ),
                GitHubLogin(client_id="x", client_secret="only for tests", organizations=["birds"]),
            ]
        )
    return None


server = AuthorizationServer(
    os.environ["ORIGIN"],
    store=os.environ["STORE"],
    secret="a secret of this test's own, long enough",
    people=people(),
    scopes={
        "read": "See your recordings and their titles",
        "write": "Add recordings",
        "delete": Scope("Delete recordings for good", powerful=True),
        "openid": "openid",
        **MANY,
    },
)
server.users.add("ada", "correct horse battery", name="Ada Lovelace")
for client_id, name, redirect_uri, public in (
    ("notes", "Field Notes", "http://127.0.0.1/callback", True),
    ("web", "Field Notes", "https://web.example.com/callback", False),
    ("native", "Field Notes", "com.example.app:/cb", True),
    ("many", NAME, "https://many.example.com/callback", False),
):
    server.clients.add(
        name,
        client_id=client_id,
        public=public,
        redirect_uris=[redirect_uri],
        scopes=list(server.settings.scopes or ()),
    )
for client_id, name, scopes in (
    ("screen", "Living room", ["read", "write"]),
    ("wall", NAME, ["read", "write", "delete", *list(MANY)[:17]]),
):
    server.clients.add(
        name,
        client_id=client_id,
        public=True,
        grant_types=["device_code", "refresh_token"],
        scopes=scopes,
    )
app = server.asgi_app()
