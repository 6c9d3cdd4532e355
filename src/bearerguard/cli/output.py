"""What commands print: for people, or as JSON for scripts; and how they end.

Results go to standard output and all else to standard error. A secret is part of a result at most
once: when it is made.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bearerguard.errors import BearerGuardError, ConfigurationError, LoginRequired

FAILED = 1  # what was asked cannot be done: there is no such client, say
MISCONFIGURED = 2  # as for an option that does not exist
LOGIN_NEEDED = 4  # somebody has to log in, or to log in for more
UNAVAILABLE = 75  # sysexits.h EX_TEMPFAIL: the same command may succeed later

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

# Printable by Unicode's categories, and of no width: fillers, joiners, selectors.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_PIPE_WIDTH = 1000


@contextmanager
def endings() -> Generator[None]:
    """Turn this package's errors into one line on standard error and an exit code."""
    try:
        yield
    except ConfigurationError as error:
        _end(str(error), MISCONFIGURED)
    except LoginRequired as error:
        _end(f"{error.cause}: run `bearerguard login ISSUER`", LOGIN_NEEDED)
    except BearerGuardError as error:
        _end(str(error), exit_code(error))


def exit_code(error: BearerGuardError) -> int:
    """Return whether the same command may succeed later, as an exit code."""
    return UNAVAILABLE if error.temporary else FAILED


def _end(message: str, code: int) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True, emoji=False).print(
        f"[bold red]bearerguard:[/] {shown(message)}"
    )
    raise typer.Exit(code)


def as_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print a result for scripts: one JSON text."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Such a character stands only in a string, where its escape means the same (RFC 8259 §7).
    safe = (each if _is_harmless(each, "\n") else json.dumps(each)[1:-1] for each in text)
    sys.stdout.write("".join(safe) + "\n")


def say(text: str) -> None:
    """Print a sentence for people; what it quotes is shown as it is."""
    _console().print(shown(text))


def fields(values: Mapping[str, Any]) -> None:
    """Print names and values, one a line, to be read and to be copied."""
    width = max(map(len, values))
    for name, value in values.items():
        _console().print(f"[dim]{name:<{width}}[/]  {shown(words(value))}")


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], nothing: str) -> None:
    """Print rows under their columns; `nothing` is said when there is none."""
    lines = [[words(value) for value in row] for row in rows]
    if not lines:
        say(nothing)
        return
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for line in lines:
        grid.add_row(*map(shown, line))
    _console().print(grid)


def shown(text: str) -> str:
    """Return a text that others may have written, for a terminal: it can steer nothing there."""
    return escape(harmless(text, keep="\n"))


def harmless(text: str, *, keep: str = "") -> str:
    """Return a text without characters that steer a terminal, or that nobody sees.

    Control characters (C0, C1), those that turn or join text (bidi, zero width), and separators
    are shown as escapes, but those of `keep`.
    """
    return "".join(each if _is_harmless(each, keep) else ascii(each)[1:-1] for each in text)


def _is_harmless(each: str, keep: str) -> bool:
    if each.isprintable():
        return each not in _UNSEEN
    return each in keep or unicodedata.category(each) == "Zs"


def words(value: Any) -> str:
    """Return a value as people read it."""
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return str(value)


def moment(seconds: float | None) -> str | None:
    """Return Unix seconds as a time of day, in UTC (RFC 3339)."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _console() -> Console:
    # In a pipe there is no edge to break lines at.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, soft_wrap=True, emoji=False, width=width)
