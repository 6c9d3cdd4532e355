"""What the claims of an access token must be, and whose it is (RFC 7519 §4.1, RFC 9068 §2.2, §4).

Pure: an unpacked payload, what a resource server expects, and a moment that is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from typing import Any

from bearerguard.errors import (
    BAD_CLAIM,
    EXPIRED,
    ID_TOKEN,
    MISSING_CLAIM,
    NOT_YET_VALID,
    SENDER_CONSTRAINED,
    WRONG_AUDIENCE,
    WRONG_TYPE,
    TokenError,
    TokenExpired,
    quoted,
)
from bearerguard.principal import Claims, Principal, shared
from bearerguard.protocol import scope

# RFC 9068 §2.2; the first three are demanded of every token.
REQUIRED = ("iss", "exp", "aud")
REQUIRED_STRICT = (*REQUIRED, "sub", "client_id", "iat", "jti")

# A token issued further ahead than clocks drift was not issued by this issuer's clock.
_MAX_FUTURE = 300
# Beyond it a double no longer counts seconds.
_MAX_DATE = 2**53
_TEXTS = ("iss", "sub", "client_id", "jti")
_NO_NAMES: frozenset[str] = frozenset()
# What is kept for other tokens to share is no longer than this, in characters and in roles.
_MAX_SHARED = 512
_MAX_ROLES = 64
# What only ID tokens carry (OpenID Connect Core §3).
_OF_ID_TOKENS = ("at_hash", "c_hash")
# Where servers say what kind of token it is: RFC 7662 §2.2, Cognito and Hydra, Keycloak,
# ForgeRock, Curity.
_KINDS = ("token_type", "token_use", "typ", "tokenName", "purpose")
# What they say there, without case and punctuation.
_REFRESH = frozenset({"refresh", "refreshtoken", "rt", "offline", "offlinetoken"})
_ID = frozenset({"id", "idtoken", "serializedid"})
_LOGOUT = frozenset({"logout", "logouttoken"})
_BOUND = frozenset({"dpop", "pop", "mac", "mtls", "hok", "holderofkey"})
# What is given to a server or a registry, and never to an API.
_FOR_NO_API = frozenset(
    {
        *("authorizationcode", "authcode", "devicecode", "usercode", "clientassertion"),
        *("secevent", "securityevent", "registrationaccesstoken", "initialaccesstoken"),
    }
)
_NO_ACCESS_TOKENS = _REFRESH | _LOGOUT | _FOR_NO_API
_URN = "urn:ietf:params:oauth:token-type:"  # RFC 8693 §3
# 2026-11-28T12:00:00.000Z
_INTERNET_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z"
)
_PUNCTUATION = str.maketrans("", "", "_- ")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a resource server expects of the tokens of one issuer; `leeway` in seconds."""

    audience: frozenset[str]
    required: tuple[str, ...] = REQUIRED
    leeway: float = 30


def bearer(claims: dict[str, Any], expected: Expected, now: float) -> Principal:
    """Return who bears a genuine token with these claims at `now`, in Unix seconds.

    Raises `TokenError` unless they hold. What is no text, date or list of names, and need not
    be there, grants and says nothing. Values that many tokens share are made one object, if
    they are short: what is kept for others is bounded, and never what a check refused.
    """
    check(claims, expected, now)
    get = claims.get
    issuer = claims["iss"] = shared(claims["iss"])
    audience, client_id, text, acr = claims["aud"], get("client_id"), get("scope"), get("acr")
    if type(audience) is str:
        claims["aud"] = shared(audience)
    if client_id:
        if len(client_id) <= _MAX_SHARED:
            claims["client_id"] = client_id = shared(client_id)
    else:
        client_id = get("azp") if type(get("azp")) is str else None
    if type(text) is str:
        if len(text) <= _MAX_SHARED:
            claims["scope"] = shared(text)
            scopes = scope.remembered(text)
        else:
            scopes = scope.parse(text)
    else:
        scopes = _granted(claims)
    told = (
        issuer,
        get("sub"),
        client_id,
        scopes,
        _roles(claims) if get("roles") else _NO_NAMES,
        get("jti"),
        get("iat"),
        claims["exp"],
        acr if type(acr) is str else None,
        None if get("auth_time") is None else _auth_time(claims),
        Claims(claims),
    )
    return _principal(told)


# A call of the class itself takes twice as long.
_principal: Callable[[tuple[Any, ...]], Principal] = partial(tuple.__new__, Principal)


def check(  # noqa: C901 - in one piece: a call of its own costs as much as what it does
    claims: Mapping[str, Any], expected: Expected, now: float
) -> None:
    """Raise `TokenError` unless the claims of a genuine token hold at `now`, in Unix seconds.

    Expiry is checked last, so that `TokenExpired` says of a token that only its time is over.
    """
    get = claims.get
    for name in expected.required:
        if get(name) is None:
            raise _missing(name)
    for name in _TEXTS:
        if type(get(name)) is not str and get(name) is not None:
            raise TokenError(BAD_CLAIM, f"its {name} is no string")
    if get("cnf") is not None:
        raise TokenError(
            SENDER_CONSTRAINED,
            "it is bound to a sender's key (cnf), and was sent as Bearer",
        )
    audience = claims["aud"]
    if type(audience) is not str or audience not in expected.audience:
        _check_audiences(audience, expected.audience)
    # Most dates are whole seconds, and behind or ahead of now as they should be: only the others
    # are looked at closely.
    begins_at, issued_at, expires_at = get("nbf", 0), get("iat", 0), claims["exp"]
    if type(expires_at) is not int or not 0 <= expires_at <= _MAX_DATE:
        numeric_date(claims, "exp")
    if type(begins_at) is not int or not 0 <= begins_at <= now:
        _check_start(claims, "nbf", expected.leeway, now)
    if type(issued_at) is not int or not 0 <= issued_at <= now:
        _check_start(claims, "iat", _MAX_FUTURE, now)
    if now >= expires_at + expected.leeway:
        raise TokenExpired(EXPIRED, f"it expired {now - expires_at:.0f} s ago")


