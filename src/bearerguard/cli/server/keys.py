"""`bearerguard keys`: the signing keys of the authorization server."""

from __future__ import annotations

from typing import Annotated

import typer

from bearerguard.cli import output
from bearerguard.cli.help import Application
from bearerguard.cli.server.server_options import Store, opened

app: typer.Typer = Application(help="List, rotate and withdraw signing keys.")


@app.command("list")
def list_all(*, store: Store, json: output.Json = False) -> None:
    """List the keys in the order in which they sign; private keys are never shown."""
    with output.endings(json=json), opened(store) as server:
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
        "There is no key: the server makes one when it starts.",
    )


@app.command()
def rotate(
    *,
    store: Store,
    immediately: Annotated[
        bool,
        typer.Option(help="Sign with it at once, though caches of the JWKS may not have it yet."),
    ] = False,
    json: output.Json = False,
) -> None:
    """Make a new key: published now; signs when every cache of the JWKS has it."""
    # Not create=True: a mistyped store would be created, with a key that no server uses.
    with output.endings(json=json), opened(store) as server:
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
    """Withdraw a key that leaked: it leaves the JWKS, and tokens that it signed are refused.

    The server, guards in its process and guards that follow its revocations refuse these tokens
    at once. Guards that have only the JWKS refuse them after their next refresh. If the key was
    the one in use, a new one signs from now on.
    """
    with output.endings(json=json), opened(store) as server:
        signing = server.keys.withdraw(kid)
    if json:
        output.as_json({"withdrawn": kid, "signing": signing})
    else:
        output.say(f"The key {kid} is withdrawn; the key {signing} signs.")
