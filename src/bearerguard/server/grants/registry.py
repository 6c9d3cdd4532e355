"""The registry of grants, by grant type. Metadata and client registration follow it.

To add a grant of your own, write a class with the two members of `Grant` and register an instance.
The server's own grants are registered in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol import names
from bearerguard.server.clients.client import Client
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.settings import is_resource_identifier

# Grant types that RFC 6749 itself defines.
_DEFINED = frozenset({names.AUTHORIZATION_CODE, names.CLIENT_CREDENTIALS, names.REFRESH_TOKEN})


@runtime_checkable
class Grant(Protocol):
    """A way to get tokens at the token endpoint (RFC 6749 §1.3, §4.5)."""

    @property
    def grant_type(self) -> str:
        """The `grant_type` of its requests: an absolute URI (RFC 6749 §4.5)."""
        ...

    def handle(self, client: Client, parameters: Parameters) -> TokenResponse:
        """Return the tokens that a request gets.

        The client has authenticated and is registered for this grant type; no parameter but
        `resource` and `audience` is repeated. `AuthorizationServer.tokens` issues the tokens.

        Raises:
            OAuthError: the request is refused (RFC 6749 §5.2).
        """
        ...


class GrantRegistry(Mapping[str, Grant]):
    """The grants of one server, by grant type, in the order in which they were registered.

    With `any_extension`, clients may be registered for any extension grant. A process that only
    administers a store does not know the grants of those that serve.
    """

    def __init__(self, *, any_extension: bool = False) -> None:
        self._any_extension = any_extension
        self._grants: Mapping[str, Grant] = {}

    def register(self, grant: Grant) -> None:
        """Add a grant; call this in each process, before it serves.

        Raises:
            ConfigurationError: it is no `Grant`, or its grant type is taken, or is no absolute
                URI (RFC 6749 §4.5).
        """
        given: object = grant
        if isinstance(given, type) or not isinstance(given, Grant):
            raise ConfigurationError(
                "grants.register(): pass an object with grant_type and handle(client, parameters)"
            )
        grant_type = grant.grant_type
        if grant_type in self:
            raise ConfigurationError(
                f"grants.register(): there is a grant of type {quoted(grant_type)} already"
            )
        if grant_type not in _DEFINED and not is_resource_identifier(grant_type):
            raise ConfigurationError(
                f"grants.register(): the grant type {quoted(grant_type)} is no absolute URI, as"
                " that of an extension grant must be (RFC 6749 §4.5)"
            )
        self._grants = {**self._grants, grant_type: grant}

    def is_allowed(self, name: str) -> bool:
        """Whether a client may be registered for a grant type."""
        return name in self or (self._any_extension and is_resource_identifier(name))

    def __getitem__(self, grant_type: str) -> Grant:
        """Return the grant of a type."""
        return self._grants[grant_type]

    def __iter__(self) -> Iterator[str]:
        """Return the grant types."""
        return iter(self._grants)

    def __len__(self) -> int:
        """Return how many grants there are."""
        return len(self._grants)
