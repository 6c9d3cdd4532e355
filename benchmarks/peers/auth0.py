"""Auth0's library for APIs: it verifies the token of each request, and its DPoP proof."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from benchmarks.token_issuer import AUDIENCE, TokenIssuer

Decide: TypeAlias = Callable[[dict[str, str], str, str], Coroutine[Any, Any, object]]
"""Takes the headers of a request, its method and its URL; raises for one that it refuses."""

ISSUER = TokenIssuer("RS256", "https://tenant.example.com/")
"""It accepts tokens by RS256 alone, and proofs by ES256 alone."""


def auth0_api_python() -> Decide:
    """Return the decision of auth0-api-python on requests with a token of `ISSUER`."""
    from auth0_api_python import ApiClient, ApiClientOptions

    documents: dict[str, Any] = {
        f"{ISSUER.url}.well-known/openid-configuration": {
            "issuer": ISSUER.url,
            "jwks_uri": f"{ISSUER.url}jwks",
        },
        f"{ISSUER.url}jwks": ISSUER.jwks(),
    }

    async def fetch(url: str) -> object:
        return documents[url]

    options = ApiClientOptions(
        "tenant.example.com", AUDIENCE, custom_fetch=fetch, dpop_required=True
    )
    decide: Decide = ApiClient(options).verify_request
    return decide
