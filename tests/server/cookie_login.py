"""An app's own login, of servers that run as processes: the cookie `user` says who is signed in."""

from __future__ import annotations

from bearerguard import Request
from bearerguard.server import User


def current_user(request: Request) -> User | None:
    for line in request.values(b"cookie"):
        for pair in line.decode().split("; "):
            name, _, value = pair.partition("=")
            if name == "user":
                return User(value, value.title())
    return None
