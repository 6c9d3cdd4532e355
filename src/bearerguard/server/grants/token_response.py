"""The successful response to a token request (RFC 6749 §5.1), as a value and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bearerguard.protocol import names, scope


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenResponse:
    """The tokens that a grant issued.

    Args:
        access_token: its value.
        expires_in: seconds.
        scopes: what was granted; may be less than what was requested.
        refresh_token: its value, if there is one.
        parameters: further members of the response, such as `issued_token_type` (RFC 8693 §2.2.1).
        token_type: "DPoP" for a token that is bound to the key of a proof (RFC 9449 §5).
    """

    access_token: str = field(repr=False)
    expires_in: int
    scopes: tuple[str, ...]
    refresh_token: str | None = field(default=None, repr=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, repr=False)
    token_type: str = names.BEARER

    def content(self) -> dict[str, Any]:
        """Return the members of the response; the scope is always among them."""
        content: dict[str, Any] = {
            **self.parameters,
            "access_token": self.access_token,
            "token_type": self.token_type,
            "expires_in": self.expires_in,
        }
        if self.refresh_token is not None:
            content["refresh_token"] = self.refresh_token
        return {**content, "scope": scope.build(self.scopes)}
