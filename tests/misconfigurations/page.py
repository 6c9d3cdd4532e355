"""The page about troubleshooting, made of the tables here.

Run `python -m tests.misconfigurations.page` after a change. The tests compare each line of it with
the message that is really raised or logged.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bearerguard import ConfigurationError
from tests.misconfigurations.at_run_time import FAULTS
from tests.misconfigurations.at_start import MISTAKES
from tests.misconfigurations.commands import COMMANDS, ended

PAGE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
OUTDATED = "run `python -m tests.misconfigurations.page`"
_HEAD = "What is wrong"
HEADS = (_HEAD,)

_BEGINNING = """\
# Troubleshooting

Search this page for your message. Each message names the option, the variable or the flag that is
wrong, its value, and the remedy. Values such as host names are examples. No message holds a token
or a secret.

If a token is refused, [`bearerguard inspect`](inspect.md) shows every check, and [`bearerguard
doctor`](doctor.md) examines the issuer or the API. The log line of a refusal names the request:
its method, its route or path, and its id from `X-Request-ID` or `traceparent`
(`Guard(request_id_headers=)`).
"""
_AT_START = """
## When the app starts

`ConfigurationError` is raised: the app does not start.
"""
_IN_THE_LOG = """
## In the log, while the app runs

The logger is `bearerguard`. It writes one line a minute of each kind. The next line, or a line
`lines_left_out`, has the number of lines that were left out. When the cause is gone, a line
`keys_restored`, `introspection_restored` or `revocations_available` says so.
"""
_COMMANDS = """
## At the command line

A wrong option ends a command with the exit code 2.
"""


def row(title: str, message: str, folder: Path | None = None) -> str:
    """Return the line of a table; what differs from run to run is replaced."""
    text = message if folder is None else message.replace(str(folder), "/srv")
    text = re.sub(r"127\.0\.0\.1:\d{2,5}", "127.0.0.1:8080", text)
    return f"| {title} | `` {text.replace('|', chr(92) + '|')} `` |"


def _table(head: str, rows: Mapping[str, str]) -> str:
    lines = [f"| {head} | The message |", "|---|---|", *rows.values()]
    return "\n" + "\n".join(lines) + "\n"


def _raised(do: Callable[[Path], object], folder: Path) -> str:
    try:
        do(folder)
    except ConfigurationError as error:
        return str(error)
    raise AssertionError("nothing was raised")


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def _logged(run: Callable[[], None], code: str) -> str:
    handler, logger = _Lines(), logging.getLogger("bearerguard")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        run()
    finally:
        logger.removeHandler(handler)
    return next(line for line in handler.lines if line.startswith(f"{code}: "))


def _folder() -> Path:
    return Path(tempfile.mkdtemp())


def made() -> str:
    """Return the text of the page."""
    start, run, called = dict[str, str](), dict[str, str](), dict[str, str]()
    for title, mistake in MISTAKES.items():
        folder = _folder()
        start[title] = row(title, _raised(mistake.do, folder), folder)
    for title, fault in FAULTS.items():
        run[title] = row(title, _logged(fault.run, fault.code))
    for title, (arguments, _) in COMMANDS.items():
        folder = _folder()
        said = ended(arguments, folder)[1].strip().splitlines()[-1]
        called[title] = row(title, said, folder)
    return (
        _BEGINNING
        + _AT_START
        + _table(_HEAD, start)
        + _IN_THE_LOG
        + _table(_HEAD, run)
        + _COMMANDS
        + _table(_HEAD, called)
    )


if __name__ == "__main__":
    PAGE.write_text(made())
