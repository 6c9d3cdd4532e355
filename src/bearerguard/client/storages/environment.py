"""The token of an environment variable, read-only: for jobs and containers."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from bearerguard.client.token import Token
from bearerguard.errors import StorageError

TOKEN_VARIABLE = "BEARERGUARD_CLIENT_TOKEN"  # noqa: S105 - a name, no token


class EnvironmentStorage:
    """Returns the token of an environment variable for every key, and stores none.

    Args:
        variable: the variable that holds the access token.
    """

    def __init__(self, variable: str = TOKEN_VARIABLE) -> None:
        self._variable = variable
        self.name: str = f"environment (${variable})"

    def __repr__(self) -> str:
        return f"EnvironmentStorage({self._variable!r})"

    def probe(self) -> None:
        """Raise `StorageError`: nothing can be stored here."""
        raise self._read_only()

    def load(self, key: str) -> bytes | None:  # noqa: ARG002 - the same token for every key
        """Return the variable's token, or None when it is unset or empty."""
        text = os.environ.get(self._variable, "").strip()
        return Token(text).to_bytes() if text else None

    def swap(self, *_: object) -> bool:
        """Raise `StorageError`: nothing can be stored here."""
        raise self._read_only()

    @contextmanager
    def locked(self, key: str) -> Generator[None]:  # noqa: ARG002 - nothing is shared
        """Hold no lock: nothing can be changed."""
        yield

    def keys(self) -> Sequence[str]:
        """Return no keys: the token is for every key."""
        return ()

    def _read_only(self) -> StorageError:
        return StorageError(
            f"{self.name} is read-only, a token cannot be stored there: set {self._variable} to"
            " another token, or choose the keyring or an encrypted file"
        )
