"""bearerguard: every request of an API authenticated, with the right answer for each failure.

Light to import: a public name brings its module when it is first used, and no role brings
what only another one needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bearerguard.runtime.lazy_names import lazy_names

if TYPE_CHECKING:
    from bearerguard.errors import (
        BearerGuardError,
        ConfigurationError,
        IssuerUnavailable,
        Refusal,
        RevocationFailed,
        TokenError,
        TokenExpired,
    )
    from bearerguard.guard.config.introspection import Introspection
    from bearerguard.guard.config.introspection_cache import IntrospectionCache
    from bearerguard.guard.config.issuer import Issuer
    from bearerguard.guard.config.requirement import Requirement, claim, role, scopes
    from bearerguard.guard.decision import Allow, Decision, Deny, Unavailable
    from bearerguard.guard.guard import Guard
    from bearerguard.guard.revocation.revocations import Revocations
    from bearerguard.principal import ANONYMOUS, Claims, Principal
    from bearerguard.protocol.http.expiry import EXPOSED_HEADERS, GITHUB_EXPIRY, ExpiryHeaders
    from bearerguard.runtime.events import Event
    from bearerguard.runtime.messages import FetchFailed, Request, Response
    from bearerguard.transports.http import HttpTransport

__all__ = [
    "ANONYMOUS",
    "EXPOSED_HEADERS",
    "GITHUB_EXPIRY",
    "Allow",
    "BearerGuardError",
    "Claims",
    "ConfigurationError",
    "Decision",
    "Deny",
    "Event",
    "ExpiryHeaders",
    "FetchFailed",
    "Guard",
    "HttpTransport",
    "Introspection",
    "IntrospectionCache",
    "Issuer",
    "IssuerUnavailable",
    "Principal",
    "Refusal",
    "Request",
    "Requirement",
    "Response",
    "RevocationFailed",
    "Revocations",
    "TokenError",
    "TokenExpired",
    "Unavailable",
    "claim",
    "role",
    "scopes",
]
__version__ = "0.1.0"

# Where each public name is defined.
_PLACES = {
    "errors": "BearerGuardError ConfigurationError IssuerUnavailable"
    " Refusal RevocationFailed TokenError TokenExpired",
    "guard.decision": "Allow Decision Deny Unavailable",
    "guard.events": "Event",
    "guard.guard": "Guard",
    "guard.config.introspection": "Introspection",
    "guard.config.introspection_cache": "IntrospectionCache",
    "guard.config.issuer": "Issuer",
    "guard.config.requirement": "Requirement claim role scopes",
    "guard.revocation.revocations": "Revocations",
    "runtime.messages": "FetchFailed Request Response",
    "principal": "ANONYMOUS Claims Principal",
    "protocol.http.expiry": "EXPOSED_HEADERS GITHUB_EXPIRY ExpiryHeaders",
    "transports.http": "HttpTransport",
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names.split()}

__getattr__, __dir__ = lazy_names(__name__, _PLACE_OF)
