"""Reading the answers of a token endpoint (RFC 6749 §5).

Either a token that may be used, or `TokenRefused` with the server's code, or
`TokenUnavailable` when the answer says nothing about the grant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from bearerguard.errors import TokenRefused, TokenUnavailable, quoted
from bearerguard.messages import Response
from bearerguard.protocol import strict_json

BEARER, DPOP = "Bearer", "DPoP"

_OK = 200
_TOO_MANY, _SERVER_ERRORS = 429, 500
# The server's own trouble (RFC 6749 §4.1.2.1 names them; token endpoints send them too).
_PASSING = {"temporarily_unavailable", "server_error"}
# What an HTTP header can carry: b64token is narrower (RFC 6750 §2.1), and not all servers know it.
_SENDABLE = re.compile(r"[\x21-\x7E]+")
_LONGEST_PAUSE = 3600.0
# A token that claims to live longer than a century has an end that nobody knows.
_LONGEST_LIFE = 100 * 365.25 * 86_400


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What a server gave: everything but the access token may be missing."""

    access_token: str = field(repr=False)
    token_type: str
    expires_in: float | None
    refresh_token: str | None = field(repr=False)
    scope: tuple[str, ...] | None


def read(answer: Response, *, token_type: str = BEARER) -> TokenAnswer:
    """Return the token of an answer; one of another type than asked for is not used (§7.1).

    A bearer token where a DPoP-bound one was asked for could be used by any thief: it is
    thrown away (RFC 9449 §5).
    """
    if answer.status != _OK:
        raise refusal(answer)
    members = _object(answer)
    access_token = members.get("access_token")
    if not isinstance(access_token, str) or not _SENDABLE.fullmatch(access_token):
        raise TokenRefused("invalid_response", "the server's answer holds no access token")
    given_type = members.get("token_type")
    if not isinstance(given_type, str) or given_type.lower() != token_type.lower():
        raise TokenRefused(
            "unsupported_token_type",
            f"the token is of type {quoted(given_type)}, not {token_type}: it is not used",
        )
    return TokenAnswer(
        access_token,
        token_type,
        _seconds(members.get("expires_in")),
        _text(members.get("refresh_token")),
        _scope(members.get("scope")),
    )


def refusal(answer: Response) -> TokenRefused | TokenUnavailable:
    """Return what an answer without a token means."""
    if answer.status >= _SERVER_ERRORS or answer.status == _TOO_MANY:
        return TokenUnavailable(f"the server answers {answer.status}", pause(answer))
    try:
        members = strict_json.loads_object(answer.body)
    except ValueError:
        members = {}
    error = members.get("error")
    if not isinstance(error, str) or not error:
        return TokenRefused("invalid_response", f"the server answers {answer.status}")
    if error in _PASSING:
        return TokenUnavailable(f"the server answers {error}", pause(answer))
    description = members.get("error_description")
    said = f" {quoted(description)}" if isinstance(description, str) else " without a reason"
    return TokenRefused(error, f"the server refuses{said}")


def pause(answer: Response) -> float:
    """Return the seconds that `Retry-After` asks for, 1 when it does not say (RFC 9110 §10.2.3)."""
    seconds = (answer.header("retry-after") or "").strip()
    if not seconds.isascii() or not seconds.isdigit():
        return 1.0
    return max(1.0, min(float(seconds), _LONGEST_PAUSE))


def _object(answer: Response) -> dict[str, Any]:
    try:
        return strict_json.loads_object(answer.body)
    except ValueError as error:
        raise TokenRefused(
            "invalid_response", f"the server's answer is unusable: {error}"
        ) from None


def _seconds(given: object) -> float | None:
    """Read `expires_in`; some servers send it as text, and nonsense is as good as nothing."""
    if isinstance(given, str) and given.isascii() and given.isdigit():
        given = float(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return float(given) if 0 < given <= _LONGEST_LIFE else None


def _text(given: object) -> str | None:
    return given if isinstance(given, str) and given else None


def _scope(given: object) -> tuple[str, ...] | None:
    return tuple(given.split()) if isinstance(given, str) else None
