"""An issuer for tests: genuine tokens, keys, metadata and introspection, with faults on demand.

It serves a guard in this process or over loopback HTTP. It can rotate and withdraw keys, be down or
slow, and send malformed documents. A test can move its clock.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypedDict, Unpack
from urllib.parse import urlsplit

from bearerguard.guard.config.claim_mapping import ClaimMapping
from bearerguard.guard.config.issuer import Issuer, IssuerOptions
from bearerguard.guard.config.names import Names
from bearerguard.guard.guard import Guard, GuardOptions
from bearerguard.protocol import names
from bearerguard.protocol.metadata import metadata_urls
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Request, Response
from bearerguard.testing.claims_of_providers import as_issued
from bearerguard.testing.clock import Clock
from bearerguard.testing.local_introspection import LocalIntrospection
from bearerguard.testing.local_status_list import LocalStatusList
from bearerguard.testing.loopback import serving
from bearerguard.testing.signing_key import SigningKey, sign

_JSON = ("Content-Type", names.JSON)
_TIMEOUT = 5.0  # as that of an `HttpTransport`


class TokenOptions(TypedDict, total=False):
    """The arguments of `LocalIssuer.token` and `opaque_token` alike."""

    scopes: Sequence[str]
    subject: str | None
    client_id: str | None
    expires_in: float
    roles: Sequence[str]
    claims: Mapping[str, Any] | None


class LocalIssuer:
    """An issuer for tests.

    Args:
        url: its identifier, the `iss` of its tokens.
        audience: the `aud` of its tokens.
        algorithm: the signature algorithm; the symmetric ones need `secret`.
        secret: the shared secret, for HS256, HS384 and HS512.
        token_type: the `typ` of its tokens; "JWT" of issuers that do not follow RFC 9068.
        claims: which claims of its tokens hold scopes and roles, if not those of RFC 9068.
        jwks_uri: where its JWKS is; by default `/jwks` below `url`.
        discovery_url: where its metadata is, besides the well-known places.
        clock: a `Clock`, or a callable that returns Unix seconds; the system's time by default.

    Attributes:
        outage: True to respond to every request with 503.
        refuses: True to refuse connections.
        delay: seconds before each response. In this process, a response that takes longer than
            the transport's `timeout` fails.
        garbage: octets to send as the body of each response, or None.
        cache_control: the `Cache-Control` of the JWKS, or None.
        extra_keys: further members of the JWKS, well-formed or not.
        introspection: its introspection endpoint.
        status_list: its status list; a guard needs `Issuer(status_lists=[issuer.status_list.uri])`.
        clock: its `Clock`, which is that of the guards it makes.
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
        token_type: str = names.ACCESS_TOKEN_JWT,
        claims: ClaimMapping = ClaimMapping(),  # noqa: B008 - it is immutable
        jwks_uri: str | None = None,
        discovery_url: str | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.url: str = url
        self.audience: str = audience
        self.outage: bool = False
        self.refuses: bool = False
        self.delay: float = 0.0
        self.garbage: bytes | None = None
        self.cache_control: str | None = None
        self.extra_keys: list[Any] = []
        self.hits: Counter[str] = Counter()
        self.clock: Clock = clock if isinstance(clock, Clock) else Clock(clock)
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self._token_type = token_type
        self._claims = claims
        self._jwks_uri = jwks_uri
        self._discovery_url = discovery_url
        self.introspection: LocalIntrospection = LocalIntrospection(self.clock)
        self.status_list: LocalStatusList = LocalStatusList(lambda: self.url, self.clock)
        self._made = 0
        self._is_closed = False
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
        head = {"alg": signer.algorithm, "typ": self._token_type, "kid": signer.kid}
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
        now = self.clock()
        standard = {
            "iss": self.url,
            "sub": subject,
            "aud": self.audience,
            "client_id": client_id,
            "iat": int(now),
            "exp": None if expires_in is None else int(now) + expires_in,
            "scope": " ".join(scopes) or None,
            "roles": list(roles) or None,
        }
        return as_issued(standard, self._claims, now)

    def headers(self, **token: Unpack[TokenOptions]) -> dict[str, str]:
        """Return the headers of a request with a token; the arguments are those of `token`."""
        return {names.AUTHORIZATION: f"{names.BEARER} {self.token(**token)}"}

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

    @property
    def jwks_uri(self) -> str:
        """Where its JWKS is."""
        return self._jwks_uri or f"{self.url.rstrip('/')}/jwks"

    def jwks(self) -> dict[str, Any]:
        """Return its JWK Set (RFC 7517), without shared secrets."""
        public = [] if self._secret is not None else [key.jwk() for key in self._keys]
        return {"keys": [*public, *self.extra_keys]}

    def metadata(self) -> dict[str, Any]:
        """Return its metadata (RFC 8414)."""
        return {
            "issuer": self.url,
            "jwks_uri": self.jwks_uri,
            "response_types_supported": ["code"],
            **self.introspection.metadata(self.url),
        }

    # Faults

    @contextmanager
    def failing(
        self,
        *,
        outage: bool = False,
        refuses: bool = False,
        delay: float = 0.0,
        garbage: bytes | None = None,
    ) -> Generator[None]:
        """Have these faults inside the block, and before and after it those of the attributes."""
        before = self.outage, self.refuses, self.delay, self.garbage
        self.outage, self.refuses, self.delay, self.garbage = outage, refuses, delay, garbage
        try:
            yield
        finally:
            self.outage, self.refuses, self.delay, self.garbage = before

    # Responses

    def handle(self, request: Request) -> Response:
        """Return the response to a request for the metadata, the JWKS or introspection."""
        path = urlsplit(request.url).path
        self.hits[path] += 1
        if self.outage:
            return Response(503)
        if path == urlsplit(self.introspection.url(self.url)).path:
            response = self.introspection.handle(request, self.url, self.key)
        elif path == urlsplit(self.status_list.uri).path:
            response = self.status_list.handle(self.key)
        elif path == urlsplit(self.jwks_uri).path:
            caching = () if self.cache_control is None else (("Cache-Control", self.cache_control),)
            response = Response(200, (_JSON, *caching), json.dumps(self.jwks()).encode())
        elif path in {urlsplit(url).path for url in self._metadata_urls()}:
            response = Response(200, (_JSON,), json.dumps(self.metadata()).encode())
        else:
            return Response(404)
        return response if self.garbage is None else replace(response, body=self.garbage)

    def serves(self, url: str) -> bool:
        """Whether it responds to requests for `url`."""
        own = {self.jwks_uri, self.introspection.url(self.url), self.status_list.uri}
        return url in {*self._metadata_urls(), *own}

    def transport(self, *, timeout: float = _TIMEOUT) -> InProcess:
        """Return a transport that calls this issuer without a socket; `timeout` is in seconds."""
        return InProcess(self, timeout)

    def _metadata_urls(self) -> tuple[str, ...]:
        given = () if self._discovery_url is None else (self._discovery_url,)
        return (*metadata_urls(self.url), *given)

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
        chosen: IssuerOptions = {
            "token_types": (self._token_type,),
            "claims": self._claims,
            "jwks_uri": self._jwks_uri,
            **options,
        }
        return Issuer(self.url, audience=self.audience if audience is None else audience, **chosen)

    def guard(self, *, introspects: bool = False, **options: Unpack[GuardOptions]) -> Guard:
        """Return a guard that trusts this issuer and calls it in process.

        Args:
            introspects: accept opaque tokens too.
            options: further options of `Guard`.
        """
        how = self.introspection.options() if introspects else None
        chosen: GuardOptions = {"transport": self.transport(), "clock": self.clock, **options}
        return Guard(self.issuer(introspection=how), **chosen)

    def close(self) -> None:
        """Let later issuers of this process reuse its keys: an RSA key is slow to generate.

        Closing is not required. A token that is signed afterwards may be valid for those issuers.
        """
        if not self._is_closed:
            self._is_closed = True
            for key in self._keys:
                key.recycle()

    def __repr__(self) -> str:
        return f"LocalIssuer({self.url!r})"

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

    def __init__(self, issuer: LocalIssuer, timeout: float) -> None:
        self._issuer = issuer
        self._timeout = timeout

    def fetch(self, request: Fetch) -> Response:
        """Return the response, in the calling thread."""
        time.sleep(self._delay(request))
        return self._response(request)

    async def afetch(self, request: Fetch) -> Response:
        """Return the response, in the running event loop."""
        import anyio  # noqa: PLC0415 - only async callers pay for its import

        await anyio.sleep(self._delay(request))
        return self._response(request)

    def _delay(self, request: Fetch) -> float:
        return min(self._issuer.delay, self._timeout * request.share)

    def _response(self, request: Fetch) -> Response:
        if self._issuer.refuses:
            raise FetchFailed(f"{request.url}: the connection was refused", kind="refused")
        seconds = self._timeout * request.share
        if self._issuer.delay > seconds:
            words = f"timed out: no complete response in {seconds:g} s"
            raise FetchFailed(f"{request.url}: {words}", kind="timed_out")
        return self._issuer.handle(
            Request(request.method, request.url, request.headers, request.body)
        )


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
