"""The options by which commands find the server: its store above all.

Each has an environment variable, so that commands and the server itself agree. The secret has
no option: it comes from `BEARERGUARD_SERVER_SECRET`, or the development file beside the store.
"""

from __future__ import annotations

from typing import Annotated

import typer

from bearerguard.errors import ConfigurationError
from bearerguard.server.administration import Administration

Store = Annotated[
    str,
    typer.Option(
        envvar="BEARERGUARD_SERVER_STORE",
        help="The server's database, such as sqlite:///auth.db.",
        show_default=False,
    ),
]
Issuer = Annotated[
    str,
    typer.Option(
        envvar="BEARERGUARD_SERVER_ISSUER",
        help="The server's URL, as its tokens have it in `iss`.",
        show_default=False,
    ),
]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        envvar="BEARERGUARD_SERVER_SCOPES",
        help='A scope and what it means: "read=See your recordings"; repeatable.',
    ),
]
Resources = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        envvar="BEARERGUARD_SERVER_RESOURCES",
        help="The URI of an API that tokens are for; the issuer's if absent; repeatable.",
    ),
]


def opened(store: str, issuer: str | None = None) -> Administration:
    """Open the server of a store, to administer it."""
    return Administration(store, issuer=issuer)


def described(scopes: list[str] | None) -> dict[str, str] | None:
    """Return scopes with their descriptions."""
    if not scopes:
        return None
    pairs = [each.partition("=") for each in scopes]
    if not all(name and text for name, _, text in pairs):
        raise ConfigurationError('--scope: give name and description: "read=See your recordings"')
    return {name.strip(): text.strip() for name, _, text in pairs}
