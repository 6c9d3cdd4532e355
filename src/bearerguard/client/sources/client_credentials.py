"""The client credentials grant (RFC 6749 §4.4)."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

from bearerguard.client.sources.grant import Grant, GrantOptions, GrantSource
from bearerguard.client.sources.issuer_endpoints import check_options
from bearerguard.client.sources.token_source import Demand, TokenSource
from bearerguard.client.token import Token
from bearerguard.protocol import names
from bearerguard.runtime.flow import Flow


class ClientCredentials(GrantSource):
    """Tokens of the client itself; each renewal requests a new one (RFC 6749 §4.4).

    Args:
        issuer: the authorization server's identifier; None with `token_endpoint=`.
        client_id: the client's identifier.
        options: those of `GrantOptions` (`scopes=`, `resources=`, `dpop=`, `parameters=`) and of
            `EndpointOptions` (`client_secret=`, `private_key=`, `token_endpoint=`, …).

    Raises:
        ConfigurationError: an option is missing, unknown or unsafe.
    """

    def __init__(
        self, issuer: str | None = None, *, client_id: str, **options: Unpack[GrantOptions]
    ) -> None:
        check_options(type(self), options, GrantOptions)
        parameters = options.pop("parameters", None)
        super().__init__(
            Grant.of(
                issuer,
                names.CLIENT_CREDENTIALS,
                client_id=client_id,
                token_parameters=parameters,
                **options,
            )
        )

    def token(self, previous: Token | None) -> Flow[Token]:
        """Request a token; a refresh token that comes with it is ignored (§4.4.3)."""
        fields = [("grant_type", names.CLIENT_CREDENTIALS)]
        token = yield from self._grant.ask(fields, previous)
        return replace(token, refresh_token=None)

    def widened(self, demand: Demand) -> TokenSource:
        """Return a source that requests more scopes."""
        return self._asking(demand.scopes)
