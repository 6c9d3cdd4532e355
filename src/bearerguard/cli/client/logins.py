"""The logins of this machine: the issuer, scopes and options of each, and where its token is.

The list is a file in the directory of the tokens. It contains no secret. The last login comes
first.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from bearerguard.client.storages.file_lock import file_lock
from bearerguard.client.storages.private_directory import PrivateDirectory
from bearerguard.client.storages.state_directory import state_directory
from bearerguard.client.storages.storage import LOCK_TIMEOUT
from bearerguard.errors import LoginRequired, StorageError

_FILE, _VERSION = "logins.json", 1


@dataclass(frozen=True, slots=True)
class Login:
    """The options of one `bearerguard login`, for the commands after it."""

    issuer: str
    client_id: str
    scope: tuple[str, ...]
    resource: tuple[str, ...]
    storage: str
    device: bool = False
    dpop: bool = False
    assume_pkce: bool = False
    push: bool = False
    parameters: tuple[tuple[str, str], ...] = ()
    redirect_uri: str | None = None
    assume_token_type: str | None = None
    bearer_type: str | None = None
    # The URL of the API, for a login that found its issuer and its client id from there.
    api: str | None = None

    def command(self, scope: Sequence[str], demanded: Mapping[str, str] | None = None) -> str:
        """Return the command that repeats this login for these scopes, quoted for a shell.

        `demanded` contains additional parameters that the API requires. Values that an API or a
        server chose are quoted too, so that they cannot start a command.
        """
        parts = ["bearerguard", "login"]
        parts += [self.api] if self.api else [self.issuer, "--client-id", self.client_id]
        parts += ["--scope", " ".join(scope)] if scope else []
        for resource in () if self.api else self.resource:
            parts += ["--resource", resource]
        for name, value in (dict(self.parameters) | dict(demanded or {})).items():
            parts += ["--param", f"{name}={value}"]
        for option, given in (
            ("--redirect-uri", self.redirect_uri),
            ("--assume-token-type", self.assume_token_type),
            ("--bearer-type", self.bearer_type),
            ("--storage", self.storage),
        ):
            parts += [option, given] if given else []
        for flag, is_set in (
            ("--device", self.device),
            ("--dpop", self.dpop),
            ("--assume-pkce", self.assume_pkce),
            ("--push", self.push),
        ):
            parts += [flag] if is_set else []
        return shlex.join(parts)

    @property
    def key(self) -> str:
        """The key of its token in the storage."""
        return f"api {self.api}" if self.api else f"{self.issuer} {self.client_id}"


def all_logins() -> tuple[Login, ...]:
    """Return the logins, the last one first; raises `StorageError` for an unreadable list."""
    octets = PrivateDirectory(state_directory()).read(_FILE)
    if octets is None:
        return ()
    try:
        document = json.loads(octets)
        if document["version"] == _VERSION:
            return tuple(_login(members) for members in document["logins"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass  # reported below; the file is left as it is
    raise StorageError(
        f"{state_directory() / _FILE} is not a list of logins that this version can read: remove it"
    )


def chosen_login(issuer: str | None) -> Login:
    """Return the login to an issuer or an API, or the last one for None; raises `LoginRequired`."""
    for login in all_logins():
        if issuer in {None, login.issuer, login.api}:
            return login
    raise LoginRequired("nobody has logged in" + (f" to {issuer}" if issuer else ""))


def remember(login: Login) -> None:
    """Store a login as the last one; it replaces the login with the same key and storage."""
    with _changing() as directory:
        place = (login.key, login.storage)
        others = [each for each in all_logins() if (each.key, each.storage) != place]
        _write(directory, [login, *others])


def forget(login: Login) -> None:
    """Remove a login."""
    with _changing() as directory:
        _write(directory, [each for each in all_logins() if each != login])


@contextmanager
def _changing() -> Generator[PrivateDirectory]:
    directory = PrivateDirectory(state_directory())
    directory.ready()
    with file_lock(directory.path / f"{_FILE}.lock", LOCK_TIMEOUT):
        yield directory


def _write(directory: PrivateDirectory, logins: list[Login]) -> None:
    document = {"version": _VERSION, "logins": [asdict(each) for each in logins]}
    directory.replace(_FILE, json.dumps(document, indent=2).encode())


def _login(members: dict[str, Any]) -> Login:
    scope, resource = (tuple(map(str, members.pop(name))) for name in ("scope", "resource"))
    parameters = tuple((str(name), str(value)) for name, value in members.pop("parameters", ()))
    return Login(scope=scope, resource=resource, parameters=parameters, **members)
