"""The base of interactive grants: a person acts only in `login`; renewals use a refresh token."""

from __future__ import annotations

from typing import Unpack

from bearerguard.client.sources.grant import Grant, GrantSource, LoginOptions
from bearerguard.client.sources.issuer_endpoints import check_options
from bearerguard.client.sources.token_source import Demand, TokenSource
from bearerguard.client.token import Token
from bearerguard.errors import LoginRequired
from bearerguard.runtime.flow import Flow


class InteractiveSource(GrantSource):
    """A source that renews by a refresh token; only `login` needs a person."""

    def __init__(
        self, issuer: str, kind: str, *, client_id: str, **options: Unpack[LoginOptions]
    ) -> None:
        check_options(type(self), options, LoginOptions)
        super().__init__(Grant.of(issuer, kind, client_id=client_id, **options))

    def token(self, previous: Token | None) -> Flow[Token]:
        """Refresh; raises `LoginRequired` where only a person can help."""
        if previous is None:
            raise LoginRequired("nobody has logged in yet")
        return (yield from self._grant.refreshed(previous))

    def widened(self, demand: Demand) -> TokenSource:
        """Return a source whose login requests more scopes, or a stronger or newer login."""
        return self._asking(demand.scopes, demand.parameters())
