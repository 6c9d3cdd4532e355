"""One issuer's introspection endpoint: where it is, and one question to it.

Owns discovery, the client's proof and the proof of signed answers. Caches nothing but where
the endpoint is; when to ask is the introspector's to say.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bearerguard.errors import quoted
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.introspection.answers import Answer, is_withdrawn
from bearerguard.guard.keys import discovery
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.protocol import introspection
from bearerguard.protocol.introspection import IntrospectionFailed, SignedResponse
from bearerguard.runtime.flow import Flow, ask
from bearerguard.runtime.messages import FetchFailed

if TYPE_CHECKING:
    from bearerguard.guard.revocation.revocations import Revocations


@dataclass(frozen=True, slots=True)
class _Place:
    """Where to ask, how to authenticate, and when that was found out."""

    url: str
    method: str
    found_at: float = math.inf


class IntrospectionEndpoint:
    """Where one issuer answers about its tokens."""

    def __init__(
        self,
        issuer: Issuer,
        options: Introspection,
        keys: KeyCache,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        revocations: Revocations | None = None,
    ) -> None:
        self._issuer = issuer
        self._options = options
        self._keys = keys
        self._clock = clock
        self._monotonic = monotonic
        self._revocations = revocations
        # RFC 9701 §5 wants the resource server's name: some put its client id, some its audience.
        self._names = issuer.expected.audience | frozenset(filter(None, (options.client_id,)))
        self._place: _Place | None = None
        if options.endpoint is not None:
            self._place = _Place(options.endpoint, options.method(()))

    def answer(self, token: bytes) -> Flow[Answer]:
        """Return the answer about a token.

        Raises `IntrospectionFailed`, `FetchFailed` or `IssuerUnavailable`; of these
        `RevocationsUnavailable` when it is not known which keys were withdrawn.
        """
        place = yield from self.located()
        proof = self._options.proof(
            place.method,
            issuer=self._issuer.url,
            now=self._clock(),
            assertion_id=secrets.token_urlsafe(16),
        )
        signed = self._options.signed_responses
        request = introspection.request(place.url, token.decode("ascii"), proof, signed=signed)
        try:
            answer = yield from ask(request)
        except FetchFailed as error:
            if error.status is None:
                raise
            raise introspection.unreadable(error.status, str(error)) from error
        try:
            read = introspection.read(answer, signed=signed)
            if isinstance(read, SignedResponse):
                return (yield from self._proved(read))
        except IntrospectionFailed as error:
            error.args = (f"{place.url}: {error}",)
            raise
        return Answer(read)

    def located(self) -> Flow[_Place]:
        """Return where to ask, discovering it when that is not known, or was long ago."""
        known = self._place
        if (
            known is not None
            and self._monotonic() - known.found_at < self._issuer.key_policy.max_age
        ):
            return known
        url, offered = yield from discovery.discover(
            self._issuer, introspection.endpoint_and_methods
        )
        discovery.check_endpoint(self._issuer, "introspection_endpoint", url, "endpoint=")
        try:
            method = self._options.method(offered)
        except ValueError as error:
            raise FetchFailed(str(error)) from None
        self._place = _Place(url, method, self._monotonic())
        return self._place

    def forget(self) -> None:
        """Discover it anew next time: the issuer may have moved it."""
        if self._options.endpoint is None:
            self._place = None

    def _proved(self, answer: SignedResponse) -> Flow[Answer]:
        """Return what a signed answer says, if the issuer signed it (RFC 9701 §5)."""
        candidates = []
        (algorithm, kid, _typ), token = answer
        if algorithm in self._issuer.accepted_algorithms:
            candidates = yield from self._keys.candidates(algorithm, kid)
        leases = (
            lease
            for key, lease in candidates
            if key.verifies(algorithm, token.signing_input, token.signature)
        )
        lease = next(leases, None)
        if lease is None:
            raise IntrospectionFailed("the signature of its answer is not the issuer's")
        if self._revocations is not None:
            yield from self._revocations.ensure(self._issuer.url)
        if is_withdrawn(self._revocations, self._issuer.url, lease.key_id):
            raise IntrospectionFailed(
                f"the key {quoted(lease.key_id)} that signed its answer was withdrawn"
            )
        members: dict[str, Any] | None = introspection.signed_members(
            answer,
            issuers=(self._issuer.url, *self._issuer.aliases),
            audience=self._names,
            now=self._clock(),
        )
        return Answer(members, lease.key_id)
