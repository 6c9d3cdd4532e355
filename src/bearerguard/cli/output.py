"""The output and the exit codes of commands.

Results go to standard output, as text or as JSON. Errors, warnings and progress go to standard
error; a spinner is shown only on a terminal. A secret is printed once, when it is made.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from json import dumps
from shutil import get_terminal_size
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bearerguard.errors import BearerGuardError, ConfigurationError, LoginRequired

FAILED = 1  # the command failed: there is no such client, for example
MISCONFIGURED = 2  # an option or a variable is wrong; the command line's parser uses 2 as well
LOGIN_NEEDED = 4  # the user has to log in, again or for more scopes
UNAVAILABLE = 75  # sysexits.h EX_TEMPFAIL: the same command may succeed later

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

# Characters that Unicode calls printable and that have no width: fillers, joiners, selectors.
_UNSEEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_PIPE_WIDTH, _UNBOUNDED = 1000, 1_000_000


@contextmanager
def endings(*, json: bool = False, beside: Mapping[str, Any] | None = None) -> Generator[None]:
    """Turn an error of this package into one line on standard error and an exit code.

    With `json`, standard output gets the error as JSON too; `beside` are the members that stand
    beside it when a command has done a part of what it was asked for.
    """
    end = partial(_end, beside={} if beside is None else beside, json=json)
    try:
        yield
    except ConfigurationError as error:
        end(str(error), MISCONFIGURED)
    except LoginRequired as error:
        end(f"{error.cause}: run `bearerguard login ISSUER`", LOGIN_NEEDED)
    except BearerGuardError as error:
        end(str(error), exit_code(error))


@contextmanager
def naming(options: Mapping[str, str]) -> Generator[None]:
    """Replace arguments of Python in an error by the options of the command that set them."""
    try:
        yield
    except ConfigurationError as error:
        longest_first = sorted(options, key=len, reverse=True)
        pattern = rf"(?<![\w-])(?:{'|'.join(map(re.escape, longest_first))})"
        text = re.sub(pattern, lambda found: options[found[0]], str(error))
        raise ConfigurationError(text) from error


def exit_code(error: BearerGuardError) -> int:
    """Return the exit code of an error: whether the same command may succeed later."""
    return UNAVAILABLE if error.temporary else FAILED


def _end(message: str, code: int, *, beside: Mapping[str, Any], json: bool) -> None:
    if json:
        as_json({**beside, "error": {"message": message, "exit_code": code}})
    console().print(f"[bold red]bearerguard:[/] {shown(message)}")
    raise typer.Exit(code)


def as_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print a result for scripts: one JSON text."""
    text = dumps(value, indent=2, ensure_ascii=False)
    # Such a character occurs only in strings, where its escape means the same (RFC 8259 §7).
    safe = (each if _is_harmless(each, "\n") else dumps(each)[1:-1] for each in text)
    sys.stdout.write("".join(safe) + "\n")


def say(text: str) -> None:
    """Print a sentence as the result."""
    _console().print(shown(text))


def markup(line: str) -> None:
    """Print a line of a result that has rich's markup; `shown` has escaped what is in it."""
    _console().print(line)


def fields(values: Mapping[str, Any]) -> None:
    """Print names and values, one pair a line."""
    # A name may come from elsewhere, as a claim's does, and stays on its line.
    named = [(harmless(name), value) for name, value in values.items()]
    width = max((len(name) for name, _ in named), default=0)
    for name, value in named:
        _console().print(f"[dim]{shown(f'{name:<{width}}')}[/]  {shown(words(value))}")


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    nothing: str,
    *,
    unbroken: Collection[str] | None = None,
) -> None:
    """Print rows under their columns; if there are none, the sentence `nothing`.

    The values of the `unbroken` columns, by default of all, stay on one line each. On a terminal
    that is too narrow for that, each row is printed as fields: no id is ever broken.
    """
    lines = [[words(value) for value in row] for row in rows]
    if not lines:
        say(nothing)
        return
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        is_whole = unbroken is None or column in unbroken
        grid.add_column(column, overflow="fold", no_wrap=is_whole)
    for line in lines:
        grid.add_row(*map(shown, line))
    console = _console()
    needed = console.measure(grid, options=console.options.update(max_width=_UNBOUNDED))
    if not sys.stdout.isatty():
        console.print(grid, width=needed.maximum)
        return
    if needed.minimum <= console.width:
        console.print(grid, width=min(needed.maximum, console.width))
        return
    for position, line in enumerate(lines):
        if position:
            say("")
        fields(dict(zip(columns, line, strict=True)))


def columns() -> int | None:
    """Return the width of the terminal; None for a pipe, whose lines are not broken."""
    return get_terminal_size().columns if sys.stdout.isatty() else None


def beginning(mark: str, style: str, text: str) -> None:
    """Print a line that begins with a mark; `style` is the mark's, as rich names it."""
    _console().print(f"[{style}]{shown(mark)}[/]{shown(text)}")


def shown(text: str) -> str:
    """Return a text for a terminal: control characters and markup are escaped."""
    return escape(harmless(text, keep="\n"))


def harmless(text: str, *, keep: str = "") -> str:
    """Return a text in which control characters and invisible characters are escaped.

    These are C0 and C1 controls, bidirectional and zero-width characters, and separators, except
    spaces and the characters in `keep`.
    """
    return "".join(each if _is_harmless(each, keep) else ascii(each)[1:-1] for each in text)


def _is_harmless(each: str, keep: str) -> bool:
    if each.isprintable():
        return each not in _UNSEEN
    return each in keep or unicodedata.category(each) == "Zs"


def words(value: Any) -> str:
    """Return a value as text."""
    if value is None or value == ():
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return str(value)


def moment(seconds: float | None) -> str | None:
    """Return Unix seconds as a date and time in UTC (RFC 3339)."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _console() -> Console:
    # A pipe has no width: lines are not broken.
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, soft_wrap=True, emoji=False, width=width)


# Standard error


@cache
def console() -> Console:
    """Return the console of standard error.

    It is always the same object, so that a spinner stays below the printed lines. Lines are not
    wrapped, so that a URL can be copied.
    """
    # `emoji=False`: the `:key:` in a scope such as "api:key:read" is no emoji code.
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def note(text: str) -> None:
    """Print progress."""
    console().print(shown(text))


def done(text: str) -> None:
    """Print a success."""
    console().print(f"[green]✓[/] {shown(text)}" if sys.stderr.isatty() else shown(text))


def warn(text: str) -> None:
    """Print a warning; the command continues."""
    console().print(f"[yellow]![/] {shown(text)}")


@contextmanager
def waiting(text: str) -> Generator[None]:
    """Show that the command waits: a spinner on a terminal, one line otherwise."""
    if not sys.stderr.isatty():
        note(text)
        yield
        return
    with console().status(shown(text), spinner="dots"):
        yield
