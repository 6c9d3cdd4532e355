"""`bearerguard client`: the apps that may ask the server for tokens."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

from bearerguard.cli import output
from bearerguard.cli.server_options import Store, opened
from bearerguard.errors import ConfigurationError
from bearerguard.server.clients.client import Client

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="The apps that may ask for tokens."
)

ClientId = Annotated[str, typer.Argument(help="The client's id.")]
Names = Annotated[list[str] | None, typer.Option()]

_SHOWN_ONCE = "The secret is shown this once: keep it where only the app can read it."


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What people know the app by.")],
    *,
    store: Store,
    client_id: Annotated[str | None, typer.Option("--id", help="Its id; made if absent.")] = None,
    public: Annotated[
        bool, typer.Option("--public", help="An app that cannot keep a secret.")
    ] = False,
    redirect_uri: Annotated[
        list[str] | None, typer.Option(help="Where its users return to; repeatable.")
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="A scope that it may have; repeatable.")
    ] = None,
    grant_type: Annotated[
        list[str] | None, typer.Option(help="A grant; what fits is chosen if absent.")
    ] = None,
    origin: Annotated[
        list[str] | None, typer.Option(help="The origin of its pages, for CORS; repeatable.")
    ] = None,
    serves: Annotated[
        list[str] | None, typer.Option(help="A resource that it may ask about; repeatable.")
    ] = None,
    auth_method: Annotated[
        str | None, typer.Option(help="How it authenticates; client_secret if absent.")
    ] = None,
    jwks: Annotated[
        Path | None, typer.Option(help="A file with its public keys, for private_key_jwt.")
    ] = None,
    require_pkce: Annotated[
        bool, typer.Option("--require-pkce/--unsafe-without-pkce", help="PKCE (RFC 7636).")
    ] = True,
    require_consent: Annotated[
        bool,
        typer.Option("--require-consent/--without-consent", help="Whether people are asked."),
    ] = True,
    access_token_lifetime: Annotated[
        float | None,
        typer.Option(help="Seconds that its access tokens live; the server's if absent."),
    ] = None,
    refresh_token_lifetime: Annotated[
        float | None, typer.Option(help="Seconds that its refresh tokens may idle; likewise.")
    ] = None,
    refresh_token_max_lifetime: Annotated[
        float | None, typer.Option(help="Seconds from a user's consent to the next; likewise.")
    ] = None,
    json: output.Json = False,
) -> None:
    """Register a client; its secret is shown once."""
    with output.endings(), opened(store, create=True) as server:
        registered = server.clients.add(
            name,
            client_id=client_id,
            public=public,
            auth_method=auth_method,
            redirect_uris=redirect_uri or (),
            grant_types=grant_type,
            scopes=scope or (),
            serves=serves or (),
            origins=origin or (),
            require_pkce=require_pkce,
            require_consent=require_consent,
            jwks=None if jwks is None else _keys(jwks),
            access_token_lifetime=access_token_lifetime,
            refresh_token_lifetime=refresh_token_lifetime,
            refresh_token_max_lifetime=refresh_token_max_lifetime,
        )
    values = _values(registered.client)
    if registered.client_secret is not None:
        values = {"client_secret": registered.client_secret, **values}
    _show({"client_id": values.pop("client_id"), **values}, as_json=json)


@app.command("list")
def list_all(*, store: Store, json: output.Json = False) -> None:
    """List the clients."""
    with output.endings(), opened(store) as server:
        found = [_values(client) for client in server.clients.all()]
    if json:
        output.as_json(found)
        return
    shown = ("client_id", "name", "auth_method", "grant_types", "scopes", "redirect_uris")
    output.table(
        [name.replace("_", " ") for name in shown],
        [[each[name] for name in shown] for each in found],
        "There are no clients yet: `bearerguard client add NAME` registers one.",
    )


@app.command("rotate-secret")
def rotate_secret(
    client_id: ClientId,
    *,
    store: Store,
    overlap: Annotated[
        float | None, typer.Option(help="Seconds that the old secret stays valid; a day.")
    ] = None,
    json: output.Json = False,
) -> None:
    """Give a client a new secret, shown once; the old one stays valid for a while."""
    with output.endings(), opened(store) as server:
        secret = server.clients.rotate_secret(client_id, overlap=overlap)
    _show({"client_id": client_id, "client_secret": secret}, as_json=json)


@app.command()
def remove(client_id: ClientId, *, store: Store, json: output.Json = False) -> None:
    """Remove a client with all that it was given."""
    with output.endings(), opened(store) as server:
        server.clients.remove(client_id)
    if json:
        output.as_json({"client_id": client_id, "removed": True})
    else:
        output.say(f"The client {client_id} is removed.")


def _values(client: Client) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "auth_method": client.auth_method,
        "grant_types": client.grant_types,
        "redirect_uris": client.redirect_uris,
        "scopes": client.scopes,
        "origins": client.origins,
        "serves": client.serves,
        "require_pkce": client.require_pkce,
        "require_consent": client.require_consent,
        "access_token_lifetime": client.access_token_lifetime,
        "refresh_token_lifetime": client.refresh_token_lifetime,
        "refresh_token_max_lifetime": client.refresh_token_max_lifetime,
        "created_at": output.moment(client.created_at),
    }


def _show(values: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.as_json(values)
        return
    output.fields(values)
    if "client_secret" in values:
        output.say(_SHOWN_ONCE)


def _keys(path: Path) -> dict[str, Any]:
    try:
        keys = json_text.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--jwks: {path} cannot be read as JSON: {error}") from error
    if not isinstance(keys, dict):
        raise ConfigurationError(f"--jwks: {path} holds no JWK Set")
    return keys
