"""Durations in words, for people: `5 min`."""

from __future__ import annotations

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def in_words(seconds: float) -> str:
    """Return a number of seconds in whole units: the largest unit that fits at least twice."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
