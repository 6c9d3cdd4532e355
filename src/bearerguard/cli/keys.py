"""`bearerguard keys`: what the server signs tokens with."""

from __future__ import annotations

from typing import Annotated

import typer

from bearerguard.cli import output
from bearerguard.cli.server_options import Store, opened

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="The keys that tokens are signed with."
)


@app.command("list")
def list_all(*, store: Store, json: output.Json = False) -> None:
    """List the keys, in the order in which they sign; private parts are never shown."""
    with output.endings(), opened(store) as server:
        found = [
            {
                "kid": key.kid,
                "algorithm": key.algorithm,
                "signs_from": output.moment(key.active_at),
                "published_until": output.moment(key.retires_at),
            }
            for key in server.keys.all()
        ]
    if json:
        output.as_json(found)
        return
    output.table(
        ["kid", "algorithm", "signs from", "published until"],
        [list(each.values()) for each in found],
        "There is no key yet: the server makes one when it starts.",
    )


@app.command()
def rotate(
    *,
    store: Store,
    immediately: Annotated[
        bool,
        typer.Option(help="Sign with it at once, though caches may not have it yet."),
    ] = False,
    json: output.Json = False,
) -> None:
    """Let a new key take over: published now, signing when no cache lacks it."""
    # A key for a store that nobody serves would be taken for the one that is served.
    with output.endings(), opened(store) as server:
        kid = server.keys.rotate(immediately=immediately)
    if json:
        output.as_json({"kid": kid})
    else:
        output.say(f"The key {kid} is published" + (" and signs." if immediately else "."))


@app.command()
def withdraw(
    kid: Annotated[str, typer.Argument(help="The key, as `keys list` names it.", metavar="KID")],
    *,
    store: Store,
    json: output.Json = False,
) -> None:
    """Withdraw a key that leaked: it is published no longer, and what it signed is refused.

    All that it signed is refused at once by the server, by guards beside it, and by those that
    follow its revocations; guards that have only the JWKS refuse it from their next refresh on.
    Where it was the key in use, a new one signs from now on.
    """
    with output.endings(), opened(store) as server:
        signing = server.keys.withdraw(kid)
    if json:
        output.as_json({"withdrawn": kid, "signing": signing})
    else:
        output.say(f"The key {kid} is withdrawn; the key {signing} signs.")
