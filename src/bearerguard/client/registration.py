"""How an app becomes a client of an authorization server that does not know it.

Where the server reads client id metadata documents, the document's URL is the client id; else the
app is registered there (RFC 7591). A registration is kept by the issuer's identifier: no server
sees what another one issued.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from bearerguard.client import discovery
from bearerguard.client.discovery import Discovered
from bearerguard.client.storages.storage import Storage
from bearerguard.errors import (
    ConfigurationError,
    DiscoveryError,
    LoginFailed,
    TokenRefused,
    quoted,
)
from bearerguard.protocol import client_authentication as authentication
from bearerguard.protocol import client_registration, metadata, names
from bearerguard.protocol.jose import signing, strict_json
from bearerguard.runtime.effects import Blocking
from bearerguard.runtime.flow import Flow, ask
from bearerguard.runtime.messages import FetchFailed

_NONE = "none"
# In the order of preference: a secret on a person's machine is none (RFC 8252 §8.5).
_METHODS = (_NONE, authentication.BASIC, authentication.POST)
# The members that the registration decides itself.
_OWNED = frozenset(
    {
        *("client_name", "redirect_uris", "grant_types", "response_types"),
        *("token_endpoint_auth_method", "application_type", "jwks", "jwks_uri"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRegistration:
    """How an app introduces itself to authorization servers that do not know it.

    Args:
        name: the app's name, which people read when they consent (RFC 7591 §2, `client_name`).
        metadata_url: the URL of the app's client id metadata document, which is its client id at
            the servers that read such documents; others register it.
        private_key: a JWK or PEM, for a document that demands private_key_jwt.
        initial_access_token: for servers that register only who has one (RFC 7591 §3).
        metadata: further members of a registration, such as `client_uri` or `software_id`.

    Raises:
        ConfigurationError: an argument is malformed.
    """

    name: str
    metadata_url: str | None = None
    private_key: signing.GivenKey | None = field(default=None, repr=False)
    initial_access_token: str | None = field(default=None, repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigurationError("ClientRegistration(name=): pass the app's name")
        url = self.metadata_url
        if url is not None and not (metadata.is_https(url) and urlsplit(url).path.strip("/")):
            raise ConfigurationError(
                f"ClientRegistration(metadata_url=): {quoted(url)} is no https URL with a path"
            )
        if self.private_key is not None and url is None:
            raise ConfigurationError("ClientRegistration(private_key=): it goes with metadata_url=")
        owned = sorted(_OWNED.intersection(self.metadata))
        if owned:
            raise ConfigurationError(
                f"ClientRegistration(metadata=): leave out {', '.join(owned)}: it is sent already"
            )

    def document(self, redirect_uri: str, auth_method: str) -> dict[str, Any]:
        """Return the metadata of a registration request (RFC 7591 §2, OpenID Registration §2)."""
        return {
            **self.metadata,
            "client_name": self.name,
            "redirect_uris": [redirect_uri],
            "grant_types": [names.AUTHORIZATION_CODE, names.REFRESH_TOKEN],
            "response_types": ["code"],
            "token_endpoint_auth_method": auth_method,
            "application_type": _application_type(redirect_uri),
        }


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """A client of one issuer.

    `redirect_uri` is the registered one, None where any of the app's may be sent.
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    auth_method: str | None = None
    redirect_uri: str | None = None
    expires_at: float | None = None

    def to_bytes(self) -> bytes:
        """Return the client as octets, for a storage."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()


class Registrations:
    """The registrations of one app, in a storage."""

    def __init__(self, app: ClientRegistration, storage: Storage) -> None:
        self._app = app
        self._storage = storage
        # Another app is another client.
        about = json.dumps([app.name, app.metadata_url, dict(app.metadata)], sort_keys=True)
        self._identity = hashlib.sha256(about.encode()).hexdigest()[:16]

    def known(self, issuer: str, now: float) -> Flow[RegisteredClient | None]:
        """Return the client that is registered with an issuer, None if there is none."""
        kept = yield from ask(Blocking(lambda: self._storage.load(self._key(issuer))))
        client = None if kept is None else _client(kept)
        if client is None or client.issuer != issuer:
            return None
        return None if client.expires_at is not None and client.expires_at <= now else client

    def by_document(self, found: Discovered) -> RegisteredClient | None:
        """Return the client whose id is its document's URL; None where the server reads none."""
        supported = found.metadata.get("client_id_metadata_document_supported") is True
        return self.documented(found.issuer) if supported else None

    def documented(self, issuer: str) -> RegisteredClient | None:
        """Return the client whose id is its document's URL, None without a document."""
        url = self._app.metadata_url
        return None if url is None else RegisteredClient(issuer, url)

    def register(self, found: Discovered, redirect_uri: str) -> Flow[RegisteredClient]:
        """Register the app with an issuer, and store what it got (RFC 7591 §3).

        Raises:
            DiscoveryError: the issuer registers no clients.
            LoginFailed: it refuses.
            TokenUnavailable: it could not be reached.
        """
        if "registration_endpoint" not in found.metadata:
            raise DiscoveryError(
                f"{found.issuer} registers no clients by itself: have its operator register this"
                f" app, then use AuthorizationCode({quoted(found.issuer)}, client_id=...)"
            )
        endpoint = discovery.endpoint(found.metadata, "registration_endpoint")
        supported = found.metadata.get("token_endpoint_auth_methods_supported")
        method = client_registration.auth_method(supported, _METHODS)
        document = self._app.document(redirect_uri, method)
        token = self._app.initial_access_token
        try:
            answer = yield from ask(client_registration.request(endpoint, document, token))
            made = client_registration.read(answer)
        except FetchFailed as error:
            raise discovery.unavailable(error) from None
        except TokenRefused as refused:
            raise LoginFailed(f"{found.issuer} did not register this app: {refused}") from None
        is_public = (made.auth_method or method) == _NONE
        client = RegisteredClient(
            found.issuer,
            made.client_id,
            None if is_public else made.client_secret,
            None if is_public else made.auth_method,
            redirect_uri,
            None if is_public else made.secret_expires_at,
        )
        yield from self._keep(found.issuer, client)
        return client

    def forget(self, issuer: str) -> Flow[None]:
        """Forget the registration with an issuer: the next login makes another."""
        yield from self._keep(issuer, None)

    def private_key(self, client: RegisteredClient) -> signing.GivenKey | None:
        """Return the key of the app's document; None for a client that was registered."""
        return self._app.private_key if client.client_id == self._app.metadata_url else None

    def _keep(self, issuer: str, client: RegisteredClient | None) -> Flow[None]:
        key, value = self._key(issuer), None if client is None else client.to_bytes()

        def put() -> None:
            with self._storage.locked(key):
                self._storage.swap(key, self._storage.load(key), value)

        yield from ask(Blocking(put))

    def _key(self, issuer: str) -> str:
        return f"client {issuer} {self._identity}"


def _client(kept: bytes) -> RegisteredClient | None:
    """Return a stored client, None for octets that are none: it is registered again."""
    try:
        return replace(RegisteredClient("", ""), **strict_json.loads_object(kept))
    except (ValueError, TypeError):
        return None


def _application_type(redirect_uri: str) -> str:
    """Return "web" for a redirect to a website, "native" for one to this machine or an app."""
    return "web" if urlsplit(redirect_uri).scheme == "https" else "native"
