"""Possession of a key: the claim `cnf` of bound tokens, and whether a request proves that key.

A token without `cnf` is a bearer token. What a request proves is `Parameters.confirmation`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bearerguard.server.clients.client import Client


def is_proved(confirmation: object, proved: Mapping[str, str]) -> bool:
    """Whether a request that proves the key `proved` may use what has this `cnf`, None for any.

    Each member must be proved: one that is unknown here never is.
    """
    if confirmation is None:
        return True
    return (
        isinstance(confirmation, Mapping)
        and bool(confirmation)
        and all(proved.get(name) == value for name, value in confirmation.items())
    )


def without_confirmation(claims: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the claims of a token whose key is proved, as those of a bearer token."""
    return {name: value for name, value in claims.items() if name != "cnf"}


def of_refresh_tokens(client: Client, proved: Mapping[str, str]) -> str | None:
    """Return the `cnf` of new refresh tokens as the store has it, None for none.

    Those of a confidential client are bound to its credentials already (RFC 9449 §5).
    """
    return json.dumps(dict(proved)) if proved and not client.is_confidential else None


def stored(cnf: str | None) -> object:
    """Return the `cnf` of a row."""
    return None if cnf is None else json.loads(cnf)
