"""What the client's commands share: the option `--issuer`, storages and the token manager."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bearerguard.cli.client.logins import Login, chosen_login
from bearerguard.client.login.api_login import ApiLogin
from bearerguard.client.login.authorization_code import AuthorizationCode
from bearerguard.client.login.device_code import DeviceCode
from bearerguard.client.manager import TokenManager
from bearerguard.client.registration import ClientRegistration
from bearerguard.client.sources.static_token import StaticToken
from bearerguard.client.storages import registry
from bearerguard.client.storages.default import default_storage
from bearerguard.client.storages.encrypted_file import EncryptedFile
from bearerguard.client.storages.environment import TOKEN_VARIABLE
from bearerguard.client.storages.file_key import (
    KEY_VARIABLE,
    FileKey,
    PassphraseKey,
    environment_key,
)
from bearerguard.client.storages.keyring import KeyringStorage
from bearerguard.client.storages.registry import FILE, KEYRING, KEYRING_FILE
from bearerguard.client.storages.state_directory import VARIABLE as HOME_VARIABLE
from bearerguard.client.storages.storage import Storage
from bearerguard.errors import ConfigurationError
from bearerguard.runtime.environment import check_names
from bearerguard.transports.default import default_transport

AUTO = "auto"
# Header fields for each request to an authorization server, one `Name: value` a line. This is not
# an option because a value may be secret: other users can read options, and logins store them.
PREFIX = "BEARERGUARD_CLIENT_"
HEADERS_VARIABLE = f"{PREFIX}FETCH_HEADERS"
STORAGE_VARIABLE = f"{PREFIX}STORAGE"
ID_VARIABLE = f"{PREFIX}ID"
VARIABLES = frozenset(
    {
        *(HEADERS_VARIABLE, STORAGE_VARIABLE, ID_VARIABLE, f"{PREFIX}ISSUER"),
        *(TOKEN_VARIABLE, KEY_VARIABLE, HOME_VARIABLE),
    }
)
SECRET_VARIABLES = frozenset({HEADERS_VARIABLE, TOKEN_VARIABLE, KEY_VARIABLE})
STORAGES = (AUTO, KEYRING, FILE, KEYRING_FILE, registry.PLAINTEXT)

# How this program introduces itself to a server that registers clients.
_APP = ClientRegistration(name="bearerguard (command line)")

ChosenIssuer = Annotated[
    str | None,
    typer.Option(
        "--issuer",
        envvar=f"{PREFIX}ISSUER",
        help="The issuer of the token, or the API of its login; by default the last login.",
        show_default=False,
    ),
]


def named_storage(kind: str) -> Storage:
    """Return the storage of a kind; prompts for a passphrase if it needs one.

    Raises:
        ConfigurationError: there is no such kind.
    """
    if kind == FILE:  # not from the registry: a command can prompt for its passphrase
        return EncryptedFile(_file_key())
    if kind in registry.storage_names():
        return registry.named_storage(kind)
    known = dict.fromkeys((AUTO, *registry.storage_names()))
    raise ConfigurationError(f"--storage: choose one of {', '.join(known)}")


def probed_storage(kind: str) -> tuple[Storage, str, str]:
    """Return a storage that works on this machine, its kind, and why it was chosen."""
    if kind != AUTO:
        storage = named_storage(kind)
        storage.probe()
        return storage, kind, f"--storage {kind}"
    choice = default_storage(passphrase=_prompt())
    found = KEYRING if isinstance(choice.storage, KeyringStorage) else FILE
    return choice.storage, found, choice.reason


def opened_manager(issuer: str | None) -> tuple[TokenManager, Login | None]:
    """Return a token manager and its login; the login is None for a token of the environment.

    Raises:
        LoginRequired: there is no login to this issuer.
    """
    check_names(os.environ, VARIABLES, prefix=PREFIX)
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
    """Return the token manager of a login."""
    check_names(os.environ, VARIABLES, prefix=PREFIX)
    headers = os.environ.get(HEADERS_VARIABLE)
    transport = default_transport(headers, setting=HEADERS_VARIABLE)
    shown: dict[str, Any] = {} if open_browser is None else {"open_browser": open_browser}
    if login.api is not None:
        found = ApiLogin(
            login.api,
            app=_APP,
            storage=storage,
            scopes=login.scope,
            dpop=login.dpop,
            redirect_uri=login.redirect_uri,
            parameters=dict(login.parameters),
            **shown,
        )
        return TokenManager(found, storage=storage, key=login.key, transport=transport)
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
        shown = {} if prompt is None else {"prompt": prompt}
        source: AuthorizationCode | DeviceCode = DeviceCode(login.issuer, **options, **shown)
    else:
        source = AuthorizationCode(
            login.issuer,
            assume_pkce=login.assume_pkce,
            push=login.push,
            redirect_uri=login.redirect_uri,
            **options,
            **shown,
        )
    return TokenManager(source, storage=storage, key=login.key, transport=transport)


def _file_key() -> FileKey:
    if os.environ.get(KEY_VARIABLE):
        return environment_key()
    prompt = _prompt()
    if prompt is None:
        return environment_key()  # raises an error that names the variable
    return PassphraseKey(prompt)


def _prompt() -> Callable[[], str] | None:
    """Return a function that prompts for a passphrase; None without a terminal."""
    if not sys.stdin.isatty():
        return None
    return lambda: str(typer.prompt("Passphrase of the token file", hide_input=True, err=True))
