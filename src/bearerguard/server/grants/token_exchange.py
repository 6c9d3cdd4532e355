"""Token exchange: a token for another API, or with less scope, that says who acts (RFC 8693).

The subject token is an access token of this server that concerns the client, or a JWT of a trusted
issuer. The new token never allows more, never lives longer, and ends with the grant of the subject
token. A client that exchanges a token of another client becomes its actor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bearerguard.protocol import jwt_claims, names, scope
from bearerguard.protocol.http import uri
from bearerguard.server.clients.authentication_methods import Rejected
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.trusted_issuers import TrustedIssuers
from bearerguard.server.grants import actors, possession
from bearerguard.server.grants.scopes_and_resources import narrowed_resources, narrowed_scopes
from bearerguard.server.grants.token_issuer import TokenIssuer
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http.oauth_error import (
    OAuthError,
    invalid_request,
    invalid_target,
    named,
    unauthorized_client,
)
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.settings import Settings
from bearerguard.server.tokens.access_token import AccessTokens, Authorization

# The tokens that are accepted, by their type (§3); one that a trusted issuer signed is either.
_GIVEN = frozenset({names.TYPE_ACCESS_TOKEN, names.TYPE_JWT})
_JWT_TYPES = ("jwt", names.ACCESS_TOKEN_JWT)


@dataclass(frozen=True, slots=True)
class _Subject:
    """For whom a token is asked, and what their token allows; `scopes` is None for no limit."""

    subject: str
    scopes: frozenset[str] | None
    resources: tuple[str, ...] | None
    expires_at: float
    claims: Mapping[str, Any] = field(repr=False)
    # The client of a token of this server, and its grant.
    client_id: str | None = None
    grant_id: str | None = None


class TokenExchangeGrant:
    """The grant `urn:ietf:params:oauth:grant-type:token-exchange`."""

    grant_type = names.TOKEN_EXCHANGE

    def __init__(
        self,
        trusted: TrustedIssuers,
        *,
        settings: Settings,
        access: AccessTokens,
        tokens: TokenIssuer,
        clock: Callable[[], float],
    ) -> None:
        self._trusted = trusted
        self._settings = settings
        self._access = access
        self._tokens = tokens
        self._clock = clock

    def handle(self, client: Client, parameters: Parameters) -> TokenResponse:
        """Return the token that another one is exchanged for; raises `OAuthError`."""
        if not client.is_confidential:
            raise unauthorized_client("A public client must not exchange tokens", "public_client")
        _check_requested_type(parameters)
        subject = self._subject(client, parameters)
        actor = self._actor(client, parameters)
        act = self._act(subject, actor, client)
        known = client.scopes
        limit = known if subject.scopes is None else subject.scopes
        granted = tuple(name for name in known if name in limit)
        found = narrowed_scopes(parameters, granted, known, self._settings)
        authorization = Authorization(
            client=client,
            subject=subject.subject,
            scopes=found.granted,
            resources=self._resources(client, subject, parameters),
            grant_id=subject.grant_id,
            auth_time=subject.claims.get("auth_time") if subject.client_id else None,
            acr=subject.claims.get("acr") if subject.client_id else None,
            amr=tuple(subject.claims.get("amr", ())) if subject.client_id else (),
            actor=act,
            not_after=subject.expires_at,
        )
        response = self._tokens.issue_granted(authorization, parameters, found)
        return replace(response, parameters={"issued_token_type": names.TYPE_ACCESS_TOKEN})

    def _subject(self, client: Client, parameters: Parameters) -> _Subject:
        token = _given(parameters, "subject_token")
        own = self._access.find(token)
        if own is not None:
            claims = own.claims
            if not own.active:
                raise _unusable("subject_token", "inactive_subject_token")
            _check_key("subject_token", claims, parameters)
            if not own.concerns(client):
                raise _unusable(
                    "subject_token", "subject_token_of_another_client", issued_to=own.client_id
                )
            if claims["sub"] == own.client_id and own.client_id != client.client_id:
                # Its subject would look like a user of this client (RFC 9700 §4.15).
                raise _unusable("subject_token", "subject_is_a_client", issued_to=own.client_id)
            return _Subject(
                claims["sub"],
                frozenset(claims["scope"].split()),
                tuple(own.audience),
                claims["exp"],
                claims,
                own.client_id,
                own.grant_id,
            )
        issuer, claims = self._foreign("subject_token", token, parameters)
        if issuer.clients is not None and client.client_id not in issuer.clients:
            raise _unusable("subject_token", "client_not_trusted_with_issuer")
        user_id = self._trusted.local_user(issuer, claims)
        if isinstance(user_id, Rejected):
            raise _unusable("subject_token", user_id.reason)
        if user_id == client.client_id:
            raise _unusable("subject_token", "user_has_a_clients_id")
        expires_at = jwt_claims.numeric_date(claims, "exp")
        if expires_at < self._clock() + 1:  # within the leeway
            raise _unusable("subject_token", "expired_subject_token")
        text = claims.get("scope")
        limits = [scope.parse(text)] if isinstance(text, str) else []
        limits += [] if issuer.scopes is None else [frozenset(issuer.scopes)]
        scopes = frozenset.intersection(*limits) if limits else None
        return _Subject(user_id, scopes, None, expires_at, claims)

    def _actor(self, client: Client, parameters: Parameters) -> dict[str, str] | None:
        """Return who an actor token is about, None without one."""
        if parameters.get("actor_token") is None:
            if parameters.get("actor_token_type") is not None:
                raise invalid_request(
                    "actor_token_type is sent without actor_token", "actor_token_type_alone"
                )
            return None
        token = _given(parameters, "actor_token")
        own = self._access.find(token)
        if own is not None:
            if not own.active:
                raise _unusable("actor_token", "inactive_actor_token")
            if own.client_id != client.client_id:
                raise _unusable(
                    "actor_token", "actor_token_of_another_client", issued_to=own.client_id
                )
            _check_key("actor_token", own.claims, parameters)
            return {"sub": own.claims["sub"], "client_id": own.client_id}
        issuer, claims = self._foreign("actor_token", token, parameters)
        if issuer.clients is not None and client.client_id not in issuer.clients:
            raise _unusable("actor_token", "client_not_trusted_with_issuer")
        return {"iss": issuer.url, "sub": claims["sub"]}

    def _foreign(
        self, name: str, token: str, parameters: Parameters
    ) -> tuple[Any, Mapping[str, Any]]:
        """Return the issuer and the claims of a trusted issuer's JWT; raises `OAuthError`."""
        found = self._trusted.signed(token, *_JWT_TYPES)
        if isinstance(found, Rejected):
            raise _unusable(name, found.reason, **found.found)
        issuer, signed = found
        _check_key(name, signed.claims, parameters)
        claims = possession.without_confirmation(signed.claims)
        unfit = self._trusted.unfit_token(issuer, claims)
        if unfit is not None:
            raise _unusable(name, unfit.reason, **unfit.found)
        return issuer, claims

    def _resources(
        self, client: Client, subject: _Subject, parameters: Parameters
    ) -> tuple[str, ...]:
        """Return the resources of the new token; raises `OAuthError`.

        They are those of the subject token, and those for which the client may exchange tokens.
        """
        wanted = tuple(dict.fromkeys((*parameters.resources, *parameters.audiences)))
        ours = [each.identifier for each in self._settings.resources]
        if subject.resources is None:
            return narrowed_resources(wanted or tuple(ours[:1]), client.exchanges_for or ours)
        had = {uri.normalized(each) for each in subject.resources}
        kept = [each for each in ours if uri.normalized(each) in had]
        if not wanted:
            if not kept:
                raise invalid_target("Name the resource of the new token", "no_resource")
            return tuple(kept)
        return narrowed_resources(wanted, dict.fromkeys((*kept, *client.exchanges_for)))

    def _act(
        self, subject: _Subject, actor: dict[str, str] | None, client: Client
    ) -> actors.Act | None:
        """Return the claim `act` of the new token; raises `OAuthError`."""
        try:
            before = actors.chain(subject.claims, self._settings.issuer)
        except actors.MalformedAct as error:
            raise _unusable("subject_token", "malformed_act", detail=str(error)) from None
        if actor is None:
            if subject.client_id == client.client_id:
                return actors.joined(before)  # the same client acts
            actor = {"sub": client.client_id}
        # The issuer of a token identifies the actors that name no other one.
        known = {"iss": self._settings.issuer, "client_id": client.client_id, **actor}
        if not actors.may_act(subject.claims, known, self._settings.issuer):
            raise _unusable("subject_token", "actor_may_not_act", actor=actor["sub"])
        if len(before) >= actors.MAX_ACTORS:
            raise _unusable("subject_token", "too_many_actors", actors=len(before))
        return actors.joined([actor, *before])


