"""The processor time of a process with all its descendants, from /proc (Linux)."""

from __future__ import annotations

import os
from pathlib import Path

_TICK = 1 / os.sysconf("SC_CLK_TCK")
# In /proc/PID/stat after the name: the parent, and the user and system time of the process itself
# and of its children that have ended.
_PARENT, _TIMES = 1, slice(11, 15)


def seconds(root: int) -> float:
    """Return the seconds that a process and its descendants have run, those that ended included."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            # The name is in parentheses and may contain anything.
            fields = (entry / "stat").read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        parents[int(entry.name)] = int(fields[_PARENT])
        ticks[int(entry.name)] = sum(int(each) for each in fields[_TIMES])
    return _TICK * sum(ticks[pid] for pid in ticks if _descends(pid, root, parents))


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid != root:
        if pid not in parents:
            return False
        pid = parents[pid]
    return True
