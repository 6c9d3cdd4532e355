"""The coverage gates: all branches of what decides, nearly all of the rest."""

from __future__ import annotations

import subprocess
import sys

# Every branch of these decides whether a request passes, or how it is refused.
WHOLE = (
    *(f"runtime/{name}" for name in ("flow.py", "fetching/*", "sealing.py", "bodies.py")),
    *("protocol/*", "guard/*", "middleware/*", "asgi.py", "wsgi.py", "backchannel.py"),
)


def report(minimum: int, *options: str) -> bool:
    command = [sys.executable, "-m", "coverage", "report", f"--fail-under={minimum}", *options]
    return subprocess.run(command, check=False).returncode == 0


def main() -> int:
    whole = ",".join(f"*/bearerguard/{name}" for name in WHOLE)
    print("== 100 % of flow, protocol, guard and adapters", flush=True)
    decided = report(100, f"--include={whole}")
    print("== 95 % of the rest", flush=True)
    rest = report(95, f"--omit={whole}")
    return 0 if decided and rest else 1


if __name__ == "__main__":
    sys.exit(main())
