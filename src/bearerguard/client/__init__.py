"""The client: tokens that refresh themselves, kept safely, for whoever calls an API.

`BearerAuth` is that of httpx2; `bearerguard.client.httpx` and `bearerguard.client.requests`
have their own. A name brings its module when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bearerguard.runtime.lazy_names import lazy_names

if TYPE_CHECKING:
    from bearerguard.client.discovery import Discovered, adiscover, discover
    from bearerguard.client.httpx2 import BearerAuth
    from bearerguard.client.login.grants import AuthorizationCode, DeviceCode
    from bearerguard.client.manager import TokenManager
    from bearerguard.client.sources.grants import ClientCredentials, RefreshToken
    from bearerguard.client.sources.token_source import StaticToken, TokenSource
    from bearerguard.client.storages.storage import MemoryStorage, Storage
    from bearerguard.client.token import Token

__all__ = [
    "AuthorizationCode",
    "BearerAuth",
    "ClientCredentials",
    "DeviceCode",
    "Discovered",
    "MemoryStorage",
    "RefreshToken",
    "StaticToken",
    "Storage",
    "Token",
    "TokenManager",
    "TokenSource",
    "adiscover",
    "discover",
]

# Where each public name is defined.
_PLACES = {
    "discovery": "Discovered adiscover discover",
    "sources.grants": "ClientCredentials RefreshToken",
    "httpx2": "BearerAuth",
    "login.grants": "AuthorizationCode DeviceCode",
    "manager": "TokenManager",
    "storages.storage": "MemoryStorage Storage",
    "token": "Token",
    "sources.token_source": "StaticToken TokenSource",
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names.split()}

__getattr__, __dir__ = lazy_names(__name__, _PLACE_OF)
