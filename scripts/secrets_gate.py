"""The gate for secrets: no database and no log of a whole run of the tests holds one in clear.

What the server issues is known by its shape, so nothing has to remember what was issued: access
tokens, refresh tokens, codes, those of devices, client secrets, and private keys.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

ISSUED = re.compile(
    rb"bg[acdrs]_[\w-]{43}"
    rb"|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{16,}"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY"
)
# A database with what SQLite puts beside it, all that PostgreSQL ever wrote, a dump of Redis, and
# what a program printed.
LOOKED_AT = ("*.db", "*.db-wal", "*.db-journal", "*.wal", "*.rdb", "*.aof", "*.log")


def looked_at(folder: Path) -> list[Path]:
    return sorted(path for shape in LOOKED_AT for path in folder.rglob(shape) if path.is_file())


def leaks(files: Iterable[Path]) -> list[str]:
    """Return where a secret stands, by its first octets: the rest stays untold."""
    found = ((path, ISSUED.search(path.read_bytes())) for path in files)
    return [f"{path}: {match[0][:10].decode()}..." for path, match in found if match]


def main(folder: Path) -> int:
    files = looked_at(folder)
    kinds = {shape: sum(path.match(shape) for path in files) for shape in ("*.db", "*.log")}
    found = leaks(files)
    print(f"== Secrets in {kinds['*.db']} databases and {kinds['*.log']} logs: {len(found)}")
    print(*found, sep="\n", end="\n" if found else "")
    nothing = [shape for shape, count in kinds.items() if not count]
    if nothing:
        print(f"There is no {' and no '.join(nothing)} in {folder}: nothing was searched")
    return 1 if found or nothing else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
