"""Requests to revoke all tokens of a user (draft-parecki-oauth-global-token-revocation).

Okta's Universal Logout sends them. Owns the rules for a request and its response, as a flow for
both adapters. Knows no ASGI and no WSGI.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from bearerguard.errors import (
    BAD_REVOCATION_REQUEST,
    ConfigurationError,
    CredentialsError,
    IssuerUnavailable,
    Refusal,
    RevocationFailed,
    TokenError,
    quoted,
)
from bearerguard.guard.config.names import names
from bearerguard.guard.revocation.event_subjects import revocations
from bearerguard.guard.revocation.posted_events import (
    MAX_BODY,
    NO_STORE,
    EventReceiver,
    Posted,
    Signed,
    credentials,
    failure,
    unavailable,
)
from bearerguard.protocol.events import subject_identifier
from bearerguard.protocol.events.subject_identifier import SubjectIdentifier
from bearerguard.protocol.jose import jwt, strict_json
from bearerguard.protocol.names import GLOBAL_REVOCATION_JWT, JSON
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import Response

_EMPTY = (("Content-Length", "0"), NO_STORE)


class GlobalRevocationReceiver:
    """Responds to requests for global token revocation, and revokes the tokens.

    Args:
        receiver: what each receiver works with.
        audience: the URLs of this endpoint, as the `aud` of the caller's JWT has them; None if
            callers authenticate with a secret alone.
    """

    def __init__(self, receiver: EventReceiver, audience: str | Collection[str] | None) -> None:
        if audience is None and not receiver.has_bearer:
            raise ConfigurationError(
                "audience=: pass the URL of this endpoint, the `aud` of the caller's JWT, or"
                " bearer= for callers with a secret"
            )
        if receiver.has_bearer and receiver.issuer is None:
            raise ConfigurationError(
                "issuer=: a caller with a secret names no issuer: pass the url of the one whose"
                " tokens are revoked"
            )
        remedy = "pass the URL of this endpoint, the `aud` of the caller's JWT, or a list"
        self._audience = frozenset(() if audience is None else names("audience", audience, remedy))
        self._receiver = receiver

    def receive(self, posted: Posted) -> Flow[Response]:
        """Return the response: 204 when every worker will refuse the tokens.

        400 is for a malformed request, 401 for a caller that is not authenticated, 404 for a user
        that is not known here, and 503 for a failure on this side.
        """
        receiver = self._receiver
        if posted.method != "POST":
            return Response(405, (("Allow", "POST"), *_EMPTY))
        try:
            signed = yield from self._authenticated(posted)
            subject = _subject(posted)
            transmitter = "" if signed is None else signed.issuer.url
            issuer = receiver.issuer_for(signed)
            found = receiver.subjects.resolve(subject, issuer, transmitter=transmitter)
            if not found:
                formats = quoted(", ".join(sorted({each.format for each in subject})))
                detail = f"its subject is not known here (formats: {formats}): pass subject_of="
                receiver.events.emit(BAD_REVOCATION_REQUEST.code, transmitter or None, detail)
                return failure(404, "not_found", "The user is not known here")
            now = receiver.clock()
            made = revocations(
                found,
                issuer,
                occurred_at=now,
                now=now,
                max_token_life=receiver.revocations.shared.max_token_life,
            )
            token_id = None if signed is None else signed.claims.get("jti")
            if signed is not None and isinstance(token_id, str):
                made.append(receiver.received(signed, token_id))
            yield from receiver.revocations.revoke(made)
        except Refusal as refusal:
            receiver.events.emit(BAD_REVOCATION_REQUEST.code, refusal.issuer, refusal.remedy)
            return _refused(refusal)
        except (IssuerUnavailable, RevocationFailed) as error:
            receiver.events.emit("revocation_request_failed", None, str(error))
            return unavailable(error.retry_after if isinstance(error, IssuerUnavailable) else 1)
        kinds = ", ".join(sorted({kind for kind, _ in found}))
        detail = f"a request revoked the tokens of a {kinds}"
        receiver.events.emit("revocation_requested", issuer, detail)
        return Response(204, (NO_STORE,))

    def _authenticated(self, posted: Posted) -> Flow[Signed | None]:
        """Return the caller's JWT, None for a caller with a secret; raises `TokenError`."""
        receiver = self._receiver
        if receiver.has_secret(posted):
            return None
        sent = credentials(posted)
        if not sent or not self._audience:
            raise _unauthenticated("the caller has sent no credentials that are accepted here")
        signed = yield from receiver.validator.verify_signature(sent, _check_type)
        try:
            token_id = self._checked(signed)
            is_new = yield from receiver.check_new(signed, token_id, BAD_REVOCATION_REQUEST)
            if not is_new:
                raise _unauthenticated("the caller's JWT was used before")
        except Refusal as refusal:
            refusal.concern(signed.issuer.url)
            raise
        return signed

    def _checked(self, signed: Signed) -> str | None:
        """Check the claims of the caller's JWT, and return its `jti`."""
        claims, now, leeway = signed.claims, self._receiver.clock(), signed.issuer.leeway
        given = claims.get("aud")
        if not any(each in self._audience for each in _texts(given)):
            raise _unauthenticated(f"the aud of the caller's JWT is {quoted(given)}, not audience=")
        if now >= _date(claims, "exp") + leeway:
            raise _unauthenticated("the caller's JWT expired")
        for name, most in (("iat", jwt.MAX_FUTURE), ("nbf", leeway)):
            if claims.get(name) is not None and _date(claims, name) > now + most:
                raise _unauthenticated(f"the {name} of the caller's JWT is in the future")
        token_id = claims.get("jti")
        if token_id is not None and (not isinstance(token_id, str) or not token_id):
            raise _unauthenticated("the jti of the caller's JWT is no text")
        return token_id


def _check_type(typ: str | None) -> None:
    if jwt.media_type(typ) != GLOBAL_REVOCATION_JWT:
        raise _unauthenticated(
            f"the typ of the caller's JWT is {quoted(typ)}, not {GLOBAL_REVOCATION_JWT}"
        )


def _subject(posted: Posted) -> list[SubjectIdentifier]:
    if posted.media_type != JSON:
        raise _malformed(f"the content type of the request is not {JSON}")
    if posted.body is None or len(posted.body) > MAX_BODY:
        raise _malformed(f"the request is longer than {MAX_BODY} bytes")
    try:
        content = strict_json.loads_object(posted.body)
        # The first drafts called it `subject`.
        return subject_identifier.read(content.get("sub_id", content.get("subject")))
    except ValueError as error:
        raise _malformed(str(error)) from None


def _texts(value: object) -> list[str]:
    return [each for each in (value if isinstance(value, list) else [value]) if type(each) is str]


def _date(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if not jwt.is_date(value):
        raise _unauthenticated(f"the {name} of the caller's JWT is missing or no date")
    return value


def _malformed(remedy: str) -> CredentialsError:
    return CredentialsError(BAD_REVOCATION_REQUEST, remedy)


def _unauthenticated(remedy: str) -> TokenError:
    return TokenError(BAD_REVOCATION_REQUEST, remedy)


def _refused(refusal: Refusal) -> Response:
    if refusal.status == CredentialsError.status:
        return failure(400, "invalid_request", "The request has no valid sub_id")
    challenge = ("WWW-Authenticate", "Bearer")
    return failure(401, "invalid_token", "The caller is not authenticated", (challenge,))
