"""The endpoints of an issuer, and how a client authenticates there.

Independent of the grant; it stores no token.
"""

from __future__ import annotations

import inspect
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, TypedDict, Unpack

from bearerguard.client import discovery
from bearerguard.client.dpop import Proofs
from bearerguard.client.sources.assertion import AssertionRequest, GivenAssertion, reader
from bearerguard.errors import ConfigurationError, TokenRefused
from bearerguard.protocol import client_authentication as authentication
from bearerguard.protocol import names, token_endpoint
from bearerguard.protocol.jose import signing
from bearerguard.protocol.token_endpoint import TokenResponse, may_mean_bearer
from bearerguard.runtime.flow import Flow, Once, ask
from bearerguard.runtime.messages import FetchFailed, Response

_OK, _BAD_REQUEST, _UNAUTHORIZED = 200, 400, 401
NONE = "none"
_SECRETS = (authentication.BASIC, authentication.POST)
_BY_CERTIFICATE = (authentication.TLS_CLIENT_AUTH, authentication.SELF_SIGNED_TLS_CLIENT_AUTH)
# `scope` resembles `scopes`; `audience` does not resemble `assertion_audience`.
_SIMILARITY = 0.75


class EndpointOptions(TypedDict, total=False):
    """How a client authenticates, and where its issuer differs from the RFCs.

    Attributes:
        client_secret: the client's secret, if it has one.
        private_key: a JWK or PEM, for private_key_jwt (RFC 7523).
        client_assertion: an assertion that the client's platform has signed, instead of a secret
            or a key: a `pathlib.Path` of a file that the platform renews, a function that returns
            it, or `GitHubActions()` (RFC 7521 §4.2).
        auth_method: "client_secret_basic", "client_secret_post", "private_key_jwt", "none",
            "tls_client_auth" or "self_signed_tls_client_auth" (RFC 8705 §2; the certificate is
            `HttpTransport(client_certificate=)`); by default the one that fits, and for a secret
            the one that the server names.
        mutual_tls: whether the client presents a certificate, so that requests go to the server's
            `mtls_endpoint_aliases` (RFC 8705 §5); by default, if it authenticates by one.
        metadata: what the issuer publishes, where it was fetched already (`Discovered.metadata`).
        token_endpoint: for a server that has no metadata.
        assertion_audience: the `aud` of client assertions, where the server expects another than
            its issuer identifier, such as the URL of its token endpoint.
        assume_token_type: "Bearer" for a server whose responses name no `token_type`.
        bearer_type: what the server calls a bearer token in `token_type`, such as Slack's "bot".
        insecure_allow_http: allow plain http beyond loopback.
        clock: returns Unix seconds.
    """

    client_secret: str | None
    private_key: signing.GivenKey | None
    client_assertion: GivenAssertion | None
    auth_method: str | None
    mutual_tls: bool | None
    metadata: Mapping[str, Any] | None
    token_endpoint: str | None
    assertion_audience: str | None
    assume_token_type: str | None
    bearer_type: str | None
    insecure_allow_http: bool
    clock: Callable[[], float]


def check_options(owner: type, given: Mapping[str, object], options: type) -> None:
    """Refuse options that neither `options` (a TypedDict) nor the constructor of `owner` has.

    Raises:
        ConfigurationError: the message has the name given, and the one that it resembles.
    """
    known = options.__annotations__.keys()
    unknown = given.keys() - known
    if unknown:
        name = min(unknown)
        parameters = inspect.signature(owner).parameters.values()
        own = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}
        meant = get_close_matches(name, sorted(own | known), 1, _SIMILARITY)
        hint = f": {meant[0]}= is meant" if meant else ""
        raise ConfigurationError(f"{name}=: there is no such option{hint}")


