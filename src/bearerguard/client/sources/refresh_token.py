"""Tokens from a refresh token that was issued to another program (RFC 6749 §6)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Unpack

from bearerguard.client.sources.grant import Grant, GrantSource, Names
from bearerguard.client.sources.issuer_endpoints import EndpointOptions, check_options
from bearerguard.client.token import Token
from bearerguard.errors import ConfigurationError, LoginRequired
from bearerguard.protocol import names
from bearerguard.runtime.flow import Flow


class RefreshToken(GrantSource):
    """Tokens for a refresh token that was obtained elsewhere (RFC 6749 §6).

    Args:
        issuer: the authorization server's identifier; None with `token_endpoint=`.
        client_id: the client's identifier.
        refresh_token: the first one; its successors are stored in the manager's storage.
        resources: the APIs that the tokens are for (RFC 8707).
        dpop: bind the tokens to a key (RFC 9449).
        parameters: further parameters of the token request.
        options: those of `EndpointOptions`.

    Raises:
        ConfigurationError: an option is missing, unknown or unsafe.
    """

    def __init__(
        self,
        issuer: str | None = None,
        *,
        client_id: str,
        refresh_token: str,
        resources: Names = (),
        dpop: bool = False,
        parameters: Mapping[str, str] | None = None,
        **options: Unpack[EndpointOptions],
    ) -> None:
        check_options(type(self), options, EndpointOptions)
        if not isinstance(refresh_token, str) or not refresh_token:
            raise ConfigurationError("refresh_token=: pass the refresh token as text")
        grant = Grant.of(
            issuer,
            names.REFRESH_TOKEN,
            client_id=client_id,
            # Another first token is another session: its tokens have another storage key.
            identity=hashlib.sha256(refresh_token.encode()).hexdigest()[:16],
            resources=resources,
            dpop=dpop,
            token_parameters=parameters,
            **options,
        )
        super().__init__(grant)
        self._first = refresh_token
        self._is_spent = False

    def token(self, previous: Token | None) -> Flow[Token]:
        """Refresh with the last refresh token, or with the first."""
        if previous is not None:
            return (yield from self._grant.refreshed(previous))
        if self._is_spent:
            raise LoginRequired("the refresh token has expired or was revoked")
        try:
            return (yield from self._grant.refreshed(Token("", refresh_token=self._first)))
        except LoginRequired:
            self._is_spent = True
            raise
