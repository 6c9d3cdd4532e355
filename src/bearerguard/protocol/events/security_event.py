"""Security event tokens (RFC 8417) as transmitters push them (RFC 8935): read, and respond.

Knows which events of CAEP and RISC end the tokens of their subject. Pure checks of a parsed JWT;
its signature is verified by `jose.jwk`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from bearerguard.errors import (
    BAD_SECURITY_EVENT,
    BAD_SIGNATURE,
    UNKNOWN_ISSUER,
    UNKNOWN_KEY,
    WRONG_ALGORITHM,
    WRONG_AUDIENCE,
    Reason,
    TokenError,
    quoted,
)
from bearerguard.protocol import names
from bearerguard.protocol.events import subject_identifier
from bearerguard.protocol.events.subject_identifier import SubjectIdentifier
from bearerguard.protocol.jose import jwt

MEDIA_TYPE = f"application/{names.SECURITY_EVENT_JWT}"

CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"
SESSION_REVOKED = CAEP + "session-revoked"
CREDENTIAL_CHANGE = CAEP + "credential-change"
VERIFICATION = SSF + "verification"
# After these events the subject's tokens say what is no longer true, or are in wrong hands.
REVOKING: frozenset[str] = frozenset(
    {
        SESSION_REVOKED,
        CREDENTIAL_CHANGE,
        CAEP + "token-claims-change",
        RISC + "account-disabled",
        RISC + "account-purged",
        RISC + "account-credential-change-required",
        RISC + "credential-compromise",
        RISC + "sessions-revoked",
    }
)
# A simple identifier in these may be that of a session.
OF_SESSIONS: frozenset[str] = frozenset({SESSION_REVOKED})

# Error codes (RFC 8935 §2.4) of refusals; of all others it is `invalid_request`.
_ERRORS: Mapping[Reason, str] = {
    UNKNOWN_ISSUER: "invalid_issuer",
    UNKNOWN_KEY: "invalid_key",
    BAD_SIGNATURE: "invalid_key",
    WRONG_ALGORITHM: "invalid_key",
    WRONG_AUDIENCE: "invalid_audience",
}
_MAX_EVENTS = 16
# Seconds. Drafts of CAEP had milliseconds; as seconds they are after the year 5000.
_MILLISECONDS = 10**11


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One event.

    Attributes:
        type: its URI.
        subject: who or what it is about; empty for one about the stream.
        occurred_at: when it occurred, in Unix seconds.
        payload: its members.
    """

    type: str
    subject: tuple[SubjectIdentifier, ...] = field(repr=False)
    occurred_at: float
    payload: Mapping[str, Any] = field(repr=False)

    @property
    def revokes(self) -> bool:
        """Whether it is among `REVOKING`; a credential that was added ends nothing."""
        if self.type == CREDENTIAL_CHANGE and self.payload.get("change_type") == "create":
            return False
        return self.type in REVOKING


@dataclass(frozen=True, slots=True)
class SecurityEventToken:
    """The events of one token, and its `jti`."""

    token_id: str = field(repr=False)
    events: tuple[SecurityEvent, ...]


def check_type(typ: str | None) -> None:
    """Raise `TokenError` unless `typ` is `secevent+jwt` (RFC 8417 §2.3)."""
    if jwt.media_type(typ) != names.SECURITY_EVENT_JWT:
        raise _refusal(f"its typ is {quoted(typ)}, not {names.SECURITY_EVENT_JWT}")


def parse(claims: Mapping[str, Any], audience: Collection[str], now: float) -> SecurityEventToken:
    """Return the events of a token whose signature is verified (RFC 8417 §2.2).

    Args:
        claims: those of the token.
        audience: the names of this receiver; `aud` must have one of them.
        now: Unix seconds.

    Raises `TokenError`.
    """
    given = claims.get("aud")
    named = given if isinstance(given, list) else [given]
    if not any(name in named for name in audience):
        raise TokenError(WRONG_AUDIENCE, f"its aud is {quoted(given)}, not audience=")
    token_id = claims.get("jti")
    if not isinstance(token_id, str) or not token_id:
        raise _refusal("it has no jti")
    issued_at = _date(claims.get("iat"), "iat", now)
    expires_at = claims.get("exp")  # not recommended (§2.2), and it must not be ignored
    if expires_at is not None and _number(expires_at, "exp") <= now:
        raise _refusal("it expired")
    occurred_at = issued_at
    if claims.get("toe") is not None:
        occurred_at = _date(claims["toe"], "toe", now)
    events = claims.get("events")
    if not isinstance(events, Mapping) or not 0 < len(events) <= _MAX_EVENTS:
        raise _refusal("its events are no object with 1 to 16 events")
    return SecurityEventToken(
        token_id,
        tuple(
            _event(kind, payload, claims.get("sub_id"), occurred_at, now)
            for kind, payload in events.items()
        ),
    )


def error_code(reason: Reason) -> str:
    """Return the error code of a response to a token that was refused (RFC 8935 §2.4)."""
    return _ERRORS.get(reason, "invalid_request")


def error_body(code: str, description: str) -> bytes:
    """Return the body of a response that reports an error (RFC 8935 §2.3)."""
    return json.dumps({"err": code, "description": description}).encode()


def _event(
    kind: str, payload: object, subject: object, occurred_at: float, now: float
) -> SecurityEvent:
    if not isinstance(payload, Mapping):
        raise _refusal("one of its events is no object")
    if payload.get("event_timestamp") is not None:
        occurred_at = _date(payload["event_timestamp"], "event_timestamp", now)
    # Before RFC 9493 the subject was in the event.
    about = payload.get("subject") if subject is None else subject
    try:
        identifiers = () if about is None else tuple(subject_identifier.read(about))
    except ValueError as error:
        raise _refusal(str(error)) from None
    return SecurityEvent(kind, identifiers, occurred_at, payload)


def _date(value: object, name: str, now: float) -> float:
    seconds = _number(value, name)
    if seconds >= _MILLISECONDS:
        seconds /= 1000
    if not 0 <= seconds <= now + jwt.MAX_FUTURE:
        raise _refusal(f"its {name} is in the future")
    return seconds


def _number(value: object, name: str) -> float:
    if not jwt.is_date(value):
        raise _refusal(f"its {name} is missing or no date in seconds")
    return value


def _refusal(remedy: str) -> TokenError:
    return TokenError(BAD_SECURITY_EVENT, remedy)
