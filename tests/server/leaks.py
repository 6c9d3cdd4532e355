"""Looking for secrets where none may be: the database's files, and what a program printed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def found(folder: Path, printed: str, secrets: Iterable[str]) -> list[str]:
    """Return where a secret is found in clear; a JWT is recognised by its signature."""
    files = [path for path in folder.iterdir() if not path.name.endswith(".secret")]
    places = {path.name: path.read_bytes() for path in files}
    assert any(name.startswith("auth.db") for name in places)
    places["the log"] = printed.encode()
    looked_for = {secret.rpartition(".")[2].encode() for secret in secrets}
    assert looked_for
    assert min(map(len, looked_for)) >= 8, "too short to be looked for"
    return [name for name, content in places.items() if any(s in content for s in looked_for)]
