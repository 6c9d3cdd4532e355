"""Tokens for an assertion of somebody whom the authorization server trusts (RFC 7523 §2.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from bearerguard.client.sources.assertion import AssertionRequest, GivenAssertion, reader
from bearerguard.client.sources.grant import Grant, GrantOptions, GrantSource
from bearerguard.client.sources.issuer_endpoints import check_options
from bearerguard.client.sources.token_source import Demand, TokenSource
from bearerguard.client.token import Token
from bearerguard.protocol import names
from bearerguard.runtime.flow import Flow


class JwtBearer(GrantSource):
    """Tokens for an assertion (RFC 7523 §2.1); each renewal presents a new one.

    Args:
        issuer: the authorization server's identifier; None with `token_endpoint=`.
        client_id: the client's identifier; None for a workload that its assertion identifies.
        assertion: the assertion, a `pathlib.Path` of a file that has it, a function that returns
            it, or what gets it: `IdentityAssertion` or `GitHubActions`. Whatever it returns must
            be about the same subject each time.
        options: those of `GrantOptions` and of `EndpointOptions`.

    Raises:
        ConfigurationError: an option is missing, unknown or unsafe.
    """

    def __init__(
        self,
        issuer: str | None = None,
        *,
        client_id: str | None = None,
        assertion: GivenAssertion,
        **options: Unpack[GrantOptions],
    ) -> None:
        check_options(type(self), options, GrantOptions)
        self._assertion = reader("assertion", assertion)
        parameters = options.pop("parameters", None)
        super().__init__(
            Grant.of(
                issuer,
                names.JWT_BEARER,
                client_id=client_id,
                identity=self._assertion.key,
                token_parameters=parameters,
                **options,
            )
        )

    def token(self, previous: Token | None) -> Flow[Token]:
        """Request a token; a refresh token that comes with it is ignored."""
        grant = self._grant
        wanted = AssertionRequest(grant.server.name, grant.scopes, grant.resources)
        assertion = yield from self._assertion.assertion(wanted)
        fields = [("grant_type", names.JWT_BEARER), ("assertion", assertion)]
        token = yield from grant.ask(fields, previous)
        return replace(token, refresh_token=None)

    def widened(self, demand: Demand) -> TokenSource:
        """Return a source that requests more scopes."""
        return self._asking(demand.scopes)
