"""Looking for secrets where none may be: on the database's disk, and in what a program printed."""

from __future__ import annotations

from collections.abc import Iterable

from tests.server.stores import Store


def found(store: Store, printed: str, secrets: Iterable[str]) -> list[str]:
    """Return where a secret is found in clear; a JWT is recognised by its signature."""
    places = dict(store.contents())
    assert places
    places["the log"] = printed.encode()
    looked_for = {secret.rpartition(".")[2].encode() for secret in secrets}
    assert looked_for
    assert min(map(len, looked_for)) >= 8, "too short to be looked for"
    return [name for name, content in places.items() if any(s in content for s in looked_for)]
