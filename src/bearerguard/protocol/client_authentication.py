"""Client authentication (RFC 6749 §2.3, RFC 7523, RFC 6750): built by a client, parsed by a server.

`Proof` is what a request must carry, whoever the client is: a resource server that introspects, or
an app that asks for tokens. `parse_basic` parses Basic credentials; the server decides
whether they are correct. The caller gives the time and the unique identifier of an assertion.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote_plus

from bearerguard.protocol import names
from bearerguard.protocol.http import form
from bearerguard.protocol.jose.signing import PrivateKey

BASIC = "client_secret_basic"
POST = "client_secret_post"
PRIVATE_KEY_JWT = "private_key_jwt"
BEARER = "bearer"
NONE = "none"  # a public client
# By the certificate of the TLS connection (RFC 8705 §2); the request itself only has the client_id.
TLS_CLIENT_AUTH = "tls_client_auth"
SELF_SIGNED_TLS_CLIENT_AUTH = "self_signed_tls_client_auth"
METHODS = (BASIC, POST, PRIVATE_KEY_JWT, BEARER)

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523 §2.2
# Seconds. An assertion is used at once; the rest is for clocks that differ.
ASSERTION_LIFETIME = 60

# Schemes that an error may name: another word may be a token that was sent without its scheme.
_SCHEMES = frozenset({b"bearer", b"dpop", b"digest", b"negotiate", b"ntlm"})


@dataclass(frozen=True, slots=True)
class Proof:
    """What a request carries to authenticate its client: header fields and form parameters."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    parameters: tuple[tuple[str, str], ...] = field(default=(), repr=False)


def client_secret_basic(client_id: str, client_secret: str) -> Proof:
    """Return Basic credentials; each half is form-encoded first (RFC 6749 §2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return Proof(
        headers=(("authorization", f"{names.BASIC} {base64.b64encode(pair.encode()).decode()}"),)
    )


def client_secret_post(client_id: str, client_secret: str) -> Proof:
    """Return the credentials as form parameters (RFC 6749 §2.3.1)."""
    return Proof(parameters=(("client_id", client_id), ("client_secret", client_secret)))


def private_key_jwt(
    client_id: str, key: PrivateKey, *, audience: str, now: float, assertion_id: str
) -> Proof:
    """Return a fresh client assertion (RFC 7523 §3) that expires a minute after `now`.

    `audience` is the authorization server's issuer identifier, and that alone, unless the
    server still wants its endpoint (the update of RFC 7523 forbids more than one value).
    """
    issued_at = int(now)
    assertion = key.sign(
        {},
        {
            "iss": client_id,
            "sub": client_id,
            "aud": audience,
            "jti": assertion_id,
            "iat": issued_at,
            "exp": issued_at + ASSERTION_LIFETIME,
        },
    )
    return Proof(
        parameters=(("client_assertion_type", ASSERTION_TYPE), ("client_assertion", assertion))
    )


def client_assertion(client_id: str, assertion: str) -> Proof:
    """Return an assertion that somebody else has signed, such as a workload's platform.

    `client_id` may be empty where the assertion identifies the client (RFC 7521 §4.2).
    """
    named = (("client_id", client_id),) if client_id else ()
    return Proof(
        parameters=(
            *named,
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion),
        )
    )


def bearer(token: str) -> Proof:
    """Return an access token that authorizes the request itself (RFC 7662 §2.1)."""
    return Proof(headers=(("authorization", f"{names.BEARER} {token}"),))


class MalformedAuthentication(ValueError):
    """A request does not identify its client, or identifies it in two ways.

    Attributes:
        error: the code of RFC 6749 §5.2.
        reason: what is wrong, as a stable name for the log.
        evidence: what was found, for the log; never a secret.
    """

    def __init__(
        self, error: str, reason: str, description: str = "", **evidence: str | None
    ) -> None:
        super().__init__(description or "The client could not be authenticated")
        self.error = error
        self.reason = reason
        self.evidence = evidence


def parse_basic(fields: Sequence[bytes]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the client id and the secret of Basic credentials (RFC 6749 §2.3.1), None without any.

    Each is a tuple of its possible decodings, the most likely first. `fields` are the
    values of all Authorization fields of a request.

    Raises:
        MalformedAuthentication: the field is repeated, has another scheme, or cannot be decoded.
    """
    if not fields or list(fields) == [b""]:
        return None
    if len(fields) > 1:
        raise MalformedAuthentication(
            names.INVALID_REQUEST,
            "repeated_authorization",
            "The Authorization header field is repeated",
        )
    scheme, _, credentials = fields[0].strip().partition(b" ")
    scheme = scheme.lower()
    if scheme != b"basic":
        shown = scheme.decode() if scheme in _SCHEMES else None
        raise MalformedAuthentication(
            names.INVALID_CLIENT, "unsupported_authentication_scheme", scheme=shown
        )
    try:
        plain = base64.b64decode(credentials.strip(), validate=True)
    except binascii.Error:
        plain = b""
    name, colon, password = plain.partition(b":")
    client_ids, secrets = _spellings(name), _spellings(password)
    if not (colon and name and client_ids and secrets):
        raise MalformedAuthentication(names.INVALID_CLIENT, "malformed_basic_credentials")
    return client_ids, secrets


def _spellings(octets: bytes) -> tuple[str, ...]:
    """Return the decodings of one half of Basic credentials: form-encoded, as specified, or raw.

    Many clients leave the encoding out, curl among them, which shows where a secret has `+`
    or `%` (RFC 6749 §2.3.1). Secrets and ids are ASCII; other text belongs to no client.
    """
    found: list[str] = []
    with suppress(form.FormError):
        found.append(form.decode(octets))
    with suppress(UnicodeDecodeError):
        found.append(octets.decode("ascii"))
    return tuple(dict.fromkeys(found))
