"""Parsing `Authorization: Bearer` and `DPoP` (RFC 6750 §2.1, RFC 9449 §7.1, RFC 9110 §11).

A WSGI server joins repeated fields by a comma. No token has one: such credentials are malformed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bearerguard.errors import (
    MALFORMED_CREDENTIALS,
    REPEATED_CREDENTIALS,
    CredentialsError,
)
from bearerguard.protocol import names

# credentials = auth-scheme 1*SP token68. The scheme ends at the first octet that no scheme may
# have, so that a TAB or NBSP after "Bearer" is malformed, and not another scheme.
_SCHEME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*+")  # possessive: a scheme is read once
_TOKEN68 = rb"[A-Za-z0-9._~+/-]+=*"
_CREDENTIALS = re.compile(_SCHEME.pattern + rb" +(" + _TOKEN68 + rb")")
_ONE_TOKEN68 = re.compile(_TOKEN68)
# A longer field holds no token that any guard accepts: nothing but its beginning is read.
MAX_FIELD_BYTES = 2**20 + 64
_BEGINNING = slice(64)
# Fast path: every character is token68.
_USUAL, _USUAL_DPOP = b"Bearer ", b"DPoP "
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/-"
# The schemes whose credentials are one token68, by their names in lower case.
_BEARER = {b"bearer": names.BEARER}
_BOTH = {**_BEARER, b"dpop": names.DPOP}


class Credentials(NamedTuple):
    """An access token, and the scheme by which it was sent: `Bearer` or `DPoP`."""

    scheme: str
    token: bytes

    def __repr__(self) -> str:
        """Show the scheme alone: the token is a secret."""
        return f"Credentials({self.scheme!r})"


def bearer_token(fields: Sequence[bytes]) -> bytes | None:
    """Return the bearer token of a request, None when it has no bearer credentials.

    `fields` are the values of all its Authorization fields. Raises `CredentialsError` for a
    repeated field, even an identical one, and for malformed bearer credentials.
    """
    found = bearer_credentials(fields)
    return None if found is None else found.token


def bearer_credentials(fields: Sequence[bytes], longest: int | None = None) -> Credentials | None:
    """Return the bearer credentials of a request, as `credentials` does those of both schemes."""
    if len(fields) == 1:
        field = fields[0]
        if field.startswith(_USUAL) and len(field) <= (longest or MAX_FIELD_BYTES):
            token = field[len(_USUAL) :]
            if token and not token.translate(None, _LETTERS):
                return Credentials(names.BEARER, token)
    return _parsed(fields, _BEARER, longest)


def credentials(fields: Sequence[bytes], longest: int | None = None) -> Credentials | None:
    """Return the token of a request and its scheme, Bearer or DPoP; None without such credentials.

    Nothing but the scheme of a field that has more than `longest` bytes is read. All of it is
    returned as the token then, for a caller that refuses longer ones than that.

    Raises `CredentialsError` as `bearer_token` does. It names the scheme of the credentials, unless
    there may be credentials of another scheme besides.
    """
    if len(fields) == 1:
        field = fields[0]
        if field.startswith(_USUAL_DPOP) and len(field) <= (longest or MAX_FIELD_BYTES):
            token = field[len(_USUAL_DPOP) :]
            if token and not token.translate(None, _LETTERS):
                return Credentials(names.DPOP, token)
    return _parsed(fields, _BOTH, longest)


def _parsed(
    fields: Sequence[bytes], schemes: Mapping[bytes, str], longest: int | None
) -> Credentials | None:
    if not fields:
        return None
    if len(fields) > 1:
        raise CredentialsError(
            REPEATED_CREDENTIALS,
            "the request has several Authorization fields: send one",
        )
    whole = fields[0]
    is_too_long = len(whole) > (longest or MAX_FIELD_BYTES)
    field = (whole[_BEGINNING] if is_too_long else whole).strip(b" \t")
    begins = _SCHEME.match(field[_BEGINNING])
    scheme = None if begins is None else schemes.get(begins[0].lower())
    if scheme is None:
        return None
    if is_too_long and longest is not None:
        return Credentials(scheme, whole)
    match = _CREDENTIALS.fullmatch(field)
    if match is not None and not is_too_long:
        return Credentials(scheme, match[1])
    raise CredentialsError(
        MALFORMED_CREDENTIALS,
        f"send `Authorization: {scheme}`, a space, and one token"
        + (f"; the field is longer than {MAX_FIELD_BYTES} bytes" if is_too_long else ""),
        scheme=None if b"," in field else scheme,
    )


def absence(fields: Sequence[bytes], subprotocols: str = "") -> str:
    """Return what a request without bearer credentials has instead, for the operator's log.

    Only a known scheme is named: any other first word may be a secret. `subprotocols` is the
    Sec-WebSocket-Protocol field of a websocket, in which browsers send tokens.
    """
    if not fields:
        offered = [each.strip() for each in subprotocols[:_SHOWN_SUBPROTOCOLS].split(",")]
        if names.TICKET_SUBPROTOCOL in offered:
            return (
                "the request has no Authorization header, and a ticket as a subprotocol was not"
                " read: pass websockets=WebSockets(tickets=Tickets(...)) to the Guard, unless the"
                " path is excluded from authentication"
            )
        if any(each.lower().startswith(_OF_TOKENS) for each in offered):
            return (
                "the request has no Authorization header, and what looks like a token as a"
                " subprotocol was not read: pass websockets=WebSockets(subprotocol=True) to the"
                ' Guard, and let the page open `new WebSocket(url, ["bearer", token])`'
            )
        return (
            "the request has no Authorization header; if the client sent one, a proxy or server"
            " removed it (Apache's mod_wsgi needs `WSGIPassAuthorization On`)"
        )
    first, space, _ = fields[0][_BEGINNING].strip(b" \t").partition(b" ")
    if first.lower() == b"bearer":
        return "the request's token was not read: its path is excluded from authentication"
    if first.lower() == b"dpop":
        return (
            "the Authorization header has the scheme DPoP, and was not read: pass"
            ' dpop="allowed" to the Guard, unless the path is excluded from authentication'
        )
    scheme = _OTHER_SCHEMES.get(first.lower())
    if scheme is not None:
        found = f"the scheme {scheme}"
    else:
        found = "an unknown scheme" if space else "no scheme"
    return f"the Authorization header has {found}: send `Authorization: Bearer`, a space, the token"


_SHOWN_SUBPROTOCOLS = 1024
# A subprotocol that begins so may be a token, or announce one: JWTs begin with `{"` in base64url.
_OF_TOKENS = (names.BEARER_SUBPROTOCOL, "authorization", "access_token", "eyj")

# Schemes of the IANA registry, and some that APIs use besides, in the spelling for messages.
_OTHER_SCHEMES = {
    name.lower().encode(): name
    for name in (
        *(
            "Basic",
            "Digest",
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
