"""The table of what authentication adds to a request: with it minus without, in µs and floors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.result import Result
from benchmarks.rounds import Samples, added, added_ratio, figure

FLOOR = "F"


def without(name: str) -> str:
    """Return the name of the case that is the app alone."""
    return f"{name}, without"


def tabulate(
    title: str, samples: Samples, names: Iterable[str], targets: Mapping[str, str]
) -> Result:
    """Return the table; `targets` maps a case's name to the target that it is judged by."""
    result = Result(title, ("", "µs", "× F"))
    floor = figure(samples[FLOOR]).scaled(1e6)
    result.row("the floor F", floor.text(), "1")
    result.keep("F µs", value=floor)
    for name in names:
        microseconds = added(samples, name, without(name)).scaled(1e6)
        multiple = added_ratio(samples, name, without(name), FLOOR)
        result.row(name, microseconds.text(), multiple.text())
        result.keep("µs", name, value=microseconds)
        result.keep("× F", name, value=multiple)
        if name in targets:
            result.reached[targets[name]] = multiple.median
    return result
