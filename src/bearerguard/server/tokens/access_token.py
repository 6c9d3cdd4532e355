"""Access tokens: JWTs (RFC 9068) or opaque, as the resource has it; made and read again.

Making one writes nothing: it returns the row, if it needs one, for the transaction that
hands it out. A client's own JWT has no row until it is revoked.
"""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Row

from bearerguard.errors import TokenError
from bearerguard.protocol import claims, scope
from bearerguard.protocol.jose import jwt
from bearerguard.server.clients.client import Client
from bearerguard.server.http.oauth_error import invalid_target
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Resource, Settings
from bearerguard.server.store import clients as client_rows
from bearerguard.server.store import grants as rows
from bearerguard.server.tokens.key_ring import KeyRing

TYPE = "at+jwt"
_OPAQUE, _OPAQUE_PREFIX = "access token", "bga_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """For whom, and for what, a token is."""

    client: Client
    subject: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    grant_id: str | None = None
    auth_time: float | None = None


@dataclass(frozen=True, slots=True)
class Minted:
    """A fresh access token; `row` is what the store must hold of it, or None."""

    value: str = field(repr=False)
    expires_in: int
    row: Mapping[str, Any] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """A token that was presented and is this server's; whether it still counts is `active`."""

    token_key: str
    client_id: str
    grant_id: str | None
    claims: Mapping[str, Any] = field(repr=False)
    active: bool
    has_row: bool

    @property
    def audience(self) -> frozenset[str]:
        """The resources it is for."""
        aud = self.claims["aud"]
        return frozenset([aud] if isinstance(aud, str) else aud)


class AccessTokens:
    """Makes and reads the access tokens of one server.

    With `any_issuer`, what its keys signed is its own, whatever URL it served at.
    """

    def __init__(
        self,
        settings: Settings,
        keys: KeyRing,
        secret: ServerSecret,
        clock: Callable[[], float],
        *,
        any_issuer: bool = False,
    ) -> None:
        self._any_issuer = any_issuer
        self._settings = settings
        self._keys = keys
        self._secret = secret
        self._clock = clock

    def mint(self, bearer: Bearer) -> Minted:
        """Return a fresh token; raises `OAuthError` for resources gone or not going together."""
        resources: list[Resource] = []
        for name in bearer.resources:
            resource = self._settings.resource(name)
            if resource is None:
                # It was granted before `resources=` was changed.
                raise invalid_target(
                    "The server has this resource no longer", "resource_gone", resource=name
                )
            resources.append(resource)
        # As it is spelled now: it may have been granted under another spelling.
        bearer = replace(bearer, resources=tuple(each.identifier for each in resources))
        kinds = {each.tokens for each in resources}
        if len(kinds) > 1:
            raise invalid_target(
                "These resources take different tokens: ask for one at a time",
                "different_tokens",
                resource=" ".join(bearer.resources),
            )
        now = int(self._clock())
        lifetime = self._lifetime(bearer.client, resources)
        content = self._claims(bearer, now, now + lifetime)
        if "opaque" in kinds:
            value = _OPAQUE_PREFIX + secrets.token_urlsafe(32)
            return Minted(
                value, lifetime, self._row(bearer, content, self._secret.digest(_OPAQUE, value))
            )
        value = self._keys.sign(content, TYPE)
        belongs = bearer.grant_id is not None
        return Minted(
            value, lifetime, self._row(bearer, content, content["jti"]) if belongs else None
        )

    def find(self, connection: Connection, value: str) -> Known | None:
        """Return what is known of a token that was presented, None when it is not ours."""
        content = self._signed_claims(connection, value)
        if content is None:
            row = rows.find_access_token(connection, *self._secret.digests(_OPAQUE, value))
            if row is None:
                return None
            content = self._stored_claims(row)
        else:
            row = rows.find_access_token(connection, content["jti"])
        key = content["jti"]
        revoked = row is not None and (row.revoked_at or row.grant_revoked_at) is not None
        client_id = content["client_id"]
        client = client_rows.find(connection, client_id)
        now = self._clock()
        active = (
            not revoked
            and now < content["exp"]
            # A token that belongs to a grant has a row, as long as the grant stands.
            and (row is not None or "sid" not in content)
            # An id may be given again; what its bearer before had stays with that one.
            and client is not None
            # (A client of the future says that the clock was set back, and nothing of the id.)
            and (content["iat"] >= int(client.created_at) or client.created_at > now)
        )
        return Known(key, client_id, content.get("sid"), content, active, row is not None)

    def _lifetime(self, client: Client, resources: list[Resource]) -> int:
        chosen = [client.access_token_lifetime, *(each.access_token_lifetime for each in resources)]
        given = [each for each in chosen if each is not None]
        return max(1, int(min(given) if given else self._settings.lifetimes.access_token))

    def _claims(self, bearer: Bearer, now: int, expires_at: int) -> dict[str, Any]:
        audience: Any = bearer.resources
        content = {
            "iss": self._settings.issuer,
            "sub": bearer.subject,
            "aud": audience[0] if len(audience) == 1 else list(audience),
            "client_id": bearer.client.client_id,
            "iat": now,
            "exp": expires_at,
            "jti": uuid.uuid4().hex,
            "scope": scope.build(bearer.scopes),
        }
        if bearer.grant_id is not None:
            content["sid"] = bearer.grant_id
        if bearer.auth_time is not None:
            content["auth_time"] = int(bearer.auth_time)
        return content

    def _row(self, bearer: Bearer, content: Mapping[str, Any], key: str) -> dict[str, Any]:
        return {
            "token_key": key,
            "client_id": bearer.client.client_id,
            "grant_id": bearer.grant_id,
            "subject": bearer.subject,
            "scope": content["scope"],
            "audience": json.dumps(bearer.resources),
            "auth_time": bearer.auth_time,
            "issued_at": content["iat"],
            "expires_at": content["exp"],
        }

    def _stored_claims(self, row: Row[Any]) -> dict[str, Any]:
        audience = json.loads(row.audience)
        content = {
            "iss": self._settings.issuer,
            "sub": row.subject,
            "aud": audience[0] if len(audience) == 1 else audience,
            "client_id": row.client_id,
            "iat": int(row.issued_at),
            "exp": int(row.expires_at),
            # A guard that has cached what we say of it revokes it by this.
            "jti": row.token_key,
            "scope": row.scope,
        }
        if row.grant_id is not None:
            content["sid"] = row.grant_id
        if row.auth_time is not None:
            content["auth_time"] = int(row.auth_time)
        return content

    def _signed_claims(self, connection: Connection, value: str) -> dict[str, Any] | None:
        """Return the claims of a JWT that this server signed as an access token, else None."""
        try:
            token = jwt.parse(value.encode("ascii", "replace"))
            header = jwt.parse_header(token.header)
            jwt.check_type(header.typ, frozenset({TYPE}))
            claims.numeric_date(token.claims, "exp")
        except (TokenError, KeyError):
            return None
        named = self._any_issuer or token.claims.get("iss") == self._settings.issuer
        return token.claims if named and self._keys.verifies(connection, token, header) else None


def row_of(known: Known) -> dict[str, Any]:
    """Return the row of a JWT that had none, so that its revocation can be written down."""
    content = known.claims
    return {
        "token_key": known.token_key,
        "client_id": known.client_id,
        "grant_id": None,
        "subject": content["sub"],
        "scope": content["scope"],
        "audience": json.dumps(sorted(known.audience)),
        "issued_at": content["iat"],
        "expires_at": content["exp"],
    }
