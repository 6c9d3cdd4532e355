"""Reading `settings.BEARERGUARD`: the guard, and the options of the middleware.

Its keys are the names of `guard.config.settings` without their prefix, and those of `_OPTIONS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from django.utils.module_loading import import_string

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.settings import OTHER_PREFIXES, PREFIX, SETTINGS
from bearerguard.guard.guard import Guard
from bearerguard.middleware.admission import AdmissionOptions
from bearerguard.runtime.environment import check_names

T = TypeVar("T")

NAME = "BEARERGUARD"
_ADMISSION_KEYS = ("REQUIRE", "OPTIONAL", "EXCLUDE", "PASS_PREFLIGHTS")
_OPTIONS = (*_ADMISSION_KEYS, "GUARD", "USER")
_GUARD_KEYS = frozenset(setting.name.removeprefix(PREFIX) for setting in SETTINGS)

# A message of the core names an environment variable or an option of a constructor.
_VARIABLE = re.compile(rf'(?<!settings\.)(?<!\[")\b{PREFIX}(\w+)')
_OPTION = re.compile(rf"^({'|'.join(each.lower() for each in _OPTIONS)})=:")


class Settings(NamedTuple):
    """What `settings.BEARERGUARD` says.

    Attributes:
        guard: the guard, passed or made.
        is_own: whether it was made here, and so is closed here.
        options: those of `Admission`.
        user: returns the user of a principal; None without one.
    """

    guard: Guard
    is_own: bool
    options: AdmissionOptions
    user: Callable[[Any], Any] | None


def read() -> Settings:
    """Read the settings in force.

    Raises `ConfigurationError` naming the key that is missing, misspelt or malformed.
    """
    return named(lambda: _read(_mapping()))


def named(make: Callable[[], T]) -> T:
    """Call `make`; its `ConfigurationError` then names the key of `settings.BEARERGUARD`."""
    try:
        return make()
    except ConfigurationError as error:
        message = _OPTION.sub(lambda match: _key(match[1].upper()) + ":", str(error))
        message = _VARIABLE.sub(lambda match: _key(match[1]), message)
        raise ConfigurationError(message) from None


def given() -> Mapping[str, Any]:
    """Return the dict as it is, or an empty one if there is none."""
    found = getattr(settings, NAME, None)
    return found if isinstance(found, Mapping) else {}


def _read(values: Mapping[str, Any]) -> Settings:
    names = {PREFIX + key for key in (*_GUARD_KEYS, *_OPTIONS)}
    check_names([PREFIX + str(key) for key in values], names, prefix=PREFIX, closed=True)
    options: Any = {
        key.lower(): values[key] for key in _ADMISSION_KEYS if values.get(key) is not None
    }
    user = _loaded("USER", values.get("USER"))
    if user is not None and not callable(user):
        raise ConfigurationError(
            f"{_key('USER')}: give a function that takes a Principal and returns a user or None,"
            ' or its path, such as "shop.users.user_of"'
        )
    own = {PREFIX + key: values[key] for key in values if key in _GUARD_KEYS}
    if values.get("GUARD") is None:
        return Settings(Guard.from_mapping(own), is_own=True, options=options, user=user)
    if own:
        raise ConfigurationError(f"{min(own)}: configure it on the guard of {_key('GUARD')}")
    return Settings(_guard(values["GUARD"]), is_own=False, options=options, user=user)


def _guard(value: object) -> Guard:
    guard = _loaded("GUARD", value)
    if callable(guard):
        guard = guard()
    if not isinstance(guard, Guard):
        raise ConfigurationError(
            f"{_key('GUARD')}: give a Guard, a function that returns one, or the path of either,"
            ' such as "shop.auth.guard"'
        )
    return guard


def _loaded(key: str, value: object) -> object:
    """Return a value, or what its dotted path names."""
    if not isinstance(value, str):
        return value
    try:
        return import_string(value)
    except ImportError as error:
        raise ConfigurationError(f"{_key(key)}: {error}: give the path of a name") from error


def _mapping() -> Mapping[str, Any]:
    flat = [
        name
        for name in dir(settings)
        if name.startswith(PREFIX) and not name.startswith(OTHER_PREFIXES)
    ]
    if flat:
        key = flat[0].removeprefix(PREFIX)
        raise ConfigurationError(
            f'settings.{flat[0]}: is not read: write {NAME} = {{"{key}": ...}} instead'
        )
    values = getattr(settings, NAME, None)
    if isinstance(values, Mapping):
        return values
    similar = get_close_matches(NAME, set(dir(settings)) - {NAME}, 1, 0.8)
    instead = f": settings.{similar[0]} is there; rename it" if similar and values is None else ""
    raise ConfigurationError(
        f'settings.{NAME}: give a dict such as {{"ISSUER": "https://id.example.com",'
        f' "AUDIENCE": "https://api.example.com"}}{instead}'
    )


def _key(name: str) -> str:
    return f'{NAME}["{name}"]'
