"""For the tests of an API: an issuer that signs genuine tokens and can fail, and its pytest plugin.

Light to import, because the plugin is in this package: a public name loads its module when it is
first used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bearerguard.runtime.lazy_names import lazy_names

if TYPE_CHECKING:
    from bearerguard.testing.acting import Acting, acting_as
    from bearerguard.testing.clock import Clock
    from bearerguard.testing.impersonation import trusted
    from bearerguard.testing.local_issuer import LocalIssuer, TokenOptions
    from bearerguard.testing.local_status_list import LocalStatusList
    from bearerguard.testing.signing_key import SigningKey, sign

__all__ = [
    "Acting",
    "Clock",
    "LocalIssuer",
    "LocalStatusList",
    "SigningKey",
    "TokenOptions",
    "acting_as",
    "sign",
    "trusted",
]

_PLACE_OF = {
    "Acting": "acting",
    "Clock": "clock",
    "LocalIssuer": "local_issuer",
    "LocalStatusList": "local_status_list",
    "SigningKey": "signing_key",
    "TokenOptions": "local_issuer",
    "acting_as": "acting",
    "sign": "signing_key",
    "trusted": "impersonation",
}

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_names(__name__, _PLACE_OF)
