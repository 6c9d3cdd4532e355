"""Token exchange (RFC 8693): tokens for another API, and ID-JAGs for another server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Unpack

from bearerguard.client.sources.assertion import (
    AssertionRequest,
    AssertionSource,
    GivenAssertion,
    reader,
)
from bearerguard.client.sources.grant import Fields, Grant, GrantOptions, GrantSource, further
from bearerguard.client.sources.issuer_endpoints import (
    EndpointOptions,
    IssuerEndpoints,
    check_options,
)
from bearerguard.client.sources.token_source import Demand, TokenSource
from bearerguard.client.token import Token
from bearerguard.errors import ConfigurationError
from bearerguard.protocol import names, token_endpoint
from bearerguard.runtime.flow import Flow

# Types of tokens by their last part: "jwt" is `urn:ietf:params:oauth:token-type:jwt`.
_URN = "urn:ietf:params:oauth:token-type:"


class TokenExchange(GrantSource):
    """Tokens that another token is exchanged for (RFC 8693); each renewal exchanges one anew.

    Args:
        issuer: the authorization server's identifier; None with `token_endpoint=`.
        client_id: the client's identifier.
        subject_token: the token to exchange, as `JwtBearer` takes its assertion. Whatever it
            returns must be about the same subject each time.
        subject_token_type: its type: "access_token", "jwt", "id_token", or a whole URI.
        actor_token: the token of the actor, likewise; None if the client itself acts.
        actor_token_type: its type.
        options: those of `GrantOptions` and of `EndpointOptions`; `parameters` may have
            `audience` and `requested_token_type`.

    Raises:
        ConfigurationError: an option is missing, unknown or unsafe.
    """

    def __init__(
        self,
        issuer: str | None = None,
        *,
        client_id: str,
        subject_token: GivenAssertion,
        subject_token_type: str = names.ACCESS_TOKEN,
        actor_token: GivenAssertion | None = None,
        actor_token_type: str = names.ACCESS_TOKEN,
        **options: Unpack[GrantOptions],
    ) -> None:
        check_options(type(self), options, GrantOptions)
        self._subject = reader("subject_token", subject_token)
        self._subject_type = _type("subject_token_type", subject_token_type)
        self._actor = None if actor_token is None else reader("actor_token", actor_token)
        self._actor_type = _type("actor_token_type", actor_token_type)
        parameters = options.pop("parameters", None)
        keys = (self._subject.key, "" if self._actor is None else self._actor.key)
        super().__init__(
            Grant.of(
                issuer,
                names.TOKEN_EXCHANGE,
                client_id=client_id,
                identity=" ".join(filter(None, keys)),
                token_parameters=parameters,
                **options,
            )
        )

    def token(self, previous: Token | None) -> Flow[Token]:
        """Exchange the token; a refresh token that comes with the new one is ignored."""
        grant = self._grant
        wanted = AssertionRequest(grant.server.name, grant.scopes, grant.resources)
        subject = yield from self._subject.assertion(wanted)
        fields = [("grant_type", names.TOKEN_EXCHANGE)]
        if "requested_token_type" not in dict(grant.token_parameters):
            fields.append(("requested_token_type", names.TYPE_ACCESS_TOKEN))
        fields += [("subject_token", subject), ("subject_token_type", self._subject_type)]
        if self._actor is not None:
            actor = yield from self._actor.assertion(wanted)
            fields += [("actor_token", actor), ("actor_token_type", self._actor_type)]
        token = yield from grant.ask(fields, previous)
        return replace(token, refresh_token=None)

    def widened(self, demand: Demand) -> TokenSource:
        """Return a source that requests more scopes."""
        return self._asking(demand.scopes)


class IdentityAssertion:
    """ID-JAGs of an identity provider, for `JwtBearer(assertion=)`.

    A person logs in at the identity provider once; its administrators decide which client may act
    for whom at which server (draft-ietf-oauth-identity-assertion-authz-grant, MCP
    enterprise-managed authorization). Scopes and resources are those of the `JwtBearer`.

    Args:
        issuer: the identity provider's identifier; None with `token_endpoint=`.
        client_id: the client's identifier at the identity provider.
        subject_token: the ID token of the person, as `JwtBearer` takes its assertion.
        subject_token_type: its type: "id_token", "refresh_token", "saml2", or a whole URI.
        parameters: further parameters of the token exchange.
        options: those of `EndpointOptions`, for the identity provider.

    Raises:
        ConfigurationError: an option is missing, unknown or unsafe.
    """

    def __init__(
        self,
        issuer: str | None = None,
        *,
        client_id: str,
        subject_token: GivenAssertion,
        subject_token_type: str = "id_token",  # noqa: S107 - the name of a type
        parameters: Mapping[str, str] | None = None,
        **options: Unpack[EndpointOptions],
    ) -> None:
        check_options(type(self), options, EndpointOptions)
        self._server = IssuerEndpoints(issuer, client_id=client_id, **options)
        self._subject: AssertionSource = reader("subject_token", subject_token)
        self._subject_type = _type("subject_token_type", subject_token_type)
        self._further: Fields = further("parameters", parameters)
        parts = (self._server.name, client_id, self._subject.key)
        self.key: str = " ".join(filter(None, parts))

    def assertion(self, request: AssertionRequest) -> Flow[str]:
        """Return an ID-JAG; raises `TokenRefused` or `TokenUnavailable`."""
        wanted = AssertionRequest(self._server.name, request.scopes, request.resources)
        subject = yield from self._subject.assertion(wanted)
        url = yield from self._server.endpoint("token_endpoint")
        fields = [
            ("grant_type", names.TOKEN_EXCHANGE),
            ("requested_token_type", names.TYPE_ID_JAG),
            ("audience", request.audience),
            ("subject_token", subject),
            ("subject_token_type", self._subject_type),
            *token_endpoint.scope_and_resource(request.scopes, request.resources),
            *self._further,
        ]
        response = yield from self._server.post(url, fields)
        return token_endpoint.issued(response, names.TYPE_ID_JAG)

    def __repr__(self) -> str:
        return f"IdentityAssertion({self._server.name!r})"


def _type(option: str, given: object) -> str:
    if not isinstance(given, str) or not given or not given.isprintable() or " " in given:
        raise ConfigurationError(f'{option}=: pass "access_token", "jwt", "id_token", or a URI')
    return given if ":" in given else _URN + given
