"""The authorization server of an API that has no identity provider.

Authorization code with PKCE, client credentials, refresh tokens that rotate, revocation and
introspection, over SQLite. See `AuthorizationServer`.
"""

from __future__ import annotations

from bearerguard.errors import (
    AccountError,
    ClientError,
    PasswordRejected,
    PersonalTokenError,
    SigningKeyError,
    StoreUnavailable,
)
from bearerguard.runtime.extras import Extra
from bearerguard.runtime.rate_limits import RateLimit

with Extra("server", needed_by=__name__):
    from bearerguard.server.account.access import AccessPage, GrantedAccess
    from bearerguard.server.authorization_server import AuthorizationServer
    from bearerguard.server.clients.authentication_methods import (
        ClientAuthenticationMethod,
        Presented,
        Rejected,
    )
    from bearerguard.server.clients.client import Client, ClientOptions
    from bearerguard.server.clients.metadata_documents import ClientMetadataDocuments
    from bearerguard.server.clients.registration import Registration
    from bearerguard.server.clients.registry import EditedClient, Registered
    from bearerguard.server.clients.trusted_issuers import MapSubject, TrustedIssuer
    from bearerguard.server.grants.registry import Grant, GrantRegistry
    from bearerguard.server.grants.token_issuer import TokenIssuer
    from bearerguard.server.grants.token_response import TokenResponse
    from bearerguard.server.http.oauth_error import OAuthError
    from bearerguard.server.http.parameters import Parameters
    from bearerguard.server.login.accounts import Account
    from bearerguard.server.login.people import PeopleOptions, User
    from bearerguard.server.mutual_tls import MutualTls
    from bearerguard.server.observers import RequestRecord, ServerObserver
    from bearerguard.server.pages.branding import Colors
    from bearerguard.server.revocations import Revoked
    from bearerguard.server.settings import Lifetimes, Resource, Scope, SigningKeys
    from bearerguard.server.tokens.personal_tokens import (
        NewPersonalToken,
        PersonalToken,
        PersonalTokens,
    )
    from bearerguard.server.upstream.options import (
        Admission,
        Admit,
        GitHubLogin,
        UpstreamIdentity,
        UpstreamLogin,
    )

__all__ = [
    "AccessPage",
    "Account",
    "AccountError",
    "Admission",
    "Admit",
    "AuthorizationServer",
    "Client",
    "ClientAuthenticationMethod",
    "ClientError",
    "ClientMetadataDocuments",
    "ClientOptions",
    "Colors",
    "EditedClient",
    "GitHubLogin",
    "Grant",
    "GrantRegistry",
    "GrantedAccess",
    "Lifetimes",
    "MapSubject",
    "MutualTls",
    "NewPersonalToken",
    "OAuthError",
    "Parameters",
    "PasswordRejected",
    "PeopleOptions",
    "PersonalToken",
    "PersonalTokenError",
    "PersonalTokens",
    "Presented",
    "RateLimit",
    "Registered",
    "Registration",
    "Rejected",
    "RequestRecord",
    "Resource",
    "Revoked",
    "Scope",
    "ServerObserver",
    "SigningKeyError",
    "SigningKeys",
    "StoreUnavailable",
    "TokenIssuer",
    "TokenResponse",
    "TrustedIssuer",
    "UpstreamIdentity",
    "UpstreamLogin",
    "User",
]
