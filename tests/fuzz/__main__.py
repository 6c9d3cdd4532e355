"""Fuzzes one target, with coverage by atheris, or plainly where atheris is not installed.

python -m tests.fuzz TARGET SECONDS FOLDER
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None


def main(name: str, seconds: str, folder: str) -> None:
    logging.disable()
    if atheris is None:
        from tests.fuzz.every import TARGETS

        _plainly(name, TARGETS[name], float(seconds))
        return
    with atheris.instrument_imports(include=["bearerguard"]):
        from tests.fuzz.every import TARGETS
    target, corpus = TARGETS[name], Path(folder) / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds}", "-max_len=20000", "-print_final_stats=1"]
    options += ["-timeout=10", "-rss_limit_mb=2048", f"-artifact_prefix={folder}/failed-{name}-"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.check)
    atheris.Fuzz()


def _plainly(name: str, target: object, seconds: float) -> None:
    from tests.fuzz.target import Target

    assert isinstance(target, Target)
    until, count = time.monotonic() + seconds, 0
    for octets in target.mutated(f"{name} {time.time_ns()}"):
        count += 1
        try:
            target.check(octets)
        except BaseException:
            print(f"{name}: failed for {octets!r}", file=sys.stderr)
            raise
        if time.monotonic() >= until:
            break
    print(f"{name}: {count} inputs by plain mutation, none failed")


if __name__ == "__main__":
    main(*sys.argv[1:])
