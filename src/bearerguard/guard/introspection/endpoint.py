"""One issuer's introspection endpoint: where it is, and one request to it.

Owns discovery, the authentication of this client, and the signatures of signed responses. Caches
nothing but the url of the endpoint; when to call it is the introspector's decision.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bearerguard.errors import quoted
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.introspection.responses import IntrospectionResponse, is_withdrawn
from bearerguard.guard.keys import discovery
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.guard.observers import Observers
from bearerguard.guard.revocation.revocations import GuardRevocations
from bearerguard.protocol import introspection
from bearerguard.protocol.introspection import IntrospectionFailed, SignedResponse
from bearerguard.runtime.flow import Flow, ask
from bearerguard.runtime.messages import FetchFailed


@dataclass(frozen=True, slots=True)
class _Location:
    """The url of the endpoint, how to authenticate there, and when it was discovered."""

    url: str
    method: str
    found_at: float = math.inf


class IntrospectionEndpoint:
    """The introspection endpoint of one issuer."""

    def __init__(
        self,
        issuer: Issuer,
        options: Introspection,
        keys: KeyCache,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        observers: Observers,
        revocations: GuardRevocations | None = None,
    ) -> None:
        self._issuer = issuer
        self._options = options
        self._keys = keys
        self._clock = clock
        self._monotonic = monotonic
        self._observers = observers
        self._revocations = revocations
        # The audience of a signed response is this API (RFC 9701 §5): some issuers write its client
        # id, some its audience.
        self._names = issuer.expected.audience | frozenset(filter(None, (options.client_id,)))
        self._location: _Location | None = None
        if options.endpoint is not None:
            self._location = _Location(options.endpoint, options.method(()))

    def introspect(self, token: bytes) -> Flow[IntrospectionResponse]:
        """Return the response for a token.

        Raises `IntrospectionFailed`, `FetchFailed` or `IssuerUnavailable`; the last as
        `RevocationsUnavailable` when it is unknown which keys were revoked.
        """
        location = yield from self.located()
        proof = self._options.proof(
            location.method,
            issuer=self._issuer.url,
            now=self._clock(),
            assertion_id=secrets.token_urlsafe(16),
        )
        signed = self._options.signed_responses
        request = introspection.request(location.url, token.decode("ascii"), proof, signed=signed)
        watch = self._observers.watch("introspection", self._issuer.url, request.method)
        try:
            with watch(location.url) as fetch:
                fetch.response = yield from ask(request)
                read = introspection.read(fetch.response, signed=signed)
        except FetchFailed as error:
            if error.status is None:
                raise
            raise introspection.unreadable(error.status, str(error)) from error
        except IntrospectionFailed as error:
            error.args = (f"{location.url}: {error}",)
            raise
        try:
            if isinstance(read, SignedResponse):
                return (yield from self._verified(read))
        except IntrospectionFailed as error:
            error.args = (f"{location.url}: {error}",)
            raise
        return IntrospectionResponse(read)

    def located(self) -> Flow[_Location]:
        """Return the endpoint's location; discovers it if it is unknown or older than `max_age`."""
        known = self._location
        max_age = self._issuer.key_policy.max_age
        if known is not None and self._monotonic() - known.found_at < max_age:
            return known
        url, offered = yield from discovery.discover(
            self._issuer,
            introspection.endpoint_and_methods,
            self._observers.watch("metadata", self._issuer.url),
        )
        discovery.check_endpoint(self._issuer, "introspection_endpoint", url, "endpoint=")
        try:
            method = self._options.method(offered)
        except ValueError as error:
            raise FetchFailed(str(error)) from None
        self._location = _Location(url, method, self._monotonic())
        return self._location

    def forget(self) -> None:
        """Discover the endpoint again next time: the issuer may have moved it."""
        if self._options.endpoint is None:
            self._location = None

    def _verified(self, signed: SignedResponse) -> Flow[IntrospectionResponse]:
        """Return the content of a signed response, if the issuer signed it (RFC 9701 §5)."""
        candidates = []
        (algorithm, kid, _typ), token = signed
        if algorithm in self._issuer.accepted_algorithms:
            candidates = yield from self._keys.candidates(algorithm, kid)
        validities = (
            validity
            for key, validity in candidates
            if key.verifies(algorithm, token.signing_input, token.signature)
        )
        validity = next(validities, None)
        if validity is None:
            raise IntrospectionFailed("the signature of its response is not the issuer's")
        if self._revocations is not None:
            yield from self._revocations.ensure(self._issuer.url)
        if is_withdrawn(self._revocations, self._issuer.url, validity.key_id):
            raise IntrospectionFailed(
                f"the key {quoted(validity.key_id)} that signed its response was withdrawn"
            )
        members: dict[str, Any] | None = introspection.signed_members(
            signed,
            issuers=(self._issuer.url, *self._issuer.aliases),
            audience=self._names,
            now=self._clock(),
        )
        return IntrospectionResponse(members, validity.key_id)
