"""What a token request gets (RFC 6749 §5.1), as a value and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bearerguard.protocol import scope
from bearerguard.server.tokens.access_token import Minted


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """Tokens that were issued."""

    access: Minted
    scopes: tuple[str, ...]
    refresh: str | None = field(default=None, repr=False)

    def content(self) -> dict[str, Any]:
        """Return the members of the answer; the scope is always among them."""
        content: dict[str, Any] = {
            "access_token": self.access.value,
            "token_type": "Bearer",
            "expires_in": self.access.expires_in,
        }
        if self.refresh is not None:
            content["refresh_token"] = self.refresh
        return {**content, "scope": scope.build(self.scopes)}
