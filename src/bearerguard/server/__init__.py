"""The authorization server of an API that has no identity provider.

Authorization code with PKCE, client credentials, refresh tokens that rotate, revocation and
introspection, over SQLite. See `AuthorizationServer`.
"""

from __future__ import annotations

from bearerguard.errors import ConfigurationError

try:
    from bearerguard.server.accounts import Account, AccountError
    from bearerguard.server.audit import SecurityEvent
    from bearerguard.server.authorization_server import AuthorizationServer
    from bearerguard.server.client import Client
    from bearerguard.server.client_registry import ClientError, Registered
    from bearerguard.server.keys import SigningKeyError
    from bearerguard.server.people import PeopleOptions, User
    from bearerguard.server.revocations import Revoked
    from bearerguard.server.settings import Resource
    from bearerguard.server.store.database import StoreUnavailable
    from bearerguard.server.throttle import Allowance
except ModuleNotFoundError as error:
    if (error.name or "").startswith("bearerguard"):
        raise
    raise ConfigurationError(
        f"bearerguard.server needs {error.name}: install bearerguard[server]"
    ) from error

__all__ = [
    "Account",
    "AccountError",
    "Allowance",
    "AuthorizationServer",
    "Client",
    "ClientError",
    "PeopleOptions",
    "Registered",
    "Resource",
    "Revoked",
    "SecurityEvent",
    "SigningKeyError",
    "StoreUnavailable",
    "User",
]