class IssuerEndpoints:
    """The endpoints of one issuer, called by one client.

    Args:
        issuer: its identifier, by which its metadata is found; None with `token_endpoint`.
        client_id: the client's identifier; None if an assertion identifies it.
        options: those of `EndpointOptions`.

    Raises:
        ConfigurationError: an option is missing or unsafe.
    """

    def __init__(
        self, issuer: str | None, *, client_id: str | None, **options: Unpack[EndpointOptions]
    ) -> None:
        check_options(IssuerEndpoints, options, EndpointOptions)
        client_secret, private_key = options.get("client_secret"), options.get("private_key")
        token_endpoint = options.get("token_endpoint")
        insecure_allow_http = options.get("insecure_allow_http", False)
        if issuer is None and token_endpoint is None:
            raise ConfigurationError("issuer: pass the issuer's URL, or token_endpoint=")
        if issuer is not None:
            discovery.issuer_url("issuer", issuer, insecure_allow_http=insecure_allow_http)
        if token_endpoint is not None:
            discovery.secure_url(
                "token_endpoint=", token_endpoint, insecure_allow_http=insecure_allow_http
            )
        if client_id is not None and (not isinstance(client_id, str) or not client_id):
            raise ConfigurationError("client_id=: pass the client's identifier")
        self.issuer = issuer
        self.client_id: str = client_id or ""
        self._secret = client_secret
        self._key = _key(private_key)
        assertion = options.get("client_assertion")
        self._assertion = None if assertion is None else reader("client_assertion", assertion)
        assertion_audience = options.get("assertion_audience")
        if assertion_audience is not None and (
            not isinstance(assertion_audience, str) or not assertion_audience
        ):
            raise ConfigurationError("assertion_audience=: pass the audience as text")
        if assertion_audience is not None and private_key is None and assertion is None:
            raise ConfigurationError(
                "assertion_audience=: it goes with private_key= or client_assertion="
            )
        assume_token_type, bearer_type = (
            options.get("assume_token_type"),
            options.get("bearer_type"),
        )
        if assume_token_type not in {None, names.BEARER}:
            raise ConfigurationError('assume_token_type=: pass "Bearer", or leave it out')
        if bearer_type is not None and not may_mean_bearer(bearer_type):
            raise ConfigurationError(
                "bearer_type=: pass the name that the server gives its bearer tokens, which is not"
                " that of another type (DPoP, PoP, mac, N_A)"
            )
        self._assertion_audience = assertion_audience
        self._assumed_type = assume_token_type
        self._bearer_type = bearer_type
        if assertion is not None and (client_secret is not None or private_key is not None):
            raise ConfigurationError(
                "client_assertion=: pass no client_secret= and no private_key= besides"
            )
        self._method = _method(options.get("auth_method"), secret=client_secret, key=self._key)
        self._mutual_tls = _mutual_tls(options.get("mutual_tls"), self._method)
        self._token_endpoint = token_endpoint
        self._insecure_allow_http = insecure_allow_http
        self._clock = options.get("clock", time.time)
        # Its last DPoP nonces, by origin: the next request needs no second attempt.
        self.nonces: dict[str, str] = {}
        self._document: Mapping[str, Any] | None = _of(issuer, options.get("metadata"))

    def __repr__(self) -> str:
        return f"IssuerEndpoints({self.name!r}, client_id={self.client_id!r})"

    @property
    def name(self) -> str:
        """Its name in messages: its issuer identifier, or else its token endpoint."""
        return self.issuer or self._token_endpoint or ""

    def now(self) -> float:
        """Return Unix seconds."""
        return self._clock()

    def metadata(self) -> Flow[Mapping[str, Any]]:
        """Return the server's metadata, fetched once."""
        if self._document is None and self.issuer is not None:
            yield from ask(Once(("metadata", self.issuer), self._fetch_metadata))
        return self._document or {}

    def endpoint(self, name: str) -> Flow[str]:
        """Return one of its endpoints; raises `DiscoveryError` when it has none."""
        if name == "token_endpoint" and self._token_endpoint is not None:
            return self._token_endpoint
        document = {"issuer": self.name, **(yield from self.metadata())}
        aliases = document.get("mtls_endpoint_aliases") if self._mutual_tls else None
        if isinstance(aliases, Mapping) and name in aliases:
            document[name] = aliases[name]
        return discovery.endpoint(document, name, insecure_allow_http=self._insecure_allow_http)

    def token(
        self, fields: Iterable[tuple[str, str]], proofs: Proofs | None = None
    ) -> Flow[TokenResponse]:
        """Send a token request; raises `TokenRefused` or `TokenUnavailable`.

        `proofs` are the DPoP proofs for the key that the token is to be bound to (RFC 9449 §5).
        """
        url = yield from self.endpoint("token_endpoint")
        kind = names.BEARER if proofs is None else names.DPOP
        answer = yield from self.post(url, fields, proofs)
        return token_endpoint.read(
            answer,
            token_type=kind,
            assumed_type=self._assumed_type,
            bearer_type=self._bearer_type,
        )

    def post(
        self, url: str, fields: Iterable[tuple[str, str]], proofs: Proofs | None = None
    ) -> Flow[Response]:
        """Send a form with the client's authentication; once more if a DPoP nonce is demanded."""
        fields = list(fields)
        answer = yield from self._post(url, fields, proofs)
        if proofs is not None and proofs.note(url, answer.header("dpop-nonce")):
            refused = answer.status in {_BAD_REQUEST, _UNAUTHORIZED}
            refusal = token_endpoint.refusal(answer) if refused else None
            if isinstance(refusal, TokenRefused) and refusal.error == "use_dpop_nonce":
                answer = yield from self._post(url, fields, proofs)
                proofs.note(url, answer.header("dpop-nonce"))
        return answer

    def _post(
        self, url: str, fields: list[tuple[str, str]], proofs: Proofs | None
    ) -> Flow[Response]:
        proof = yield from self._proof(url)
        headers = () if proofs is None else (("dpop", proofs.proof("POST", url)),)
        request = token_endpoint.request(url, fields, proof, headers)
        try:
            return (yield from ask(request))
        except FetchFailed as error:
            raise discovery.unavailable(error) from None

    def _proof(self, url: str) -> Flow[authentication.Proof]:
        """Return the client authentication, made anew for each request."""
        method = self._method
        if self._key is not None:
            return authentication.private_key_jwt(
                self.client_id,
                self._key,
                audience=self._assertion_audience or self.issuer or url,
                now=self._clock(),
                assertion_id=secrets.token_urlsafe(24),
            )
        if self._assertion is not None:
            wanted = AssertionRequest(self._assertion_audience or self.issuer or url)
            assertion = yield from self._assertion.assertion(wanted)
            return authentication.client_assertion(self.client_id, assertion)
        if self._secret is None:
            named = (("client_id", self.client_id),) if self.client_id else ()
            return authentication.Proof(parameters=named)
        if method is None:
            method = yield from self._named_method()
        if method == authentication.POST:
            return authentication.client_secret_post(self.client_id, self._secret)
        return authentication.client_secret_basic(self.client_id, self._secret)

    def _named_method(self) -> Flow[str]:
        """Return the server's authentication method for a secret; Basic by default (RFC 8414)."""
        document = yield from self.metadata()
        named = document.get("token_endpoint_auth_methods_supported")
        known = named if isinstance(named, list) else [authentication.BASIC]
        return next((each for each in _SECRETS if each in known), authentication.BASIC)

    def _fetch_metadata(self) -> Flow[None]:
        if self._document is None and self.issuer is not None:
            self._document = yield from discovery.server_metadata(self.issuer)


