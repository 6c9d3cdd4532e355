"""The peers: what users would choose instead, each set up as its own documentation says.

A peer is measured only after it accepted a good token and refused an altered one. One that is not
installed is left out and named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


class PeerError(Exception):
    """A peer does not verify what it is measured for."""


def installed(makers: Mapping[str, Callable[[], T]]) -> tuple[dict[str, T], list[str]]:
    """Return the peers that are installed, by name, and the names of the others."""
    made: dict[str, T] = {}
    missing: list[str] = []
    for name, make in makers.items():
        try:
            made[name] = make()
        except ModuleNotFoundError:
            missing.append(name)
    return made, missing


def left_out(missing: list[str]) -> list[str]:
    """Return the note that names what is not installed, if anything is."""
    return [f"Not installed, so left out: {', '.join(missing)}."] if missing else []
