"""The introspection endpoint: `POST /oauth/introspect` (RFC 7662), signed on request (RFC 9701).

Only access tokens are ever active here: an API that took a refresh token for one would let it
in. A caller learns about its own tokens, and about those for the resources that it introspects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bearerguard.protocol.http import uri
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.clients.authentication import ClientAuthentication
from bearerguard.server.clients.client import Client
from bearerguard.server.endpoints.metadata import INTROSPECT
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import REFUSED, noting
from bearerguard.server.http.parameters import from_form
from bearerguard.server.settings import Settings
from bearerguard.server.store.database import Database
from bearerguard.server.tokens.access_token import AccessTokens, Known
from bearerguard.server.tokens.key_ring import KeyRing

_SIGNED = "token-introspection+jwt"
_SIGNED_MEDIA = f"application/{_SIGNED}"
_INACTIVE: Mapping[str, Any] = {"active": False}


class Introspection:
    """Says what is known of a token."""

    def __init__(
        self, database: Database, access: AccessTokens, settings: Settings, audit: Audit
    ) -> None:
        self._database = database
        self._endpoint = settings.base_path + INTROSPECT
        self._access = access
        self._audit = audit

    def describe(self, token: str, client: Client | None = None) -> Mapping[str, Any]:
        """Return the answer about a token, as `client` may have it, or as the server has it."""
        with self._database.read() as connection:
            known = self._access.find(connection, token)
        if known is None or not known.active:
            return _INACTIVE
        if client is not None and not _may_know(client, known):
            # To the caller it is as if the token were none (RFC 7662 §2.2).
            self._audit.emit(
                REFUSED,
                endpoint=self._endpoint,
                reason="token_for_another_api",
                client_id=client.client_id,
                issued_to=known.client_id,
                aud=" ".join(sorted(known.audience)),
                introspects=" ".join(client.introspects),
            )
            return _INACTIVE
        return {"active": True, "token_type": "Bearer", **known.claims}


class IntrospectEndpoint:
    """Answers introspection requests."""

    def __init__(
        self,
        *,
        authentication: ClientAuthentication,
        introspection: Introspection,
        keys: KeyRing,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._authentication = authentication
        self._introspection = introspection
        self._keys = keys
        self._settings = settings
        self._clock = clock

    def handle(self, request: Request) -> Response:
        """Answer; raises `OAuthError`."""
        responses.check_method(request, "POST")
        parameters = from_form(request)
        client = self._authentication.authenticate(request, parameters, confidential=True)
        with noting(client_id=client.client_id):
            token = parameters.required("token")
        answer = self._introspection.describe(token, client)
        if not _wants_signed(request):
            return responses.private(answer)
        content = {
            "iss": self._settings.issuer,
            "aud": client.client_id,
            "iat": int(self._clock()),
            "token_introspection": dict(answer),
        }
        return responses.signed(self._keys.sign(content, _SIGNED), _SIGNED_MEDIA)


def _may_know(client: Client, known: Known) -> bool:
    if client.client_id == known.client_id:
        return True
    # A command cannot know how the server spells its resources (RFC 3986 §6.2).
    served = {uri.normalized(each) for each in client.introspects}
    return any(uri.normalized(each) in served for each in known.audience)


def _wants_signed(request: Request) -> bool:
    accepted = b",".join(request.values(b"accept")).lower().split(b",")
    return any(each.split(b";")[0].strip() == _SIGNED_MEDIA.encode() for each in accepted)
