"""bearerguard: every request of an API authenticated, with the right answer for each failure.

Light to import: HTTP, ASGI, WSGI and frameworks come with the modules that need them.
"""

from __future__ import annotations

from bearerguard.errors import (
    BearerGuardError,
    ConfigurationError,
    IssuerUnavailable,
    Refusal,
    TokenError,
    TokenExpired,
)
from bearerguard.guard.decision import Allow, Decision, Deny, Unavailable
from bearerguard.guard.events import Event
from bearerguard.guard.guard import Guard
from bearerguard.guard.issuer import Issuer
from bearerguard.guard.requirement import Requirement, claim, role, scopes
from bearerguard.messages import FetchFailed, Request, Response
from bearerguard.principal import ANONYMOUS, Claims, Principal
from bearerguard.protocol.expiry import EXPOSED_HEADERS, GITHUB_EXPIRY, ExpiryHeaders
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
    "Issuer",
    "IssuerUnavailable",
    "Principal",
    "Refusal",
    "Request",
    "Requirement",
    "Response",
    "TokenError",
    "TokenExpired",
    "Unavailable",
    "claim",
    "role",
    "scopes",
]
__version__ = "0.1.0"