def _given(parameters: Parameters, name: str) -> str:
    """Return a token of the request, whose type must be named (§2.1)."""
    token = parameters.required(name)
    kind = parameters.required(f"{name}_type")
    if kind not in _GIVEN:
        raise invalid_request(
            f"{name}_type is not supported: {named([kind])}", "unsupported_token_type", type=kind
        )
    return token


def _check_requested_type(parameters: Parameters) -> None:
    requested = parameters.get("requested_token_type")
    if requested not in {None, names.TYPE_ACCESS_TOKEN}:
        raise invalid_request(
            f"requested_token_type is not supported: {named([requested or ''])}",
            "unsupported_requested_token_type",
            type=requested,
        )


def _check_key(name: str, claims: Mapping[str, Any], parameters: Parameters) -> None:
    """Raise `OAuthError` unless the request proves the key that a token is bound to.

    Without that, whoever stole a bound token could exchange it for one of their own.
    """
    if not possession.is_proved(claims.get("cnf"), parameters.confirmation):
        raise invalid_request(
            f"The {name} is bound to a key: send a DPoP proof of that key",
            f"{name}_of_another_key",
        )


def _unusable(name: str, reason: str, **found: Any) -> OAuthError:
    """Return the refusal of a token that is invalid or not acceptable (§2.2.2)."""
    return invalid_request(f"The {name} is not valid here", reason, **found)
