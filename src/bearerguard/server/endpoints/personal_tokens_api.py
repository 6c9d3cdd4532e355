"""The API of personal access tokens, `/oauth/account/api/tokens`: JSON, with an access token.

The access token is one that the user has allowed a client to have, with the scope that the operator
chose. A personal access token is none: it can make no other one, and end none. What a client makes
has no more power than its access token, and ends with its access.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from bearerguard.errors import CredentialsError, PersonalTokenError
from bearerguard.protocol import names, scope
from bearerguard.protocol.http import credentials
from bearerguard.protocol.http.challenge import Challenge
from bearerguard.protocol.jose import strict_json
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import (
    OAuthError,
    described,
    invalid_request,
    too_many_requests,
)
from bearerguard.server.login.throttle import Throttle
from bearerguard.server.settings import Settings
from bearerguard.server.store import grants as rows
from bearerguard.server.store.connection import Connection, Row
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import is_disabled
from bearerguard.server.tokens.access_token import AccessTokens, FoundAccessToken
from bearerguard.server.tokens.dpop import TokenRequestProofs
from bearerguard.server.tokens.personal_tokens import (
    PER_MAKER,
    Maker,
    PersonalToken,
    PersonalTokenRegistry,
)

API = "/oauth/account/api/tokens"

_REALM = "oauth"
_ERRORS = {"scope": names.INVALID_SCOPE, "resource": names.INVALID_TARGET}


class PersonalTokensApi:
    """Responds to requests about the personal access tokens of one user.

    Args:
        registry: the tokens.
        api_scope: the scope that an access token needs.
        max_login_age: seconds since the login within which a token is made.
        access: finds access tokens.
        proofs: checks the proofs of tokens that are bound to a key.
        settings: the server's.
        database: says which users are disabled, and which grants are revoked.
        throttle: counts the tokens that are made.
        is_enabled: returns whether a user may still act.
    """

    def __init__(
        self,
        registry: PersonalTokenRegistry,
        api_scope: str,
        *,
        max_login_age: float,
        access: AccessTokens,
        proofs: TokenRequestProofs,
        settings: Settings,
        database: Database,
        throttle: Throttle,
        is_enabled: Callable[[Connection, str], bool],
    ) -> None:
        self._registry = registry
        self._api_scope = api_scope
        self._max_age = math.ceil(max_login_age)
        self._access = access
        self._proofs = proofs
        self._settings = settings
        self._database = database
        self._throttle = throttle
        self._is_enabled = is_enabled
        parts = urlsplit(settings.issuer)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        # The server's own URL if tokens can be for it: those for another API may be known there.
        self._own = settings.resource(settings.issuer)
        self._audience = (self._own or settings.resources[0]).identifier

    def handle(self, request: Request) -> Response:
        """Return the response about all tokens: their list, or a new one; raises `OAuthError`."""
        responses.check_method(request, "GET", "HEAD", "POST")
        found = self._found(request)
        if request.method == "POST":
            return self._add(request, found)
        listed = self._registry.list(found.claims["sub"])
        return responses.private({"tokens": [_members(each) for each in listed]})

    def handle_one(self, request: Request) -> Response:
        """Return the response about one token, which a DELETE ends; raises `OAuthError`."""
        responses.check_method(request, "DELETE")
        user_id = self._found(request).claims["sub"]
        token_id = urlsplit(request.url).path.rpartition("/")[2]
        # Another user's is as unknown as any other.
        if not self._registry.end(token_id, user_id=user_id):
            return responses.not_found()
        return responses.empty(204)

    def _add(self, request: Request, found: FoundAccessToken) -> Response:
        user_id = found.claims["sub"]
        maker = self._maker(found)
        content = _content(request)
        given = content.get("scope")
        self._charge(maker, user_id)
        try:
            new = self._registry.add_once(
                user_id,
                content.get("name", ""),
                scopes=tuple(given.split()) if isinstance(given, str) else (),
                lifetime=content.get("expires_in"),
                resource=_text(content, "resource"),
                once=None,
                may_act=lambda connection, user: (
                    self._is_enabled(connection, user) and _is_active(connection, maker.grant_id)
                ),
                maker=maker,
            )
        except PersonalTokenError as error:
            if error.reason in {"disabled", "ended"}:  # meanwhile
                raise self._invalid("The access token is not valid", "access_ended") from error
            raise OAuthError(
                _ERRORS.get(error.reason, names.INVALID_REQUEST),
                described(str(error)),
                reason=f"personal_token_{error.reason}",
                user_id=user_id,
            ) from error
        return responses.private({"token": new.value, **_members(new.token)}, status=201)

    def _maker(self, found: FoundAccessToken) -> Maker:
        """Return the client that makes a token for a user; raises `OAuthError`."""
        if found.claims.get("cnf"):
            raise OAuthError(
                names.UNAUTHORIZED_CLIENT,
                "The access token is bound to a key, and a personal token is not: the user makes"
                " one on the page of tokens",
                reason="personal_token_unbound",
                status=403,
                client_id=found.client_id,
                user_id=found.claims["sub"],
            )
        if not self._registry.is_recent(found.claims.get("auth_time")):
            raise self._challenged(
                OAuthError(
                    names.INSUFFICIENT_USER_AUTHENTICATION,
                    "The user must have logged in lately to make a token",
                    client_id=found.client_id,
                    user_id=found.claims["sub"],
                ),
                names.BEARER,
            )
        grant = rows.find_grant(self._database, str(found.grant_id))
        if grant is None:
            raise self._invalid("The access token is not valid", "access_ended")
        return Maker(
            client_id=found.client_id,
            grant_id=grant.grant_id,
            scopes=scope.parse(found.claims["scope"]),
            resources=frozenset(
                known.identifier
                for name in self._resources(found, grant)
                if (known := self._settings.resource(name)) is not None
            ),
        )

    def _resources(self, found: FoundAccessToken, grant: Row) -> frozenset[str]:
        """Return the APIs that a client may make tokens for."""
        if self._own is None or found.audience != {self._own.identifier}:
            # An API sees the access token: it must not get tokens for others by it.
            return found.audience
        return found.audience.union(json.loads(grant.resources))

    def _charge(self, maker: Maker, user_id: str) -> None:
        """Raise `OAuthError` if the client has made too many tokens for the user."""
        made_by = f"{maker.client_id} {user_id}"
        wait = self._throttle.charge_one("personal token by API", made_by, PER_MAKER)
        if wait:
            raise too_many_requests(
                "new tokens",
                "too_many_personal_tokens",
                wait,
                client_id=maker.client_id,
                user_id=user_id,
            )

    def _found(self, request: Request) -> FoundAccessToken:
        """Return the access token of a request, which is a user's; raises `OAuthError`."""
        try:
            sent = credentials.credentials(request.values(b"authorization"))
        except CredentialsError as error:
            raise invalid_request("The Authorization field is malformed", error.reason.code) from (
                error
            )
        if sent is None:
            raise self._challenged(
                OAuthError(names.INVALID_TOKEN, "Send an access token", reason="no_access_token"),
                names.BEARER,
                is_absent=True,
            )
        found = self._access.find(sent.token.decode("ascii"))
        if found is None or not found.active:
            raise self._invalid("The access token is not valid", "unusable_access_token")
        self._check_binding(request, sent, found)
        subject: str = found.claims["sub"]
        # A client's own token, and one by which somebody acts for the user, are not the user's.
        if found.grant_id is None or "act" in found.claims or subject == found.client_id:
            raise self._invalid("The access token is not that of a user", "token_of_no_user")
        if self._audience not in found.audience:
            raise self._invalid("The access token is for another API", "wrong_audience")
        if is_disabled(self._database, subject):
            raise self._invalid("The access token is not valid", "user_disabled")
        if self._api_scope not in scope.parse(found.claims["scope"]):
            raise self._challenged(
                OAuthError(
                    names.INSUFFICIENT_SCOPE,
                    "The access token has not the scope that this API needs",
                    status=403,
                    client_id=found.client_id,
                    user_id=subject,
                ),
                sent.scheme,
            )
        return found

    def _check_binding(
        self, request: Request, sent: credentials.Credentials, found: FoundAccessToken
    ) -> None:
        """Raise `OAuthError` unless the request proves the key that a token is bound to."""
        cnf = found.claims.get("cnf")
        bound: Mapping[str, str] = cnf if isinstance(cnf, Mapping) else {}
        if (sent.scheme == names.DPOP) is not ("jkt" in bound):
            raise self._invalid(
                f"Send the access token by the scheme {'DPoP' if bound else 'Bearer'}",
                "wrong_scheme",
            )
        certificate = request.certificate
        thumbprint = None if certificate is None else certificate.thumbprint
        if bound.get("x5t#S256", thumbprint) != thumbprint:
            raise self._invalid(
                "The access token is bound to a certificate that was not presented",
                "wrong_certificate",
            )
        if "jkt" in bound:
            url = self._origin + urlsplit(request.url).path
            try:
                self._proofs.check_bound(request, url, sent.token, bound["jkt"])
            except OAuthError as error:
                raise self._challenged(error, names.DPOP) from error

    def _invalid(self, description: str, reason: str) -> OAuthError:
        error = OAuthError(names.INVALID_TOKEN, description, reason=reason)
        return self._challenged(error, names.BEARER)

    def _challenged(self, error: OAuthError, scheme: str, *, is_absent: bool = False) -> OAuthError:
        """Return a refusal with its challenge (RFC 6750 §3, RFC 9449 §7.1, RFC 9470 §3)."""
        is_old = error.error == names.INSUFFICIENT_USER_AUTHENTICATION
        challenge = Challenge(
            realm=_REALM,
            # A request without credentials is told no error.
            error=None if is_absent else error.error,
            error_description=None if is_absent else error.description,
            scope=self._api_scope if error.error == names.INSUFFICIENT_SCOPE else None,
            scheme=scheme,
            max_age=self._max_age if is_old else None,
            algs=" ".join(names.DPOP_ALGORITHMS) if scheme == names.DPOP else None,
        )
        error.status = 403 if error.error == names.INSUFFICIENT_SCOPE else 401
        error.headers = (*error.headers, (names.WWW_AUTHENTICATE, challenge.build()))
        return error


def _is_active(connection: Connection, grant_id: str) -> bool:
    """Whether a grant is there and not revoked."""
    grant = rows.find_grant(connection, grant_id)
    return grant is not None and grant.revoked_at is None


def _content(request: Request) -> dict[str, Any]:
    media_type = b",".join(request.values(b"content-type")).partition(b";")[0].strip().lower()
    if media_type != names.JSON.encode():
        raise invalid_request("Send the token's members as application/json", "not_json")
    try:
        content = strict_json.loads(request.body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise invalid_request("The body is no JSON object", "malformed_json")
    return content


def _text(content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid_request(f"{name} is no text", "malformed_json")
    return value


def _members(token: PersonalToken) -> dict[str, Any]:
    """Return the members of a token; times are Unix seconds (RFC 7662 §2.2)."""
    return {
        "id": token.id,
        "name": token.name,
        "client_id": token.client_id,
        "scope": scope.build(token.scopes),
        "resource": token.resource,
        "created_at": int(token.created_at),
        "expires_at": int(token.expires_at),
        "last_used_at": None if token.last_used_at is None else int(token.last_used_at),
    }
