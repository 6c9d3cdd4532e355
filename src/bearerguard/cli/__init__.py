"""The command line: `bearerguard` and its groups of commands, each in a file of its own.

Only assembles. Needs the extra `[cli]`, and what the commands of a group need besides.
"""

from __future__ import annotations

import typer

from bearerguard.cli import call, clients, keys, login, revoke, serve, token, users

app = typer.Typer(
    name="bearerguard",
    help="Authentication for APIs: log in and call them; run the authorization server.",
    no_args_is_help=True,
    # A traceback with local variables would show secrets.
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (login.login, login.logout, token.token, token.status, call.call):
    app.command()(command)
app.command("serve")(serve.serve)
app.command("revoke")(revoke.revoke)
app.add_typer(clients.app, name="client")
app.add_typer(users.app, name="user")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command line."""
    app()
