"""Validating the claims of a JWT: `iss`, `aud`, `exp` and the others (RFC 7519 §4.1, RFC 9068 §4).

Pure: takes the claims, what a resource server expects, and the current time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

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
from bearerguard.principal import Claims, Principal, claims_of, shared
from bearerguard.protocol import scope
from bearerguard.protocol.jose.jwt import MAX_DATE, MAX_FUTURE, is_date

# RFC 9068 §2.2; every token must have the first three.
REQUIRED = ("iss", "exp", "aud")
REQUIRED_STRICT = (*REQUIRED, "sub", "client_id", "iat", "jti")

_TEXTS = ("iss", "sub", "client_id", "jti")
_GRANTS = frozenset({"scope", "scp", "roles", "acr", "auth_time"})
_NO_NAMES: frozenset[str] = frozenset()
# Longer texts (in characters) and lists of roles are not shared between tokens.
_MAX_SHARED = 512
_MAX_ROLES = 64
# Claims of ID tokens alone (OpenID Connect Core §3).
_ID_TOKEN_CLAIMS = ("at_hash", "c_hash")
# Claims that name the kind of a token: RFC 7662 §2.2, Cognito and Hydra, Keycloak, ForgeRock,
# Curity.
_KINDS = ("token_type", "token_use", "typ", "tokenName", "purpose")
# Their values, in lower case and without punctuation.
_REFRESH = frozenset({"refresh", "refreshtoken", "rt", "offline", "offlinetoken"})
_ID = frozenset({"id", "idtoken", "serializedid"})
_LOGOUT = frozenset({"logout", "logouttoken"})
# The option of a guard by which it checks a confirmation method (RFC 9449 §6.1, RFC 8705 §3.1).
_CHECKED_BY = {"jkt": 'dpop="allowed"', "x5t#S256": "certificates="}
_BOUND = frozenset({"dpop", "pop", "mac", "mtls", "hok", "holderofkey"})
# Tokens for an authorization server, never for an API.
_NOT_FOR_APIS = frozenset(
    {
        *("authorizationcode", "authcode", "devicecode", "usercode", "clientassertion"),
        *("secevent", "securityevent", "registrationaccesstoken", "initialaccesstoken"),
    }
)
_NOT_ACCESS_TOKENS = _REFRESH | _LOGOUT | _NOT_FOR_APIS
_URN = "urn:ietf:params:oauth:token-type:"  # RFC 8693 §3
# 2026-11-28T12:00:00.000Z
_INTERNET_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?Z"
# The claims from which the kind of a token is read.
KIND_CLAIMS = frozenset({"events", *_ID_TOKEN_CLAIMS, *_KINDS})
_PUNCTUATION = str.maketrans("", "", "_- ")


class Expected(NamedTuple):
    """What a resource server expects of the tokens of one issuer; `leeway` in seconds."""

    audience: frozenset[str]
    required: tuple[str, ...] = REQUIRED
    leeway: float = 30


def bearer(  # noqa: C901, PLR0912 - one pass: each claim is looked up once
    claims: dict[str, Any], expected: Expected, now: float, *, bound: bool = False
) -> Principal:
    """Return the principal of a token whose signature is valid, at `now` in Unix seconds.

    Raises `TokenError` unless the claims are valid. Malformed optional claims are ignored. Expiry
    is checked last, so that `TokenExpired` means that nothing else is wrong. Short values that
    passed every check are shared between tokens, which saves memory. With `bound`, the token may
    have a `cnf`, which the caller checks.
    """
    get = claims.get
    for name in expected.required:
        if get(name) is None:
            raise _missing(name)
    issuer, subject, client_id, token_id = texts = [get(name) for name in _TEXTS]
    for text in texts:
        if type(text) is not str and text is not None:
            raise TokenError(BAD_CLAIM, f"its {_TEXTS[texts.index(text)]} is no string")
    if get("cnf") is not None and not bound:
        raise unchecked_binding(get("cnf"))
    audience = claims["aud"]
    if type(audience) is not str or audience not in expected.audience:
        _check_audiences(audience, expected.audience)
    # Fast path: most dates are whole seconds that are past, or future, as they must be.
    begins_at, issued_at, expires_at = get("nbf", 0), get("iat"), claims["exp"]
    if type(expires_at) is not int or not 0 <= expires_at <= MAX_DATE:
        numeric_date(claims, "exp")
    if type(begins_at) is not int or not 0 <= begins_at <= now:
        _check_start(claims, "nbf", expected.leeway, now)
    if type(issued_at) is not int or not 0 <= issued_at <= now:
        _check_start(claims, "iat", MAX_FUTURE, now)
    auth_time, acr = get("auth_time"), get("acr")
    granted: Any = get("scope")
    if auth_time is not None and (type(auth_time) is not int or not 0 <= auth_time <= now):
        auth_time = _auth_time(claims)
    scopes = None if type(granted) is str else _granted(claims)
    if now >= expires_at + expected.leeway:
        raise TokenExpired(EXPIRED, f"it expired {now - expires_at:.0f} s ago")
    claims["iss"] = issuer = shared(issuer)
    if type(audience) is str:
        claims["aud"] = shared(audience)
    if client_id:
        if len(client_id) <= _MAX_SHARED:
            claims["client_id"] = client_id = shared(client_id)
    else:
        client_id = get("azp") if type(get("azp")) is str else None
    if scopes is None:
        if len(granted) <= _MAX_SHARED:
            claims["scope"], scopes = scope.remembered(granted)
        else:
            scopes = scope.parse(granted)
    return Principal.of_checked(
        issuer,
        subject,
        client_id,
        scopes,
        _roles(claims) if get("roles") else _NO_NAMES,
        token_id,
        issued_at,
        expires_at,
        acr if type(acr) is str else None,
        auth_time,
        claims_of(Claims, claims),
    )


def check(claims: Mapping[str, Any], expected: Expected, now: float) -> None:
    """Raise `TokenError` unless the claims are valid at `now`; what they grant is not read."""
    bearer({name: claims[name] for name in claims if name not in _GRANTS}, expected, now)


def unchecked_binding(cnf: object) -> TokenError:
    """Return the refusal of a token with this `cnf`, which the guard does not check."""
    methods = list(cnf) if isinstance(cnf, dict) else []
    options = [option for method, option in _CHECKED_BY.items() if method in methods]
    remedy = f"pass {' and '.join(options)} to the Guard, or " if options else ""
    found = f"cnf with {quoted(' and '.join(methods))}" if methods else "cnf"
    return TokenError(
        SENDER_CONSTRAINED,
        f"it is bound to a sender's key ({found}), and this guard checks no such binding: {remedy}"
        "let the issuer send this client bearer tokens",
    )


def _missing(name: str) -> TokenError:
    elsewhere = (
        ", or pass ClaimMapping(audience=) naming the claim that has it" if name == "aud" else ""
    )
    return TokenError(MISSING_CLAIM, f"it has no {name}: let the issuer send it{elsewhere}")


def _auth_time(claims: Mapping[str, Any]) -> float:
    """Return when the user was authenticated; AD FS alone has it as text, in UTC (RFC 3339)."""
    value = claims["auth_time"]
    if type(value) is str and re.fullmatch(_INTERNET_DATE, value):
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
    # RFC 9068 §2.2.3.1: an array; another value is ignored.
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
    """Return the texts among the members of an array, and one array for all equal ones."""
    return frozenset([each for each in members if type(each) is str]), members


def check_no_logout_token(claims: Mapping[str, Any]) -> None:
    """Raise `TokenError` for a security event token (RFC 8417 §2.2), whatever options are set.

    A logout token (Back-Channel Logout 1.0 §2.4) is one.
    """
    if claims.get("events") is not None:
        raise TokenError(
            ID_TOKEN, "it has events, so it is a logout token or another security event token"
        )


def check_not_id_token(claims: Mapping[str, Any]) -> None:
    """Raise `TokenError` for a token with a claim that only ID tokens have (RFC 8725 §3.12)."""
    found = [name for name in _ID_TOKEN_CLAIMS if claims.get(name) is not None]
    if found:
        raise _id_token(f"has {found[0]}")


def check_kind(claims: Mapping[str, Any], *, accept_id_tokens: bool, bound: bool = False) -> None:
    """Raise `TokenError` for a token whose claims say that it is of another kind.

    With `bound`, they may say that it is bound to a sender's key, as its `cnf` does.
    """
    for name in _KINDS:
        value = claims.get(name)
        if value is not None and not isinstance(value, str) and name == "token_type":
            raise TokenError(BAD_CLAIM, "its token_type is no string")
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str):
                _check_name_of_kind(name, each, accept_id_tokens=accept_id_tokens, bound=bound)


def _check_name_of_kind(name: str, value: str, *, accept_id_tokens: bool, bound: bool) -> None:
    lower = value.strip().lower().removeprefix(_URN).removeprefix("application/")
    kind = lower.removesuffix("+jwt").translate(_PUNCTUATION)
    # This member is one word (RFC 6749 §7.1); where there are more, one may name another kind.
    is_type = name == "token_type"
    if kind in _NOT_ACCESS_TOKENS or (is_type and "refresh" in kind):
        raise TokenError(
            WRONG_TYPE, f"its {name} is {quoted(value)}: send the access token instead"
        )
    if kind in _ID and not accept_id_tokens:
        raise _id_token(f"has {name} {quoted(value)}")
    if not bound and (kind in _BOUND or (is_type and "dpop" in kind)):
        raise TokenError(
            SENDER_CONSTRAINED,
            f"its {name} is {quoted(value)}, so it is bound to a sender's key, but no cnf names"
            " the key",
        )


def _id_token(found: str) -> TokenError:
    return TokenError(
        ID_TOKEN,
        f"it {found}, so it is an ID token: send the access token, or pass accept_id_tokens=True",
    )


def numeric_date(claims: Mapping[str, Any], name: str) -> float:
    """Return a NumericDate in Unix seconds (RFC 7519 §2); raises `TokenError` for another value."""
    value = claims[name]
    if is_date(value):
        return value
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
