"""`bearerguard revoke`: ends tokens before their time."""

from __future__ import annotations

from typing import Annotated

import typer

from bearerguard.cli import output
from bearerguard.cli.prompts import piped
from bearerguard.cli.server_options import Json, Store, opened
from bearerguard.errors import ConfigurationError


def revoke(
    *,
    store: Store,
    user: Annotated[
        str | None, typer.Option(help="All that this user allowed, by login name.")
    ] = None,
    client: Annotated[
        str | None, typer.Option(help="With --user: only what was allowed to this client.")
    ] = None,
    grant: Annotated[
        str | None, typer.Option(help="A grant with all its tokens, by its id.")
    ] = None,
    token: Annotated[
        bool, typer.Option("--token", help="A token, read from standard input.")
    ] = False,
    issuer: Annotated[
        str | None,
        typer.Option(
            envvar="BEARERGUARD_SERVER_ISSUER",
            help="With --token: the server's URL, to recognise its JWTs.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Revoke what a user allowed, a grant, or a token."""
    with output.endings():
        if sum((user is not None, grant is not None, token)) != 1:
            raise ConfigurationError("revoke: choose one of --user, --grant and --token")
        with opened(store, issuer) as server:
            if user is not None:
                count = server.revoke_user(login=user, client_id=client)
            elif grant is not None:
                count = int(server.revoke_grant(grant))
            else:
                count = int(server.revoke_token(piped("a token")))
    if json:
        output.as_json({"revoked": count})
    else:
        output.say(f"Revoked: {count}.")