def _of(issuer: str | None, document: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if document is not None and document.get("issuer") != issuer:
        raise ConfigurationError("metadata=: pass the metadata of this issuer")
    return document


def _mutual_tls(given: object, method: str | None) -> bool:
    if given is None:
        return method in _BY_CERTIFICATE
    if not isinstance(given, bool):
        raise ConfigurationError("mutual_tls=: pass True or False")
    return given


def _key(given: signing.GivenKey | None) -> signing.PrivateKey | None:
    if given is None:
        return None
    try:
        return signing.private_key(given)
    except ValueError as error:
        raise ConfigurationError(f"private_key=: {error}") from None


def _method(given: str | None, *, secret: str | None, key: signing.PrivateKey | None) -> str | None:
    """Return the authentication method; None for a secret whose method the server decides."""
    if secret is not None and (not isinstance(secret, str) or not secret):
        raise ConfigurationError("client_secret=: pass the secret as text, or leave it out")
    if secret is not None and key is not None:
        raise ConfigurationError("client_secret=, private_key=: pass one of them")
    without = (NONE, *_BY_CERTIFICATE)
    fitting = (authentication.PRIVATE_KEY_JWT,) if key else _SECRETS if secret else without
    if given is None:
        return None if secret else fitting[0]
    if given not in fitting:
        raise ConfigurationError(
            f"auth_method=: {given!r} does not fit what was given: {' or '.join(fitting)} does"
        )
    return given
