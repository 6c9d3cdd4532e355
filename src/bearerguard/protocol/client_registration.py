"""Dynamic client registration (RFC 7591): build the request, read the response."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bearerguard.errors import TokenRefused
from bearerguard.protocol import names, token_endpoint
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Response

_HEADERS = (("accept", names.JSON), ("content-type", names.JSON))
_EXPIRY = "client_secret_expires_at"


@dataclass(frozen=True, slots=True)
class Registered:
    """What a server registered (RFC 7591 §3.2.1).

    Attributes:
        client_id: the client's identifier.
        client_secret: its secret, if it got one.
        auth_method: the `token_endpoint_auth_method`, None where the server does not name it.
        secret_expires_at: Unix seconds, None for a secret that does not expire.
    """

    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    auth_method: str | None = None
    secret_expires_at: float | None = None


def request(
    endpoint: str, metadata: Mapping[str, Any], initial_access_token: str | None = None
) -> Fetch:
    """Build a registration request (RFC 7591 §3.1)."""
    token = initial_access_token
    credentials = () if token is None else (("authorization", f"Bearer {token}"),)
    body = json.dumps(dict(metadata), separators=(",", ":")).encode()
    return Fetch("POST", endpoint, (*_HEADERS, *credentials), body)


def read(response: Response) -> Registered:
    """Return the client that a response registers.

    Raises:
        TokenRefused: the server refuses, or its response cannot be used.
        TokenUnavailable: the server is in trouble; asking again later may help.
    """
    content = token_endpoint.members(response)
    client_id, secret = content.get("client_id"), content.get("client_secret")
    if not isinstance(client_id, str) or not client_id:
        raise TokenRefused(token_endpoint.INVALID_RESPONSE, "the response has no client_id")
    method, expiry = content.get("token_endpoint_auth_method"), content.get(_EXPIRY)
    if isinstance(expiry, bool) or not isinstance(expiry, int | float) or expiry <= 0:
        expiry = None  # 0 for a secret that does not expire
    return Registered(
        client_id,
        secret if isinstance(secret, str) and secret else None,
        method if isinstance(method, str) and method else None,
        expiry,
    )


def auth_method(supported: object, known: Sequence[str]) -> str:
    """Return the authentication method to register for: the first of `known` that is supported.

    `supported` is the `token_endpoint_auth_methods_supported` of the server's metadata.
    """
    named = supported if isinstance(supported, list) else known
    return next((each for each in known if each in named), known[0])
