"""`bearerguard grants`: what clients may do for users at the moment."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bearerguard.cli import output
from bearerguard.cli.help import Application
from bearerguard.cli.server.server_options import Store, opened
from bearerguard.errors import ConfigurationError, NothingRevoked
from bearerguard.server.account.access import Access, GrantedAccess

app: typer.Typer = Application(help="List and revoke what users have allowed clients.")

User = Annotated[str | None, typer.Option(help="Those of a user, by login name.")]
UserId = Annotated[str | None, typer.Option(help="Those of a user, by id (the `sub` of tokens).")]

# The arguments of Python, and what sets them here.
_OPTIONS = {
    "user_id=": "--user-id",
    "login=": "--user",
    "after=": "--after",
    "limit=": "--limit",
}


@app.command("list")
def list_some(
    *,
    store: Store,
    user: User = None,
    user_id: UserId = None,
    client: Annotated[str | None, typer.Option(help="Those to a client, by its id.")] = None,
    limit: Annotated[int, typer.Option(help="How many at most.")] = 100,
    after: Annotated[
        str | None, typer.Option(help="Continue a list: what the command before has printed.")
    ] = None,
    json: output.Json = False,
) -> None:
    """List the grants that are valid, the newest first."""
    with output.endings(json=json), opened(store) as server, output.naming(_OPTIONS):
        page = server.access.page(
            login=user, user_id=user_id, client_id=client, after=after, limit=limit
        )
    if json:
        output.as_json({"grants": list(map(_values, page.grants)), "after": page.after})
        return
    shown = ("grant_id", "client_id", "client_name", "user_id", "scopes", "since", "last_used")
    found = list(map(_values, page.grants))
    output.table(
        [name.replace("_", " ") for name in shown],
        [[each[name] for name in shown] for each in found],
        "There are no grants.",
    )
    if page.after is not None:
        output.note(f"There are more: --after {page.after}")


@app.command()
def revoke(
    grants: Annotated[
        list[str] | None, typer.Argument(metavar="[GRANT]", help="The ids of the grants.")
    ] = None,
    *,
    store: Store,
    user: User = None,
    user_id: UserId = None,
    client: Annotated[
        str | None,
        typer.Option(help="Those to a client, by its id: of one user, or else of all users."),
    ] = None,
    json: output.Json = False,
) -> None:
    """Revoke grants with all their tokens, and forget the consent.

    The personal access tokens that a client made by a grant end with it; with --user alone, all
    of the user's. With --client alone, the tokens end, too, that the client has for itself. It
    stays registered. Of several grants it revokes all that are valid; it fails if there are others.
    """
    done: dict[str, Any] = {}
    with output.endings(json=json, beside=done):
        by_user = user is not None or user_id is not None
        if bool(grants) == (by_user or client is not None) or (user and user_id):
            raise ConfigurationError(
                "grants revoke: name the grants, or choose one of --user and --user-id, or --client"
            )
        with opened(store) as server:
            if grants:
                count = _revoked(server.access, grants, done, json=json)
            elif by_user:
                count = server.revoke_user(login=user, user_id=user_id, client_id=client)
            else:
                count = server.access.revoke_client(str(client))
    if json:
        output.as_json({"revoked": count})
    else:
        output.say(f"Revoked: {count}." if count else "There were no valid grants.")


def _revoked(access: Access, grants: list[str], done: dict[str, Any], *, json: bool) -> int:
    """Revoke grants by their ids; raise `NothingRevoked`, with all ids that are of no valid one."""
    revoked = access.revoke(*grants)
    done["revoked"] = len(revoked)
    missing = [each for each in dict.fromkeys(grants) if each not in revoked]
    if missing:
        done["missing"] = missing
        if revoked and not json:
            output.say(f"Revoked: {len(revoked)}.")
        raise NothingRevoked(f"not revoked, because no such grant is valid: {', '.join(missing)}")
    return len(revoked)


def _values(grant: GrantedAccess) -> dict[str, Any]:
    return {
        "grant_id": grant.grant_id,
        "client_id": grant.client_id,
        "client_name": grant.client_name,
        "user_id": grant.user_id,
        "scopes": list(grant.scopes),
        "resources": list(grant.resources),
        "since": output.moment(grant.created_at),
        "last_used": output.moment(grant.last_used_at),
        "until": output.moment(grant.expires_at),
    }
