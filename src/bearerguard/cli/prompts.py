"""How commands ask. Secrets come from a prompt without echo, or from standard input.

Never from arguments: every user of the machine can read them, and shells store them in a history.
"""

from __future__ import annotations

import sys

import typer

from bearerguard.errors import ConfigurationError

_MAX_LENGTH = 16_384


def new_password() -> str:
    """Return a password from a prompt, entered twice, or the first line of a pipe."""
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    return piped("a password")


def piped(what: str) -> str:
    """Return the first line of standard input; raises `ConfigurationError` if it is empty."""
    line = sys.stdin.readline(_MAX_LENGTH).rstrip("\r\n")
    if not line:
        raise ConfigurationError(f"standard input: {what} is expected on its first line")
    return line


def confirm(question: str) -> None:
    """Ask on the terminal, and end the command unless the answer is yes.

    Raises:
        ConfigurationError: there is no terminal to ask.
    """
    if not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask: pass --yes")
    typer.confirm(question, abort=True, err=True)
