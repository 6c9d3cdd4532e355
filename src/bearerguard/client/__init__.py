"""The client: gets tokens for API calls, renews them, and stores them safely.

`BearerAuth` is that of httpx2; `bearerguard.client.httpx` and `bearerguard.client.requests`
have their own. The module of a name is imported when the name is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bearerguard.runtime.lazy_names import lazy_names

if TYPE_CHECKING:
    from bearerguard.client.discovery import Discovered, adiscover, discover
    from bearerguard.client.httpx2 import BearerAuth
    from bearerguard.client.login.api_login import ApiLogin
    from bearerguard.client.login.authorization_code import AuthorizationCode
    from bearerguard.client.login.device_code import DeviceCode, DevicePrompt
    from bearerguard.client.login.loopback import LoopbackReceiver
    from bearerguard.client.login.receivers import PastedRedirect, Receiver
    from bearerguard.client.manager import TokenManager
    from bearerguard.client.registration import ClientRegistration
    from bearerguard.client.sources.assertion import (
        AssertionRequest,
        AssertionSource,
        GitHubActions,
        GivenAssertion,
    )
    from bearerguard.client.sources.client_credentials import ClientCredentials
    from bearerguard.client.sources.grant import GrantOptions, LoginOptions, Names
    from bearerguard.client.sources.issuer_endpoints import EndpointOptions, IssuerEndpoints
    from bearerguard.client.sources.jwt_bearer import JwtBearer
    from bearerguard.client.sources.refresh_token import RefreshToken
    from bearerguard.client.sources.static_token import StaticToken
    from bearerguard.client.sources.token_exchange import IdentityAssertion, TokenExchange
    from bearerguard.client.sources.token_source import (
        Challenged,
        Demand,
        Interactive,
        Revoking,
        TokenSource,
        Widening,
    )
    from bearerguard.client.storages.default import default_storage
    from bearerguard.client.storages.encrypted_file import EncryptedFile, InsecurePlaintextFile
    from bearerguard.client.storages.environment import EnvironmentStorage
    from bearerguard.client.storages.file_key import FileKey, KeyringKey, PassphraseKey, SecretKey
    from bearerguard.client.storages.keyring import KeyringStorage
    from bearerguard.client.storages.registry import (
        StorageFactory,
        named_storage,
        register_storage,
        storage_names,
    )
    from bearerguard.client.storages.storage import MemoryStorage, Storage
    from bearerguard.client.token import Token
    from bearerguard.errors import (
        DiscoveryError,
        InsufficientScope,
        LoginFailed,
        LoginRequired,
        StepUpRequired,
        StorageError,
        TokenRefused,
        TokenUnavailable,
    )

__all__ = [
    "ApiLogin",
    "AssertionRequest",
    "AssertionSource",
    "AuthorizationCode",
    "BearerAuth",
    "Challenged",
    "ClientCredentials",
    "ClientRegistration",
    "Demand",
    "DeviceCode",
    "DevicePrompt",
    "Discovered",
    "DiscoveryError",
    "EncryptedFile",
    "EndpointOptions",
    "EnvironmentStorage",
    "FileKey",
    "GitHubActions",
    "GivenAssertion",
    "GrantOptions",
    "IdentityAssertion",
    "InsecurePlaintextFile",
    "InsufficientScope",
    "Interactive",
    "IssuerEndpoints",
    "JwtBearer",
    "KeyringKey",
    "KeyringStorage",
    "LoginFailed",
    "LoginOptions",
    "LoginRequired",
    "LoopbackReceiver",
    "MemoryStorage",
    "Names",
    "PassphraseKey",
    "PastedRedirect",
    "Receiver",
    "RefreshToken",
    "Revoking",
    "SecretKey",
    "StaticToken",
    "StepUpRequired",
    "Storage",
    "StorageError",
    "StorageFactory",
    "Token",
    "TokenExchange",
    "TokenManager",
    "TokenRefused",
    "TokenSource",
    "TokenUnavailable",
    "Widening",
    "adiscover",
    "default_storage",
    "discover",
    "named_storage",
    "register_storage",
    "storage_names",
]

# Where each public name is defined, below this package.
_PLACES = {
    ".errors": "DiscoveryError InsufficientScope LoginFailed LoginRequired StepUpRequired"
    " StorageError TokenRefused TokenUnavailable",
    "discovery": "Discovered adiscover discover",
    "httpx2": "BearerAuth",
    "login.api_login": "ApiLogin",
    "login.authorization_code": "AuthorizationCode",
    "login.device_code": "DeviceCode DevicePrompt",
    "login.loopback": "LoopbackReceiver",
    "login.receivers": "PastedRedirect Receiver",
    "manager": "TokenManager",
    "registration": "ClientRegistration",
    "sources.assertion": "AssertionRequest AssertionSource GitHubActions GivenAssertion",
    "sources.client_credentials": "ClientCredentials",
    "sources.grant": "GrantOptions LoginOptions Names",
    "sources.issuer_endpoints": "EndpointOptions IssuerEndpoints",
    "sources.jwt_bearer": "JwtBearer",
    "sources.refresh_token": "RefreshToken",
    "sources.static_token": "StaticToken",
    "sources.token_exchange": "IdentityAssertion TokenExchange",
    "sources.token_source": "Challenged Demand Interactive Revoking TokenSource Widening",
    "storages.default": "default_storage",
    "storages.encrypted_file": "EncryptedFile InsecurePlaintextFile",
    "storages.environment": "EnvironmentStorage",
    "storages.file_key": "FileKey KeyringKey PassphraseKey SecretKey",
    "storages.keyring": "KeyringStorage",
    "storages.registry": "StorageFactory named_storage register_storage storage_names",
    "storages.storage": "MemoryStorage Storage",
    "token": "Token",
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names.split()}

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_names(__name__, _PLACE_OF)
