"""The grants that need nobody at the screen: client credentials, and refreshing.

RFC 6749 §4.4 and §6. A refresh token that the server refuses is over: it is never sent again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from urllib.parse import urlencode

from bearerguard.client.auth.proofs import Proofs, new_key
from bearerguard.client.sources.authorization_server import AuthorizationServer
from bearerguard.client.sources.token_source import Demand, TokenSource, texts
from bearerguard.client.token import Token, received
from bearerguard.errors import ConfigurationError, LoginRequired, TokenRefused
from bearerguard.protocol import token_endpoint
from bearerguard.runtime.flow import Flow

# A token with more scopes than this would fit no header: an API that asks for them is astray.
_MAX_SCOPES = 100


# Half a character, which no form can hold.
_SURROGATE = re.compile("[\ud800-\udfff]")
# What a grant sends itself, and by which option it is set.
_OWNED = {
    **dict.fromkeys(("grant_type", "response_type", "code", "code_verifier", "device_code")),
    **dict.fromkeys(("code_challenge", "code_challenge_method", "state", "client_assertion_type")),
    **dict.fromkeys(("request", "request_uri", "response_mode")),
    "client_id": "client_id=",
    "client_secret": "client_secret=",
    "client_assertion": "private_key=",
    "scope": "scope=",
    "resource": "resource=",
    "refresh_token": "RefreshToken(refresh_token=)",
    "redirect_uri": "redirect_uri=",
    "dpop_jkt": "dpop=",
}

Fields: TypeAlias = tuple[tuple[str, str], ...]


def further(option: str, given: Mapping[str, str] | None) -> Fields:
    """Return further parameters of a request; raises `ConfigurationError` for a grant's own."""
    if given is None:
        return ()
    if not isinstance(given, Mapping) or not all(
        isinstance(each, str) and each and not _SURROGATE.search(each)
        for pair in given.items()
        for each in pair
    ):
        raise ConfigurationError(f'{option}=: pass a dict of texts, such as {{"audience": "…"}}')
    for name in given:
        if name in _OWNED:
            remedy = _OWNED[name]
            instead = f"pass {remedy}" if remedy else "the grant sends it itself"
            raise ConfigurationError(f"{option}=: {name} is not to be given here: {instead}")
    return tuple(given.items())


@dataclass(frozen=True)
class Grant:
    """What all grants share: whom they ask, and for what."""

    server: AuthorizationServer
    kind: str
    scope: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    dpop: bool = False
    identity: str = field(default="", repr=False)
    parameters: Fields = ()
    token_parameters: Fields = ()

    @property
    def key(self) -> str:
        """Under what its token is kept."""
        parts = (self.server.name, self.server.client_id, self.kind, self.identity)
        more = urlencode(sorted({*self.parameters, *self.token_parameters}))
        asked = (" ".join(sorted(self.scope)), *self.resources, "DPoP" if self.dpop else "", more)
        return " ".join(filter(None, (*parts, *asked)))

    def proofs(self, previous: Token | None) -> Proofs | None:
        """Return the proofs of the key that tokens are bound to, a new one without `previous`."""
        if not self.dpop:
            return None
        kept = None if previous is None else previous.dpop_key
        return Proofs(kept or new_key(), clock=self.server.now)

    def ask(
        self, fields: list[tuple[str, str]], previous: Token | None, *, refreshing: bool = False
    ) -> Flow[Token]:
        """Return the token that the server gives for `fields`.

        Raises `LoginRequired` when the server says that a person must act first.
        """
        proofs = self.proofs(previous)
        audience = token_endpoint.scope_and_resource(
            () if refreshing else self.scope, self.resources
        )
        asked = [*fields, *audience, *self.token_parameters]
        try:
            answer = yield from self.server.token(asked, proofs)
        except TokenRefused as refused:
            if refused.error in token_endpoint.INTERACTION_REQUIRED:
                raise LoginRequired(str(refused), refused.error) from refused
            raise
        kept = previous if refreshing else None
        return received(
            answer,
            now=self.server.now(),
            refresh_token=None if kept is None else kept.refresh_token,
            scope=self.scope or None if kept is None else kept.scope,
            dpop_key=None if proofs is None else proofs.key,
        )

    def refreshed(self, previous: Token) -> Flow[Token]:
        """Return the token that the refresh token of `previous` leads to.

        The scope is left out, which asks for all that was granted (RFC 6749 §6).
        """
        if previous.refresh_token is None:
            raise LoginRequired("there is no refresh token, or it is over")
        fields = [("grant_type", "refresh_token"), ("refresh_token", previous.refresh_token)]
        try:
            return (yield from self.ask(fields, previous, refreshing=True))
        except TokenRefused as error:
            if error.error in token_endpoint.GRANT_ENDED:
                raise LoginRequired("the refresh token is over", error.error) from error
            raise

    def revoked(self, token: Token) -> Flow[bool]:
        """Revoke the refresh token, or else the access token (RFC 7009)."""
        url = yield from self.server.endpoint("revocation_endpoint")
        hint = "access_token" if token.refresh_token is None else "refresh_token"
        given = token.refresh_token or token.access_token
        answer = yield from self.server.post(url, [("token", given), ("token_type_hint", hint)])
        return token_endpoint.is_done(answer)

    def union(self, scope: Sequence[str]) -> tuple[str, ...]:
        """Return the scopes that are asked for already and others, a bounded number."""
        joined = tuple(dict.fromkeys((*self.scope, *scope)))
        if len(joined) > _MAX_SCOPES:
            raise ConfigurationError(f"more than {_MAX_SCOPES} scopes would be asked for")
        return joined


