"""`bearerguard client`: the clients of the authorization server.

The flags of `client add` and the columns of a listing are derived from the options of a client.
"""

from __future__ import annotations

import json as json_text
from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from bearerguard.cli import output
from bearerguard.cli.help import Application
from bearerguard.cli.server.server_options import Store, opened
from bearerguard.errors import ConfigurationError
from bearerguard.server.clients.client import Client, Kind, options

app: typer.Typer = Application(help="Register, list, edit and remove clients.")

ClientId = Annotated[str, typer.Argument(help="The client's id.")]

_SHOWN_ONCE = "The secret is shown only once: store it where only the client can read it."


# The type of a flag for each kind of option. A JSON object is read from a file.
_TYPES: dict[Kind, Any] = {
    Kind.TEXT: str | None,
    Kind.NAMES: list[str] | None,
    Kind.FLAG: bool,
    Kind.SECONDS: float | None,
    Kind.JSON: Path | None,
}
_METAVARS = {Kind.SECONDS: "SECONDS", Kind.JSON: "FILE"}
# The flag of each option, as an error about the option names it.
_OPTIONS = {f"{name}=": each.flag.partition("/")[0] for name, each in options().items()}


def with_client_options(
    command: Callable[..., None], cls: type[Client] = Client, *, edits: bool = False
) -> Callable[..., None]:
    """Add a flag to a command for each of a client's options; values are passed by keyword.

    With `edits`, an option whose flag is not given is None.
    """
    own = [
        each
        for each in signature(command, eval_str=True).parameters.values()
        if each.kind is not Parameter.VAR_KEYWORD
    ]
    flags = [
        Parameter(
            name,
            Parameter.KEYWORD_ONLY,
            default=each.default if each.kind is Kind.FLAG and not edits else None,
            annotation=Annotated[
                _TYPES[each.kind] | None,
                typer.Option(
                    each.flag,
                    help=each.help,
                    show_default=False,
                    metavar=_METAVARS.get(each.kind),
                ),
            ],
        )
        for name, each in options(cls).items()
    ]
    parameters = [*own, *flags]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    return command


@app.command()
@with_client_options
def add(
    name: Annotated[str, typer.Argument(help="The name that users know the client by.")],
    *,
    store: Store,
    client_id: Annotated[
        str | None, typer.Option("--id", help="The client's id; a random one by default.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="The client cannot keep a secret (RFC 6749 §2.1).")
    ] = False,
    json: output.Json = False,
    **given: Any,
) -> None:
    """Register a client; its secret is shown once."""
    with output.endings(json=json):
        if given["jwks"] is not None:
            given["jwks"] = _keys(given["jwks"])
        chosen = {name: value for name, value in given.items() if value is not None}
        with opened(store, create=True) as server, output.naming(_OPTIONS):
            registered = server.clients.add(name, client_id=client_id, public=public, **chosen)
    values = _values(registered.client)
    if registered.client_secret is not None:
        values = {"client_secret": registered.client_secret, **values}
    _show({"client_id": values.pop("client_id"), **values}, as_json=json)


@app.command("list")
def list_all(*, store: Store, json: output.Json = False) -> None:
    """List the clients."""
    with output.endings(json=json), opened(store) as server:
        found = [_values(client) for client in server.clients.all()]
    if json:
        output.as_json(found)
        return
    shown = (
        *("client_id", "name", "registered_by", "auth_method", "grant_types", "scopes"),
        "redirect_uris",
    )
    output.table(
        [name.replace("_", " ") for name in shown],
        [[each[name] for name in shown] for each in found],
        "There are no clients: `bearerguard client add NAME` registers one.",
    )


def _editing(command: Callable[..., None]) -> Callable[..., None]:
    return with_client_options(command, edits=True)


@app.command()
@_editing
def edit(
    client_id: ClientId,
    *,
    store: Store,
    name: Annotated[
        str | None, typer.Option(help="The name that users know the client by from now on.")
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPTION",
            help="An option that gets its default again, by its flag without the dashes, such as"
            " `--unset origin`; repeatable.",
        ),
    ] = None,
    json: output.Json = False,
    **given: Any,
) -> None:
    """Change options of a client; a repeatable option replaces all that it had."""
    with output.endings(json=json):
        if given["jwks"] is not None:
            given["jwks"] = _keys(given["jwks"])
        chosen = {each: value for each, value in given.items() if value is not None}
        for flag in unset or ():
            option = _unset(flag)
            if option in chosen:
                raise ConfigurationError(f"--unset {flag}: --{flag} is given, too: keep one")
            chosen[option] = None
        if name is None and not chosen:
            raise ConfigurationError("client edit: name what changes, such as --scope or --name")
        with opened(store) as server, output.naming({**_OPTIONS, "name=": "--name"}):
            edited = server.clients.edit(client_id, name=name, **chosen)
    shown = _values(edited.client), _values(edited.before)
    changes = {
        each: {"before": _printed(each, shown[1]), "after": _printed(each, shown[0])}
        for each in edited.changed
    }
    if json:
        output.as_json({**shown[0], "changed": changes})
        return
    output.table(
        ["option", "before", "now"],
        [[each, values["before"], values["after"]] for each, values in changes.items()],
        "Nothing has changed: the client had these options already.",
    )
    if edited.needs_secret:
        output.say(f"It has no secret yet: `bearerguard client rotate-secret {client_id}`.")


def _unset(flag: str) -> str:
    """Return the option that a flag sets, whichever of its two names is given."""
    for option, each in options().items():
        if f"--{flag.removeprefix('--')}" in each.flag.split("/"):
            return option
    known = ", ".join(each.flag.partition("/")[0].removeprefix("--") for each in options().values())
    raise ConfigurationError(f"--unset {flag}: there is no such option: choose from {known}")


def _printed(name: str, values: dict[str, Any]) -> Any:
    # The keys of a client are public, and too long to be read.
    return values.get(name, "(not shown)")


@app.command("rotate-secret")
def rotate_secret(
    client_id: ClientId,
    *,
    store: Store,
    overlap: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Seconds for which the old secret stays valid; a day by default.",
        ),
    ] = None,
    json: output.Json = False,
) -> None:
    """Make a new secret for a client, shown once; the old one stays valid for a while."""
    with output.endings(json=json), opened(store) as server:
        secret = server.clients.rotate_secret(client_id, overlap=overlap)
    _show({"client_id": client_id, "client_secret": secret}, as_json=json)


@app.command()
def remove(client_id: ClientId, *, store: Store, json: output.Json = False) -> None:
    """Remove a client; its grants and tokens are revoked."""
    with output.endings(json=json), opened(store) as server:
        server.clients.remove(client_id)
    if json:
        output.as_json({"client_id": client_id, "removed": True})
    else:
        output.say(f"The client {client_id} is removed.")


def _values(client: Client) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "registered_by": client.registered_by or "operator",
        **client.shown(),
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
        raise ConfigurationError(f"--jwks: {path} contains no JWK Set")
    return keys
