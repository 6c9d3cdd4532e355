"""The command line: `bearerguard` and its commands, each in a file of its own.

Assembles them and nothing else. Needs the extra `[cli]`; some commands need another extra as well.
A command's file is imported when the command is called, so that `token` does not wait for the
server's imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

try:
    import typer
    from typer.core import TyperGroup
    from typer.main import get_command

    from bearerguard.cli import output
except ModuleNotFoundError as _error:
    if (_error.name or "").startswith("bearerguard"):
        raise
    raise SystemExit(
        f"bearerguard: the command needs {_error.name}: install bearerguard[cli]"
    ) from _error

from bearerguard.errors import ConfigurationError

# The commands in the order of the help, with the places that define them; a group is an `app`.
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
}


class _Commands(TyperGroup):
    """The commands, imported when they are called."""

    def __init__(self, **given: Any) -> None:
        given["commands"] = dict.fromkeys(_PLACES)  # typer suggests a name for a misspelt one
        super().__init__(**given)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - as the library calls it
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
    """Return a command that names the extra it needs, whatever its arguments are."""
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
