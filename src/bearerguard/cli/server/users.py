"""`bearerguard user`: the accounts of the users who log in to the authorization server."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bearerguard.cli import output
from bearerguard.cli.help import Application
from bearerguard.cli.prompts import confirm, new_password
from bearerguard.cli.server.server_options import Store, opened
from bearerguard.errors import NothingRevoked
from bearerguard.server.login.accounts import Account
from bearerguard.server.tokens.personal_tokens import PersonalToken

app: typer.Typer = Application(help="Add, list, disable and delete users.")

Login = Annotated[str, typer.Argument(help="The user's login name.")]


@app.command()
def add(
    login: Login,
    name: Annotated[
        str, typer.Option(help="The name that pages show; the login name by default.")
    ] = "",
    *,
    store: Store,
    json: output.Json = False,
) -> None:
    """Add a user; the password is prompted for, or read from standard input."""
    with output.endings(json=json), opened(store, create=True) as server:
        _show(server.users.add(login, new_password(), name=name), as_json=json)


@app.command("list")
def list_all(*, store: Store, json: output.Json = False) -> None:
    """List the users."""
    with output.endings(json=json), opened(store) as server:
        found = [_values(account) for account in server.users.all()]
    if json:
        output.as_json(found)
        return
    output.table(
        ["login", "name", "user id", "since", "disabled"],
        [list(each.values()) for each in found],
        "There are no users: `bearerguard user add NAME` adds one.",
    )


@app.command("set-password")
def set_password(login: Login, *, store: Store, json: output.Json = False) -> None:
    """Set a new password and end the user's sessions; tokens stay valid."""
    with output.endings(json=json), opened(store) as server:
        _show(server.users.set_password(login, new_password()), as_json=json)


@app.command()
def disable(login: Login, *, store: Store, json: output.Json = False) -> None:
    """Disable a user; the user's sessions end, and the tokens are revoked."""
    with output.endings(json=json), opened(store) as server:
        _show(server.disable_user(login), as_json=json)


@app.command()
def delete(
    login: Login,
    *,
    store: Store,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: output.Json = False,
) -> None:
    """Delete a user's account; the sessions, the consent and the tokens end."""
    with output.endings(json=json), opened(store) as server:
        account = server.users.get(login)
        if not yes:
            confirm(f"Delete the user {account.login} for good?")
        server.delete_user(login)
    if json:
        output.as_json({**_values(account), "deleted": True})
    else:
        output.say(f"The user {account.login} is deleted.")


@app.command()
def enable(login: Login, *, store: Store, json: output.Json = False) -> None:
    """Enable a disabled user."""
    with output.endings(json=json), opened(store) as server:
        _show(server.users.enable(login), as_json=json)


@app.command()
def link(
    login: Login,
    *,
    issuer: Annotated[
        str, typer.Option(help="Where the user signs in, such as https://github.com.")
    ],
    subject: Annotated[
        str, typer.Option(help="The user's identifier there: `sub`, or GitHub's user number.")
    ],
    store: Store,
    json: output.Json = False,
) -> None:
    """Let a user sign in at another issuer: link the account to an identity there."""
    with output.endings(json=json), opened(store) as server:
        _show(server.users.link(login, issuer=issuer, subject=subject), as_json=json)


@app.command()
def unlink(
    login: Login,
    *,
    issuer: Annotated[str, typer.Option(help="Where the user signs in.")],
    store: Store,
    json: output.Json = False,
) -> None:
    """Let a user no longer sign in at another issuer; the user's sessions end."""
    with output.endings(json=json), opened(store) as server:
        removed = server.users.unlink(login, issuer=issuer)
        _show(server.users.get(login), as_json=json)
    if not removed and not json:
        typer.echo(f"The account was not linked to {issuer}.", err=True)


@app.command()
def tokens(
    login: Login,
    end: Annotated[
        list[str] | None,
        typer.Option("--end", help="The id of a token that ends; repeatable."),
    ] = None,
    *,
    store: Store,
    json: output.Json = False,
) -> None:
    """List the personal access tokens of a user, or end some of them."""
    with output.endings(json=json), opened(store) as server:
        user_id = server.users.get(login).user_id
        for token_id in end or ():
            if not server.personal_tokens.end(token_id, user_id=user_id):
                raise NothingRevoked(f"the user has no personal token {token_id!r}")
        found = [_token(each) for each in server.personal_tokens.list(user_id)]
    if json:
        output.as_json(found)
        return
    output.table(
        ["id", "name", "made by", "scopes", "resource", "made", "expires", "last used"],
        [list(each.values()) for each in found],
        "The user has no personal tokens.",
    )


def _token(token: PersonalToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "client_id": token.client_id,
        "scopes": list(token.scopes),
        "resource": token.resource,
        "created_at": output.moment(token.created_at),
        "expires_at": output.moment(token.expires_at),
        "last_used_at": output.moment(token.last_used_at),
    }


def _values(account: Account) -> dict[str, Any]:
    return {
        "login": account.login,
        "name": account.name,
        "user_id": account.user_id,
        "created_at": output.moment(account.created_at),
        "disabled_at": output.moment(account.disabled_at),
    }


def _show(account: Account, *, as_json: bool) -> None:
    if as_json:
        output.as_json(_values(account))
    else:
        output.fields(_values(account))
