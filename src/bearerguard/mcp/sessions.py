"""Session ids that work for one caller only, in every process that has the secret.

For apps that do not bind the sessions of MCP (revisions up to 2025-11-25) to their callers. Nothing
is stored: an id is given to the client with an HMAC of the id and the caller.

    id for the client = id of the app | "." | base64url(HMAC-SHA256)
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from bearerguard.principal import Principal
from bearerguard.protocol.jose import base64url
from bearerguard.runtime.sealing import Secret, secret_list

_FIELD = b"mcp-session-id"
_PURPOSE = "bearerguard mcp session 1"

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class SessionIds:
    """Marks the session ids that an app issues, and checks those that clients send.

    Args:
        secrets: one secret of at least 32 bytes, or several, newest first.

    Raises:
        ConfigurationError: a secret is too short.
    """

    def __init__(self, secrets: Secret | Sequence[Secret]) -> None:
        self._secrets = secret_list(secrets)

    def of_client(self, headers: Headers, principal: Principal) -> list[tuple[bytes, bytes]] | None:
        """Return a request's headers as the app needs them; None for the id of another caller."""
        kept: list[tuple[bytes, bytes]] = []
        for name, value in headers:
            if name.lower() == _FIELD:
                issued, _, mark = value.rpartition(b".")
                marks = (_mark(secret, issued, principal) for secret in self._secrets)
                if not any(hmac.compare_digest(mark, each) for each in marks):
                    return None
                kept.append((name, issued))
            else:
                kept.append((name, value))
        return kept

    def of_app(self, headers: Headers, principal: Principal) -> list[tuple[bytes, bytes]]:
        """Return a response's headers as they are sent to the caller."""
        return [
            (name, value + b"." + _mark(self._secrets[0], value, principal))
            if name.lower() == _FIELD
            else (name, value)
            for name, value in headers
        ]


def _mark(secret: bytes, session_id: bytes, principal: Principal) -> bytes:
    # Client, issuer and subject are what the MCP SDK binds a session to.
    bound: list[Any] = [_PURPOSE, session_id.decode("latin-1")]
    bound += [principal.issuer, principal.client_id, principal.subject]
    return base64url.encode(hmac.digest(secret, json.dumps(bound).encode(), hashlib.sha256))
