"""`bearerguard config` shows the configuration in force, and where each value comes from.

Secrets are never printed, only whether they are set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import signature
from typing import Annotated, Any, NamedTuple, cast

import typer
from typer.main import get_command

from bearerguard.cli import output
from bearerguard.cli.client import client_options
from bearerguard.cli.guard.app_guard import app_guard
from bearerguard.client.storages.state_directory import VARIABLE as HOME_VARIABLE
from bearerguard.client.storages.state_directory import state_directory
from bearerguard.errors import ConfigurationError
from bearerguard.guard.config import settings
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.names import names
from bearerguard.guard.config.requirement import combined
from bearerguard.guard.config.settings import SETTINGS, Setting
from bearerguard.guard.guard import Guard
from bearerguard.middleware.app_guard import AppGuard
from bearerguard.runtime.environment import check_names

CODE, DEFAULT, ENVIRONMENT, SETTING = "code", "default", "environment", "settings"
_SERVER = "BEARERGUARD_SERVER_"
_SET, _NOT_SET = "set", "not set"
# The password of a URL such as postgresql://user:password@host, and parameters that are secrets.
# To the last @: a password may contain one, which should be percent-encoded.
_PASSWORD = re.compile(r"(?s)(?<=://)([^/:@\s]*):.*@")
# A user without a password is a credential too, except of a database: a token, at some services.
_USER = re.compile(r"(?i)(\A(?!postgresql)[^:/]*://)[^/:@\s?#]+@")
_PARAMETER = re.compile(
    r"(?i)((?:[?&;]|\s)[^=&;\s]*(?:passw|pwd|secret|token|key|sig|auth|credential)[^=&;\s]*\s*=)"
    r"[^&;]*"
)


class Row(NamedTuple):
    """One setting: its value as it may be printed, and where that comes from."""

    name: str
    value: Any
    source: str


class Section(NamedTuple):
    """The settings of one role: of the guard, for each issuer."""

    role: str
    issuer: str | None
    rows: list[Row]


def config(
    app: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:NAME]",
            help="The guard, or the app that has it, as a server imports it: shop.main:app. Without"
            " it, the guard of the variables.",
            show_default=False,
        ),
    ] = None,
    *,
    json: output.Json = False,
) -> None:
    """Show the configuration in force, without secrets, and where each value comes from.

    A value comes from a variable (environment), from the settings of a framework, from code, or it
    is the default. Variables with an unknown name are reported: it may be misspelt.
    """
    problems: list[str] = []
    with output.endings(json=json):
        sections = [*_of_guard(app, problems), *_of_server(problems), _of_client()]
    warnings = [each for each in _unread(os.environ) if each not in problems]
    if json:
        output.as_json(
            {
                "sections": [
                    {
                        "role": section.role,
                        "issuer": section.issuer,
                        "settings": [row._asdict() for row in section.rows],
                    }
                    for section in sections
                ],
                "warnings": warnings,
                "problems": problems,
            }
        )
    else:
        for section in sections:
            _print(section)
        for warning in warnings:
            output.warn(warning)
    with output.endings():
        if problems:
            raise ConfigurationError("; ".join(problems))


# The guard


def _of_guard(path: str | None, problems: list[str]) -> list[Section]:
    if path is not None:
        found = app_guard(path)
        return [_section(found, issuer) for issuer in found.guard.issuers]
    given = settings.given_in(os.environ)
    if not given:
        return [Section("guard", None, [])]
    try:
        guard = Guard.from_env()
    except ConfigurationError as error:
        problems.append(str(error))
        shown = [each for each in SETTINGS if each.name in given]
        rows = [Row(each.name, _raw(each), ENVIRONMENT) for each in shown]
        return [Section("guard", None, rows)]
    return [_section(AppGuard(guard), guard.issuers[0])]


def _raw(setting: Setting) -> str:
    return _SET if setting.is_secret else _masked(os.environ[setting.name])


def _section(found: AppGuard, issuer: Issuer) -> Section:
    guard = found.guard
    rows = [
        _row(setting, guard, issuer)
        for setting in SETTINGS
        if setting.owner != "Introspection" or issuer.introspection is not None
    ]
    if issuer.introspection is None:
        rows.append(Row("introspection", None, DEFAULT))
    requirement = combined(guard.requirement, found.requirement)
    revocations = guard.revocations  # not `health()`, which may begin to fetch keys
    rows += [
        Row("require", None if requirement is None else str(requirement), _source(requirement)),
        Row(
            "revocations",
            None if revocations is None else revocations.health().status,
            _source(revocations),
        ),
    ]
    return Section("guard", issuer.url, rows)


def _source(value: object) -> str:
    """Return where an option that has no variable comes from."""
    return DEFAULT if value is None else CODE


def _row(setting: Setting, guard: Guard, issuer: Issuer) -> Row:
    is_read = setting.name in guard.settings_read
    source = (ENVIRONMENT if os.environ.get(setting.name) else SETTING) if is_read else ""
    if setting.kind == "headers":  # they are the transport's own
        return Row(setting.name, _SET if is_read else _NOT_SET, source or DEFAULT)
    owner: Any = {
        "Guard": guard,
        "ProtectedResource": guard.resource,
        "Issuer": issuer,
        "KeyPolicy": issuer.key_policy,
        "ClaimMapping": issuer.claims,
        "Introspection": issuer.introspection,
    }[setting.owner]
    if owner is None:  # no metadata
        is_off = setting.option == "url" and guard.options.get("resource") is False
        return Row(setting.name, None, source or (CODE if is_off else DEFAULT))
    options = cast("Mapping[str, Any]", guard.options)
    if hasattr(owner, setting.option):
        value = getattr(owner, setting.option)
    else:  # the guard has only made something of it
        value = options[setting.option]
    default = signature(type(owner)).parameters[setting.option].default
    if setting.owner == "ProtectedResource" and guard.options.get("resource") is None:
        default = value  # it is derived from the audience
    # Required claims are stored as a mapping, and names of headers in lower case.
    is_default = (not value and not default) or str(value).lower() == str(default).lower()
    source = source or (DEFAULT if is_default else CODE)
    if setting.is_secret:
        return Row(setting.name, _NOT_SET if value is None else _SET, source)
    if setting.kind == "object" and value is not None:
        value = [f"{name}: {' '.join(names(name, given))}" for name, given in value.items()]
    if setting.option == "algorithms" and value is None:
        value = issuer.accepted_algorithms
    return Row(setting.name, _printable(value), source)


def _printable(value: Any) -> Any:
    """Return a value fit for a table and for JSON."""
    if isinstance(value, Mapping):  # required claims: their values may be names of customers
        return sorted(value) or None
    if isinstance(value, set | frozenset | tuple | list):
        return [_masked(str(each)) for each in value] or None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _masked(value) if isinstance(value, str) else value


# The other roles


def _of_server(problems: list[str]) -> Iterator[Section]:
    """Yield the settings of the commands of the authorization server: the options of `serve`."""
    try:
        serve = import_module("bearerguard.cli.server.serve")
    except ConfigurationError as error:
        if any(name.startswith(_SERVER) for name in os.environ):
            problems.append(str(error))
        return
    command = typer.Typer(add_completion=False)
    command.command()(serve.serve)
    defaults = {each.envvar: each.default for each in get_command(command).params if each.envvar}
    rows = [
        _of_variable(name, defaults.get(name), is_secret=name.endswith("_SECRET"))
        for name in sorted(serve.defaults.VARIABLES)
    ]
    yield Section("server", None, rows)


def _of_client() -> Section:
    defaults = {
        client_options.STORAGE_VARIABLE: client_options.AUTO,
        HOME_VARIABLE: str(state_directory()),
    }
    secret = client_options.SECRET_VARIABLES
    names = sorted(client_options.VARIABLES)
    rows = [_of_variable(name, defaults.get(name), is_secret=name in secret) for name in names]
    return Section("client", None, rows)


def _of_variable(name: str, default: Any, *, is_secret: bool) -> Row:
    given = os.environ.get(name)
    source = ENVIRONMENT if given else DEFAULT
    if is_secret:
        return Row(name, _SET if given else _NOT_SET, source)
    return Row(name, _printable(given or default), source)


def _masked(text: str) -> str:
    """Return a text without the passwords of the URLs in it."""
    without_user = _USER.sub(r"\1***@", _PASSWORD.sub(r"\1:***@", text))
    return _PARAMETER.sub(r"\1***", without_user)


def _unread(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable that has our prefix and an unknown name."""
    known = settings.NAMES | client_options.VARIABLES | _server_variables()
    for name in sorted(environ):
        if name.startswith(settings.PREFIX) and name not in known:
            try:
                check_names([name], known, prefix=settings.PREFIX)
            except ConfigurationError as error:
                yield str(error)
            else:
                yield f"{name}: unknown variable: remove it, or check its name"


def _server_variables() -> frozenset[str]:
    try:
        found = import_module("bearerguard.server.settings")
    except ConfigurationError:  # pragma: no cover - without the extra
        return frozenset()
    names: frozenset[str] = found.VARIABLES
    return names


# What is printed


def _print(section: Section) -> None:
    issuer = "" if section.issuer is None else f" for {section.issuer}"
    prefix = {"guard": settings.PREFIX, "server": _SERVER, "client": client_options.PREFIX}[
        section.role
    ]
    output.say(f"{section.role}{issuer}: variables {prefix}*")
    output.table(
        ("setting", "value", "from"),
        [(row.name.removeprefix(prefix), row.value, row.source) for row in section.rows],
        f"\nno {prefix}* variable is set: set {prefix}ISSUER and {prefix}AUDIENCE, or pass the"
        " import path of a guard or an app\n",
        unbroken=("setting", "from"),
    )
