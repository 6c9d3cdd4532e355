"""The command line: `bearerguard` and its groups of commands, each in a file of its own.

Only assembles. Needs the extra `[cli]`, and what the commands of a group need besides: a
command brings its file when it is called, so that `token` does not wait for the server's.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

try:
    import typer
    from typer.core import TyperGroup
    from typer.main import get_command

    from bearerguard.cli import output
except ModuleNotFoundError as error:
    if (error.name or "").startswith("bearerguard"):
        raise
    raise SystemExit(
        f"bearerguard: the command needs {error.name}: install bearerguard[cli]"
    ) from error

from bearerguard.errors import ConfigurationError

# Each command, in the order in which they are listed, and where it is defined; a group is an `app`.
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
    """The commands, imported when they are asked for."""

    def __init__(self, **given: Any) -> None:
        given["commands"] = dict.fromkeys(_PLACES)  # for a hint at what was meant
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
    """Return a command that says which extra it needs, whatever it is given."""
    lacking = typer.Typer(add_completion=False)

    @lacking.command(
        help=str(error),
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def say() -> None:
        with output.endings():
            raise error

    return lacking


app = typer.Typer(
    name="bearerguard",
    cls=_Commands,
    no_args_is_help=True,
    # A traceback with local variables would show secrets.
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback()
def bearerguard() -> None:
    """Authentication for APIs: log in and call them; run the authorization server."""


def main() -> None:
    """Run the command line."""
    app()
