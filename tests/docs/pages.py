"""The pages of the documentation, and what in them is run.

A block of Python is run where it stands, all blocks of a page in one namespace. An HTML comment
that begins with `check` holds Python as well: what readers need not see, such as asserts. A line
of a console block that begins with `$ bearerguard` is run, unless the comment `not run: REASON`
stands before the block. A block after the comment `file: PATH` is written to that file instead,
as a reader would do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_PARTS = re.compile(
    r"^<!-- file: (?P<path>[^\n]+) -->\n+```\w+\n(?P<file>.*?)^```$"
    r"|^```python\n(?P<python>.*?)^```$"
    r"|^(?P<mark><!-- not run: [^\n]*-->\n+)?```console\n(?P<console>.*?)^```$"
    r"|^<!-- check\n(?P<check>.*?)^-->$",
    re.DOTALL | re.MULTILINE,
)
_COMMAND = re.compile(r"^\$ (.*(?:\\\n.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Part:
    """A part of a page that is run: `kind` is python, console or file."""

    kind: str
    text: str
    line: int
    run: bool = True
    path: str = ""

    @property
    def commands(self) -> list[str]:
        """The commands of a console block."""
        return _COMMAND.findall(self.text)


def parts(page: Path) -> Iterator[Part]:
    """Return what is run of a page, top to bottom."""
    text = page.read_text()
    for match in _PARTS.finditer(text):
        kind = match.lastgroup or ""
        begin = text.count("\n", 0, match.start(kind)) + 1
        name = "python" if kind == "check" else kind
        path = match["path"] or ""
        yield Part(name, match[kind], begin, run=match["mark"] is None, path=path)
