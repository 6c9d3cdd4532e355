"""Client authentication: which client a request comes from (RFC 6749 §2.3, OAuth 2.1 §2.4).

A client that uses two methods, or one that it is not registered for, is refused.
How each method works is in `authentication_methods` and `private_key_jwt`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlsplit

from cachetools import TTLCache

from bearerguard.errors import ConfigurationError, StoreUnavailable
from bearerguard.protocol import names
from bearerguard.runtime.messages import Request
from bearerguard.runtime.process_lock import ProcessLock
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.authentication_methods import (
    AuthenticationMethods,
    ClientAuthenticationMethod,
    Presented,
    Rejected,
    invalid_client,
)
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.metadata_documents import DocumentRefused
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.clients.tls_client_auth import CertificateMethod
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.http.parameters import Parameters, from_form, parse

_WINDOW = 60.0
_ALLOWED_FAILURES = 20
# An attacker may invent client ids of any length: the number of entries is bounded, and each
# stores a digest of the id.
_MAX_REMEMBERED = 10_000


class ClientAuthentication:
    """Finds and authenticates the client that a request comes from.

    Args:
        registry: the registered clients.
        methods: the methods that the server has.
        elapsed: seconds that have passed since some fixed moment.
    """

    def __init__(
        self,
        registry: ClientRegistry,
        methods: AuthenticationMethods,
        elapsed: Callable[[], float],
    ) -> None:
        self._registry = registry
        self._methods = methods
        self._failures = Failures(elapsed)

    def authenticate(
        self, request: Request, parameters: Parameters, *, confidential: bool = False
    ) -> Client:
        """Return the client; with `confidential`, a public client does not suffice.

        Raises:
            OAuthError: the client is not authenticated (invalid_client), or the request is
                malformed (invalid_request).
        """
        method, presented = self._presented(request, parameters)
        client = self._found(request, method, presented)
        if client is not None and not presented.proofs:
            method = self._by_certificate(client) or method
        verified = self._verified(client, method, presented, request)
        if client is not None and not isinstance(verified, Rejected):
            if confidential and not client.is_confidential:
                raise invalid_client(
                    request, "public_client", client_id=client.client_id, method=method.name
                )
            return client
        rejected = verified if isinstance(verified, Rejected) else Rejected("unknown_client")
        client_id = presented.client_ids[0] if client is None else client.client_id
        error = invalid_client(
            request,
            rejected.reason,
            client_id=client_id,
            method=method.name,
            known=client is not None,
            **rejected.found,
        )
        # A correct secret is still accepted, so nobody can lock a client out. Further failures
        # get 429.
        pause = self._failures.count(client_id)
        if pause:
            raise OAuthError(
                "invalid_client",
                "Too many attempts",
                reason=rejected.reason,
                status=429,
                headers=(*error.headers, ("Retry-After", str(pause))),
                event=error.event,
                throttled=True,
                **error.found,
            )
        raise error

    def named(self, request: Request) -> tuple[str, ...]:
        """Return which client a request says that it comes from, in each possible spelling.

        Nothing is checked; a request that cannot be read names none.
        """
        try:
            if request.method == "POST":
                return self._presented(request, from_form(request))[1].client_ids
            client_id = parse(urlsplit(request.url).query.encode()).get("client_id")
        except (OAuthError, ConfigurationError, StoreUnavailable, ValueError):
            return ()
        return () if client_id is None else (client_id,)

    def _found(
        self, request: Request, method: ClientAuthenticationMethod, presented: Presented
    ) -> Client | None:
        """Return the client that a request names; raises `OAuthError` for an unusable document."""
        found = (self._registry.resolve(client_id) for client_id in presented.client_ids)
        try:
            return next((each for each in found if each is not None), None)
        except DocumentRefused as error:
            refusal = invalid_client(
                request,
                error.reason,
                client_id=presented.client_ids[0],
                method=method.name,
                detail=str(error),
            )
            if error.temporary:
                raise OAuthError(
                    names.TEMPORARILY_UNAVAILABLE,
                    "The client's metadata document cannot be fetched at the moment",
                    reason=error.reason,
                    status=503,
                    headers=(("Retry-After", responses.RETRY_SECONDS),),
                    event=refusal.event,
                    **refusal.found,
                ) from error
            raise refusal from error

    def _by_certificate(self, client: Client) -> CertificateMethod | None:
        """Return the method of a client that authenticates by its certificate, else None.

        The request names the client and shows no more (RFC 8705 §2).
        """
        method = self._methods.get(client.auth_method)
        return method if isinstance(method, CertificateMethod) else None

    def _verified(
        self,
        client: Client | None,
        method: ClientAuthenticationMethod,
        presented: Presented,
        request: Request,
    ) -> bool | Rejected:
        if client is None:
            # Takes as long as with a client.
            self._registry.has_secret(presented.client_ids[0], *(presented.proofs or ("",)))
            return Rejected("unknown_client")
        used = method.name
        is_public = client.auth_method == clients.NONE
        if is_public and used == clients.BASIC and presented.proofs == ("",):
            # Some libraries write every client into the header: a public one without a secret.
            used = clients.NONE
        accepted = (clients.BASIC, clients.POST)
        if used not in (accepted if client.auth_method == clients.SECRET else {client.auth_method}):
            return Rejected("wrong_authentication_method", {"registered": client.auth_method})
        if isinstance(method, CertificateMethod):
            return method.verify_certificate(client, request)
        try:
            verified: object = self._methods[used].verify(client, presented)
        except (OAuthError, StoreUnavailable):
            raise
        except Exception as error:
            raise _failed(used) from error
        # Only True authenticates: a method of an application's own may return anything.
        if verified is True or isinstance(verified, Rejected):
            return verified
        return Rejected("unverified_client")

    def _presented(
        self, request: Request, parameters: Parameters
    ) -> tuple[ClientAuthenticationMethod, Presented]:
        """Return the method that a request uses, and what it presents."""
        found: list[tuple[ClientAuthenticationMethod, Presented]] = []
        for method in self._methods.values():
            try:
                presented = method.presented(request, parameters)
            except (OAuthError, StoreUnavailable):
                raise
            except Exception as error:
                raise _failed(method.name) from error
            if presented is not None:
                _check_presented(method.name, presented)
                found.append((method, presented))
        proving = [each for each in found if each[1].proofs]
        client_id = parameters.get("client_id")
        if len(proving) > 1:
            raise invalid_request(
                "The client authenticates in two ways at once",
                "two_authentication_methods",
                client_id=client_id,
            )
        if not found:
            raise invalid_client(request, "no_client_named")
        method, presented = (proving or found)[0]
        if not presented.client_ids:
            raise invalid_client(request, "no_client_named")
        if client_id is None or (client_id,) == presented.client_ids:
            return method, presented
        if client_id not in presented.client_ids:
            raise invalid_request(
                "client_id is another client than the one that authenticates",
                "two_clients",
                client_id=client_id,
                authenticated_as=presented.client_ids[0],
            )
        return method, replace(presented, client_ids=(client_id,))


class Failures:
    """Counts the failed authentications of each client in this process.

    Secrets have 256 random bits, so that guessing is hopeless; this bounds what guessing costs
    the server.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._clock = elapsed
        self._lock = ProcessLock()
        self._counts = TTLCache[bytes, list[float]](_MAX_REMEMBERED, _WINDOW, timer=elapsed)

    def count(self, client_id: str) -> int:
        """Count a failure; return 0, or the seconds after which another is allowed."""
        now = self._clock()
        name = hashlib.sha256(client_id.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            recent = [at for at in self._counts.get(name, ()) if now - at < _WINDOW]
            recent = [*recent, now][-_ALLOWED_FAILURES - 1 :]
            self._counts[name] = recent
        if len(recent) <= _ALLOWED_FAILURES:
            return 0
        return max(1, math.ceil(recent[0] + _WINDOW - now))


def _check_presented(name: str, presented: object) -> None:
    """Raise `ConfigurationError` unless a method returned what `Presented` describes."""
    if not isinstance(presented, Presented) or not all(
        isinstance(texts, tuple) and all(isinstance(text, str) for text in texts)
        for texts in (presented.client_ids, presented.proofs)
    ):
        raise ConfigurationError(
            f"the client authentication method {name!r}: presented() must return None, or"
            " Presented with two tuples of texts"
        )


def _failed(name: str) -> ConfigurationError:
    """Return the error for a method that raised: the server's fault, so the response is 503."""
    return ConfigurationError(f"the client authentication method {name!r} failed")
