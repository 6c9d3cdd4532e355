"""Access tokens, created and looked up: JWTs (RFC 9068) or opaque, as the resource demands.

Creating a token writes nothing: the caller stores its row, if it has one, in its own transaction.
A JWT has no row until it is revoked: it is valid as long as its grant is, if it has one.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bearerguard.errors import TokenError
from bearerguard.protocol import jwt_claims, names, scope
from bearerguard.protocol.http import uri
from bearerguard.protocol.jose import jwt
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.http.oauth_error import invalid_target
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Resource, Settings
from bearerguard.server.store import grants as rows
from bearerguard.server.store.connection import Row
from bearerguard.server.store.database import Database
from bearerguard.server.store.grants import AccessTokenRow
from bearerguard.server.tokens.key_ring import KeyRing

_OPAQUE, _OPAQUE_PREFIX = "access token", "bga_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorization:
    """What a token grants: its client, subject, scopes and resources.

    `amr` are the methods by which the user was authenticated (RFC 8176), empty if unknown.
    `actor` is who acts for the subject, the claim `act`. A token with `not_after` (Unix seconds)
    expires then at the latest. `confirmation` is the claim `cnf`, the key that it is bound to.
    """

    client: Client
    subject: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    grant_id: str | None = None
    auth_time: float | None = None
    acr: str | None = None
    amr: tuple[str, ...] = ()
    actor: Mapping[str, Any] | None = None
    not_after: float | None = None
    confirmation: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class NewAccessToken:
    """A new access token; `row` is what must be stored of it, or None. Times are Unix seconds."""

    value: str = field(repr=False)
    expires_in: int
    expires_at: float
    row: AccessTokenRow | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class FoundAccessToken:
    """A token of this server that was presented; `active` says whether it is valid."""

    token_key: str
    client_id: str
    grant_id: str | None
    claims: Mapping[str, Any] = field(repr=False)
    active: bool

    @property
    def audience(self) -> frozenset[str]:
        """The resources that it is for."""
        aud = self.claims["aud"]
        return frozenset([aud] if isinstance(aud, str) else aud)

    def concerns(self, client: Client) -> bool:
        """Whether it was issued to a client, or for an API that introspects as this client."""
        if client.client_id == self.client_id:
            return True
        # A command that registers a client does not know how the server spells its resources.
        introspected = {uri.normalized(each) for each in client.introspects}
        return any(uri.normalized(each) in introspected for each in self.audience)


class AccessTokens:
    """Creates and looks up the access tokens of one server.

    With `any_issuer`, every JWT that its keys signed is its own, whatever the `iss`.
    """

    def __init__(
        self,
        *,
        database: Database,
        settings: Settings,
        clients: ClientRegistry,
        keys: KeyRing,
        secret: ServerSecret,
        clock: Callable[[], float],
        any_issuer: bool = False,
    ) -> None:
        self._any_issuer = any_issuer
        self._database = database
        self._clients = clients
        self._settings = settings
        self._keys = keys
        self._secret = secret
        self._clock = clock

    def create(self, authorization: Authorization) -> NewAccessToken:
        """Return a new token.

        Raises `OAuthError` if the server no longer has a resource, or if the resources take
        different kinds of tokens.
        """
        resources: list[Resource] = []
        for name in authorization.resources:
            resource = self._settings.resource(name)
            if resource is None:
                # It was granted before `resources=` was changed.
                raise invalid_target(
                    "The server no longer has this resource", "resource_gone", resource=name
                )
            resources.append(resource)
        # As the server spells them now: they may have been granted under another spelling.
        identifiers = tuple(each.identifier for each in resources)
        if identifiers != authorization.resources:
            authorization = replace(authorization, resources=identifiers)
        kinds = {each.tokens for each in resources}
        if len(kinds) > 1:
            raise invalid_target(
                "These resources take different tokens: ask for one at a time",
                "different_tokens",
                resource=" ".join(authorization.resources),
            )
        now = int(self._clock())
        lifetime = self._lifetime(authorization.client, resources)
        if authorization.not_after is not None:
            lifetime = min(lifetime, int(authorization.not_after) - now)
        content = self._claims(authorization, now, now + lifetime)
        if "opaque" in kinds:
            value = _OPAQUE_PREFIX + secrets.token_urlsafe(32)
            key = self._secret.digest(_OPAQUE, value)
            row = self._row(authorization, content, key)
            return NewAccessToken(value, lifetime, now + lifetime, row)
        value = self._keys.sign(content, names.ACCESS_TOKEN_JWT)
        return NewAccessToken(value, lifetime, now + lifetime, None)

    def find(self, value: str) -> FoundAccessToken | None:
        """Return what is known of a presented token, or None if it is not this server's."""
        is_opaque = value.startswith(_OPAQUE_PREFIX)
        content = None if is_opaque else self._signed_claims(value)
        if content is None:
            if not is_opaque:
                return None  # what anybody can make up costs no statement
            row = rows.find_access_token(self._database, *self._secret.digests(_OPAQUE, value))
            if row is None:
                return None
            content = self._stored_claims(row)
            valid = row.revoked_at is None and row.grant_revoked_at is None
        else:
            grant_id = content.get("sid")
            revoked, granted = rows.jwt_state(self._database, content["jti"], grant_id)
            # Pruning removes revoked grants: a token of a grant that is gone is not valid.
            valid = not revoked and (granted or grant_id is None)
        key = content["jti"]
        client_id = content["client_id"]
        client = self._clients.find(client_id)
        now = self._clock()
        active = (
            valid
            and now < content["exp"]
            # A client id may be used again: tokens of the former client are not the new one's.
            and client is not None
            # (A client that was created in the future only shows that the clock was set back.)
            and (content["iat"] >= int(client.created_at) or client.created_at > now)
        )
        return FoundAccessToken(key, client_id, content.get("sid"), content, active)

    def _lifetime(self, client: Client, resources: list[Resource]) -> int:
        chosen = [client.access_token_lifetime, *(each.access_token_lifetime for each in resources)]
        given = [each for each in chosen if each is not None]
        return max(1, int(min(given) if given else self._settings.lifetimes.access_token))

    def _claims(self, authorization: Authorization, now: int, expires_at: int) -> dict[str, Any]:
        audience: Any = authorization.resources
        content = {
            "iss": self._settings.issuer,
            "sub": authorization.subject,
            "aud": audience[0] if len(audience) == 1 else list(audience),
            "client_id": authorization.client.client_id,
            "iat": now,
            "exp": expires_at,
            "jti": secrets.token_hex(16),
            "scope": scope.build(authorization.scopes),
        }
        if authorization.grant_id is not None:
            content["sid"] = authorization.grant_id
        if authorization.auth_time is not None:
            content["auth_time"] = int(authorization.auth_time)
        if authorization.acr is not None:
            content["acr"] = authorization.acr
        if authorization.amr:
            content["amr"] = list(authorization.amr)
        if authorization.actor is not None:
            content["act"] = dict(authorization.actor)
        if authorization.confirmation:
            content["cnf"] = dict(authorization.confirmation)
        return content

    def _row(
        self, authorization: Authorization, content: Mapping[str, Any], key: str
    ) -> AccessTokenRow:
        return {
            "token_key": key,
            "client_id": authorization.client.client_id,
            "grant_id": authorization.grant_id,
            "subject": authorization.subject,
            "scope": content["scope"],
            "audience": json.dumps(authorization.resources),
            "auth_time": authorization.auth_time,
            "acr": authorization.acr,
            "amr": amr_text(authorization.amr),
            "act": json.dumps(content["act"]) if "act" in content else None,
            "cnf": json.dumps(content["cnf"]) if "cnf" in content else None,
            "issued_at": content["iat"],
            "expires_at": content["exp"],
        }

    def _stored_claims(self, row: Row) -> dict[str, Any]:
        audience = json.loads(row.audience)
        content = {
            "iss": self._settings.issuer,
            "sub": row.subject,
            "aud": audience[0] if len(audience) == 1 else audience,
            "client_id": row.client_id,
            "iat": int(row.issued_at),
            "exp": int(row.expires_at),
            # Guards that cache the response revoke it by this.
            "jti": row.token_key,
            "scope": row.scope,
        }
        if row.grant_id is not None:
            content["sid"] = row.grant_id
        if row.auth_time is not None:
            content["auth_time"] = int(row.auth_time)
        if row.acr is not None:
            content["acr"] = row.acr
        if row.amr is not None:
            content["amr"] = json.loads(row.amr)
        if row.act is not None:
            content["act"] = json.loads(row.act)
        if row.cnf is not None:
            content["cnf"] = json.loads(row.cnf)
        return content

    def _signed_claims(self, value: str) -> dict[str, Any] | None:
        """Return the claims of a JWT that this server signed as an access token, else None."""
        try:
            token = jwt.parse(value.encode("ascii", "replace"))
            header = jwt.parse_header(token.header)
            jwt.check_type(header.typ, frozenset({names.ACCESS_TOKEN_JWT}))
            jwt_claims.numeric_date(token.claims, "exp")
        except (TokenError, KeyError):
            return None
        named = self._any_issuer or token.claims.get("iss") == self._settings.issuer
        return token.claims if named and self._keys.verifies(token, header) else None


def amr_text(methods: Sequence[str]) -> str | None:
    """Return authentication methods as rows have them, None for none."""
    return json.dumps(list(methods)) if methods else None


def amr_of(text: str | None) -> tuple[str, ...]:
    """Return the authentication methods of a row."""
    return () if text is None else tuple(json.loads(text))


def row_for(known: FoundAccessToken) -> AccessTokenRow:
    """Return a row for a JWT that has none, so that its revocation can be stored."""
    content = known.claims
    return {
        "token_key": known.token_key,
        "client_id": known.client_id,
        "grant_id": known.grant_id,
        "subject": content["sub"],
        "scope": content["scope"],
        "audience": json.dumps(sorted(known.audience)),
        "issued_at": content["iat"],
        "expires_at": content["exp"],
    }