def _missing(name: str) -> TokenError:
    elsewhere = (
        ", or pass ClaimMapping(audience=) naming the claim that has it" if name == "aud" else ""
    )
    return TokenError(MISSING_CLAIM, f"it has no {name}: let the issuer send it{elsewhere}")


def _auth_time(claims: Mapping[str, Any]) -> float:
    """Return when the user signed in: AD FS alone writes it as a text, in UTC (RFC 3339)."""
    value = claims["auth_time"]
    if type(value) is str and _INTERNET_DATE.fullmatch(value):
        try:
            return datetime.fromisoformat(value).timestamp()
        except ValueError:  # the 30th of February
            pass
    return numeric_date(claims, "auth_time")


def _granted(claims: Mapping[str, Any]) -> frozenset[str]:
    try:
        return scope.granted(claims)
    except ValueError as error:
        raise TokenError(BAD_CLAIM, f"its {error}") from None


def _check_start(claims: Mapping[str, Any], name: str, leeway: float, now: float) -> None:
    ahead = 0 if claims.get(name) is None else numeric_date(claims, name) - now
    if ahead > leeway:
        raise TokenError(NOT_YET_VALID, f"its {name} is {ahead:.0f} s ahead of this clock")


def _roles(claims: dict[str, Any]) -> frozenset[str]:
    # RFC 9068 §2.2.3.1: an array; what is none grants nothing.
    value = claims["roles"]
    if type(value) is not list:
        return _NO_NAMES
    if len(value) > _MAX_ROLES:
        return frozenset([each for each in value if type(each) is str])
    try:
        names, members = _named(tuple(value))
    except TypeError:  # an object or array among them
        names, members = _named(tuple([each for each in value if type(each) is str]))
    if len(names) == len(value):
        claims["roles"] = members
    return names


@lru_cache(1024)
def _named(members: tuple[Any, ...]) -> tuple[frozenset[str], tuple[Any, ...]]:
    """Return the names among the members of an array, and one array for all that equal it."""
    return frozenset([each for each in members if type(each) is str]), members


def check_no_logout_token(claims: Mapping[str, Any]) -> None:
    """Raise `TokenError` for what tells of events and grants nothing (RFC 8417 §2.2).

    Whatever options are set: a logout token (Back-Channel Logout 1.0 §2.4) is such a one.
    """
    if claims.get("events") is not None:
        raise TokenError(
            ID_TOKEN, "it has events, so it is a logout token or tells of another event"
        )


def check_not_id_token(claims: Mapping[str, Any]) -> None:
    """Raise `TokenError` for what only ID tokens carry (RFC 8725 §3.12)."""
    found = [name for name in _OF_ID_TOKENS if claims.get(name) is not None]
    if found:
        raise _id_token(f"has {found[0]}")


def check_kind(claims: Mapping[str, Any], *, accept_id_tokens: bool) -> None:
    """Raise `TokenError` for what its issuer calls another kind of token, whatever the case."""
    for name in _KINDS:
        value = claims.get(name)
        if value is not None and not isinstance(value, str) and name == "token_type":
            raise TokenError(BAD_CLAIM, "its token_type is no string")
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                _check_name_of_kind(name, each, accept_id_tokens=accept_id_tokens)


def _check_name_of_kind(name: str, value: str, *, accept_id_tokens: bool) -> None:
    lower = value.strip().lower().removeprefix(_URN).removeprefix("application/")
    kind = lower.removesuffix("+jwt").translate(_PUNCTUATION)
    # RFC 6749 §7.1 gives this member one word; of more, one may be such a word.
    is_type = name == "token_type"
    if kind in _NO_ACCESS_TOKENS or (is_type and "refresh" in kind):
        raise TokenError(
            WRONG_TYPE, f"its {name} is {quoted(value)}: send the access token instead"
        )
    if kind in _ID and not accept_id_tokens:
        raise _id_token(f"has {name} {quoted(value)}")
    if kind in _BOUND or (is_type and "dpop" in kind):
        raise TokenError(
            SENDER_CONSTRAINED,
            f"its {name} is {quoted(value)}, so it is bound to a sender's key, and was sent as"
            " Bearer",
        )


def _id_token(found: str) -> TokenError:
    return TokenError(
        ID_TOKEN,
        f"it {found}, so it is an ID token: send the access token, or pass accept_id_tokens=True",
    )


def numeric_date(claims: Mapping[str, Any], name: str) -> float:
    """Return a NumericDate in Unix seconds (RFC 7519 §2); raises `TokenError` for another value."""
    value = claims[name]
    kind = type(value)  # exactly: bool is an int in Python
    if (kind is int or kind is float) and -_MAX_DATE <= value <= _MAX_DATE:
        date: float = value
        return date
    raise TokenError(BAD_CLAIM, f"its {name} is no date in seconds")


def _check_audiences(audience: object, accepted: frozenset[str]) -> None:
    names = [audience] if isinstance(audience, str) else audience
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TokenError(BAD_CLAIM, "its aud is neither a string nor an array of strings")
    if accepted.isdisjoint(names):
        raise TokenError(
            WRONG_AUDIENCE,
            f"aud is {quoted(audience)}, this issuer requires {quoted(sorted(accepted))}:"
            " ask the issuer for that audience, or pass audience= as the tokens have it",
        )
