"""The challenge of a guard whose issuer is a `LocalIssuer`: its audience is the API's URL."""

from __future__ import annotations

METADATA = 'resource_metadata="https://api.test/.well-known/oauth-protected-resource"'


def bearer(scope: str | None = None, realm: str = "api") -> str:
    """Return the challenge to a request without a token, or with one that lacks a role."""
    named = "" if scope is None else f', scope="{scope}"'
    return f'Bearer realm="{realm}"{named}, {METADATA}'
