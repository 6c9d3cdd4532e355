"""bearerguard: API authentication: the guard of a resource server, and what its users need.

Light to import: a public name loads its module when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bearerguard.runtime.lazy_names import lazy_names

if TYPE_CHECKING:
    from bearerguard.errors import (
        BearerGuardError,
        ClaimCheckFailed,
        ConfigurationError,
        CredentialsError,
        DiscoveryError,
        InsufficientScope,
        IssuerUnavailable,
        LoginFailed,
        LoginRequired,
        NonceRequired,
        ProofError,
        Reason,
        Refusal,
        ReplaysUnavailable,
        RevocationFailed,
        RevocationsUnavailable,
        StatusUnavailable,
        StepUpRequired,
        StorageError,
        StreamEnded,
        TokenError,
        TokenExpired,
        TokenRefused,
        TokenUnavailable,
    )
    from bearerguard.guard.binding.received_request import ReceivedRequest
    from bearerguard.guard.binding.replays import MemoryReplays
    from bearerguard.guard.config.claim_check import ClaimCheck
    from bearerguard.guard.config.claim_mapping import ClaimMapping, RequiredClaims
    from bearerguard.guard.config.introspection import Introspection, IntrospectionOptions
    from bearerguard.guard.config.issuer import AllowedTenants, Issuer, IssuerOptions
    from bearerguard.guard.config.key_policy import KeyPolicy
    from bearerguard.guard.config.protected_resource import ProtectedResource
    from bearerguard.guard.config.requirement import Requirement, claim, role, scopes, step_up
    from bearerguard.guard.config.scope_hierarchy import Implies
    from bearerguard.guard.config.static_keys import StaticKeys
    from bearerguard.guard.config.websockets import Tickets, WebSockets
    from bearerguard.guard.decision import Allow, Decision, Deny, Pending, Unavailable
    from bearerguard.guard.explanation import Check, Explanation
    from bearerguard.guard.guard import DenialBody, Guard, GuardOptions
    from bearerguard.guard.introspection.introspection_cache import IntrospectionCache
    from bearerguard.guard.observers import Observer
    from bearerguard.guard.records import DecisionRecord, FetchRecord
    from bearerguard.guard.revocation.revocations import Revocations
    from bearerguard.guard.tokens.routing import RouteOpaque
    from bearerguard.principal import ANONYMOUS, Actor, Claims, Principal
    from bearerguard.protocol.http.certificate_header import CertificateHeader
    from bearerguard.protocol.http.challenge import Challenge
    from bearerguard.protocol.http.expiry import EXPOSED_HEADERS, GITHUB_EXPIRY, ExpiryHeaders
    from bearerguard.runtime.fetching import Transport
    from bearerguard.runtime.flow import Fetch, Flow, arun, ask, run
    from bearerguard.runtime.messages import ClientCertificate, FetchFailed, Request, Response
    from bearerguard.runtime.reporting.events import Event
    from bearerguard.transports.http import HttpTransport
    from bearerguard.transports.pinned import PinnedTransport

__all__ = [
    "ANONYMOUS",
    "EXPOSED_HEADERS",
    "GITHUB_EXPIRY",
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
    "Event",
    "ExpiryHeaders",
    "Explanation",
    "Fetch",
    "FetchFailed",
    "FetchRecord",
    "Flow",
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
]
__version__ = "0.1.0"

# The module of each public name: the imports above, which only type checkers follow. A test
# compares the two.
_PLACES = {
    "errors": "BearerGuardError ClaimCheckFailed ConfigurationError CredentialsError"
    " DiscoveryError InsufficientScope IssuerUnavailable LoginFailed"
    " LoginRequired NonceRequired ProofError Reason Refusal ReplaysUnavailable"
    " RevocationFailed RevocationsUnavailable StatusUnavailable"
    " StepUpRequired StorageError StreamEnded TokenError TokenExpired TokenRefused"
    " TokenUnavailable",
    "guard.binding.received_request": "ReceivedRequest",
    "guard.binding.replays": "MemoryReplays",
    "guard.config.claim_check": "ClaimCheck",
    "guard.config.claim_mapping": "ClaimMapping RequiredClaims",
    "guard.config.introspection": "Introspection IntrospectionOptions",
    "guard.introspection.introspection_cache": "IntrospectionCache",
    "guard.config.issuer": "AllowedTenants Issuer IssuerOptions",
    "guard.config.key_policy": "KeyPolicy",
    "guard.config.protected_resource": "ProtectedResource",
    "guard.config.requirement": "Requirement claim role scopes step_up",
    "guard.config.scope_hierarchy": "Implies",
    "guard.config.static_keys": "StaticKeys",
    "guard.config.websockets": "Tickets WebSockets",
    "guard.decision": "Allow Decision Deny Pending Unavailable",
    "guard.explanation": "Check Explanation",
    "runtime.reporting.events": "Event",
    "guard.guard": "DenialBody Guard GuardOptions",
    "guard.observers": "Observer",
    "guard.records": "DecisionRecord FetchRecord",
    "guard.revocation.revocations": "Revocations",
    "guard.tokens.routing": "RouteOpaque",
    "principal": "ANONYMOUS Actor Claims Principal",
    "protocol.http.certificate_header": "CertificateHeader",
    "protocol.http.challenge": "Challenge",
    "protocol.http.expiry": "EXPOSED_HEADERS GITHUB_EXPIRY ExpiryHeaders",
    "runtime.fetching": "Transport",
    "runtime.flow": "Fetch Flow arun ask run",
    "runtime.messages": "ClientCertificate FetchFailed Request Response",
    "transports.http": "HttpTransport",
    "transports.pinned": "PinnedTransport",
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names.split()}

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_names(__name__, _PLACE_OF)
