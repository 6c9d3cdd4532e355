"""Clients: each a client that sends a fixed header, and the same client with authentication.

All responses come from memory, so the difference is what authentication adds. Each client has the
same token: from a token endpoint on loopback, or passed with its expiry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bearerguard.client import BearerAuth, ClientCredentials, TokenManager
from benchmarks.peers import PeerError

ORIGIN = "https://api.example.com"
URL = f"{ORIGIN}/api/v1/recordings"
LIFETIME = 3600
_CALLER: dict[str, Any] = {"client_id": "caller", "client_secret": "a secret"}


@dataclass(frozen=True)
class Tokens:
    """The token that all send, and the endpoint that issues it."""

    endpoint: str
    token: str

    @property
    def header(self) -> str:
        """The value of `Authorization` that must be sent."""
        return f"Bearer {self.token}"

    def manager(self) -> TokenManager:
        """Return our token manager, which asks the endpoint."""
        return TokenManager(ClientCredentials(token_endpoint=self.endpoint, **_CALLER))


@dataclass(frozen=True)
class Pair:
    """A client with a fixed header, and one with authentication."""

    without: Any
    authenticated: Any
    is_async: bool = False


def transport(library: Any, *, is_async: bool = False) -> Any:
    """Return a transport of httpx or httpx2 that responds from memory and records the header."""
    base: Any = library.AsyncBaseTransport if is_async else library.BaseTransport
    response = library.Response

    class Transport(base):  # type: ignore[misc]
        seen: str | None = None

        def handle_request(self, request: Any) -> Any:
            self.seen = request.headers["authorization"]
            return response(200)

        async def handle_async_request(self, request: Any) -> Any:
            self.seen = request.headers["authorization"]
            return response(200)

    return Transport()


def _pair(library: Any, tokens: Tokens, auth: Any, *, is_async: bool) -> Pair:
    kind = library.AsyncClient if is_async else library.Client
    fixed, authenticated = (transport(library, is_async=is_async) for _ in range(2))
    return Pair(
        kind(transport=fixed, headers={"Authorization": tokens.header}),
        kind(transport=authenticated, auth=auth),
        is_async,
    )


def ours_httpx2(tokens: Tokens, *, is_async: bool) -> Pair:
    """`BearerAuth` for httpx2."""
    import httpx2

    auth = BearerAuth(tokens.manager(), origins=ORIGIN)
    return _pair(httpx2, tokens, auth, is_async=is_async)


def ours_httpx(tokens: Tokens, *, is_async: bool) -> Pair:
    """`BearerAuth` for httpx."""
    import httpx

    from bearerguard.client import httpx as for_httpx

    auth = for_httpx.BearerAuth(tokens.manager(), origins=ORIGIN)
    return _pair(httpx, tokens, auth, is_async=is_async)


def ours_requests(tokens: Tokens) -> Pair:
    """`BearerAuth` for requests."""
    import requests

    from bearerguard.client import requests as for_requests

    class Adapter(requests.adapters.BaseAdapter):
        seen: str | bytes | None = None

        def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:  # type: ignore[override]
            self.seen = request.headers["authorization"]
            response = requests.Response()
            response.status_code, response.request, response.url = 200, request, URL
            response._content = b""  # noqa: SLF001 - as of a response that was read
            return response

        def close(self) -> None:
            """There is nothing to close."""

    def session() -> requests.Session:
        made = requests.Session()
        made.trust_env = False  # otherwise it looks for a .netrc file where there is no auth=
        made.mount("https://", Adapter())
        return made

    fixed, authenticated = session(), session()
    fixed.headers["Authorization"] = tokens.header
    authenticated.auth = for_requests.BearerAuth(tokens.manager(), origins=ORIGIN)
    return Pair(fixed, authenticated)


def authlib(tokens: Tokens, *, is_async: bool) -> Pair:
    """Authlib's OAuth2Client and AsyncOAuth2Client, with a token that it would refresh."""
    import httpx2
    from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client

    given = {
        "access_token": tokens.token,
        "token_type": "Bearer",
        "expires_in": LIFETIME,
        "expires_at": int(time.time()) + LIFETIME,
    }
    client = (AsyncOAuth2Client if is_async else OAuth2Client)(
        **_CALLER,
        token=given,
        token_endpoint=tokens.endpoint,
        grant_type="client_credentials",
        transport=transport(httpx2, is_async=is_async),
    )
    fixed = _pair(httpx2, tokens, None, is_async=is_async).without
    return Pair(fixed, client, is_async)


def httpx_auth(tokens: Tokens, *, is_async: bool) -> Pair:
    """httpx-auth's OAuth2ClientCredentials, which asks the endpoint."""
    import httpx
    from httpx_auth import OAuth2ClientCredentials

    auth = OAuth2ClientCredentials(tokens.endpoint, **_CALLER)
    return _pair(httpx, tokens, auth, is_async=is_async)


OURS: dict[str, Callable[[Tokens], Pair]] = {
    "bearerguard, httpx2": lambda tokens: ours_httpx2(tokens, is_async=False),
    "bearerguard, httpx2 async": lambda tokens: ours_httpx2(tokens, is_async=True),
    "bearerguard, httpx": lambda tokens: ours_httpx(tokens, is_async=False),
    "bearerguard, httpx async": lambda tokens: ours_httpx(tokens, is_async=True),
    "bearerguard, requests": ours_requests,
}
MAKERS: dict[str, Callable[[Tokens], Pair]] = {
    "Authlib OAuth2Client": lambda tokens: authlib(tokens, is_async=False),
    "Authlib AsyncOAuth2Client": lambda tokens: authlib(tokens, is_async=True),
    "httpx-auth": lambda tokens: httpx_auth(tokens, is_async=False),
    "httpx-auth async": lambda tokens: httpx_auth(tokens, is_async=True),
}


def check(name: str, client: Any, tokens: Tokens) -> None:
    """Raise unless what a client has just sent carried the token."""
    found = client.get_adapter(URL) if hasattr(client, "get_adapter") else client._transport  # noqa: SLF001 - the transport that recorded it
    if found.seen != tokens.header:
        raise PeerError(f"{name} sends {'nothing' if found.seen is None else 'something else'}")
