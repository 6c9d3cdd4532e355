"""The command line: assembles `bearerguard` from its commands.

Needs the extra `[cli]`; some commands need another extra too. A command's module is imported when
the command is called, so that `token` does not wait for the server's imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.extras import Extra, MissingExtra

try:
    with Extra("cli", needed_by="the command"):
        import typer
        from typer.core import TyperGroup
        from typer.main import get_command

        from bearerguard.cli import output
except MissingExtra as _error:
    raise SystemExit(f"bearerguard: {_error}") from _error

# The commands in the order of the help, as `module.attribute`. A group's attribute is `app`.
_PLACES = {
    "login": "login.login",
    "logout": "login.logout",
    "token": "token.token",
    "status": "token.status",
    "call": "call.call",
    "serve": "serve.serve",
    "revoke": "revoke.revoke",
    "client": "clients.app",
    "user": "users.app",
    "keys": "keys.app",
    "inspect": "inspect.inspect",
    "config": "config.config",
}


class _Commands(TyperGroup):
    """The group of all commands; imports a command when it is called."""

    def __init__(self, **given: Any) -> None:
        given["commands"] = dict.fromkeys(
            _PLACES
        )  # names only: typer suggests one for a misspelt name
        super().__init__(**given)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the library's signature
        return list(_PLACES)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - likewise
        place = _PLACES.get(cmd_name)
        if place is None:
            return None
        module, name = place.split(".")
        try:
            found = getattr(import_module(f"{__name__}.{module}"), name)
        except ConfigurationError as error:
            found = _unusable(error)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(cmd_name)(found)
            found = single
        command = get_command(found)
        command.name = cmd_name
        return command


def _unusable(error: ConfigurationError) -> typer.Typer:
    """Return a command that accepts any arguments and reports the missing extra."""
    lacking = typer.Typer(add_completion=False)

    @lacking.command(
        help=str(error),
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def say() -> None:
        with output.endings():
            raise error

    return lacking


app: typer.Typer = typer.Typer(
    name="bearerguard",
    cls=_Commands,
    no_args_is_help=True,
    # A traceback with local variables would show secrets.
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def bearerguard() -> None:
    """Log in to APIs and call them. Run and administer an authorization server."""


def main() -> None:
    """Run the command line."""
    app()