class GrantSource:
    """A source that uses a grant."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        # Whatever is asked for later, what is kept stays where it is.
        self.key = grant.key
        self.resources = grant.resources

    def revoke(self, token: Token) -> Flow[bool]:
        """Revoke a token and what it came with."""
        return self._grant.revoked(token)

    def _widened(self, grant: Grant) -> Any:
        source = object.__new__(type(self))
        source.__dict__.update(self.__dict__)
        source._grant = grant
        return source

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._grant.server.name!r})"


class ClientCredentials(GrantSource):
    """Tokens of the client's own (RFC 6749 §4.4): asked for anew each time.

    Args:
        issuer: the authorization server's identifier; None with `token_endpoint=`.
        client_id: who asks.
        scope: what to ask for, as a list or as one string with spaces.
        resource: the API that the tokens are for (RFC 8707).
        dpop: bind the tokens to a key (RFC 9449).
        parameters: what the server demands in the token request besides, such as Auth0's
            `audience`.
        options: how the client authenticates, and more: those of `AuthorizationServer`.
    """

    def __init__(
        self,
        issuer: str | None = None,
        *,
        client_id: str,
        scope: str | list[str] | tuple[str, ...] = (),
        resource: str | list[str] | tuple[str, ...] = (),
        dpop: bool = False,
        parameters: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        server = AuthorizationServer(issuer, client_id=client_id, **options)
        super().__init__(
            Grant(
                server,
                "client_credentials",
                texts("scope", scope),
                texts("resource", resource),
                dpop=dpop,
                token_parameters=further("parameters", parameters),
            )
        )

    def token(self, previous: Token | None) -> Flow[Token]:
        """Ask for a token; a refresh token that comes with it is of no use (§4.4.3)."""
        fields = [("grant_type", "client_credentials")]
        token = yield from self._grant.ask(fields, previous)
        return replace(token, refresh_token=None)

    def widened(self, demand: Demand) -> TokenSource:
        """Return a source that asks for more scope."""
        source: TokenSource = self._widened(
            replace(self._grant, scope=self._grant.union(demand.scope))
        )
        return source


class RefreshToken(GrantSource):
    """Tokens that a refresh token leads to, which was got somewhere else.

    Args:
        issuer: the authorization server's identifier; None with `token_endpoint=`.
        client_id: who asks.
        refresh_token: the first one; its successors are kept in the manager's storage.
        resource: the API that the tokens are for (RFC 8707).
        dpop: bind the tokens to a key (RFC 9449).
        parameters: what the server demands in the token request besides.
        options: how the client authenticates, and more: those of `AuthorizationServer`.
    """

    def __init__(
        self,
        issuer: str | None = None,
        *,
        client_id: str,
        refresh_token: str,
        resource: str | list[str] | tuple[str, ...] = (),
        dpop: bool = False,
        parameters: Mapping[str, str] | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(refresh_token, str) or not refresh_token:
            raise ConfigurationError("refresh_token=: pass the refresh token as text")
        server = AuthorizationServer(issuer, client_id=client_id, **options)
        # Another first token is another session: what became of the last one is not its own.
        identity = hashlib.sha256(refresh_token.encode()).hexdigest()[:16]
        resources = texts("resource", resource)
        grant = Grant(
            server,
            "refresh_token",
            (),
            resources,
            dpop=dpop,
            identity=identity,
            token_parameters=further("parameters", parameters),
        )
        super().__init__(grant)
        self._first = refresh_token
        self._is_over = False

    def token(self, previous: Token | None) -> Flow[Token]:
        """Refresh with the last refresh token, or with the first."""
        if previous is not None:
            return (yield from self._grant.refreshed(previous))
        if self._is_over:
            raise LoginRequired("the refresh token is over")
        try:
            return (yield from self._grant.refreshed(Token("", refresh_token=self._first)))
        except LoginRequired:
            self._is_over = True
            raise
