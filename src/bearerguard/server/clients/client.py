"""A registered client, as a value: what it is, may do, and how it proves itself."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol import client_authentication, names, scope
from bearerguard.protocol.jose import jwk
from bearerguard.server.clients import redirect_uri
from bearerguard.server.settings import Settings, check_lifetime, is_resource_identifier

AUTHORIZATION_CODE = names.AUTHORIZATION_CODE
CLIENT_CREDENTIALS = names.CLIENT_CREDENTIALS
REFRESH_TOKEN = names.REFRESH_TOKEN
GRANT_TYPES = (AUTHORIZATION_CODE, CLIENT_CREDENTIALS, REFRESH_TOKEN)

# How a client authenticates. The first takes either form of the same secret.
SECRET = "client_secret"  # noqa: S105 - the method's name
BASIC = client_authentication.BASIC
POST = client_authentication.POST
NONE = client_authentication.NONE
PRIVATE_KEY_JWT = client_authentication.PRIVATE_KEY_JWT
AUTH_METHODS = (SECRET, BASIC, POST, NONE, PRIVATE_KEY_JWT)
WITH_SECRET = frozenset({SECRET, BASIC, POST})

MAX_ID = 200
_MAX_NAME = 100
# More accents above each other than any script has.
_MAX_MARKS = 4
_ORIGIN = re.compile(r"(https?)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?")
_MAX_PORT = 65_535
# The pages of an app or of a browser's extension come from a scheme of its own.
_APP_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://[a-z0-9._-]+")
# How the ids of our own users begin (see `accounts`).
_USERS = "user-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client. `ClientRegistry.add` says what each member means."""

    client_id: str
    name: str
    auth_method: str
    grant_types: tuple[str, ...]
    redirect_uris: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    require_pkce: bool = True
    require_consent: bool = True
    jwks: Mapping[str, Any] | None = field(default=None, hash=False)
    access_token_lifetime: float | None = None
    refresh_token_lifetime: float | None = None
    refresh_token_max_lifetime: float | None = None
    created_at: float = 0.0

    @property
    def is_confidential(self) -> bool:
        """Whether it can prove who it is."""
        return self.auth_method != NONE

    @property
    def is_identified(self) -> bool:
        """Whether nobody else can pose as it to a user: it has credentials, or a host of its own.

        A loopback address or a private scheme is anybody's (RFC 8252 §8.6).
        """
        return self.is_confidential or all(uri.startswith("https:") for uri in self.redirect_uris)

    @classmethod
    def from_row(cls, row: Any, origins: tuple[str, ...] = ()) -> Client:
        """Return the client of a row of the store."""
        return cls(
            client_id=row.client_id,
            name=row.name,
            auth_method=row.auth_method,
            grant_types=tuple(json.loads(row.grant_types)),
            redirect_uris=tuple(json.loads(row.redirect_uris)),
            scopes=tuple(json.loads(row.scopes)),
            serves=tuple(json.loads(row.serves)),
            origins=origins,
            require_pkce=row.require_pkce,
            require_consent=row.require_consent,
            jwks=None if row.jwks is None else json.loads(row.jwks),
            access_token_lifetime=row.access_lifetime,
            refresh_token_lifetime=row.refresh_idle_lifetime,
            refresh_token_max_lifetime=row.refresh_absolute_lifetime,
            created_at=row.created_at,
        )

    def to_row(self) -> dict[str, Any]:
        """Return it as values for a row of the store."""
        return {
            "client_id": self.client_id,
            "name": self.name,
            "auth_method": self.auth_method,
            "grant_types": json.dumps(self.grant_types),
            "redirect_uris": json.dumps(self.redirect_uris),
            "scopes": json.dumps(self.scopes),
            "serves": json.dumps(self.serves),
            "require_pkce": self.require_pkce,
            "require_consent": self.require_consent,
            "jwks": None if self.jwks is None else json.dumps(dict(self.jwks)),
            "access_lifetime": self.access_token_lifetime,
            "refresh_idle_lifetime": self.refresh_token_lifetime,
            "refresh_absolute_lifetime": self.refresh_token_max_lifetime,
            "created_at": self.created_at,
        }


