"""The options of the client's commands: whom to log in to, and where its token is kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bearerguard.cli.logins import Login, chosen_login
from bearerguard.client.login.authorization_code import AuthorizationCode
from bearerguard.client.login.device_code import DeviceCode
from bearerguard.client.manager import TokenManager
from bearerguard.client.sources.static_token import StaticToken
from bearerguard.client.storages.default import default_storage
from bearerguard.client.storages.encrypted_file import EncryptedFile, InsecurePlaintextFile
from bearerguard.client.storages.environment import TOKEN_VARIABLE
from bearerguard.client.storages.file_key import (
    KEY_VARIABLE,
    FileKey,
    KeyringKey,
    PassphraseKey,
    environment_key,
)
from bearerguard.client.storages.keyring import KeyringStorage
from bearerguard.client.storages.storage import Storage
from bearerguard.errors import ConfigurationError
from bearerguard.runtime.fetching import default_transport

KEYRING, FILE, KEYRING_FILE, PLAINTEXT = "keyring", "file", "keyring-file", "insecure-plaintext"
AUTO = "auto"
# What is sent with each request to an authorization server, one `Name: value` a line. A value may
# be secret, so it is no option: those are seen by others and kept with the logins.
HEADERS_VARIABLE = "BEARERGUARD_CLIENT_FETCH_HEADERS"
STORAGES = (AUTO, KEYRING, FILE, KEYRING_FILE, PLAINTEXT)

ChosenIssuer = Annotated[
    str | None,
    typer.Option(
        "--issuer",
        envvar="BEARERGUARD_ISSUER",
        help="Whose token; that of the last login if absent.",
        show_default=False,
    ),
]


def named_storage(kind: str) -> Storage:
    """Return the storage of a kind; a passphrase is asked for where one is needed."""
    if kind == KEYRING:
        return KeyringStorage()
    if kind == FILE:
        return EncryptedFile(_file_key())
    if kind == KEYRING_FILE:
        return EncryptedFile(KeyringKey())
    if kind == PLAINTEXT:
        return InsecurePlaintextFile()
    raise ConfigurationError(f"--storage: choose one of {', '.join(STORAGES)}")


def probed_storage(kind: str) -> tuple[Storage, str, str]:
    """Return a storage that keeps what it is given, its kind, and why it was chosen."""
    if kind != AUTO:
        storage = named_storage(kind)
        storage.probe()
        return storage, kind, f"--storage {kind}"
    choice = default_storage(passphrase=_asks())
    found = KEYRING if isinstance(choice.storage, KeyringStorage) else FILE
    return choice.storage, found, choice.reason


def opened_manager(issuer: str | None) -> tuple[TokenManager, Login | None]:
    """Return what hands out the token of a login; or of the environment, if it has one."""
    if issuer is None and os.environ.get(TOKEN_VARIABLE):
        return TokenManager(StaticToken.from_env(TOKEN_VARIABLE)), None
    login = chosen_login(issuer)
    return manager(login, named_storage(login.storage)), login


def manager(
    login: Login,
    storage: Storage,
    *,
    open_browser: Callable[[str], object] | None = None,
    prompt: Callable[..., object] | None = None,
) -> TokenManager:
    """Return what hands out the token of a login."""
    options: dict[str, Any] = {
        "client_id": login.client_id,
        "scopes": login.scope,
        "resources": login.resource,
        "dpop": login.dpop,
        "parameters": dict(login.parameters),
        "assume_token_type": login.assume_token_type,
        "bearer_type": login.bearer_type,
    }
    if login.device:
        shown: dict[str, Any] = {} if prompt is None else {"prompt": prompt}
        source: AuthorizationCode | DeviceCode = DeviceCode(login.issuer, **options, **shown)
    else:
        shown = {} if open_browser is None else {"open_browser": open_browser}
        source = AuthorizationCode(
            login.issuer,
            assume_pkce=login.assume_pkce,
            redirect_uri=login.redirect_uri,
            **options,
            **shown,
        )
    headers = os.environ.get(HEADERS_VARIABLE)
    transport = default_transport(headers, setting=HEADERS_VARIABLE)
    return TokenManager(source, storage=storage, key=login.key, transport=transport)


def _file_key() -> FileKey:
    if os.environ.get(KEY_VARIABLE):
        return environment_key()
    ask = _asks()
    if ask is None:
        return environment_key()  # raises, and names the variable
    return PassphraseKey(ask)


def _asks() -> Callable[[], str] | None:
    """Return what asks for a passphrase, None when there is nobody to ask."""
    if not sys.stdin.isatty():
        return None
    return lambda: str(typer.prompt("Passphrase for the tokens' file", hide_input=True, err=True))
