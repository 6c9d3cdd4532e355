"""The token endpoint (RFC 6749 §3.2, §5), and endpoints with similar requests: build, read.

A response is a token, a `TokenRefused` with the server's error code, or a `TokenUnavailable` where
it decides nothing about the grant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from bearerguard.errors import TokenRefused, TokenUnavailable, quoted
from bearerguard.protocol import names, scope
from bearerguard.protocol.client_authentication import Proof
from bearerguard.protocol.http import document
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Response

_HEADERS = (("accept", names.JSON), ("content-type", names.FORM))

# Error codes with which only a person can help (OpenID Connect Core §3.1.2.6; the last one is
# Auth0's, for a second factor). Token endpoints use them where a login no longer suffices.
INTERACTION_REQUIRED = frozenset(
    {
        "interaction_required",
        names.LOGIN_REQUIRED,
        "consent_required",
        "account_selection_required",
        "mfa_required",
    }
)
# Error codes for a refresh token that is no longer valid (RFC 6749 §5.2; GitHub's and Slack's own).
GRANT_ENDED = frozenset({names.INVALID_GRANT, "bad_refresh_token", "invalid_refresh_token"})
# The server's own trouble (RFC 6749 §4.1.2.1 defines them; token endpoints use them too).
_TEMPORARY = frozenset({names.TEMPORARILY_UNAVAILABLE, names.SERVER_ERROR})

# Error codes of our own, where the server gave none.
INVALID_RESPONSE = "invalid_response"

# Tokens that need a key (RFC 9449, RFC 9200, a draft's mac), and `N_A`, which is no access token
# (RFC 8693 §2.2.1).
_NOT_BEARER = frozenset({"dpop", "pop", "mac", "n_a"})
_MAX_TYPE_LENGTH = 64
_MAX_FORM_FIELDS = 100
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?")
# What an HTTP header can carry: b64token is narrower (RFC 6750 §2.1), and not all servers know it.
_SENDABLE = re.compile(r"[\x21-\x7E]+")
# A token with a longer lifetime, in seconds, is treated as one without `expires_in`.
_MAX_LIFETIME = 100 * 365.25 * 86_400

Fields = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class TokenResponse:
    """A successful response (RFC 6749 §5.1); `expires_in` is in seconds."""

    access_token: str = field(repr=False)
    token_type: str
    expires_in: float | None
    refresh_token: str | None = field(repr=False)
    scopes: tuple[str, ...] | None


def request(endpoint: str, fields: Fields, proof: Proof, headers: Fields = ()) -> Fetch:
    """Build a request that authenticates its client by `proof`.

    It never uses a kept connection: one that turns out to be dead would have the request sent
    twice, and a code or a refresh token can be used only once.
    """
    # A request that is pushed names its client, and so do some proofs.
    others = (each for each in fields if each not in proof.parameters)
    form = urlencode([*others, *proof.parameters]).encode("ascii")
    return Fetch("POST", endpoint, (*_HEADERS, *proof.headers, *headers), form)


def scope_and_resource(scopes: Iterable[str], resources: Iterable[str]) -> list[tuple[str, str]]:
    """Build the parameters `scope` (RFC 6749 §3.3) and `resource` (RFC 8707 §2)."""
    joined = scope.build(scopes)
    fields = [("scope", joined)] if joined else []
    return fields + [("resource", resource) for resource in resources]


def read(
    response: Response,
    *,
    token_type: str = names.BEARER,
    assumed_type: str | None = None,
    bearer_type: str | None = None,
) -> TokenResponse:
    """Return the token of a response, if it has the `token_type` asked for (RFC 6749 §7.1).

    A bearer token where a DPoP-bound one was asked for is not used: a thief could use it as well
    (RFC 9449 §5).

    Args:
        response: the whole response.
        token_type: `Bearer` or `DPoP`.
        assumed_type: the type of a token whose response names none.
        bearer_type: what this server calls a bearer token.

    Raises:
        TokenRefused: the server refuses, or its response cannot be used.
        TokenUnavailable: the server is in trouble; asking again later may help.
    """
    content = members(response)
    access_token = content.get("access_token")
    if not isinstance(access_token, str) or not _SENDABLE.fullmatch(access_token):
        raise TokenRefused(INVALID_RESPONSE, "the server's response has no access token")
    given_type = content.get("token_type")
    if given_type is None:
        if assumed_type is None:
            raise TokenRefused(
                names.UNSUPPORTED_TOKEN_TYPE,
                "the server's response has no token_type: if the token is a bearer token,"
                ' pass assume_token_type="Bearer"',
            )
        given_type = assumed_type
    if token_type == names.BEARER and bearer_type is not None and isinstance(given_type, str):
        given_type = names.BEARER if given_type.lower() == bearer_type.lower() else given_type
    if not isinstance(given_type, str) or given_type.lower() != token_type.lower():
        remedy = ""
        if token_type == names.BEARER and may_mean_bearer(given_type):
            remedy = (
                "; if this server calls its bearer tokens so, pass"
                f" bearer_type={quoted(given_type)}"
            )
        raise TokenRefused(
            names.UNSUPPORTED_TOKEN_TYPE,
            f"the token is of type {quoted(given_type)}, not {token_type}: it is not used{remedy}",
        )
    return TokenResponse(
        access_token,
        token_type,
        _seconds(content.get("expires_in")),
        _text(content.get("refresh_token")),
        _scopes(content.get("scope")),
    )


def issued(response: Response, token_type: str) -> str:
    """Return a token that is no access token, from a token exchange (RFC 8693 §2.2.1).

    Raises `TokenRefused` or `TokenUnavailable`, and refuses a token of another type.
    """
    content = members(response)
    found = content.get("issued_token_type")
    if found != token_type:
        raise TokenRefused(
            INVALID_RESPONSE, f"the issued token is of type {quoted(found)}, not {token_type}"
        )
    token = content.get("access_token")
    if not isinstance(token, str) or not _SENDABLE.fullmatch(token):
        raise TokenRefused(INVALID_RESPONSE, "the server's response has no token")
    return token


def may_mean_bearer(name: object) -> bool:
    """Whether a server may call its bearer tokens by this name; not by that of another type.

    Slack has `bot` and `user`, Azure DevOps `jwt-bearer`, eBay `User Access Token`.
    """
    return (
        isinstance(name, str)
        and 0 < len(name) <= _MAX_TYPE_LENGTH
        and name.isascii()
        and name.isprintable()
        and name.lower() not in _NOT_BEARER
    )


def is_done(response: Response) -> bool:
    """Whether a request without a response body succeeded: a body with an error says it did not."""
    if not document.is_success(response):
        return False
    try:
        return not _object(response).get("error")
    except ValueError:  # the body of a successful revocation is ignored (RFC 7009 §2.2)
        return True


def members(response: Response) -> dict[str, Any]:
    """Return the JSON object of a successful response; raises the error that another one means.

    A body with an `error` is an error whatever its status: GitHub refuses with 200.

    Raises:
        TokenRefused: as `read`.
        TokenUnavailable: as `read`.
    """
    if not document.is_success(response):
        raise refusal(response)
    if not response.body.strip():
        raise TokenRefused(
            INVALID_RESPONSE, f"the server's response is unusable: {response.status} without a body"
        )
    try:
        content = _object(response)
    except ValueError as error:
        raise TokenRefused(
            INVALID_RESPONSE, f"the server's response is unusable: {error}"
        ) from None
    if content.get("error"):
        raise refusal(response)
    return content


def refusal(response: Response) -> TokenRefused | TokenUnavailable:
    """Return the error that a response without a token means."""
    try:
        content = _object(response)
    except ValueError:
        content = {}
    error = content.get("error")
    if document.is_unavailable(response):
        # Whatever the code: a refresh token is not given up for a server's own trouble.
        named = f" with {quoted(error)}" if isinstance(error, str) and error else ""
        pause = document.retry_after(response)
        return TokenUnavailable(f"the server's response was {response.status}{named}", pause)
    if not isinstance(error, str) or not error:
        return TokenRefused(
            INVALID_RESPONSE,
            f"the server's response was {response.status}{_instead(response, content)}",
        )
    if error in _TEMPORARY:
        return TokenUnavailable(
            f"the server's response was {error}", document.retry_after(response)
        )
    description = content.get("error_description")
    reason = f" {quoted(description)}" if isinstance(description, str) else " without a reason"
    return TokenRefused(error, f"the server refuses{reason}")


def _instead(response: Response, content: dict[str, Any]) -> str:
    """Describe a response that has neither a token nor an error code."""
    redirect = document.redirect(response)
    if redirect:
        return f", {redirect}"
    if not content:
        try:
            _object(response)
        except ValueError as problem:
            return f": {problem}"
    # Errors that are not OAuth's: Facebook and Google's Identity Toolkit, Okta, and more.
    error = content.get("error")
    places = (error if isinstance(error, dict) else {}, content)
    for name in ("message", "errorSummary", "error_description"):
        for place in places:
            if isinstance(place.get(name), str) and place[name]:
                return f" with {quoted(place[name])}"
    return " without an error code"


def _object(response: Response) -> dict[str, Any]:
    """Parse a body: JSON, or a form where its media type says so, as GitHub's are by default.

    Raises ValueError for anything but an object, or a form with each name once.
    """
    kind = (response.header("content-type") or "").partition(";")[0].strip().lower()
    if kind != names.FORM:
        return document.loads_object(response.body)
    pairs = parse_qsl(
        response.body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MAX_FORM_FIELDS
    )
    content: dict[str, Any] = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a parameter comes twice")
    return content


def _seconds(given: object) -> float | None:
    """Read `expires_in`; some servers send it as text, and a useless value is ignored."""
    if isinstance(given, str) and _DECIMAL.fullmatch(given):
        given = float(given)
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    return float(given) if 0 < given <= _MAX_LIFETIME else None


def _text(given: object) -> str | None:
    return given if isinstance(given, str) and given else None


def _scopes(given: object) -> tuple[str, ...] | None:
    """Read `scope`; some servers send a list in place of the string (RFC 6749 §5.1)."""
    if isinstance(given, list) and all(isinstance(each, str) for each in given):
        given = " ".join(given)
    return tuple(given.split()) if isinstance(given, str) else None
