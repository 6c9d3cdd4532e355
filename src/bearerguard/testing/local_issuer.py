"""An issuer for tests: genuine tokens, keys, metadata and introspection, with faults on demand.

It serves a guard in this process or over loopback HTTP. It can rotate and withdraw keys, be down,
be slow, and send garbage.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Unpack
from urllib.parse import urlsplit

from bearerguard.guard.config.issuer import Issuer, IssuerOptions
from bearerguard.guard.config.names import Names
from bearerguard.guard.guard import Guard, GuardOptions
from bearerguard.protocol import names
from bearerguard.protocol.metadata import metadata_urls
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Request, Response
from bearerguard.testing.local_introspection import LocalIntrospection
from bearerguard.testing.loopback import serving
from bearerguard.testing.signing_key import SigningKey, sign

_JSON = ("Content-Type", names.JSON)


class LocalIssuer:
    """An issuer for tests.

    Args:
        url: its identifier, the `iss` of its tokens.
        audience: the `aud` of its tokens.
        algorithm: the signature algorithm; the symmetric ones need `secret`.
        secret: the shared secret, for HS256, HS384 and HS512.
        clock: returns Unix seconds.

    Attributes:
        outage: True to respond to every request with 503.
        refuses: True to refuse connections.
        delay: seconds before each response.
        garbage: octets to send instead of the JWKS, or None.
        cache_control: the `Cache-Control` of the JWKS, or None.
        extra_keys: further members of the JWKS, well-formed or not.
        introspection: its introspection endpoint.
        hits: how often each path was requested.

    Raises:
        ConfigurationError: the algorithm is unknown, or does not fit the secret.
    """

    def __init__(
        self,
        url: str = "https://issuer.test",
        *,
        audience: str = "https://api.test",
        algorithm: str = "RS256",
        secret: bytes | str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.url: str = url
        self.audience = audience
        self.outage: bool = False
        self.refuses: bool = False
        self.delay: float = 0.0
        self.garbage: bytes | None = None
        self.cache_control: str | None = None
        self.extra_keys: list[Any] = []
        self.hits: Counter[str] = Counter()
        self._clock = clock
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self.introspection: LocalIntrospection = LocalIntrospection(clock)
        self._made = 0
        self._keys = [self._new_key(algorithm)]

    # Tokens

    @property
    def key(self) -> SigningKey:
        """The key that signs new tokens."""
        return self._keys[-1]

    def token(
        self,
        *,
        scopes: Sequence[str] = (),
        subject: str | None = "user",
        client_id: str | None = "app",
        expires_in: float = 3600,
        roles: Sequence[str] = (),
        claims: Mapping[str, Any] | None = None,
        header: Mapping[str, Any] | None = None,
        key: SigningKey | None = None,
    ) -> str:
        """Return a signed access token (RFC 9068).

        Args:
            scopes: the scopes; none by default.
            subject: the `sub`.
            client_id: the client that the token was issued to.
            expires_in: seconds until it expires; negative for an expired token.
            roles: the `roles` claim.
            claims: further claims; they override the usual ones, and None leaves a claim out.
            header: members of the JOSE header, likewise.
            key: the key that signs it, by default the newest one of the issuer.
        """
        usual = self._members(scopes, subject, client_id, expires_in, roles)
        usual["jti"] = uuid.uuid4().hex
        signer = key or self.key
        head = {"alg": signer.algorithm, "typ": names.ACCESS_TOKEN_JWT, "kid": signer.kid}
        return sign(
            _present(head | dict(header or {})), _present(usual | dict(claims or {})), signer
        )

    def opaque_token(
        self,
        *,
        scopes: Sequence[str] = (),
        subject: str | None = "user",
        client_id: str | None = "app",
        expires_in: float | None = 3600,
        roles: Sequence[str] = (),
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """Return an opaque access token, which the introspection endpoint describes (RFC 7662).

        The arguments are those of `token`; `claims` are members of the introspection response. An
        `expires_in` of None leaves the expiry out.
        """
        usual = self._members(scopes, subject, client_id, expires_in, roles)
        usual["token_type"] = names.BEARER
        return self.introspection.issue(_present(usual | dict(claims or {})))

    def _members(
        self,
        scopes: Sequence[str],
        subject: str | None,
        client_id: str | None,
        expires_in: float | None,
        roles: Sequence[str],
    ) -> dict[str, Any]:
        """Return the claims of a token, and the members of an introspection response."""
        if isinstance(scopes, str) or isinstance(roles, str):
            raise TypeError('scopes=, roles=: pass a list such as ["read"]')
        now = int(self._clock())
        return {
            "iss": self.url,
            "sub": subject,
            "aud": self.audience,
            "client_id": client_id,
            "iat": now,
            "exp": None if expires_in is None else now + expires_in,
            "scope": " ".join(scopes) or None,
            "roles": list(roles) or None,
        }

    # Keys

    def rotate(self, *, keep: bool = True, algorithm: str | None = None) -> str | None:
        """Sign with a new key, and return its kid; with `keep`, the others stay published."""
        key = self._new_key(algorithm or self.key.algorithm)
        self._keys = [*self._keys, key] if keep else [key]
        return key.kid

    def remove(self, kid: str) -> None:
        """Withdraw a key; raises ValueError for the only one."""
        remaining = [key for key in self._keys if key.kid != kid]
        if not remaining or len(remaining) == len(self._keys):
            raise ValueError(f"{kid} is not published, or is the only key")
        self._keys = remaining

    def rename(self, kid: str | None) -> None:
        """Publish the signing key under another kid, or under none."""
        self._keys[-1] = SigningKey(self.key.algorithm, kid, self.key.private)

    def jwks(self) -> dict[str, Any]:
        """Return its JWK Set (RFC 7517), without shared secrets."""
        public = [] if self._secret is not None else [key.jwk() for key in self._keys]
        return {"keys": [*public, *self.extra_keys]}

    def metadata(self) -> dict[str, Any]:
        """Return its metadata (RFC 8414)."""
        return {
            "issuer": self.url,
            "jwks_uri": f"{self.url.rstrip('/')}/jwks",
            "response_types_supported": ["code"],
            **self.introspection.metadata(self.url),
        }

    # Responses

    def handle(self, request: Request) -> Response:
        """Return the response to a request for the metadata, the JWKS or introspection."""
        path = urlsplit(request.url).path
        self.hits[path] += 1
        if self.outage:
            return Response(503)
        if path in {urlsplit(url).path for url in metadata_urls(self.url)}:
            return Response(200, (_JSON,), json.dumps(self.metadata()).encode())
        if path == urlsplit(self.metadata()["introspection_endpoint"]).path:
            return self.introspection.handle(request, self.url, self.key)
        if path != urlsplit(self.metadata()["jwks_uri"]).path:
            return Response(404)
        caching = () if self.cache_control is None else (("Cache-Control", self.cache_control),)
        body = json.dumps(self.jwks()).encode() if self.garbage is None else self.garbage
        return Response(200, (_JSON, *caching), body)

    def transport(self) -> InProcess:
        """Return a transport that calls this issuer without a socket."""
        return InProcess(self)

    @contextmanager
    def serve(self, port: int = 0) -> Generator[str]:
        """Serve over loopback HTTP inside the block, which gets the URL.

        The issuer's `url` is that URL inside the block.
        """
        before = self.url
        with serving(self._handle_over_http, port) as url:
            self.url = url
            try:
                yield url
            finally:
                self.url = before

    # For a guard

    def issuer(self, *, audience: Names | None = None, **options: Unpack[IssuerOptions]) -> Issuer:
        """Return an `Issuer` for a guard, with these options."""
        chosen = self.audience if audience is None else audience
        return Issuer(self.url, audience=chosen, **options)

    def guard(self, **options: Unpack[GuardOptions]) -> Guard:
        """Return a guard that trusts this issuer and calls it in process, with these options."""
        chosen: GuardOptions = {"transport": self.transport(), "clock": self._clock, **options}
        return Guard(self.issuer(), **chosen)

    def _new_key(self, algorithm: str) -> SigningKey:
        if self._secret is not None:
            return SigningKey.shared(algorithm, self._secret)
        self._made += 1
        return SigningKey.generate(algorithm, f"key-{self._made}")

    def _handle_over_http(self, request: Request) -> Response | None:
        time.sleep(self.delay)
        return None if self.refuses else self.handle(request)


class InProcess:
    """A transport that calls a `LocalIssuer` directly."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self._issuer = issuer

    def fetch(self, request: Fetch) -> Response:
        """Return the response, in the calling thread."""
        time.sleep(self._issuer.delay)
        return self._response(request)

    async def afetch(self, request: Fetch) -> Response:
        """Return the response, in the running event loop."""
        import anyio  # noqa: PLC0415 - only async callers pay for its import

        await anyio.sleep(self._issuer.delay)
        return self._response(request)

    def _response(self, request: Fetch) -> Response:
        if self._issuer.refuses:
            raise FetchFailed(f"{request.url}: the connection was refused")
        return self._issuer.handle(
            Request(request.method, request.url, request.headers, request.body)
        )


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
