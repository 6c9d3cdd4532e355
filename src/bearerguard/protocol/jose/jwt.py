"""Parsing signed JWTs in compact form (RFC 7519, RFC 7515, RFC 9068, RFC 8725).

Checks what needs neither a key nor the time: `jwk` verifies the signature, `protocol.jwt_claims`
validates the claims.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias, TypeGuard

from bearerguard.errors import (
    CRITICAL_HEADER,
    ENCRYPTED_TOKEN,
    MALFORMED_TOKEN,
    WRONG_TYPE,
    TokenError,
    quoted,
)
from bearerguard.protocol.jose import base64url, strict_json

# Servers accept header fields of 8 to 64 KiB; tokens are rarely a tenth as long as this.
MAX_TOKEN_BYTES = 16_384
# Larger dates are not exact as a double.
MAX_DATE = 2**53
# Seconds by which a date may be ahead of this clock. Clocks do not differ more: what was issued, or
# occurred, further in the future is not genuine.
MAX_FUTURE = 300

_JWS_PARTS, _JWE_PARTS = 3, 5


Members: TypeAlias = tuple[bytes, dict[str, Any], bytes, bytes]
"""The members of a `SignedToken`, in their order."""


class SignedToken(NamedTuple):
    """A parsed JWT, whose signature is still to be verified.

    The header stays encoded: an issuer's tokens have few different ones, and the parsed ones are
    cached.
    """

    header: bytes
    claims: dict[str, Any]
    signing_input: bytes
    signature: bytes

    def __repr__(self) -> str:
        """Show nothing of it: it is a secret."""
        return "SignedToken()"


class Header(NamedTuple):
    """A JOSE header: how a token claims to be signed (RFC 7515 §4)."""

    algorithm: str
    kid: str | None
    typ: str | None


def parse(token: bytes, max_bytes: int = MAX_TOKEN_BYTES) -> SignedToken:
    """Parse a token; raises `TokenError` for anything but a signed JWT.

    A claim that is null is absent: some serialisers write null for a missing value.
    """
    return SignedToken(*members(token, max_bytes))


def members(token: bytes, max_bytes: int = MAX_TOKEN_BYTES) -> Members:
    """Do what `parse` does, for a caller that needs the members alone: that takes less time."""
    if len(token) > max_bytes:
        raise too_long(max_bytes)
    parts = token.split(b".")
    if len(parts) != _JWS_PARTS:
        raise _not_three(len(parts))
    header, payload, signature = parts
    try:
        claims = strict_json.loads_object(base64url.decode(payload))
        if not all(claims.values()):  # fast path: none is null
            claims = strict_json.without_nulls(claims)
        octets = base64url.decode(signature)
    except ValueError:
        raise _not_strict() from None
    return header, claims, token[: -1 - len(signature)], octets


def parse_header(segment: bytes) -> Header:
    """Parse the first part of a token; raises `TokenError` for anything but a header."""
    try:
        fields = strict_json.loads_object(base64url.decode(segment))
    except ValueError:
        if segment.startswith(b"Bearer "):
            raise TokenError(
                MALFORMED_TOKEN, "it begins with the scheme: pass what follows `Bearer ` alone"
            ) from None
        raise _not_strict() from None
    # Without a kid, any key may have signed; null may mean that, or a lost name.
    if fields.get("kid", "") is None:
        raise TokenError(MALFORMED_TOKEN, "kid in its header is null: let the issuer leave it out")
    header = strict_json.without_nulls(fields)
    algorithm, kid, typ = header.get("alg"), header.get("kid"), header.get("typ")
    if not isinstance(algorithm, str) or not _is_text(kid) or not _is_text(typ):
        raise TokenError(MALFORMED_TOKEN, "alg, kid or typ in its header is no string")
    if "crit" in header or header.get("b64", True) is not True:
        raise TokenError(CRITICAL_HEADER, "its header requires an extension (crit, b64)")
    return Header(algorithm, kid, typ)


def unverified_issuer(token: bytes) -> str | None:
    """Return the issuer in the header of an encrypted token (RFC 7519 §5.3), None without one."""
    try:
        header = strict_json.loads_object(base64url.decode(token[:MAX_TOKEN_BYTES].split(b".")[0]))
    except ValueError:
        return None
    issuer = header.get("iss")
    return issuer if isinstance(issuer, str) else None


def too_long(max_bytes: int) -> TokenError:
    """Return the error for a token that is longer than `max_bytes`."""
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
    # The cause would quote the token.
    return TokenError(MALFORMED_TOKEN, "it is not strict base64url and JSON")


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def is_date(value: object) -> TypeGuard[float]:
    """Whether the value of a claim is a NumericDate (RFC 7519 §2) that is exact."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -MAX_DATE <= value <= MAX_DATE


def media_type(typ: str | None) -> str:
    """Return `typ` in lower case and without `application/`; `jwt` where it is absent.

    The prefix may be omitted (RFC 7515 §4.1.9); an absent type means `JWT` (RFC 7519 §5.1).
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
