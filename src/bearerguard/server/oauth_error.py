"""What an endpoint refuses, in the words of the RFCs (RFC 6749 §5.2, RFC 8707 §2)."""

from __future__ import annotations

from bearerguard.errors import BearerGuardError


class OAuthError(BearerGuardError):
    """The request is refused.

    Attributes:
        error: the RFC's code.
        description: a text that is safe to send: printable ASCII that quotes nothing.
        status: of a direct answer; a redirect has none.
        headers: lines that a direct answer carries besides.
    """

    def __init__(
        self,
        error: str,
        description: str,
        *,
        status: int = 400,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers


def invalid_request(description: str) -> OAuthError:
    """Say that the request is malformed."""
    return OAuthError("invalid_request", description)


def invalid_grant(description: str) -> OAuthError:
    """Say that a code or a refresh token is not, or no longer, good for this."""
    return OAuthError("invalid_grant", description)


def invalid_scope(description: str) -> OAuthError:
    """Say that a scope is unknown, or more than may be had."""
    return OAuthError("invalid_scope", description)


def invalid_target(description: str) -> OAuthError:
    """Say that a resource is unknown, or more than may be had."""
    return OAuthError("invalid_target", description)


def unauthorized_client(description: str) -> OAuthError:
    """Say that this client may not do this."""
    return OAuthError("unauthorized_client", description)
