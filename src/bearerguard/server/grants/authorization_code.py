"""Authorization codes: issued after a user's consent, redeemed once (OAuth 2.1 §4.1).

A code is bound to its client, redirect URI, PKCE challenge, scope, resources and key. One that is
redeemed twice, with everything else correct, was stolen: the tokens of the first redemption are
revoked. A second attempt with a wrong verifier or client proves nothing and revokes nothing.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from bearerguard.protocol import dpop, names, pkce, scope
from bearerguard.server.audit import Audit
from bearerguard.server.clients.client import Client
from bearerguard.server.grants import possession
from bearerguard.server.grants.scopes_and_resources import narrowed_resources
from bearerguard.server.grants.token_issuer import NewGrant, TokenIssuer
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http.oauth_error import invalid_grant, invalid_request
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.revocations import Revocations
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store import grants as rows
from bearerguard.server.store.connection import Connection, Row
from bearerguard.server.store.database import Database
from bearerguard.server.tokens.access_token import AccessTokens, Authorization, amr_of, amr_text
from bearerguard.server.tokens.refresh_token_format import RefreshTokens

_PREFIX = "bgc_"
_UNUSABLE = "The code is unknown, expired, or another client's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """An authorization request that a user has approved."""

    user_id: str
    auth_time: float | None
    acr: str | None
    redirect_uri: str
    challenge: str | None = field(repr=False)
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    # The key that must redeem the code (RFC 9449 §10); None for any.
    dpop_jkt: str | None = None
    # Requested scopes that were left out, for the audit log alone.
    ignored_scope: str | None = None
    # How the user logged in (RFC 8176): here, or in a session of an upstream.
    amr: tuple[str, ...] = ()
    upstream: str | None = None
    upstream_sid: str | None = field(default=None, repr=False)


class AuthorizationCodeGrant:
    """The grant `authorization_code`: issues and redeems the codes of one server."""

    grant_type = names.AUTHORIZATION_CODE

    def __init__(
        self,
        *,
        database: Database,
        secret: ServerSecret,
        settings: Settings,
        access: AccessTokens,
        refresh: RefreshTokens,
        tokens: TokenIssuer,
        revocations: Revocations,
        audit: Audit,
        clock: Callable[[], float],
        note_use: Callable[[Connection, Client], None],
    ) -> None:
        self._note_use = note_use
        self._database = database
        self._secret = secret
        self._settings = settings
        self._access = access
        self._refresh = refresh
        self._tokens = tokens
        self._revocations = revocations
        self._audit = audit
        self._clock = clock

    def granted_scopes(
        self, user_id: str, client_id: str, resources: Collection[str]
    ) -> frozenset[str]:
        """Return the scopes that a client has from a user now, at every one of `resources`."""
        found: dict[str, set[str]] = {each: set() for each in resources}
        for grant in rows.find_allowed(self._database, user_id, client_id, self._clock()):
            for each in found.keys() & set(json.loads(grant.resources)):
                found[each].update(grant.scope.split())
        return frozenset(set.intersection(*found.values()))

    def issue(
        self,
        client: Client,
        approval: Approval,
        check: Callable[[Connection], object],
        remember: Callable[[Connection], object] | None = None,
    ) -> str:
        """Return a new code (RFC 6749 §4.1.2).

        `check` is done first in the transaction, so that rows are locked in the order of
        `DeviceCodeGrant.allow`; it raises what undoes it. `remember` is done last; it depends on
        what it finds, so that no other may write meanwhile.
        """
        code, now = _PREFIX + secrets.token_urlsafe(32), self._clock()
        with self._database.write(concurrent=remember is None) as connection:
            check(connection)
            self._note_use(connection, client)
            rows.add_code(
                connection,
                digest=self._secret.digest("code", code),
                client_id=client.client_id,
                user_id=approval.user_id,
                redirect_uri=approval.redirect_uri,
                challenge=approval.challenge,
                scope=scope.build(approval.scopes),
                resources=json.dumps(approval.resources),
                auth_time=approval.auth_time,
                acr=approval.acr,
                created_at=now,
                expires_at=now + self._settings.lifetimes.code,
                dpop_jkt=approval.dpop_jkt,
                amr=amr_text(approval.amr),
                upstream=approval.upstream,
                upstream_sid=approval.upstream_sid,
            )
            if remember is not None:
                remember(connection)
        self._audit.emit(
            "code_issued",
            client_id=client.client_id,
            user_id=approval.user_id,
            scope=scope.build(approval.scopes),
            ignored_scope=approval.ignored_scope,
        )
        return code

    def handle(self, client: Client, parameters: Parameters) -> TokenResponse:
        """Return the tokens for a code (RFC 6749 §4.1.3); raises `OAuthError`."""
        digests = self._secret.digests("code", parameters.required("code"))
        code = rows.find_code(self._database, *digests)
        if code is None:
            raise invalid_grant(_UNUSABLE, "unknown_code")
        if code.client_id != client.client_id:
            raise invalid_grant(_UNUSABLE, "code_of_another_client", issued_to=code.client_id)
        if code.user_is_disabled:
            raise invalid_grant(_UNUSABLE, "user_disabled", user_id=code.user_id)
        _check_proofs(client, code, parameters)
        if code.redeemed_at is not None:
            raise self._replayed(code)
        if code.expires_at <= self._clock():
            raise _expired(code, self._clock())
        return self._redeem(client, code, parameters)

    def _redeem(self, client: Client, code: Row, parameters: Parameters) -> TokenResponse:
        scopes = tuple(code.scope.split())
        granted = tuple(json.loads(code.resources))
        grant_id = secrets.token_hex(16)
        authorization = Authorization(
            client=client,
            subject=code.user_id,
            scopes=scopes,
            resources=narrowed_resources(parameters.resources, granted),
            grant_id=grant_id,
            auth_time=code.auth_time,
            confirmation=parameters.confirmation,
            acr=code.acr,
            amr=amr_of(code.amr),
        )
        access = self._access.create(authorization)
        with_refresh = names.REFRESH_TOKEN in client.grant_types
        cnf = possession.of_refresh_tokens(client, parameters.confirmation)
        refresh_token = (
            self._refresh.make(grant_id, 0, bound=cnf is not None) if with_refresh else None
        )
        latest = None
        with self._database.write(concurrent=True) as connection:
            # Not earlier: the code may have been ended while this waited for its turn.
            now = self._clock()
            redeemed = rows.redeem_code(connection, code.digest, grant_id, now)
            if redeemed:
                grant = NewGrant(
                    grant_id=grant_id,
                    client=client,
                    user_id=code.user_id,
                    scopes=scopes,
                    resources=code.resources,
                    auth_time=code.auth_time,
                    acr=code.acr,
                    access=access,
                    refresh_token=refresh_token,
                    cnf=cnf,
                    amr=code.amr,
                    upstream=code.upstream,
                    upstream_sid=code.upstream_sid,
                )
                self._tokens.add(connection, grant, now)
            else:
                latest = rows.find_code(connection, code.digest)
        if not redeemed:
            # Another request redeemed it in between, or it has just expired.
            if latest is None or latest.redeemed_at is None:
                raise _expired(code, now)
            raise self._replayed(latest)
        self._audit.emit(
            "token_issued",
            grant_type=names.AUTHORIZATION_CODE,
            client_id=client.client_id,
            user_id=code.user_id,
            grant_id=grant_id,
            scope=code.scope,
        )
        return TokenResponse(
            access_token=access.value,
            expires_in=access.expires_in,
            scopes=scopes,
            refresh_token=refresh_token,
            token_type=dpop.token_type(parameters.confirmation),
        )

    def _replayed(self, code: Row) -> Exception:
        if code.grant_id and self._revocations.grant(code.grant_id, reason="code_replayed"):
            self._audit.emit(
                "code_replayed",
                client_id=code.client_id,
                user_id=code.user_id,
                grant_id=code.grant_id,
            )
        return invalid_grant(
            "The code was used before",
            "code_replayed",
            grant_id=code.grant_id,
            user_id=code.user_id,
        )


def _expired(code: Row, now: float) -> Exception:
    # A revocation lets codes expire at 0.
    expired_at = max(code.expires_at, code.created_at)
    return invalid_grant(
        _UNUSABLE, "expired_code", user_id=code.user_id, seconds=int(now - expired_at)
    )


def _check_proofs(client: Client, code: Row, parameters: Parameters) -> None:
    """Raise `OAuthError` unless the redirect URI, the key and the PKCE verifier match the code."""
    uri, verifier = parameters.get("redirect_uri"), parameters.get("code_verifier")
    if uri is None and not client.require_pkce:
        # Without PKCE, only the redirect URI binds the code to the request (RFC 9700 §4.5).
        raise invalid_request(
            "The parameter redirect_uri is missing", "missing_parameter", parameter="redirect_uri"
        )
    if uri is not None and uri != code.redirect_uri:
        raise invalid_grant(
            "The redirect_uri differs from that of the authorization request",
            "wrong_redirect_uri",
            redirect_uri=uri,
            expected=code.redirect_uri,
        )
    if code.dpop_jkt not in {None, parameters.confirmation.get("jkt")}:
        raise invalid_grant(
            "The code is bound to another key: send a DPoP proof of the key in dpop_jkt",
            "wrong_key" if "jkt" in parameters.confirmation else "missing_dpop_proof",
            expected=code.dpop_jkt,
        )
    if code.challenge is None:
        if verifier is not None:
            raise invalid_request(
                "A code_verifier was sent, but the code has no challenge", "code_without_challenge"
            )
        return
    if verifier is None or not pkce.proves(verifier, code.challenge):
        raise invalid_grant(
            "The code_verifier does not match the code_challenge",
            "missing_code_verifier" if verifier is None else "wrong_code_verifier",
        )
