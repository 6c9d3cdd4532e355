"""The base of all grants: the server, scopes and resources, and the use of a refresh token.

RFC 6749 §5 and §6, RFC 8707, RFC 9449. A refresh token that the server refuses is never sent
again.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias, Unpack
from urllib.parse import urlencode

from bearerguard.client.dpop import Proofs, new_key
from bearerguard.client.sources.issuer_endpoints import EndpointOptions, IssuerEndpoints
from bearerguard.client.token import Token, received
from bearerguard.errors import ConfigurationError, LoginRequired, TokenRefused, quoted
from bearerguard.protocol import names, token_endpoint
from bearerguard.runtime.flow import Flow

# A token with more scopes may not fit into a header: an API that demands more is at fault.
_MAX_SCOPES = 100
# A lone surrogate, which UTF-8 cannot encode.
_SURROGATE = re.compile("[\ud800-\udfff]")
# The parameters that a grant sends itself, and the option that sets each.
_OWNED = {
    **dict.fromkeys(("grant_type", "response_type", "code", "code_verifier", "device_code")),
    **dict.fromkeys(("code_challenge", "code_challenge_method", "state", "client_assertion_type")),
    **dict.fromkeys(("request", "request_uri", "response_mode")),
    "client_id": "client_id=",
    "client_secret": "client_secret=",
    "client_assertion": "private_key= or client_assertion=",
    "scope": "scopes=",
    "resource": "resources=",
    "refresh_token": "RefreshToken(refresh_token=)",
    "redirect_uri": "redirect_uri=",
    "dpop_jkt": "dpop=",
    "assertion": "JwtBearer(assertion=)",
    **{
        name: f"TokenExchange({name}=)"
        for name in ("subject_token", "subject_token_type", "actor_token", "actor_token_type")
    },
}

Fields: TypeAlias = tuple[tuple[str, str], ...]
# Scopes or resources: a list, or one string with spaces.
Names: TypeAlias = str | Sequence[str]


class GrantOptions(EndpointOptions, total=False):
    """What a grant requests, besides how the client authenticates.

    Attributes:
        scopes: the scopes to request, as a list or as one string with spaces.
        resources: the APIs that the tokens are for (RFC 8707), likewise.
        dpop: bind the tokens to a key (RFC 9449).
        parameters: further parameters of the grant's request, such as Auth0's `audience`.
    """

    scopes: Names
    resources: Names
    dpop: bool
    parameters: Mapping[str, str] | None


class LoginOptions(GrantOptions, total=False):
    """What an interactive grant sends, in its first request and in its token requests.

    Attributes:
        token_parameters: further parameters of the token requests.
    """

    token_parameters: Mapping[str, str] | None


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


def named(option: str, given: Names) -> tuple[str, ...]:
    """Return names that are passed as a list, or as one string with spaces."""
    found = given.split() if isinstance(given, str) else given
    if not isinstance(found, list | tuple) or not all(isinstance(each, str) for each in found):
        raise ConfigurationError(f"{option}=: pass a list of strings, not {quoted(given)}")
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Grant:
    """The server of a grant, and what is requested there.

    `kind` separates the stored tokens of different grants, `identity` those of different sessions.
    `parameters` go into the grant's own request, `token_parameters` into token requests.
    """

    server: IssuerEndpoints
    kind: str
    scopes: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    dpop: bool = False
    identity: str = field(default="", repr=False)
    parameters: Fields = ()
    token_parameters: Fields = ()

    @classmethod
    def of(
        cls,
        issuer: str | None,
        kind: str,
        *,
        client_id: str | None,
        identity: str = "",
        scopes: Names = (),
        resources: Names = (),
        dpop: bool = False,
        parameters: Mapping[str, str] | None = None,
        token_parameters: Mapping[str, str] | None = None,
        **options: Unpack[EndpointOptions],
    ) -> Grant:
        """Return a grant from its options, checked.

        `client_id` may be None if an assertion of the request identifies the client.
        """
        if client_id is None and kind != names.JWT_BEARER and "client_assertion" not in options:
            raise ConfigurationError("client_id=: pass the client's identifier")
        given: object = dpop
        if not isinstance(given, bool):
            raise ConfigurationError("dpop=: pass True or False")
        return cls(
            IssuerEndpoints(issuer, client_id=client_id, **options),
            kind,
            named("scopes", scopes),
            named("resources", resources),
            dpop=dpop,
            identity=identity,
            parameters=further("parameters", parameters),
            token_parameters=further("token_parameters", token_parameters),
        )

    @property
    def key(self) -> str:
        """The key under which its token is stored."""
        parts = (self.server.name, self.server.client_id, self.kind, self.identity)
        more = urlencode(sorted({*self.parameters, *self.token_parameters}))
        asked = (" ".join(sorted(self.scopes)), *self.resources, "DPoP" if self.dpop else "", more)
        return " ".join(filter(None, (*parts, *asked)))

    def proofs(self, previous: Token | None) -> Proofs | None:
        """Return the DPoP proofs for the tokens' key, which is a new one without `previous`."""
        if not self.dpop:
            return None
        kept = None if previous is None else previous.dpop_key
        return Proofs(kept or new_key(), clock=self.server.now, nonces=self.server.nonces)

    def ask(
        self,
        fields: list[tuple[str, str]],
        previous: Token | None,
        *,
        refreshing: bool = False,
        proofs: Proofs | None = None,
    ) -> Flow[Token]:
        """Return the token that the server issues for `fields`.

        `proofs` are those of a key that was named before; by default, those of the key of
        `previous`. Raises `LoginRequired` when the server demands that a person acts first.
        """
        proofs = proofs or self.proofs(previous)
        audience = token_endpoint.scope_and_resource(
            () if refreshing else self.scopes, self.resources
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
            scopes=self.scopes or None if kept is None else kept.scopes,
            dpop_key=None if proofs is None else proofs.key,
        )

    def refreshed(self, previous: Token) -> Flow[Token]:
        """Return the token that the refresh token of `previous` is exchanged for.

        The scope is omitted, which requests all that was granted (RFC 6749 §6).
        """
        if previous.refresh_token is None:
            raise LoginRequired("there is no refresh token, or it has expired")
        fields = [("grant_type", "refresh_token"), ("refresh_token", previous.refresh_token)]
        try:
            return (yield from self.ask(fields, previous, refreshing=True))
        except TokenRefused as error:
            if error.error in token_endpoint.GRANT_ENDED:
                raise LoginRequired(
                    "the refresh token has expired or was revoked", error.error
                ) from error
            raise

    def revoked(self, token: Token) -> Flow[bool]:
        """Revoke the refresh token, or else the access token (RFC 7009)."""
        url = yield from self.server.endpoint("revocation_endpoint")
        hint = "access_token" if token.refresh_token is None else "refresh_token"
        given = token.refresh_token or token.access_token
        answer = yield from self.server.post(url, [("token", given), ("token_type_hint", hint)])
        return token_endpoint.is_done(answer)

    def union(self, scopes: Sequence[str]) -> tuple[str, ...]:
        """Return the scopes of the grant joined with `scopes`; their number is bounded."""
        joined = tuple(dict.fromkeys((*self.scopes, *scopes)))
        if len(joined) > _MAX_SCOPES:
            raise ConfigurationError(f"more than {_MAX_SCOPES} scopes would be asked for")
        return joined


class GrantSource:
    """A source that uses a grant."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        # The storage key does not change when more scopes are requested later.
        self.key: str = grant.key
        self.resources: tuple[str, ...] = grant.resources
        self.dpop: bool = grant.dpop

    def revoke(self, token: Token) -> Flow[bool]:
        """Revoke the refresh token, or else the access token."""
        return self._grant.revoked(token)

    def _asking(self, scopes: Sequence[str], parameters: Mapping[str, str] | None = None) -> Self:
        """Return a copy that requests more scopes, and sends these parameters too."""
        grant = self._grant
        source = copy.copy(self)
        source._grant = replace(  # noqa: SLF001 - of a copy of its own
            grant,
            scopes=grant.union(scopes),
            parameters=tuple({**dict(grant.parameters), **(parameters or {})}.items()),
        )
        return source

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._grant.server.name!r})"
