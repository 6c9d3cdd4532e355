"""The introspection endpoint, `POST /oauth/introspect` (RFC 7662), signed on request (RFC 9701).

Only access tokens are active here: an API that introspects a refresh token must not accept it. A
client may introspect its own tokens, and those for the resources that it is registered for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from bearerguard.protocol import dpop, names
from bearerguard.protocol.introspection import SIGNED_MEDIA_TYPE
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import REFUSED, Audit
from bearerguard.server.clients.authentication import ClientAuthentication
from bearerguard.server.clients.client import Client
from bearerguard.server.endpoints.metadata import INTROSPECT
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import noting
from bearerguard.server.http.parameters import from_form
from bearerguard.server.settings import Settings
from bearerguard.server.tokens.access_token import AccessTokens
from bearerguard.server.tokens.key_ring import KeyRing
from bearerguard.server.tokens.personal_tokens import PersonalTokenRegistry, is_for

_DECLINED = re.compile(rb"q=0(?:\.0*)?")
_INACTIVE: Mapping[str, Any] = {"active": False}


class TokenIntrospection:
    """Builds the introspection response about a token (RFC 7662 §2.2)."""

    def __init__(
        self,
        access: AccessTokens,
        settings: Settings,
        audit: Audit,
        personal: PersonalTokenRegistry,
    ) -> None:
        self._endpoint = settings.base_path + INTROSPECT
        self._access = access
        self._personal = personal
        self._audit = audit

    def describe(self, token: str, client: Client | None = None) -> Mapping[str, Any]:
        """Return the members of the response about a token.

        With `client`, a token that this client may not introspect is inactive.
        """
        found = self._access.find(token)
        if found is None:
            return self._personal_members(token, client)
        if not found.active:
            return _INACTIVE
        if client is not None and not found.concerns(client):
            self._refuse(client, found.audience, issued_to=found.client_id)
            return _INACTIVE
        return {
            "active": True,
            "token_type": dpop.token_type(found.claims.get("cnf")),
            **found.claims,
        }

    def _personal_members(self, token: str, client: Client | None) -> Mapping[str, Any]:
        """Return the members for a personal access token, which is its user's."""
        claims = self._personal.claims(token)
        if claims is None:
            return _INACTIVE
        if client is not None and not is_for(claims, client.introspects):
            self._refuse(client, [claims["aud"]], issued_to=None)
            return _INACTIVE
        return {"active": True, "token_type": names.BEARER, **claims}

    def _refuse(self, client: Client, audience: Iterable[str], *, issued_to: str | None) -> None:
        # The client does not learn that the token exists (RFC 7662 §2.2).
        self._audit.emit(
            REFUSED,
            endpoint=self._endpoint,
            reason="token_for_another_api",
            client_id=client.client_id,
            issued_to=issued_to,
            aud=" ".join(sorted(audience)),
            introspects=" ".join(client.introspects),
        )


class IntrospectionEndpoint:
    """Responds to introspection requests."""

    def __init__(
        self,
        *,
        authentication: ClientAuthentication,
        introspection: TokenIntrospection,
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
        """Return the response; raises `OAuthError`."""
        responses.check_method(request, "POST")
        parameters = from_form(request)
        client = self._authentication.authenticate(request, parameters, confidential=True)
        with noting(client_id=client.client_id):
            token = parameters.required("token")
        members = self._introspection.describe(token, client)
        if not _wants_signed(request):
            return responses.private(members)
        content = {
            "iss": self._settings.issuer,
            "aud": client.client_id,
            "iat": int(self._clock()),
            "token_introspection": dict(members),
        }
        return responses.signed(
            self._keys.sign(content, names.INTROSPECTION_JWT), SIGNED_MEDIA_TYPE
        )


def _wants_signed(request: Request) -> bool:
    """Whether a request accepts a signed response (RFC 9701 §4); a weight of 0 declines it."""
    for each in b",".join(request.values(b"accept")).lower().split(b","):
        kind, *parameters = (part.strip() for part in each.split(b";"))
        if kind == SIGNED_MEDIA_TYPE.encode():
            return not any(_DECLINED.fullmatch(part) for part in parameters)
    return False
