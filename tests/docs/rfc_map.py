"""The RFC map, docs/conformance.md: which rule is kept by which file, and shown by which test.

`python -m tests.docs.rfc_map` writes its column of tests anew, and follows files of the code that
were moved and kept their names. The rules and the code files are written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "conformance.md"
CODE = ROOT / "src" / "bearerguard"
TESTS = ROOT / "tests"

_ROW = re.compile(r"^\| ([A-Z]+-\d+) \| (.+?) \| (.+?) \| (.*?) \|$", re.MULTILINE)
_IN_NAMES = re.compile(r"def test_([A-Z]{2,7})_(\d\d)_")
_IN_TABLES = re.compile(r"\"([A-Z]{2,7})-(\d\d) ")
# What runs programs of others or full-size faults comes after the test that is run all day.
_LAST = ("peers", "faults")


def rows() -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Return the rows of the page: ID, rule, code files, test files."""
    for identifier, rule, code, tests in _ROW.findall(PAGE.read_text()):
        yield identifier, rule, _paths(code), _paths(tests)


def files_by_id() -> dict[str, list[str]]:
    """Return in which files the tests of each ID are."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("*.py"), key=_order):
        text = path.read_text()
        is_table = path.name.endswith("_table.py")
        names = {*_IN_NAMES.findall(text), *(_IN_TABLES.findall(text) if is_table else ())}
        for name, number in sorted(names):
            found.setdefault(f"{name}-{number}", []).append(str(path.relative_to(TESTS)))
    return found


def renewed() -> str:
    """Return the page with its paths as they are now."""
    tests = files_by_id()

    def row(match: re.Match[str]) -> str:
        identifier, rule, code, _ = match.groups()
        now = dict.fromkeys(_moved(each) for each in _paths(code))
        files = ", ".join(f"`{each}`" for each in now)
        found = ", ".join(f"`{each}`" for each in tests.get(identifier, ()))
        return f"| {identifier} | {rule} | {files} | {found} |"

    return _ROW.sub(row, PAGE.read_text())


def _paths(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _order(path: Path) -> tuple[bool, str]:
    name = str(path.relative_to(TESTS))
    return name.startswith(_LAST), name


def _moved(name: str) -> str:
    if (CODE / name).exists():
        return name
    top, last = Path(name).parts[0], Path(name).name
    found = [path for path in (CODE / top).rglob(last) if path.is_file()]
    return str(found[0].relative_to(CODE)) if len(found) == 1 else name


if __name__ == "__main__":
    PAGE.write_text(renewed())
