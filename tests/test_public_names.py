"""The public names of each public module: what a user may import, and nothing by accident."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import bearerguard
from bearerguard.guard.config.introspection import IntrospectionOptions
from bearerguard.guard.config.issuer import IssuerOptions
from bearerguard.guard.guard import GuardOptions
from tests import django_project  # noqa: F401 - REST framework and Ninja need Django's settings

# Sorted. A name that is added or goes is a change of the API: it is changed here, too.
NAMES: dict[str, list[str]] = {
    "bearerguard": [
        "ANONYMOUS",
        "Actor",
        "Allow",
        "AllowedTenants",
        "BearerGuardError",
        "CertificateHeader",
        "Challenge",
        "Check",
        "ClaimCheck",
        "ClaimCheckFailed",
        "ClaimMapping",
        "Claims",
        "ClientCertificate",
        "ConfigurationError",
        "CredentialsError",
        "Decision",
        "DecisionRecord",
        "DenialBody",
        "Deny",
        "DiscoveryError",
        "EXPOSED_HEADERS",
        "Event",
        "ExpiryHeaders",
        "Explanation",
        "Fetch",
        "FetchFailed",
        "FetchRecord",
        "Flow",
        "GITHUB_EXPIRY",
        "Guard",
        "GuardOptions",
        "HttpTransport",
        "Implies",
        "InsufficientScope",
        "Introspection",
        "IntrospectionCache",
        "IntrospectionOptions",
        "Issuer",
        "IssuerOptions",
        "IssuerUnavailable",
        "KeyPolicy",
        "LoginFailed",
        "LoginRequired",
        "MemoryReplays",
        "NonceRequired",
        "Observer",
        "Pending",
        "PinnedTransport",
        "Principal",
        "ProofError",
        "ProtectedResource",
        "Reason",
        "ReceivedRequest",
        "Refusal",
        "ReplaysUnavailable",
        "Request",
        "RequiredClaims",
        "Requirement",
        "Response",
        "RevocationFailed",
        "Revocations",
        "RevocationsUnavailable",
        "RouteOpaque",
        "StaticKeys",
        "StatusUnavailable",
        "StepUpRequired",
        "StorageError",
        "StreamEnded",
        "Tickets",
        "TokenError",
        "TokenExpired",
        "TokenRefused",
        "TokenUnavailable",
        "Transport",
        "Unavailable",
        "WebSockets",
        "arun",
        "ask",
        "claim",
        "role",
        "run",
        "scopes",
        "step_up",
    ],
    "bearerguard.asgi": [
        "ASGIApp",
        "BearerMiddleware",
        "Message",
        "REFUSAL",
        "Receive",
        "RequestState",
        "ResourceMetadata",
        "Scope",
        "Send",
        "issue_ticket",
        "raw_headers",
        "reauthenticate",
        "received_request",
        "request_info",
        "send_response",
        "sending_refusals",
    ],
    "bearerguard.backchannel": [
        "BackchannelLogout",
    ],
    "bearerguard.security_events": [
        "GlobalTokenRevocation",
        "SecurityEvents",
        "SubjectOf",
    ],
    "bearerguard.client": [
        "ApiLogin",
        "AssertionRequest",
        "AssertionSource",
        "AuthorizationCode",
        "BearerAuth",
        "Challenged",
        "ClientCredentials",
        "ClientRegistration",
        "Demand",
        "DeviceCode",
        "DevicePrompt",
        "Discovered",
        "DiscoveryError",
        "EncryptedFile",
        "EndpointOptions",
        "EnvironmentStorage",
        "FileKey",
        "GitHubActions",
        "GivenAssertion",
        "GrantOptions",
        "IdentityAssertion",
        "InsecurePlaintextFile",
        "InsufficientScope",
        "Interactive",
        "IssuerEndpoints",
        "JwtBearer",
        "KeyringKey",
        "KeyringStorage",
        "LoginFailed",
        "LoginOptions",
        "LoginRequired",
        "LoopbackReceiver",
        "MemoryStorage",
        "Names",
        "PassphraseKey",
        "PastedRedirect",
        "Receiver",
        "RefreshToken",
        "Revoking",
        "SecretKey",
        "StaticToken",
        "StepUpRequired",
        "Storage",
        "StorageError",
        "StorageFactory",
        "Token",
        "TokenExchange",
        "TokenManager",
        "TokenRefused",
        "TokenSource",
        "TokenUnavailable",
        "Widening",
        "adiscover",
        "default_storage",
        "discover",
        "named_storage",
        "register_storage",
        "storage_names",
    ],
    "bearerguard.django": [
        "BearerMiddleware",
        "require",
        "require_scopes",
        "token_not_required",
    ],
    "bearerguard.django.rest_framework": [
        "BearerAuthentication",
        "BearerUser",
        "ClientRateThrottle",
        "HasScopes",
        "Requires",
        "exception_handler",
        "requirement_of_view",
    ],
    "bearerguard.django.spectacular": [
        "BearerScheme",
    ],
    "bearerguard.fastapi": [
        "BearerMiddleware",
        "BearerSecurity",
    ],
    "bearerguard.flask": [
        "BearerGuard",
        "current_principal",
        "require",
        "require_scopes",
    ],
    "bearerguard.litestar": [
        "BearerMiddleware",
        "BearerPlugin",
        "RouteGuard",
        "provide_principal",
        "require",
        "require_scopes",
    ],
    "bearerguard.logs": [
        "BackgroundHandler",
        "JsonFormatter",
        "LogObserver",
        "TextFormatter",
    ],
    "bearerguard.mcp": [
        "GuardTokenVerifier",
        "UnavailableMiddleware",
        "get_principal",
        "protect",
    ],
    "bearerguard.middleware": [
        "Adapter",
        "Admission",
        "AdmissionOptions",
        "Admitted",
        "RequestInfo",
        "ResponseHeaders",
        "RouteDecorators",
        "TokenHeaders",
        "check_routes",
        "check_takes",
    ],
    "bearerguard.ninja": [
        "BearerAuth",
        "CallerRateThrottle",
        "install",
    ],
    "bearerguard.opentelemetry": [
        "OpenTelemetryObserver",
        "OpenTelemetryServerObserver",
    ],
    "bearerguard.prometheus": [
        "PrometheusObserver",
        "PrometheusServerObserver",
    ],
    "bearerguard.providers": [
        "auth0",
        "cognito",
        "entra",
        "entra_both_versions",
        "firebase",
        "github_actions",
        "google",
        "keycloak",
        "kubernetes",
        "okta",
    ],
    "bearerguard.quart": [
        "BearerGuard",
        "current_principal",
        "require",
        "require_scopes",
    ],
    "bearerguard.redis": [
        "RedisStore",
        "RedisThrottle",
    ],
    "bearerguard.server": [
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
    ],
    "bearerguard.starlette": [
        "BearerMiddleware",
        "require",
        "require_scopes",
    ],
    "bearerguard.stores": [
        "AppendLog",
        "AsyncHandlers",
        "Charge",
        "CutLog",
        "Effect",
        "Handlers",
        "Insert",
        "ListenLog",
        "Load",
        "LogPage",
        "MarkLog",
        "NotifyLog",
        "RateLimit",
        "ReadLog",
        "ReplayStore",
        "RevocationStore",
        "SharedStore",
        "Store",
        "StoreFailed",
        "Take",
        "ThrottleStore",
    ],
    "bearerguard.testing": [
        "Acting",
        "Clock",
        "LocalIssuer",
        "LocalStatusList",
        "SigningKey",
        "TokenOptions",
        "acting_as",
        "sign",
        "trusted",
    ],
    "bearerguard.uvicorn": ["DrainingServer"],
    "bearerguard.wsgi": [
        "BearerMiddleware",
        "Environ",
        "ResourceMetadata",
        "StartResponse",
        "WSGIApp",
        "received_request",
        "request_info",
    ],
}


def public(module: ModuleType) -> list[str]:
    """Return the names that a module offers: those of `__all__`, or those it defines itself."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return sorted(listed)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_public_names_of_a_module_are_these(name: str) -> None:
    module = importlib.import_module(name)
    assert public(module) == NAMES[name]
    for each in NAMES[name]:
        assert getattr(module, each) is not None


def test_the_lazy_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(bearerguard.__file__).read_text())
    (block,) = [each for each in tree.body if isinstance(each, ast.If)]
    imported = {
        alias.name: str(each.module).removeprefix("bearerguard.")
        for each in block.body
        if isinstance(each, ast.ImportFrom)
        for alias in each.names
    }
    assert imported == bearerguard._PLACE_OF
    assert set(imported) == set(bearerguard.__all__)


def test_the_package_lists_its_names_and_has_no_others() -> None:
    assert bearerguard.__all__ == sorted(bearerguard.__all__, key=lambda n: (not n.isupper(), n))
    assert set(bearerguard.__all__) <= set(dir(bearerguard))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bearerguard.nothing  # noqa: B018


def test_the_typed_options_are_those_of_the_constructors() -> None:
    guard = inspect.signature(bearerguard.Guard).parameters
    assert set(GuardOptions.__annotations__) == set(guard) - {"issuers"}
    introspection = inspect.signature(bearerguard.Introspection).parameters
    assert set(IntrospectionOptions.__annotations__) == set(introspection)
    issuer = inspect.signature(bearerguard.Issuer).parameters
    assert set(IssuerOptions.__annotations__) == set(issuer) - {"url", "audience"}