def check(client: Client, settings: Settings) -> None:
    """Raise `ConfigurationError` unless the client may be registered."""
    _check_names(client)
    _check_methods(client)
    for uri in client.redirect_uris:
        redirect_uri.check(uri)
    if AUTHORIZATION_CODE in client.grant_types and not client.redirect_uris:
        raise ConfigurationError("redirect_uris=: authorization_code needs at least one")
    if not client.require_consent and not client.is_identified:
        raise ConfigurationError(
            "require_consent=: anybody can pose as a public client without an https redirect URI:"
            " let users be asked (RFC 8252 §8.6)"
        )
    for origin in client.origins:
        if not _is_origin(origin):
            raise ConfigurationError(
                f"origins=: {quoted(origin)} is no origin such as https://app.example.com,"
                " in small letters and without a default port"
            )
    _check_scopes(client, settings)
    _check_serves(client, settings)
    for name in ("access_token_lifetime", "refresh_token_lifetime", "refresh_token_max_lifetime"):
        if getattr(client, name) is not None:
            check_lifetime(f"{name}=", getattr(client, name))


def _check_names(client: Client) -> None:
    usable = all("!" <= letter <= "~" for letter in client.client_id)
    if not usable or not 0 < len(client.client_id) <= MAX_ID:
        raise ConfigurationError(
            f"client_id=: choose 1 to {MAX_ID} printable ASCII characters without spaces"
        )
    if client.client_id.startswith(_USERS):
        raise ConfigurationError(f"client_id=: {_USERS}… are users' ids (RFC 9700 §4.15)")
    if not _is_readable(client.name):
        raise ConfigurationError(
            f"name=: give a name that people can read, of 1 to {_MAX_NAME} visible characters"
        )


def _is_readable(name: object) -> bool:
    """Whether a page may show it: nothing invisible, nothing that writes over its surroundings."""
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        return False
    marks = "".join("m" if unicodedata.category(each)[0] == "M" else "." for each in name)
    return name == " ".join(name.split()) and "m" * (_MAX_MARKS + 1) not in marks


def _check_methods(client: Client) -> None:
    if client.auth_method not in AUTH_METHODS:
        raise ConfigurationError(f"auth_method=: choose from {', '.join(AUTH_METHODS)}")
    unknown = [name for name in client.grant_types if name not in GRANT_TYPES]
    if unknown:
        raise ConfigurationError(
            f"grant_types=: {quoted(unknown[0])} is none of {', '.join(GRANT_TYPES)}"
        )
    if not client.is_confidential and CLIENT_CREDENTIALS in client.grant_types:
        raise ConfigurationError(
            "grant_types=: a public client has no credentials for client_credentials"
        )
    if not client.is_confidential and not client.require_pkce:
        raise ConfigurationError("require_pkce=: a public client must use PKCE (RFC 9700 §2.1.1)")
    if (client.jwks is not None) != (client.auth_method == PRIVATE_KEY_JWT):
        raise ConfigurationError("jwks=: goes with auth_method='private_key_jwt', and only there")
    if client.jwks is not None:
        try:
            jwk.parse_jwks(client.jwks)
        except ValueError as error:
            raise ConfigurationError(f"jwks=: {error}") from None


def _check_scopes(client: Client, settings: Settings) -> None:
    for name in client.scopes:
        if not isinstance(name, str) or not scope.is_scope_token(name):
            raise ConfigurationError(f"scopes=: {quoted(name)} is no scope (RFC 6749 §3.3)")
        if settings.scopes is not None and name not in settings.scopes:
            raise ConfigurationError(
                f"scopes=: the server has no scope {quoted(name)}:"
                f" add it to AuthorizationServer(scopes=), or choose from {list(settings.scopes)}"
            )


def _check_serves(client: Client, settings: Settings) -> None:
    for resource in client.serves:
        if not is_resource_identifier(resource):
            raise ConfigurationError(
                f"serves=: {quoted(resource)} is no absolute URI without a fragment (RFC 8707 §2)"
            )
        if settings.resource(resource) is None and not settings.any_resource:
            known = [each.identifier for each in settings.resources]
            raise ConfigurationError(
                f"serves=: the server has no resource {quoted(resource)}:"
                f" add it to AuthorizationServer(resources=), or choose from {known}"
            )


def _is_origin(text: object) -> bool:
    """Whether it is an origin as browsers write one (RFC 6454 §6.1).

    They write it in small letters and without a default port; they know no wildcard. Any other
    spelling would never match. Web views write an app's own scheme: `capacitor://localhost`.
    """
    if not isinstance(text, str) or not text.isascii():
        return False
    found = _ORIGIN.fullmatch(text)
    if found is None:
        of_app = _APP_ORIGIN.fullmatch(text)
        return of_app is not None and redirect_uri.may_be_private(of_app[1])
    scheme, port = found.groups()
    usual = {"http": "80", "https": "443"}[scheme]
    return port is None or (port != usual and int(port) <= _MAX_PORT)
