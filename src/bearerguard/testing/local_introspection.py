"""The introspection endpoint of an issuer for tests (RFC 7662, RFC 9701).

Knows the opaque tokens it handed out, authenticates whoever asks, and answers about its
JWTs too. Its faults are its issuer's, and one more: it can answer anything else.
"""

from __future__ import annotations

import base64
import json
import secrets
from binascii import Error as BinasciiError
from collections.abc import Callable, Mapping
from typing import Any, Unpack
from urllib.parse import parse_qsl, unquote_plus, urlsplit

from bearerguard.errors import TokenError
from bearerguard.guard.config.introspection import Introspection, IntrospectionOptions
from bearerguard.protocol import client_authentication, introspection
from bearerguard.protocol.jose import jwk, jwt
from bearerguard.protocol.jose.signing import PrivateKey
from bearerguard.runtime.messages import Request, Response
from bearerguard.testing.signing_key import SigningKey, sign

CLIENT_ID = "api"
_JSON = ("Content-Type", "application/json")


class LocalIntrospection:
    """What one `LocalIssuer` says about tokens.

    Attributes:
        answer: what to answer instead, whatever is asked; or None.
        auth_methods: what its metadata lists; None lists nothing.
        supports_jwts: False to answer 400 `unsupported_token_type` to a JWT, as some do.
        signed: True to sign its answers (RFC 9701) for whoever accepts that.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.answer: Response | None = None
        self.auth_methods: list[str] | None = list(client_authentication.METHODS)
        self.supports_jwts = True
        self.signed = True
        self.client_secret = secrets.token_urlsafe(24)
        self.access_token = secrets.token_urlsafe(24)
        self._clock = clock
        self._tokens: dict[str, dict[str, Any]] = {}
        self._client_key: jwk.VerificationKey | None = None
        self._assertions: set[str] = set()

    def issue(self, members: Mapping[str, Any]) -> str:
        """Hand out an opaque token with these members."""
        token = secrets.token_urlsafe(32)
        self._tokens[token] = dict(members)
        return token

    def revoke(self, token: str) -> None:
        """Say from now on that a token is not active."""
        self._tokens.pop(token, None)

    def options(self, **options: Unpack[IntrospectionOptions]) -> Introspection:
        """Return how a guard asks: by a secret, unless `options` say how else."""
        if options.keys().isdisjoint(("private_key", "token")):
            options.setdefault("client_secret", self.client_secret)
        options.setdefault("client_id", CLIENT_ID)
        chosen = Introspection(**options)
        if chosen.signing_key is not None:
            self._client_key = _public(chosen.signing_key)
        return chosen

    def metadata(self, url: str) -> dict[str, Any]:
        """Return what the issuer's metadata says of it (RFC 8414 §2)."""
        listed = (
            {}
            if self.auth_methods is None
            else {"introspection_endpoint_auth_methods_supported": self.auth_methods}
        )
        return {"introspection_endpoint": f"{url.rstrip('/')}/introspect", **listed}

    def handle(self, request: Request, url: str, key: SigningKey) -> Response:
        """Answer a request, signing with `key` as the issuer `url`."""
        if self.answer is not None:
            return self.answer
        if request.method != "POST" or urlsplit(request.url).query:
            return Response(405)
        form = dict(parse_qsl(request.body.decode(), strict_parsing=True))
        if not self._is_authentic(request, form, url):
            return Response(401, (("WWW-Authenticate", "Basic"),))
        token = form["token"]
        if token.count(".") == 2 and not self.supports_jwts:  # noqa: PLR2004 - JWS parts
            return _json(400, {"error": "unsupported_token_type"})
        members = self._members(token, key)
        expires_at = (members or {}).get("exp")
        over = isinstance(expires_at, int | float) and expires_at <= self._clock()
        active = members is not None and not over
        document = {"active": True, **(members or {})} if active else {"active": False}
        wants = request.values(b"accept")
        if self.signed and introspection.SIGNED_MEDIA_TYPE.encode() in wants:
            return self._signed(document, url, key)
        return _json(200, document)

    def _signed(self, document: dict[str, Any], url: str, key: SigningKey) -> Response:
        head = {"alg": key.algorithm, "typ": introspection.SIGNED_TYPE, "kid": key.kid}
        payload = {
            "iss": url,
            "aud": CLIENT_ID,
            "iat": int(self._clock()),
            "token_introspection": document,
        }
        kind = ("Content-Type", introspection.SIGNED_MEDIA_TYPE)
        return Response(200, (kind,), sign(head, payload, key).encode())

    def _members(self, token: str, key: SigningKey) -> dict[str, Any] | None:
        """Return what is known of a token: its own JWTs say it themselves."""
        if token in self._tokens:
            return self._tokens[token]
        try:
            taken = jwt.parse(token.encode())
        except TokenError:
            return None
        genuine = jwk.parse_jwk(key.jwk()).verifies(
            key.algorithm, taken.signing_input, taken.signature
        )
        return taken.claims if genuine else None

    def _is_authentic(self, request: Request, form: Mapping[str, str], url: str) -> bool:
        fields = request.values(b"authorization")
        if fields == [b"Bearer " + self.access_token.encode()]:
            return True
        expected = (CLIENT_ID, self.client_secret)
        if fields:
            return _basic(fields[0]) == expected
        if "client_assertion" in form:
            return self._is_good(form["client_assertion"].encode(), url)
        return (form.get("client_id"), form.get("client_secret")) == expected

    def _is_good(self, assertion: bytes, url: str) -> bool:
        """Whether a client assertion is genuine, for this issuer, and used for the first time."""
        key = self._client_key
        taken = jwt.parse(assertion)
        found = taken.claims
        fresh = found["jti"] not in self._assertions and found["exp"] > self._clock()
        self._assertions.add(found["jti"])
        return (
            key is not None
            and key.verifies(key.algorithms[0], taken.signing_input, taken.signature)
            and (found["iss"], found["sub"], found["aud"]) == (CLIENT_ID, CLIENT_ID, url)
            and fresh
        )


def _basic(field: bytes) -> tuple[str, ...]:
    scheme, _, encoded = field.partition(b" ")
    try:
        pair = base64.b64decode(encoded, validate=True).decode()
    except (BinasciiError, ValueError):
        return ()
    return tuple(map(unquote_plus, pair.split(":", 1))) if scheme == b"Basic" else ()


def _public(key: PrivateKey) -> jwk.VerificationKey:
    return jwk.from_public_key(key.material.public_key(), kid=key.kid, algorithm=key.algorithm)


def _json(status: int, document: Mapping[str, Any]) -> Response:
    return Response(status, (_JSON,), json.dumps(document).encode())
