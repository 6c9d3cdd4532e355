"""The authorization server of an API that has no identity provider.

Authorization code with PKCE, client credentials, refresh tokens that rotate, revocation and
introspection, over SQLite. See `AuthorizationServer`.
"""

from __future__ import annotations

from bearerguard.errors import ConfigurationError

try:
    from bearerguard.server.authorization_server import AuthorizationServer
    from bearerguard.server.clients.client import Client
    from bearerguard.server.clients.registry import ClientError, Registered
    from bearerguard.server.grants.registry import Grant, GrantRegistry
    from bearerguard.server.grants.token_issuer import TokenIssuer
    from bearerguard.server.grants.token_response import TokenResponse
    from bearerguard.server.http.oauth_error import OAuthError
    from bearerguard.server.http.parameters import Parameters
    from bearerguard.server.login.accounts import Account, AccountError
    from bearerguard.server.login.people import PeopleOptions, User
    from bearerguard.server.login.throttle import Allowance
    from bearerguard.server.settings import Lifetimes, Resource, SigningKeys
    from bearerguard.server.store.database import StoreUnavailable
    from bearerguard.server.tokens.key_ring import SigningKeyError
    from bearerguard.server.tokens.revocations import Revoked
except ModuleNotFoundError as _missing:
    if (_missing.name or "").startswith("bearerguard"):
        raise
    raise ConfigurationError(
        f"bearerguard.server needs {_missing.name}: install bearerguard[server]"
    ) from _missing

__all__ = [
    "Account",
    "AccountError",
    "Allowance",
    "AuthorizationServer",
    "Client",
    "ClientError",
    "Grant",
    "GrantRegistry",
    "Lifetimes",
    "OAuthError",
    "Parameters",
    "PeopleOptions",
    "Registered",
    "Resource",
    "Revoked",
    "SigningKeyError",
    "SigningKeys",
    "StoreUnavailable",
    "TokenIssuer",
    "TokenResponse",
    "User",
]
