"""Secrets that commands are given: typed where nobody sees them, or piped in; never arguments.

Arguments can be read by everybody on the machine, and stay in a shell's history.
"""

from __future__ import annotations

import sys

import typer

from bearerguard.errors import ConfigurationError

_MAX_LENGTH = 16_384


def new_password() -> str:
    """Return a password that was typed twice, or the first line of what is piped in."""
    if sys.stdin.isatty():
        password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
        return password
    return piped("a password")


def piped(what: str) -> str:
    """Return the first line of standard input."""
    line = sys.stdin.readline(_MAX_LENGTH).rstrip("\r\n")
    if not line:
        raise ConfigurationError(f"standard input: {what} is expected on its first line")
    return line
