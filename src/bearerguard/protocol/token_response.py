"""Reading the answers of a token endpoint (RFC 6749 §5).

Either a token that may be used, or `TokenRefused` with the server's code, or
`TokenUnavailable` when the answer says nothing about the grant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from bearerguard.errors import TokenRefused, TokenUnavailable, quoted
from bearerguard.protocol.http import document
from bearerguard.runtime.messages import Response

BEARER, DPOP = "Bearer", "DPoP"

_FIRST_SUCCESS, _FIRST_REDIRECT = 200, 300
_TOO_MANY, _SERVER_ERRORS = 429, 500
# Types of tokens that prove nothing without a key (RFC 9449, RFC 9200, a draft's mac), and what is
# no access token at all (RFC 8693 §2.2.1).
_OTHER_TYPES = frozenset({"dpop", "pop", "mac", "n_a"})
_LONGEST_NAME = 64
_FORM, _MAX_FORM_FIELDS = "application/x-www-form-urlencoded", 100
# The server's own trouble (RFC 6749 §4.1.2.1 names them; token endpoints send them too).
_PASSING = {"temporarily_unavailable", "server_error"}
# Codes that say that only a person can help (OpenID Connect Core §3.1.2.6, and Auth0's own for
# the second factor). Token endpoints send them too, where a login is no longer enough.
INTERACTIVE = frozenset(
    {
        "interaction_required",
        "login_required",
        "consent_required",
        "account_selection_required",
        "mfa_required",
    }
)
# A refresh token is over (RFC 6749 §5.2; GitHub's and Slack's own codes for the same).
OVER = frozenset({"invalid_grant", "bad_refresh_token", "invalid_refresh_token"})
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?")
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


def read(
    answer: Response,
    *,
    token_type: str = BEARER,
    assumed_type: str | None = None,
    bearer_type: str | None = None,
) -> TokenAnswer:
    """Return the token of a response; one of another type than asked for is not used (§7.1).

    A bearer token where a DPoP-bound one was asked for could be used by any thief: it is
    thrown away (RFC 9449 §5). `assumed_type` is that of a token whose server names none;
    `bearer_type` is what this server calls a bearer token.
    """
    content = members(answer)
    access_token = content.get("access_token")
    if not isinstance(access_token, str) or not _SENDABLE.fullmatch(access_token):
        raise TokenRefused("invalid_response", "the server's answer holds no access token")
    given_type = content.get("token_type")
    if given_type is None:
        if assumed_type is None:
            raise TokenRefused(
                "unsupported_token_type",
                "the server does not say of what type the token is: if it is a bearer token,"
                ' pass assume_token_type="Bearer"',
            )
        given_type = assumed_type
    if token_type == BEARER and bearer_type is not None and isinstance(given_type, str):
        given_type = BEARER if given_type.lower() == bearer_type.lower() else given_type
    if not isinstance(given_type, str) or given_type.lower() != token_type.lower():
        remedy = ""
        if token_type == BEARER and may_mean_bearer(given_type):
            remedy = (
                "; if this server calls its bearer tokens so, pass"
                f" bearer_type={quoted(given_type)}"
            )
        raise TokenRefused(
            "unsupported_token_type",
            f"the token is of type {quoted(given_type)}, not {token_type}: it is not used{remedy}",
        )
    return TokenAnswer(
        access_token,
        token_type,
        _seconds(content.get("expires_in")),
        _text(content.get("refresh_token")),
        _scope(content.get("scope")),
    )


def may_mean_bearer(name: object) -> bool:
    """Whether a server may call bearer tokens so: not by a name that says they are used otherwise.

    Slack has `bot` and `user`, Azure DevOps `jwt-bearer`, eBay `User Access Token`.
    """
    return (
        isinstance(name, str)
        and 0 < len(name) <= _LONGEST_NAME
        and name.isascii()
        and name.isprintable()
        and name.lower() not in _OTHER_TYPES
    )


def is_success(answer: Response) -> bool:
    """Whether a response has a status of success (RFC 9110 §15.3)."""
    return _FIRST_SUCCESS <= answer.status < _FIRST_REDIRECT


def is_done(answer: Response) -> bool:
    """Whether a response without content says that all is done: a body with an error does not."""
    if not is_success(answer):
        return False
    try:
        return not _object(answer).get("error")
    except ValueError:  # what a server says besides is its own (RFC 7009 §2.2)
        return True


def members(answer: Response) -> dict[str, Any]:
    """Return the JSON object of a successful response; raises what any other one means.

    A body with an `error` is an error whatever its status: GitHub refuses with 200.
    """
    if not is_success(answer):
        raise refusal(answer)
    if not answer.body.strip():
        raise TokenRefused(
            "invalid_response", f"the server's answer is unusable: {answer.status} without a body"
        )
    try:
        content = _object(answer)
    except ValueError as error:
        raise TokenRefused(
            "invalid_response", f"the server's answer is unusable: {error}"
        ) from None
    if content.get("error"):
        raise refusal(answer)
    return content


def refusal(answer: Response) -> TokenRefused | TokenUnavailable:
    """Return what a response without a token means."""
    try:
        content = _object(answer)
    except ValueError:
        content = {}
    error = content.get("error")
    if answer.status >= _SERVER_ERRORS or answer.status == _TOO_MANY:
        # Whatever it calls it: a refresh token is not given up for a server's own trouble.
        named = f" with {quoted(error)}" if isinstance(error, str) and error else ""
        return TokenUnavailable(f"the server answers {answer.status}{named}", pause(answer))
    if not isinstance(error, str) or not error:
        return TokenRefused(
            "invalid_response", f"the server answers {answer.status}{_instead(answer, content)}"
        )
    if error in _PASSING:
        return TokenUnavailable(f"the server answers {error}", pause(answer))
    description = content.get("error_description")
    said = f" {quoted(description)}" if isinstance(description, str) else " without a reason"
    return TokenRefused(error, f"the server refuses{said}")


def _instead(answer: Response, content: dict[str, Any]) -> str:
    """Say what a response without a token and without an error code is."""
    redirect = document.redirect(answer)
    if redirect:
        return f", {redirect}"
    if not content:
        try:
            _object(answer)
        except ValueError as problem:
            return f": {problem}"
    # Where it is said without OAuth: by Facebook and Google's Identity Toolkit, by Okta, by others.
    error = content.get("error")
    places = (error if isinstance(error, dict) else {}, content)
    for name in ("message", "errorSummary", "error_description"):
        for place in places:
            if isinstance(place.get(name), str) and place[name]:
                return f" with {quoted(place[name])}"
    return " without an error code"


def _object(answer: Response) -> dict[str, Any]:
    """Read a body; one that calls itself a form is read as one: GitHub's are by default.

    Raises ValueError for anything else than an object, or a form with each name once.
    """
    kind = (answer.header("content-type") or "").partition(";")[0].strip().lower()
    if kind != _FORM:
        return document.loads_object(answer.body)
    pairs = parse_qsl(
        answer.body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FORM_FIELDS
    )
    content: dict[str, Any] = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a parameter comes twice")
    return content


def pause(answer: Response) -> float:
    """Return the seconds that `Retry-After` asks for, 1 when it does not say (RFC 9110 §10.2.3)."""
    seconds = (answer.header("retry-after") or "").strip()
    if not seconds.isascii() or not seconds.isdigit():
        return 1.0
    return max(1.0, min(float(seconds), _LONGEST_PAUSE))


def _seconds(given: object) -> float | None:
    """Read `expires_in`; some servers send it as text, and nonsense is as good as nothing."""
    if isinstance(given, str) and _DECIMAL.fullmatch(given):
        given = float(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return float(given) if 0 < given <= _LONGEST_LIFE else None


def _text(given: object) -> str | None:
    return given if isinstance(given, str) and given else None


def _scope(given: object) -> tuple[str, ...] | None:
    """Read `scope`; some servers send a list in place of the string (RFC 6749 §5.1)."""
    if isinstance(given, list) and all(isinstance(each, str) for each in given):
        given = " ".join(given)
    return tuple(given.split()) if isinstance(given, str) else None
