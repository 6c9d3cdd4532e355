"""A server with accounts of its own in front of an API, which says in which process it runs."""

from __future__ import annotations

import os
from typing import Any

import argon2

from bearerguard import Guard
from bearerguard.server import AuthorizationServer, PeopleOptions, SigningKeys
from bearerguard.wsgi import BearerMiddleware

server = AuthorizationServer(
    os.environ["ISSUER"],
    store=os.environ["STORE"],
    scopes={"read": "Read your recordings", "write": "Change your recordings"},
    people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST),
    signing=SigningKeys(algorithm="ES256"),
)


def api(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


wsgi = server.wsgi_app(BearerMiddleware(api, guard=Guard(server.issuer())))
