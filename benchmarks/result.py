"""The result of a part: a table to read, figures for the JSON, and what reached a target."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.rounds import Figure


@dataclass
class Result:
    """The outcome of one part.

    `data` goes into the JSON, `reached` maps a target's name to the figure that was reached, and
    `notes` name what was left out and how to read the rest.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    reached: dict[str, float] = field(default_factory=dict)

    def row(self, *cells: str) -> None:
        """Add a line to the table."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{self.title}: a row of {len(cells)} cells")
        self.rows.append(cells)

    def keep(self, *path: str, value: Figure | float | str | None) -> None:
        """Keep a figure for the JSON under a path of names."""
        place = self.data
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = asdict(value) if isinstance(value, Figure) else value
