"""Storages by name, for the command line and configuration files.

A package adds its own in either of two ways: it calls `register_storage`, or it declares an entry
point in the group `bearerguard.storages`, which is loaded when its name is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeAlias

from bearerguard.client.storages.encrypted_file import EncryptedFile, InsecurePlaintextFile
from bearerguard.client.storages.file_key import KeyringKey, environment_key
from bearerguard.client.storages.keyring import KeyringStorage
from bearerguard.client.storages.storage import Storage
from bearerguard.errors import ConfigurationError, quoted

StorageFactory: TypeAlias = Callable[[], Storage]

ENTRY_POINTS = "bearerguard.storages"
KEYRING, FILE, KEYRING_FILE, PLAINTEXT = "keyring", "file", "keyring-file", "insecure-plaintext"

_factories: dict[str, StorageFactory] = {}


def register_storage(name: str, factory: StorageFactory) -> None:
    """Register a storage under a name.

    Args:
        name: the value of `--storage`, such as "vault".
        factory: returns the storage; called by `named_storage`.

    Raises:
        ConfigurationError: the name is taken.
    """
    if name in _factories:
        raise ConfigurationError(f"register_storage: {quoted(name)} is registered already")
    _factories[name] = factory


def storage_names() -> tuple[str, ...]:
    """Return the names of all storages, including those of installed packages."""
    found = (point.name for point in entry_points(group=ENTRY_POINTS))
    return tuple(dict.fromkeys((*_factories, *sorted(found))))


def named_storage(name: str) -> Storage:
    """Return the storage with a name.

    Raises:
        ConfigurationError: there is none, or a setting that it needs is missing.
        StorageError: it cannot be used.
    """
    factory = _factories.get(name)
    if factory is None:
        point = next(iter(entry_points(group=ENTRY_POINTS, name=name)), None)
        if point is None:
            raise ConfigurationError(
                f"there is no storage {quoted(name)}: choose one of {', '.join(storage_names())}"
            )
        factory = point.load()
    storage: Storage = factory()
    return storage


register_storage(KEYRING, KeyringStorage)
register_storage(FILE, lambda: EncryptedFile(environment_key()))
register_storage(KEYRING_FILE, lambda: EncryptedFile(KeyringKey()))
register_storage(PLAINTEXT, InsecurePlaintextFile)
