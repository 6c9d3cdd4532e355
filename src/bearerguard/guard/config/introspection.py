"""How to introspect an issuer's tokens, as configuration that is checked when it is made.

Knows which configuration is safe; holds no state and does no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeAlias, TypedDict

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol import client_authentication as methods
from bearerguard.protocol.client_authentication import Proof
from bearerguard.protocol.http import credentials
from bearerguard.protocol.jose import signing

BearerToken: TypeAlias = str | Callable[[], str]

_SECRET_METHODS = (methods.BASIC, methods.POST)


@dataclass(frozen=True, slots=True)
class Introspection:
    """How an issuer's tokens are introspected (RFC 7662), and how long a response is cached.

    Args:
        client_id: this API's client id at the issuer.
        client_secret: its secret, for client_secret_basic and client_secret_post.
        private_key: its private key, PEM or JWK, for private_key_jwt (RFC 7523).
        private_key_id: the `kid` of that key, if it is PEM.
        signing_algorithm: the `alg` of client assertions; by default the usual one for the key.
        token: an access token instead of client credentials, or a callable that returns one.
        endpoint: the URL of the introspection endpoint; without it, it is discovered.
        auth_method: client_secret_basic or client_secret_post; without it, basic unless the
            issuer's metadata lists only the other.
        assertion_audience: the `aud` of client assertions; the issuer's identifier by default.
        signed_responses: require signed responses (RFC 9701).
        cache_ttl: seconds for which a response is cached, never past the token's expiry; 0
            introspects on every request.
        negative_ttl: seconds for which a refusal is cached.
        stale_ttl: seconds for which a response may still be used after `cache_ttl`, while the
            issuer cannot be reached; never past the token's expiry.
        breaker_cooldown: the longest pause in seconds before an endpoint that is down is
            tried again.
        allow_missing_audience: accept responses without `aud`, or with an empty one; their tokens
            may have been issued for another API.

    Raises:
        ConfigurationError: an option is missing or unsafe.
    """

    client_id: str | None = None
    _: KW_ONLY
    client_secret: str | None = field(default=None, repr=False)
    private_key: signing.GivenKey | None = field(default=None, repr=False, hash=False)
    private_key_id: str | None = None
    signing_algorithm: str | None = None
    token: BearerToken | None = field(default=None, repr=False)
    endpoint: str | None = None
    auth_method: str | None = None
    assertion_audience: str | None = None
    signed_responses: bool = False
    cache_ttl: float = 60
    negative_ttl: float = 10
    stale_ttl: float = 0
    breaker_cooldown: float = 30
    allow_missing_audience: bool = False
    # Derived once from the options above.
    signing_key: signing.PrivateKey | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_credentials()
        self._check_method()
        self._check_times()
        object.__setattr__(self, "signing_key", self._signing_key())

    def method(self, offered: tuple[str, ...]) -> str:
        """Return the client authentication method to use.

        `offered` is the server's `introspection_endpoint_auth_methods_supported`; empty means
        unknown. Raises ValueError if no offered method fits the credentials.
        """
        if self.private_key is not None:
            return methods.PRIVATE_KEY_JWT
        if self.token is not None:
            return methods.BEARER
        if self.auth_method is not None:
            return self.auth_method
        for method in _SECRET_METHODS:
            if not offered or method in offered:
                return method
        raise ValueError(
            f"introspection_endpoint_auth_methods_supported is {quoted(list(offered))}, and the"
            " credentials are a secret: pass private_key= or token=, or auth_method="
        )

    def proof(self, method: str, *, issuer: str, now: float, assertion_id: str) -> Proof:
        """Return the client authentication of one request; `now` is in Unix seconds."""
        if method == methods.BEARER:
            token = self.token() if callable(self.token) else self.token
            return methods.bearer(token or "")
        client_id = self.client_id or ""
        if self.signing_key is not None:
            return methods.private_key_jwt(
                client_id,
                self.signing_key,
                audience=self.assertion_audience or issuer,
                now=now,
                assertion_id=assertion_id,
            )
        build = (
            methods.client_secret_basic if method == methods.BASIC else methods.client_secret_post
        )
        return build(client_id, self.client_secret or "")

    def _check_credentials(self) -> None:
        given = [
            name
            for name in ("client_secret", "private_key", "token")
            if getattr(self, name) is not None
        ]
        if len(given) != 1:
            found = " and ".join(f"{name}=" for name in given) or "none"
            raise ConfigurationError(
                "Introspection(): pass exactly one of client_secret=, private_key= and token=,"
                f" with which this API authenticates to the issuer (RFC 7662 §2.1); found {found}"
            )
        for name in ("client_id", "client_secret", "private_key_id", "signing_algorithm"):
            _check_text(name, getattr(self, name))
        if self.client_id is None and (self.token is None or self.signed_responses):
            raise ConfigurationError("client_id=: pass this API's client id at the issuer")
        if self.token is not None and not callable(self.token):
            _check_text("token", self.token)
            if not self.token.isascii() or not credentials.is_token68(self.token.encode()):
                raise ConfigurationError("token=: it has characters that no bearer token has")
        for name in ("signed_responses", "allow_missing_audience"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name}=: pass True or False")

    def _check_method(self) -> None:
        for name in ("endpoint", "assertion_audience"):
            _check_text(name, getattr(self, name))
        if self.auth_method is None:
            return
        if self.auth_method not in methods.METHODS:
            raise ConfigurationError(
                f"auth_method=: {quoted(self.auth_method)} is unknown:"
                f" choose from {', '.join(methods.METHODS)}"
            )
        possible = _SECRET_METHODS if self.client_secret is not None else (self.method(offered=()),)
        if self.auth_method not in possible:
            raise ConfigurationError(
                f"auth_method=: {self.auth_method} does not fit the credentials, which allow"
                f" {' and '.join(possible)}"
            )

    def _check_times(self) -> None:
        for name in ("cache_ttl", "negative_ttl", "stale_ttl"):
            if not _is_number(getattr(self, name)) or not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name}=: pass a number of seconds, or 0 to disable it")
        if not _is_number(self.breaker_cooldown) or not self.breaker_cooldown > 0:
            raise ConfigurationError("breaker_cooldown=: pass a positive number of seconds")
        if self.stale_ttl and not self.cache_ttl:
            raise ConfigurationError("stale_ttl=: needs a cache_ttl= that is not 0")

    def _signing_key(self) -> signing.PrivateKey | None:
        if self.private_key is None:
            return None
        try:
            return signing.private_key(
                self.private_key, algorithm=self.signing_algorithm, kid=self.private_key_id
            )
        except ValueError as error:
            raise ConfigurationError(
                f"private_key=: pass a PEM private key, or a private JWK as a dict: {error}"
            ) from None


class IntrospectionOptions(TypedDict, total=False):
    """The options of `Introspection`."""

    client_id: str | None
    client_secret: str | None
    private_key: signing.GivenKey | None
    private_key_id: str | None
    signing_algorithm: str | None
    token: BearerToken | None
    endpoint: str | None
    auth_method: str | None
    assertion_audience: str | None
    signed_responses: bool
    cache_ttl: float
    negative_ttl: float
    stale_ttl: float
    breaker_cooldown: float
    allow_missing_audience: bool


def _check_text(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        raise ConfigurationError(f"{name}=: pass a non-empty string")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
