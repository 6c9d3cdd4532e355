"""Parsing `Authorization: Bearer` (RFC 6750 §2.1, with the grammar of RFC 9110 §11).

A WSGI server joins repeated fields by a comma. No token has one: such credentials are malformed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bearerguard.errors import (
    MALFORMED_CREDENTIALS,
    REPEATED_CREDENTIALS,
    CredentialsError,
)

# credentials = auth-scheme 1*SP token68. The scheme ends at the first octet that no scheme may
# have, so that a TAB or NBSP after "Bearer" is malformed, and not another scheme.
_SCHEME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_TOKEN68 = rb"[A-Za-z0-9._~+/-]+=*"
_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +(" + _TOKEN68 + rb")")
_ONE_TOKEN68 = re.compile(_TOKEN68)
# Fast path: every character is token68.
_USUAL = b"Bearer "
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/-"


def bearer_token(fields: Sequence[bytes]) -> bytes | None:
    """Return the bearer token of a request, None when it has no bearer credentials.

    `fields` are the values of all its Authorization fields. Raises `CredentialsError` for a
    repeated field, even an identical one, and for malformed bearer credentials.
    """
    if not fields:
        return None
    if len(fields) > 1:
        raise CredentialsError(
            REPEATED_CREDENTIALS,
            "the request has several Authorization fields: send one",
        )
    field = fields[0]
    if field.startswith(_USUAL):
        token = field[len(_USUAL) :]
        if token and not token.translate(None, _LETTERS):
            return token
    field = field.strip(b" \t")
    match = _BEARER.fullmatch(field)
    if match is not None:
        return match[1]
    scheme = _SCHEME.match(field)
    if scheme is not None and scheme[0].lower() == b"bearer":
        raise CredentialsError(
            MALFORMED_CREDENTIALS,
            "send `Authorization: Bearer`, a space, and one token",
        )
    return None


def absence(fields: Sequence[bytes]) -> str:
    """Return what a request without bearer credentials has instead, for the operator's log.

    Only a known scheme is named: any other first word may be a secret.
    """
    if not fields:
        return (
            "the request has no Authorization header; if the client sent one, a proxy or server"
            " removed it (Apache's mod_wsgi needs `WSGIPassAuthorization On`)"
        )
    first, space, _ = fields[0].strip(b" \t").partition(b" ")
    if first.lower() == b"bearer":
        return "the request's token was not read: its path is excluded from authentication"
    scheme = _OTHER_SCHEMES.get(first.lower())
    if scheme is not None:
        found = f"the scheme {scheme}"
    else:
        found = "an unknown scheme" if space else "no scheme"
    return f"the Authorization header has {found}: send `Authorization: Bearer`, a space, the token"


# Schemes of the IANA registry, and some that APIs use besides, in the spelling for messages.
_OTHER_SCHEMES = {
    name.lower().encode(): name
    for name in (
        *(
            "Basic",
            "Digest",
            "DPoP",
            "GNAP",
            "HOBA",
            "Mutual",
            "Negotiate",
            "OAuth",
            "PrivateToken",
        ),
        *("SCRAM-SHA-1", "SCRAM-SHA-256", "vapid", "Concealed"),
        *("Token", "JWT", "ApiKey", "Api-Key", "Key", "MAC", "Hawk", "NTLM", "AWS4-HMAC-SHA256"),
    )
}


def is_token68(token: bytes) -> bool:
    """Whether `token` is spelled as bearer credentials are (RFC 9110 §11.2)."""
    return _ONE_TOKEN68.fullmatch(token) is not None
