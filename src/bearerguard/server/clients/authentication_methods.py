"""The client authentication methods of a server, by name (RFC 6749 §2.3, RFC 8414 §2).

A method of your own is a class with three members, `ClientAuthenticationMethod`, and one call,
`AuthenticationMethods.register`. The server's own methods are registered in the same way.
Whether a client may use a method, and what a refusal looks like, is `authentication`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol import client_authentication, names
from bearerguard.protocol.client_authentication import MalformedAuthentication
from bearerguard.runtime.messages import Request
from bearerguard.server.audit import Detail
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.http.parameters import Parameters

# The reason, and the event, of an assertion that was used before.
REPLAYED = "assertion_replayed"
_CHALLENGE = (("WWW-Authenticate", 'Basic realm="oauth"'),)


@dataclass(frozen=True, slots=True)
class Presented:
    """What a request presents to authenticate its client.

    Attributes:
        client_ids: the client's id. Several where it may be spelled in several ways, the
            likelier first; none where the request names no client.
        proofs: what proves it, such as a secret, in the same order. A method with a proof is
            preferred to one without; two methods with a proof are refused (OAuth 2.1 §2.4).
    """

    client_ids: tuple[str, ...]
    proofs: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a request does not come from the client that it names.

    Attributes:
        reason: a stable name, for the log and for events; the client does not get it.
        found: what was found; never a secret or an assertion.
    """

    reason: str
    found: Mapping[str, Detail] = field(default_factory=dict)


@runtime_checkable
class ClientAuthenticationMethod(Protocol):
    """A way in which clients authenticate to the server's endpoints (RFC 6749 §2.3)."""

    @property
    def name(self) -> str:
        """Its name in `token_endpoint_auth_methods_supported`, and a client's `auth_method`."""
        ...

    def presented(self, request: Request, parameters: Parameters) -> Presented | None:
        """Return what a request presents for this method, None if it does not use this method.

        Raises:
            OAuthError: what is presented is malformed.
        """
        ...

    def verify(self, client: Client, presented: Presented) -> Literal[True] | Rejected:
        """Return True if the request comes from `client`, else why it does not.

        Called for clients that are registered for this method alone.
        """
        ...


class AuthenticationMethods(Mapping[str, ClientAuthenticationMethod]):
    """The authentication methods of one server, in the order in which they were registered.

    Clients may also be registered for those `elsewhere`, which other processes have.
    """

    def __init__(self, elsewhere: Collection[str] = ()) -> None:
        self._elsewhere = elsewhere
        self._methods: Mapping[str, ClientAuthenticationMethod] = {}

    def register(self, method: ClientAuthenticationMethod) -> None:
        """Add a method. Do so in each process, before it serves.

        Raises:
            ConfigurationError: it is no `ClientAuthenticationMethod`, or its name is taken or
                cannot be one.
        """
        given: object = method
        if isinstance(given, type) or not isinstance(given, ClientAuthenticationMethod):
            raise ConfigurationError(
                "authentication_methods.register(): pass an object with name, presented(request,"
                " parameters) and verify(client, presented)"
            )
        name: object = method.name
        if not isinstance(name, str) or not name or not all("!" <= each <= "~" for each in name):
            raise ConfigurationError(
                f"authentication_methods.register(): {quoted(name)} is no name of printable ASCII"
                " characters without spaces"
            )
        if name == clients.SECRET or name in self:
            raise ConfigurationError(
                f"authentication_methods.register(): there is a method {quoted(name)} already"
            )
        self._methods = {**self._methods, name: method}

    def is_allowed(self, name: str) -> bool:
        """Whether a client may be registered for a method; `client_secret` stands for two."""
        return name == clients.SECRET or name in self or name in self._elsewhere

    def __getitem__(self, name: str) -> ClientAuthenticationMethod:
        """Return the method of a name."""
        return self._methods[name]

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self._methods)

    def __len__(self) -> int:
        """Return how many methods there are."""
        return len(self._methods)


class _ClientSecret:
    def __init__(self, registry: ClientRegistry) -> None:
        self._registry = registry

    def verify(self, client: Client, presented: Presented) -> Literal[True] | Rejected:
        """Return whether one of the proofs is the client's secret."""
        if self._registry.has_secret(client.client_id, *presented.proofs):
            return True
        return Rejected("wrong_client_secret")


class ClientSecretBasic(_ClientSecret):
    """The secret in the Authorization field (RFC 6749 §2.3.1)."""

    name = clients.BASIC

    def presented(self, request: Request, parameters: Parameters) -> Presented | None:  # noqa: ARG002 - as the interface has it
        """Return the id and the secret of Basic credentials."""
        try:
            parsed = client_authentication.parse_basic(request.values(b"authorization"))
        except MalformedAuthentication as error:
            if error.error == names.INVALID_REQUEST:
                raise invalid_request(str(error), error.reason, **error.evidence) from None
            raise invalid_client(request, error.reason, **error.evidence) from None
        return None if parsed is None else Presented(*parsed)


class ClientSecretPost(_ClientSecret):
    """The secret in the form (RFC 6749 §2.3.1)."""

    name = clients.POST

    def presented(self, request: Request, parameters: Parameters) -> Presented | None:  # noqa: ARG002 - as the interface has it
        """Return the id and the secret of the form."""
        secret, client_id = parameters.get("client_secret"), parameters.get("client_id")
        if secret is None:
            return None
        return Presented(() if client_id is None else (client_id,), (secret,))


class NoAuthentication:
    """A public client, which names itself and proves nothing (RFC 6749 §2.1)."""

    name = clients.NONE

    def presented(self, request: Request, parameters: Parameters) -> Presented | None:  # noqa: ARG002 - as the interface has it
        """Return the id of the form."""
        client_id = parameters.get("client_id")
        return None if client_id is None else Presented((client_id,))

    def verify(self, client: Client, presented: Presented) -> Literal[True]:  # noqa: ARG002 - as the interface has it
        """Return True: it is registered without credentials."""
        return True


def invalid_client(request: Request, reason: str, **found: Detail) -> OAuthError:
    """Return the refusal of a client that is not authenticated (RFC 6749 §5.2).

    It has a challenge where the request used the Authorization field.
    """
    refusal = OAuthError(
        "invalid_client",
        "The client could not be authenticated",
        reason=reason,
        status=401,
        headers=_CHALLENGE if request.values(b"authorization") else (),
        event=REPLAYED if reason == REPLAYED else "client_authentication_failed",
    )
    refusal.note(**found)
    return refusal
