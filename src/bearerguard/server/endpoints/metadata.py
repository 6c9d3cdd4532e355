"""The server's metadata (RFC 8414) and the paths of its endpoints. No state, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bearerguard.protocol import dpop, pkce
from bearerguard.protocol.jose import jwk
from bearerguard.protocol.metadata import OAUTH_PATH, OPENID_PATH
from bearerguard.server.clients import client as clients
from bearerguard.server.login.prompt import VALUES as PROMPTS
from bearerguard.server.settings import OFF, Settings

AUTHORIZE = "/oauth/authorize"
TOKEN = "/oauth/token"  # noqa: S105 - a path
REVOKE = "/oauth/revoke"
INTROSPECT = "/oauth/introspect"
JWKS = "/oauth/jwks"
REGISTER = "/oauth/register"
PUSH = "/oauth/par"
DEVICE_AUTHORIZATION = "/oauth/device_authorization"

# How long a cache may keep the metadata.
CACHE_SECONDS = 3600


def document(
    settings: Settings,
    algorithms: Sequence[str],
    *,
    grant_types: Iterable[str],
    auth_methods: Iterable[str],
    grant_profiles: Iterable[str] = (),
    acr_values: Iterable[str] = (),
    registers: bool = False,
    takes_documents: bool = False,
) -> dict[str, Any]:
    """Return the metadata, without empty members (RFC 8414 §3.2).

    `algorithms` are those of the signing keys, `grant_types` and `auth_methods` those that are
    registered, `grant_profiles` those of their profiles that clients look for, `acr_values` what
    logins can be. `registers` and `takes_documents` say in which ways clients become known by
    themselves.
    """
    methods = list(auth_methods)
    with_credentials = [name for name in methods if name != clients.NONE]
    signing = list(jwk.ASYMMETRIC)
    content: dict[str, Any] = {
        "issuer": settings.issuer,
        "authorization_endpoint": settings.url(AUTHORIZE),
        "token_endpoint": settings.url(TOKEN),
        "revocation_endpoint": settings.url(REVOKE),
        "introspection_endpoint": settings.url(INTROSPECT),
        "device_authorization_endpoint": settings.url(DEVICE_AUTHORIZATION),
        "jwks_uri": settings.url(JWKS),
        "pushed_authorization_request_endpoint": settings.url(PUSH),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(grant_types),
        "authorization_grant_profiles_supported": list(grant_profiles),
        "code_challenge_methods_supported": [pkce.METHOD],
        "authorization_response_iss_parameter_supported": True,
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": signing,
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": signing,
        "introspection_endpoint_auth_methods_supported": with_credentials,
        "introspection_endpoint_auth_signing_alg_values_supported": signing,
        "introspection_signing_alg_values_supported": list(algorithms),
        "prompt_values_supported": list(PROMPTS),
        "acr_values_supported": list(acr_values),
        "scopes_supported": list(settings.scopes or ()),
        "protected_resources": [each.identifier for each in settings.resources],
    }
    if settings.dpop != OFF:
        content["dpop_signing_alg_values_supported"] = list(dpop.ALGORITHMS)
    mutual_tls = settings.mutual_tls
    if mutual_tls is not None:
        content["tls_client_certificate_bound_access_tokens"] = True
    if mutual_tls is not None and mutual_tls.url is not None:
        base = mutual_tls.url.rstrip("/")
        content["mtls_endpoint_aliases"] = {
            "token_endpoint": base + TOKEN,
            "revocation_endpoint": base + REVOKE,
            "introspection_endpoint": base + INTROSPECT,
            "pushed_authorization_request_endpoint": base + PUSH,
            "device_authorization_endpoint": base + DEVICE_AUTHORIZATION,
        }
    if settings.require_par:
        content["require_pushed_authorization_requests"] = True
    if registers:
        content["registration_endpoint"] = settings.url(REGISTER)
    if takes_documents:
        content["client_id_metadata_document_supported"] = True
    return {name: value for name, value in content.items() if value != []}


def openid_document(
    settings: Settings,
    algorithms: Sequence[str],
    *,
    grant_types: Iterable[str],
    auth_methods: Iterable[str],
    grant_profiles: Iterable[str] = (),
    acr_values: Iterable[str] = (),
    registers: bool = False,
    takes_documents: bool = False,
) -> dict[str, Any]:
    """Return the metadata with the members that OpenID Connect Discovery §3 also requires.

    OpenID clients refuse a document without them, even if they want no ID token. This server
    issues none. The `sub` of a user is the same for all clients. §3 requires RS256 in the list.
    """
    return {
        **document(
            settings,
            algorithms,
            grant_types=grant_types,
            auth_methods=auth_methods,
            grant_profiles=grant_profiles,
            acr_values=acr_values,
            registers=registers,
            takes_documents=takes_documents,
        ),
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
