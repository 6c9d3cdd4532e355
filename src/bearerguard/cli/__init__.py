"""The command line: assembles `bearerguard` from its commands.

Needs the extra `[cli]`; some commands need another extra too. A command's module is imported when
the command is called, so that `token` does not wait for the server's imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

from bearerguard import __version__
from bearerguard.errors import ConfigurationError
from bearerguard.runtime.extras import Extra, MissingExtra

try:
    with Extra("cli", needed_by="the command"):
        import typer
        from typer.main import get_command

        from bearerguard.cli import output
        from bearerguard.cli.help import Application, Group
except MissingExtra as _error:
    raise SystemExit(f"bearerguard: {_error}") from _error

# The commands in the order of the help: where each is, as `module.attribute`, and its first
# sentence, so that the list of commands imports none of them. A group's attribute is `app`.
_PLACES = {
    "login": (
        "client.login.login",
        "Log in for an API, or to an authorization server, and store the token safely.",
    ),
    "logout": (
        "client.login.logout",
        "Revoke the token at the server and remove it from this machine.",
    ),
    "token": ("client.token.token", "Print a valid access token."),
    "status": (
        "client.token.status",
        "Show the logins and until when they are valid; never the token.",
    ),
    "call": ("client.call.call", "Call an API with a valid token."),
    "doctor": (
        "guard.doctor.command.doctor",
        "Examine an issuer, an API or an authorization server, and say what to fix.",
    ),
    "inspect": ("guard.inspect.inspect", "Explain why a token is accepted or refused."),
    "config": (
        "guard.config.config",
        "Show the configuration in force, without secrets, and where each value comes from.",
    ),
    "serve": (
        "server.serve.serve",
        "Run the authorization server; a proxy in front of it provides TLS.",
    ),
    "revoke": ("server.revoke.revoke", "Revoke the grants of a user, one grant, or one token."),
    "client": ("server.clients.app", "Register, list, edit and remove clients."),
    "user": ("server.users.app", "Add, list, disable and delete users."),
    "grants": ("server.grants.app", "List and revoke what users have allowed clients."),
    "keys": ("server.keys.app", "List, rotate and withdraw signing keys."),
    "store": ("server.store.app", "Copy and migrate the server's database."),
}


class _Commands(Group):
    """The group of all commands; imports a command when it is called."""

    def __init__(self, **given: Any) -> None:
        given["commands"] = dict.fromkeys(
            _PLACES
        )  # names only: typer suggests one for a misspelt name
        super().__init__(**given)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the library's signature
        return list(_PLACES)

    def summary(self, ctx: Any, name: str) -> str:  # noqa: ARG002 - likewise
        return _PLACES[name][1]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - likewise
        if cmd_name not in _PLACES:
            return None
        module, name = _PLACES[cmd_name][0].rsplit(".", 1)
        is_servers = module.startswith("server.")
        try:
            found = getattr(import_module(f"{__name__}.{module}"), name)
        except ConfigurationError as error:
            found, is_servers = _unusable(error), False
        if not isinstance(found, typer.Typer):
            single = Application()
            single.command(cmd_name)(found)
            found = single
        command = get_command(found)
        command.name = cmd_name
        if is_servers:
            import_module(f"{__name__}.server.config_file").add_options(command)
        return command


def _unusable(error: ConfigurationError) -> typer.Typer:
    """Return a command that accepts any arguments and reports the missing extra."""
    lacking = Application()

    @lacking.command(
        help=str(error),
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def say() -> None:
        with output.endings():
            raise error

    return lacking


app: typer.Typer = Application(name="bearerguard", cls=_Commands)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - the library's signature
    if wanted:
        typer.echo(f"bearerguard {__version__}")
        raise typer.Exit


@app.callback()
def bearerguard(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Log in to APIs and call them. Run and administer an authorization server."""


def main() -> None:
    """Run the command line."""
    app()
