"""The tables that are printed: one for each part, and the targets at the end."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from benchmarks.result import Result
from benchmarks.targets import Target

_WIDTH = 100


def part(result: Result) -> None:
    """Print the table of a part and its notes."""
    print(f"\n{result.title}\n{'=' * len(result.title)}")
    if result.rows:
        _table(result.columns, result.rows)
    for note in result.notes:
        print(textwrap.fill(note, _WIDTH))
    print(flush=True)


def targets(wanted: Sequence[Target], reached: Mapping[str, float]) -> None:
    """Print the targets with the figures that were reached."""
    rows: list[tuple[str, ...]] = []
    for target in wanted:
        value = reached.get(target.name)
        bound = f"{'≥' if target.floor else '≤'} {target.bound:g}"
        if value is None:
            rows.append((target.name, target.description, "-", bound, target.unit, "not measured"))
            continue
        verdict = "met" if target.is_met(value) else "MISSED"
        rows.append((target.name, target.description, _number(value), bound, target.unit, verdict))
    title = "Targets"
    print(f"{title}\n{'=' * len(title)}")
    _table(("", "what", "reached", "target", "", ""), rows)
    missed = sum(row[-1] == "MISSED" for row in rows)
    met = sum(row[-1] == "met" for row in rows)
    print(f"\n{met} met, {missed} missed, {len(rows) - met - missed} not measured\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:.2f}"  # noqa: PLR2004


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[place]) for line in (columns, *rows)) for place in range(len(columns))]
    for line in (columns, ["-" * width for width in widths], *rows):
        # The first column is text; figures stand at the right.
        cells = [
            cell.ljust(width) if place == 0 or not _is_figure(place, rows) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _is_figure(place: int, rows: Sequence[Sequence[str]]) -> bool:
    return all(row[place][:1] in "0123456789-≤≥" or "more" in row[place] for row in rows)
