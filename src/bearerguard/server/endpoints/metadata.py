"""The server's metadata (RFC 8414) and the paths of its endpoints. No state, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bearerguard.protocol import pkce
from bearerguard.protocol.jose import jwk
from bearerguard.protocol.metadata import OAUTH_PATH, OPENID_PATH
from bearerguard.server.clients import client as clients
from bearerguard.server.settings import Settings

AUTHORIZE = "/oauth/authorize"
TOKEN = "/oauth/token"  # noqa: S105 - a path
REVOKE = "/oauth/revoke"
INTROSPECT = "/oauth/introspect"
JWKS = "/oauth/jwks"

# How long a cache may keep the metadata.
CACHE_SECONDS = 3600


def document(
    settings: Settings,
    algorithms: Sequence[str],
    *,
    grant_types: Iterable[str],
    auth_methods: Iterable[str],
) -> dict[str, Any]:
    """Return the metadata, without empty members (RFC 8414 §3.2).

    `algorithms` are those of the signing keys, `grant_types` and `auth_methods` those that are
    registered.
    """
    methods = list(auth_methods)
    with_credentials = [name for name in methods if name != clients.NONE]
    signing = [name for name in jwk.ASYMMETRIC if name != "Ed25519"]
    content = {
        "issuer": settings.issuer,
        "authorization_endpoint": settings.url(AUTHORIZE),
        "token_endpoint": settings.url(TOKEN),
        "revocation_endpoint": settings.url(REVOKE),
        "introspection_endpoint": settings.url(INTROSPECT),
        "jwks_uri": settings.url(JWKS),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(grant_types),
        "code_challenge_methods_supported": [pkce.METHOD],
        "authorization_response_iss_parameter_supported": True,
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": signing,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": signing,
        "introspection_endpoint_auth_methods_supported": with_credentials,
        "introspection_endpoint_auth_signing_alg_values_supported": signing,
        "introspection_signing_alg_values_supported": list(algorithms),
        "scopes_supported": list(settings.scopes or ()),
        "protected_resources": [each.identifier for each in settings.resources],
    }
    return {name: value for name, value in content.items() if value != []}


def openid_document(
    settings: Settings,
    algorithms: Sequence[str],
    *,
    grant_types: Iterable[str],
    auth_methods: Iterable[str],
) -> dict[str, Any]:
    """Return the metadata with the members that OpenID Connect Discovery §3 also requires.

    OpenID clients refuse a document without them, even if they want no ID token. This server
    issues none. The `sub` of a user is the same for all clients. §3 requires RS256 in the list.
    """
    return {
        **document(settings, algorithms, grant_types=grant_types, auth_methods=auth_methods),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(dict.fromkeys((*algorithms, "RS256"))),
    }


def oauth_path(settings: Settings) -> str:
    """Return the path of the metadata (RFC 8414 §3.1)."""
    return OAUTH_PATH + settings.base_path


def openid_paths(settings: Settings) -> frozenset[str]:
    """Return the paths that OpenID clients try: both forms are in use (RFC 8414 §5)."""
    base = settings.base_path
    return frozenset({OPENID_PATH + base, base + OPENID_PATH})
