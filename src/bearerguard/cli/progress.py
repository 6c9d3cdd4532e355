"""What is said while a command works: on standard error, moving only on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache

from rich.console import Console

from bearerguard.cli.output import shown


@cache
def console() -> Console:
    """Return standard error, one for all: what is said goes above a spinner that turns.

    A line is never broken in the middle of an address.
    """
    # No emoji: a scope such as "api:key:read" has no picture in it.
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def note(text: str) -> None:
    """Say what is going on."""
    console().print(shown(text))


def done(text: str) -> None:
    """Say what was achieved."""
    console().print(f"[green]✓[/] {shown(text)}" if sys.stderr.isatty() else shown(text))


def warn(text: str) -> None:
    """Say what did not go as it should, and did not stop the command."""
    console().print(f"[yellow]![/] {shown(text)}")


@contextmanager
def waiting(text: str) -> Generator[None]:
    """Show that somebody else is to act; a spinner on a terminal, one line otherwise."""
    if not sys.stderr.isatty():
        note(text)
        yield
        return
    with console().status(shown(text), spinner="dots"):
        yield
