"""Security events that a transmitter pushes (RFC 8935), and the tokens that they revoke.

Owns the rules for a request with a security event token and for its response, as a flow for both
adapters. Knows no ASGI and no WSGI.
"""

from __future__ import annotations

from collections.abc import Collection

from bearerguard.errors import (
    BAD_SECURITY_EVENT,
    ConfigurationError,
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
    unavailable,
)
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.protocol.events import security_event
from bearerguard.protocol.events.security_event import SecurityEvent
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import Response

_EMPTY = (("Content-Length", "0"), NO_STORE)
_DESCRIPTIONS = {
    "invalid_request": "The request has no valid security event token",
    "invalid_key": "The key that signed the security event token is not known here",
    "invalid_issuer": "The issuer of the security event token is not known here",
    "invalid_audience": "The security event token is not for this receiver",
    "authentication_failed": "The request must carry the transmitter's credentials",
}


class SecurityEventReceiver:
    """Responds to requests with security event tokens, and revokes tokens accordingly.

    Args:
        receiver: what each receiver works with.
        audience: the names of this receiver, as `aud` has them.
        also: URIs of further events that revoke.
    """

    def __init__(
        self, receiver: EventReceiver, audience: str | Collection[str], also: Collection[str]
    ) -> None:
        remedy = "pass this receiver's name, the `aud` of security event tokens, or a list"
        self._audience = frozenset(names("audience", audience, remedy))
        if isinstance(also, str) or not all(isinstance(each, str) and each for each in also):
            raise ConfigurationError("also=: pass a list of the URIs of events")
        self._also = frozenset(also)
        self._receiver = receiver

    def receive(self, posted: Posted) -> Flow[Response]:
        """Return the response: 202 when every worker will refuse the tokens (RFC 8935 §2.2).

        400 is for a request that is not genuine, 401 for one without the transmitter's
        credentials, and 503 for a failure on this side.
        """
        receiver = self._receiver
        if posted.method != "POST":
            return Response(405, (("Allow", "POST"), *_EMPTY))
        if receiver.has_bearer and not receiver.has_secret(posted):
            receiver.events.emit(
                BAD_SECURITY_EVENT.code, None, "the request has none of the secrets of bearer="
            )
            return _failure(401, "authentication_failed", (("WWW-Authenticate", "Bearer"),))
        try:
            yield from self._apply(_token(posted))
        except Refusal as refusal:
            receiver.events.emit(BAD_SECURITY_EVENT.code, refusal.issuer, refusal.remedy)
            return _failure(400, security_event.error_code(refusal.reason))
        except (IssuerUnavailable, RevocationFailed) as error:
            receiver.events.emit("security_event_failed", None, str(error))
            return unavailable(error.retry_after if isinstance(error, IssuerUnavailable) else 1)
        return Response(202, _EMPTY)

    def _apply(self, octets: bytes) -> Flow[None]:
        receiver = self._receiver
        signed = yield from receiver.validator.verify_signature(octets, security_event.check_type)
        now = receiver.clock()
        try:
            token = security_event.parse(signed.claims, self._audience, now)
            is_new = yield from receiver.check_new(signed, token.token_id, BAD_SECURITY_EVENT)
        except Refusal as refusal:
            refusal.concern(signed.issuer.url)
            raise
        if not is_new:
            return  # a transmitter repeats what it saw no response to (RFC 8935 §2.2)
        made = {event.type: self._revocations(event, signed, now) for event in token.events}
        whole = [each for some in made.values() for each in some]
        if whole:
            note = receiver.received(signed, token.token_id)
            yield from receiver.revocations.revoke([*whole, note])
        for kind, some in made.items():
            if some:
                named = ", ".join(sorted({each.kind for each in some}))
                detail = f"{quoted(kind)} revoked the tokens of a {named}"
                receiver.events.emit(
                    "security_event_applied", signed.issuer.url, detail, about=quoted(kind)
                )

    def _revocations(self, event: SecurityEvent, signed: Signed, now: float) -> list[Revocation]:
        receiver, transmitter = self._receiver, signed.issuer.url
        name = quoted(event.type)
        if event.type == security_event.VERIFICATION:
            detail = "the transmitter verified the stream of events"
            receiver.events.emit("event_stream_verified", transmitter, detail)
            return []
        if not event.revokes and event.type not in self._also:
            detail = f"{name} revokes nothing: name it in also= if it should"
            receiver.events.emit("security_event_ignored", transmitter, detail, about=name)
            return []
        issuer = receiver.issuer_for(signed)
        named = receiver.subjects.resolve(
            event.subject,
            issuer,
            transmitter=transmitter,
            may_be_session=event.type in security_event.OF_SESSIONS,
        )
        if not named:
            formats = ", ".join(sorted({each.format for each in event.subject})) or "none"
            detail = (
                f"{name} has no subject that is known here (formats: {quoted(formats)}): pass"
                " subject_of= to resolve others"
            )
            receiver.events.emit("security_event_ignored", transmitter, detail, about=name)
            return []
        return revocations(
            named,
            issuer,
            occurred_at=event.occurred_at,
            now=now,
            max_token_life=receiver.revocations.shared.max_token_life,
        )


def _token(posted: Posted) -> bytes:
    if posted.media_type != security_event.MEDIA_TYPE:
        raise TokenError(
            BAD_SECURITY_EVENT,
            f"the content type of the request is not {security_event.MEDIA_TYPE}",
        )
    if posted.body is None or len(posted.body) > MAX_BODY:
        raise TokenError(BAD_SECURITY_EVENT, f"the request is longer than {MAX_BODY} bytes")
    return posted.body.strip()


def _failure(status: int, code: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    body = security_event.error_body(code, _DESCRIPTIONS[code])
    fields = (
        ("Content-Type", "application/json"),
        ("Content-Language", "en"),
        ("Content-Length", str(len(body))),
    )
    return Response(status, (*fields, NO_STORE, *headers), body)
