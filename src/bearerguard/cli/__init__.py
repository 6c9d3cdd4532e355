"""The command line: `bearerguard` and its groups of commands, each in a file of its own.

Only assembles. Needs the extra `[cli]`, and what the commands of a group need besides.
"""

from __future__ import annotations

import typer

from bearerguard.cli import clients, keys, revoke, serve, users

app = typer.Typer(
    name="bearerguard",
    help="Authentication for APIs: run and administer the authorization server.",
    no_args_is_help=True,
    # A traceback with local variables would show secrets.
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("serve")(serve.serve)
app.command("revoke")(revoke.revoke)
app.add_typer(clients.app, name="client")
app.add_typer(users.app, name="user")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command line."""
    app()
