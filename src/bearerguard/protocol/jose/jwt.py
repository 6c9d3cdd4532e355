"""Reading a signed JWT in compact form (RFC 7519, RFC 7515, RFC 9068, RFC 8725).

Takes a token apart and checks what needs neither a key nor the time. Whether its
signature is genuine is `jwk`'s, what its claims must be is `claims`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from bearerguard.errors import (
    CRITICAL_HEADER,
    ENCRYPTED_TOKEN,
    MALFORMED_TOKEN,
    WRONG_TYPE,
    TokenError,
    quoted,
)
from bearerguard.protocol.jose import base64url, strict_json

# Servers admit header fields of 8 to 64 KiB; an issuer's tokens rarely have a tenth of this.
MAX_TOKEN_BYTES = 16_384

_JWS_PARTS, _JWE_PARTS = 3, 5


class SignedToken(NamedTuple):
    """A JWT taken apart. Nothing in it is proved before its signature is.

    Its header stays encoded: an issuer's tokens have few different ones, and whoever has
    seen one before need not read it again.
    """

    header: bytes
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes

    def __repr__(self) -> str:
        """Show nothing of it: it opens doors."""
        return "SignedToken()"


class Header(NamedTuple):
    """A JOSE header: how a token says it was signed (RFC 7515 §4)."""

    algorithm: str
    kid: str | None
    typ: str | None


# A call of the class itself takes twice as long.
_signed_token: Callable[[tuple[Any, ...]], SignedToken] = partial(tuple.__new__, SignedToken)


def parse(token: bytes, max_bytes: int = MAX_TOKEN_BYTES) -> SignedToken:
    """Take a token apart; raises `TokenError` for whatever is not strictly a signed JWT.

    A claim that is null is one that is not there: serialisers write what they have no value
    for either way.
    """
    if len(token) > max_bytes:
        raise too_long(max_bytes)
    parts = token.split(b".")
    if len(parts) != _JWS_PARTS:
        raise _not_three(len(parts))
    header, payload, signature = parts
    try:
        claims = strict_json.loads_object(base64url.decode(payload))
        if not all(claims.values()):  # the fastest way to see that none is null
            claims = strict_json.without_nulls(claims)
        octets = base64url.decode(signature)
    except ValueError:
        raise _not_strict() from None
    return _signed_token((header, claims, token[: -1 - len(signature)], octets))


def parse_header(segment: bytes) -> Header:
    """Read a token's first part; raises `TokenError` for whatever is not strictly a header."""
    try:
        members = strict_json.loads_object(base64url.decode(segment))
    except ValueError:
        raise _not_strict() from None
    # Absent, any key may have signed; who writes null may mean that, or have lost the name.
    if members.get("kid", "") is None:
        raise TokenError(MALFORMED_TOKEN, "kid in its header is null: let the issuer leave it out")
    header = strict_json.without_nulls(members)
    algorithm, kid, typ = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or not _is_text(kid) or not _is_text(typ):
        raise TokenError(MALFORMED_TOKEN, "alg, kid or typ in its header is no string")
    if "crit" in header or header.get("b64", True) is not True:
        raise TokenError(CRITICAL_HEADER, "its header demands an extension (crit, b64)")
    return Header(algorithm, kid, typ)


def unproved_issuer(token: bytes) -> str | None:
    """Return the issuer that an encrypted token's header names (RFC 7519 §5.3), if it does."""
    try:
        header = strict_json.loads_object(base64url.decode(token[:MAX_TOKEN_BYTES].split(b".")[0]))
    except ValueError:
        return None
    issuer = header.get("iss")
    return issuer if isinstance(issuer, str) else None


def too_long(max_bytes: int) -> TokenError:
    """Return the refusal of a token of more than `max_bytes`."""
    return TokenError(
        MALFORMED_TOKEN,
        f"it is longer than {max_bytes} bytes: let the issuer put less into it, or pass"
        " max_token_bytes= to the Guard",
    )


def _not_three(parts: int) -> TokenError:
    if parts == _JWE_PARTS:
        return TokenError(
            ENCRYPTED_TOKEN,
            "it is encrypted (JWE): let the issuer send signed access tokens",
        )
    return TokenError(MALFORMED_TOKEN, "it is not a JWT: not three parts between dots")


def _not_strict() -> TokenError:
    # The cause quotes the token; its position alone would help nobody.
    return TokenError(MALFORMED_TOKEN, "it is not strict base64url and JSON")


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def media_type(typ: str | None) -> str:
    """Return `typ` comparable: lower case, without `application/`; absent is `jwt`.

    RFC 7515 §4.1.9 lets the prefix be omitted, RFC 7519 §5.1 makes absent and `JWT` equal.
    """
    return "jwt" if typ is None else typ.lower().removeprefix("application/")


def check_type(typ: str | None, accepted: frozenset[str]) -> None:
    """Raise `TokenError` unless the token's type is among `accepted` (RFC 9068 §4)."""
    if media_type(typ) not in accepted:
        hint = ' or pass token_types=("at+jwt", "JWT")' if media_type(typ) == "jwt" else ""
        raise TokenError(
            WRONG_TYPE,
            f"typ is {quoted(typ)}, this issuer requires {' or '.join(sorted(accepted))}:"
            f" let the issuer send access tokens of that type{hint}",
        )
