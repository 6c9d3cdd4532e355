"""The introspection endpoint of a `LocalIssuer` (RFC 7662, RFC 9701).

Knows the opaque tokens that it issued and the JWTs of its issuer, and authenticates its clients.
It has the faults of its issuer, and can return any response a test sets.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Unpack
from urllib.parse import parse_qsl, urlsplit

from bearerguard.errors import TokenError
from bearerguard.guard.config.introspection import Introspection, IntrospectionOptions
from bearerguard.protocol import client_authentication, introspection, names
from bearerguard.protocol.jose import jwk, jwt
from bearerguard.runtime.messages import Request, Response
from bearerguard.testing.signing_key import SigningKey, sign

CLIENT_ID = "api"
_JSON = ("Content-Type", names.JSON)


class LocalIntrospection:
    """The introspection endpoint of one `LocalIssuer`.

    Attributes:
        endpoint: its URL, or None for `/introspect` below the issuer's.
        response: the response to every request, or None for the correct ones.
        auth_methods: the authentication methods in its metadata; None for no list.
        supports_jwts: False to refuse JWTs with 400 `unsupported_token_type`, as some servers do.
        signed: whether to sign responses (RFC 9701) for clients that accept it.
        client_id: the id of its one client, "api".
        client_secret: the secret of that client.
        access_token: the access token that authorizes introspection as well.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.endpoint: str | None = None
        self.response: Response | None = None
        self.auth_methods: list[str] | None = list(client_authentication.METHODS)
        self.supports_jwts = True
        self.signed = True
        self.client_id: str = CLIENT_ID
        self.client_secret: str = secrets.token_urlsafe(24)
        self.access_token: str = secrets.token_urlsafe(24)
        self._clock = clock
        self._tokens: dict[str, dict[str, Any]] = {}
        self._client_key: jwk.VerificationKey | None = None
        self._assertion_audience: str | None = None
        self._assertions: set[str] = set()

    def issue(self, members: Mapping[str, Any]) -> str:
        """Issue an opaque token with these members."""
        token = secrets.token_urlsafe(32)
        self._tokens[token] = dict(members)
        return token

    def revoke(self, token: str) -> None:
        """Make an opaque token inactive."""
        self._tokens.pop(token, None)

    def options(self, **options: Unpack[IntrospectionOptions]) -> Introspection:
        """Return the options of a guard: by client secret, unless `options` say otherwise."""
        if options.keys().isdisjoint(("private_key", "token")):
            options.setdefault("client_secret", self.client_secret)
        options.setdefault("client_id", self.client_id)
        chosen = Introspection(**options)
        self._register_key(chosen)
        return chosen

    def register(self, client: Introspection) -> None:
        """Take the URL and the client credentials that a guard with these options uses."""
        self.endpoint = client.endpoint
        self.client_id = client.client_id or self.client_id
        self.client_secret = client.client_secret or self.client_secret
        self._assertion_audience = client.assertion_audience
        self._register_key(client)

    def _register_key(self, client: Introspection) -> None:
        if client.signing_key is not None:
            self._client_key = jwk.parse_jwk(client.signing_key.jwk())

    def url(self, issuer: str) -> str:
        """Return its URL, given the issuer's."""
        return self.endpoint or f"{issuer.rstrip('/')}/introspect"

    def metadata(self, url: str) -> dict[str, Any]:
        """Return its part of the issuer's metadata (RFC 8414 §2)."""
        listed = (
            {}
            if self.auth_methods is None
            else {"introspection_endpoint_auth_methods_supported": self.auth_methods}
        )
        return {"introspection_endpoint": self.url(url), **listed}

    def handle(self, request: Request, url: str, key: SigningKey) -> Response:
        """Return the response to a request, signed with `key` as the issuer `url`."""
        if self.response is not None:
            return self.response
        if request.method != "POST" or urlsplit(request.url).query:
            return Response(405)
        form = dict(parse_qsl(request.body.decode(), strict_parsing=True))
        if not self._is_authentic(request, form, url):
            return Response(401, ((names.WWW_AUTHENTICATE, names.BASIC),))
        token = form["token"]
        if token.count(".") == 2 and not self.supports_jwts:  # noqa: PLR2004 - JWS parts
            return _json(400, {"error": names.UNSUPPORTED_TOKEN_TYPE})
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
        head = {"alg": key.algorithm, "typ": names.INTROSPECTION_JWT, "kid": key.kid}
        payload = {
            "iss": url,
            "aud": self.client_id,
            "iat": int(self._clock()),
            "token_introspection": document,
        }
        kind = ("Content-Type", introspection.SIGNED_MEDIA_TYPE)
        return Response(200, (kind,), sign(head, payload, key).encode())

    def _members(self, token: str, key: SigningKey) -> dict[str, Any] | None:
        """Return the members of an opaque token, or the claims of a genuine JWT, or None."""
        if token in self._tokens:
            return self._tokens[token]
        try:
            parsed = jwt.parse(token.encode())
        except TokenError:
            return None
        genuine = jwk.parse_jwk(key.jwk()).verifies(
            key.algorithm, parsed.signing_input, parsed.signature
        )
        return parsed.claims if genuine else None

    def _is_authentic(self, request: Request, form: Mapping[str, str], url: str) -> bool:
        fields = request.values(b"authorization")
        if fields == [f"{names.BEARER} {self.access_token}".encode()]:
            return True
        assertion = form.get("client_assertion")
        if assertion is not None:
            is_known = form.get("client_assertion_type") == client_authentication.ASSERTION_TYPE
            return is_known and self._is_good(assertion.encode(), url)
        try:
            basic = client_authentication.parse_basic(fields)
        except client_authentication.MalformedAuthentication:
            return False
        if basic is None:
            basic = ((form.get("client_id", ""),), (form.get("client_secret", ""),))
        client_ids, secrets = basic
        return self.client_id in client_ids and self.client_secret in secrets

    def _is_good(self, assertion: bytes, url: str) -> bool:
        """Whether a client assertion is genuine, for this issuer, not expired, and new."""
        key = self._client_key
        parsed = jwt.parse(assertion)
        found, client_id = parsed.claims, self.client_id
        audience = self._assertion_audience or url
        fresh = found["jti"] not in self._assertions and found["exp"] > self._clock()
        self._assertions.add(found["jti"])
        return (
            key is not None
            and key.verifies(key.algorithms[0], parsed.signing_input, parsed.signature)
            and (found["iss"], found["sub"], found["aud"]) == (client_id, client_id, audience)
            and fresh
        )


def _json(status: int, document: Mapping[str, Any]) -> Response:
    return Response(status, (_JSON,), json.dumps(document).encode())
