"""The jwt-bearer grant: tokens for the user of a trusted issuer's assertion (RFC 7523 §2.1).

An ID-JAG is such an assertion that is bound to its client, and that limits scopes and resources
(draft-ietf-oauth-identity-assertion-authz-grant; MCP enterprise-managed authorization). An
assertion is accepted once. The token of a workload, which its client authenticates with, gives the
client's own tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from bearerguard.protocol import names, scope
from bearerguard.protocol.jose import jwt
from bearerguard.server.clients import workload_identity
from bearerguard.server.clients.authentication_methods import REPLAYED, Rejected
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.clients.trusted_issuers import TrustedIssuer, TrustedIssuers
from bearerguard.server.grants import possession
from bearerguard.server.grants.scopes_and_resources import (
    narrowed_resources,
    requested_resources,
    requested_scopes,
)
from bearerguard.server.grants.token_issuer import TokenIssuer
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http.oauth_error import OAuthError, invalid_grant
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.settings import Settings
from bearerguard.server.store.connection import Connection
from bearerguard.server.tokens.access_token import Authorization

_TYPES = ("jwt", names.ID_JAG_JWT, names.AUTHORIZATION_GRANT_JWT)
_REQUIRED = ("sub", "jti")
_REQUIRED_OF_ID_JAG = (*_REQUIRED, "client_id", "iat")
T = TypeVar("T")

_UNUSABLE = "The assertion is not valid here"


class JwtBearerGrant:
    """The grant `urn:ietf:params:oauth:grant-type:jwt-bearer`."""

    grant_type = names.JWT_BEARER

    def __init__(
        self,
        trusted: TrustedIssuers,
        *,
        registry: ClientRegistry,
        settings: Settings,
        tokens: TokenIssuer,
    ) -> None:
        self._trusted = trusted
        self._registry = registry
        self._settings = settings
        self._tokens = tokens

    def handle(self, client: Client, parameters: Parameters) -> TokenResponse:
        """Return an access token for an assertion; raises `OAuthError`."""
        assertion = parameters.required("assertion")
        signed = _accepted(self._trusted.signed(assertion, *_TYPES, *workload_identity.TYPES))
        issuer, (claims, typ) = signed
        kind = jwt.media_type(typ)
        if not possession.is_proved(claims.get("cnf"), parameters.confirmation):
            raise _refused(Rejected("assertion_of_another_key"))
        claims = possession.without_confirmation(claims)
        if client.is_workload(claims) and kind in workload_identity.TYPES:
            _check(self._trusted.unfit(issuer, claims, "sub"))
            return self._tokens.issue(client, parameters, subject=client.client_id)
        is_id_jag = kind == names.ID_JAG_JWT
        required = _REQUIRED_OF_ID_JAG if is_id_jag else _REQUIRED
        _check(self._trusted.unfit(issuer, claims, *required))
        _check(_foreign(issuer, claims, kind, client))
        user_id = _accepted(self._trusted.local_user(issuer, claims))
        if user_id == client.client_id:
            raise _refused(Rejected("user_has_a_clients_id"))
        found = requested_scopes(parameters, _scopes(issuer, claims, client), self._settings)
        authorization = Authorization(
            client=client,
            subject=user_id,
            scopes=found.granted,
            resources=self._resources(claims, parameters),
        )
        once = self._once(client, issuer, claims)
        return self._tokens.issue_granted(authorization, parameters, found, also=once)

    def _once(
        self, client: Client, issuer: TrustedIssuer, claims: Mapping[str, Any]
    ) -> Callable[[Connection], None]:
        """Return what uses an assertion up, in the transaction that stores its grant."""
        until = self._trusted.used_until(issuer, claims)

        def use(connection: Connection) -> None:
            self._registry.note_use(connection, client)
            # No client has an id with a space.
            signer = f"issuer {issuer.url}"
            if not self._registry.use_assertion_in(connection, signer, claims["jti"], until):
                raise _refused(Rejected(REPLAYED, {"jti": claims["jti"]}))

        return use

    def _resources(self, claims: Mapping[str, Any], parameters: Parameters) -> tuple[str, ...]:
        """Return the resources of the token: those of the assertion, if it names any."""
        named = claims.get("resource")
        if named is None:
            return requested_resources(parameters, self._settings)
        listed = named if isinstance(named, list) else [named]
        if not listed or not all(isinstance(each, str) for each in listed):
            raise _refused(Rejected("malformed_assertion_resource"))
        known = [each.identifier for each in self._settings.resources]
        return narrowed_resources(parameters.resources, narrowed_resources(tuple(listed), known))


def _foreign(
    issuer: TrustedIssuer, claims: Mapping[str, Any], kind: str, client: Client
) -> Rejected | None:
    """Return why a client may not present an assertion, None if it may."""
    named = claims.get("client_id")
    if named is not None and named != client.client_id:
        return Rejected("assertion_of_another_client", {"issued_to": named})
    if issuer.clients is not None and client.client_id not in issuer.clients:
        return Rejected("client_not_trusted_with_issuer")
    if named is None and not client.is_operators_alone:
        # Nothing would bind the assertion to a client that somebody has vouched for.
        return Rejected("assertion_not_bound_to_client")
    if kind == names.CLIENT_AUTHENTICATION_JWT:
        return Rejected("assertion_wrong_type", {"typ": kind})
    return None


def _scopes(issuer: TrustedIssuer, claims: Mapping[str, Any], client: Client) -> tuple[str, ...]:
    """Return the scopes that an assertion can give to a client."""
    text = claims.get("scope")
    if text is not None and not isinstance(text, str):
        raise _refused(Rejected("malformed_assertion_scope"))
    granted = None if text is None else scope.parse(text)
    return tuple(
        name
        for name in client.scopes
        if (granted is None or name in granted) and (issuer.scopes is None or name in issuer.scopes)
    )


def _check(rejected: Rejected | None) -> None:
    if rejected is not None:
        raise _refused(rejected)


def _accepted(found: T | Rejected) -> T:
    if isinstance(found, Rejected):
        raise _refused(found)
    return found


def _refused(rejected: Rejected) -> OAuthError:
    error = invalid_grant(_UNUSABLE, rejected.reason, **rejected.found)
    if rejected.reason == REPLAYED:
        error.event = REPLAYED
    return error
