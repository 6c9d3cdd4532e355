"""The tables of events in docs/observability.md, beside the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from bearerguard.runtime.reporting import vocabulary
from tests.docs.pages import ROOT

DOCS, SOURCE = ROOT / "docs", ROOT / "src/bearerguard"
# What the text above the tables says of every event.
_ALWAYS = {"by"}
_EMITS = {"emit", "_emit", "report"}


def rows() -> dict[str, tuple[str, set[str]]]:
    """Return the level and the details of each code, as the page has them."""
    page = (DOCS / "observability.md").read_text()
    section = page[page.index("\n## Events\n") :]
    section = section[: section.index("\n## ", 1)]
    found: dict[str, tuple[str, set[str]]] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4 and cells[0].startswith("`"):
            for code in re.findall(r"`(\w+)`", cells[0]):
                assert code not in found, f"{code} has two rows"
                found[code] = cells[1], set(re.findall(r"`(\w+)`", cells[2]))
    return found


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    """Return the calls in the source, with the names of what they call."""
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = node.func
                name = called.attr if isinstance(called, ast.Attribute) else ""
                yield path, node, called.id if isinstance(called, ast.Name) else name


def emitted() -> Iterator[tuple[str, set[str]]]:
    """Return each code that the source names where it sends an event, with the event's details."""
    for _, call, name in calls():
        first = call.args[0] if call.args else None
        named = isinstance(first, ast.Constant) and isinstance(first.value, str)
        if named and (name in _EMITS or name == "Reason"):
            assert isinstance(first, ast.Constant)
            keywords = {each.arg for each in call.keywords if each.arg}
            yield str(first.value), keywords if len(call.args) == 1 else set()
        for each in call.keywords:
            if each.arg == "event" and isinstance(each.value, ast.Constant):
                yield str(each.value.value), set()


def test_the_page_lists_every_code_with_its_level() -> None:
    levels = dict.fromkeys(vocabulary.INFO, "INFO") | dict.fromkeys(vocabulary.WARNING, "WARNING")
    assert {code: level for code, (level, _) in rows().items()} == levels


def test_every_event_that_the_source_sends_is_on_the_page_with_its_details() -> None:
    known, sent = rows(), list(emitted())
    assert len(sent) > 60
    assert {code for code, _ in sent} - known.keys() == set()
    for code, details in sent:
        assert details - known[code][1] - _ALWAYS == set(), code


def test_every_code_on_the_page_is_in_the_source() -> None:
    texts = {
        node.value
        for path in SOURCE.rglob("*.py")
        if path.name != "vocabulary.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert rows().keys() - texts == set()
