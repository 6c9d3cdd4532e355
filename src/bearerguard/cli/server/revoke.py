"""`bearerguard revoke`: revokes tokens and grants."""

from __future__ import annotations

from typing import Annotated

import typer

from bearerguard.cli import output
from bearerguard.cli.prompts import piped
from bearerguard.cli.server.server_options import Store, opened
from bearerguard.errors import ConfigurationError, NothingRevoked


def revoke(
    *,
    store: Store,
    user: Annotated[str | None, typer.Option(help="All grants of a user, by login name.")] = None,
    user_id: Annotated[
        str | None, typer.Option(help="All grants of a user, by id (the `sub` of tokens).")
    ] = None,
    client: Annotated[
        str | None,
        typer.Option(help="With --user or --user-id: only the grants to this client."),
    ] = None,
    grant: Annotated[str | None, typer.Option(help="One grant with all its tokens, by id.")] = None,
    token: Annotated[
        bool, typer.Option("--token", help="One token, read from standard input.")
    ] = False,
    issuer: Annotated[
        str | None,
        typer.Option(
            envvar="BEARERGUARD_SERVER_ISSUER",
            help="With --token: refuse JWTs of another issuer.",
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """Revoke the grants of a user, one grant, or one token."""
    with output.endings(json=json):
        if sum((user is not None, user_id is not None, grant is not None, token)) != 1:
            raise ConfigurationError("revoke: choose one of --user, --user-id, --grant and --token")
        given = piped("a token") if token else ""
        with opened(store, issuer) as server:
            if token:
                count = _required(server.revoke(given), "this is not a token of this server")
            elif grant is not None:
                count = _required(server.revoke_grant(grant), "there is no such grant")
            else:
                count = server.revoke_user(login=user, user_id=user_id, client_id=client)
    if json:
        output.as_json({"revoked": count})
    elif count:
        output.say(f"Revoked: {count}.")
    else:
        output.say("The user had no active grants.")


def _required(revoked: bool, otherwise: str) -> int:  # noqa: FBT001 - what a call returned
    if not revoked:
        raise NothingRevoked(f"nothing was revoked: {otherwise}, or it has ended already")
    return 1
