"""The configuration file of the server's commands: TOML with the names of the options of `serve`.

An option and a variable of the environment take precedence over the file, the file over defaults.
`serve` reads all of it, the commands beside it the store, the issuer and where the secret is. The
server's secret is never in it, so that the file can be kept beside the code; the URL of a store may
have a password if only its owner and its group can read the file.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import typer
from typer.main import get_command

from bearerguard.cli import output
from bearerguard.cli.help import Application
from bearerguard.cli.server.server_options import SCOPES_VARIABLE
from bearerguard.errors import ConfigurationError
from bearerguard.runtime.environment import resembling
from bearerguard.server import secret
from bearerguard.server.settings import PREFIX

CONFIG_VARIABLE = "BEARERGUARD_SERVER_CONFIG"
_SHARED = ("store", "issuer", "secret-file")
# Where each secret is given instead.
_SECRETS = {
    "secret": f"set {secret.VARIABLE}, or name a file with secret-file",
    "upstream-secret": "set BEARERGUARD_SERVER_UPSTREAM_SECRET",
    "registration-token": "set BEARERGUARD_SERVER_REGISTRATION_TOKEN",
    "revocations-secret": "set BEARERGUARD_SERVER_REVOCATIONS_SECRET",
}


def add_options(command: Any) -> None:
    """Add `--config` and `--secret-file` to each command that opens a store."""
    for each in getattr(command, "commands", {}).values():
        add_options(each)
    # `store copy` has two stores, as arguments.
    if any(each.name in {"store", "source"} for each in command.params):
        command.params += _options()


def _read(ctx: typer.Context, value: Path | None) -> None:
    if value is not None:
        serve: Any = ctx.find_root().command
        with output.endings():
            ctx.default_map = _values(value, ctx, serve.get_command(ctx, "serve").params)


def _name_secret(ctx: typer.Context, param: typer.CallbackParam, value: Path | None) -> None:
    source = ctx.get_parameter_source(str(param.name))
    from_file = source is not None and source.name == "DEFAULT_MAP"
    if value is None or (from_file and os.environ.get(secret.VARIABLE)):
        return
    before = os.environ.get(secret.FILE_VARIABLE)
    os.environ[secret.FILE_VARIABLE] = str(value)  # read where the store is opened

    @ctx.call_on_close
    def restore() -> None:
        del os.environ[secret.FILE_VARIABLE]
        if before is not None:
            os.environ[secret.FILE_VARIABLE] = before


def _options() -> list[Any]:
    application = Application()

    @application.command()
    def options(
        config: Annotated[
            Path | None,
            typer.Option(
                envvar=CONFIG_VARIABLE,
                help="A TOML file with options of `serve`, by their names without the dashes in"
                " front; options and variables take precedence.",
                metavar="FILE",
                is_eager=True,
                expose_value=False,
                callback=_read,
            ),
        ] = None,
        secret_file: Annotated[
            Path | None,
            typer.Option(
                envvar=secret.FILE_VARIABLE,
                help=f"A file with the server's secret, instead of {secret.VARIABLE}; it must not"
                " be readable for everybody.",
                metavar="FILE",
                expose_value=False,
                callback=_name_secret,
            ),
        ] = None,
    ) -> None:
        """Have the options."""

    found: list[Any] = [each for each in get_command(application).params if each.name != "help"]
    return found


def _values(path: Path, ctx: typer.Context, serve: list[Any]) -> dict[str, Any]:
    """Return the values of a command's options by their parameters' names."""
    content, is_private = _content(path)
    own: list[Any] = ctx.command.params
    # A command's option of the same name may be another: `client add --scope` is the client's.
    is_serve = {each.name for each in serve} <= {each.name for each in own}
    known = {name: each for each in serve for name in _names(each)}
    parameters = {_named(each): each.name for each in own}
    found: dict[str, Any] = {}
    keys: dict[str, str] = {}
    for key, value in content.items():
        place = f"{path}: {key}"
        option = _option(place, key, known)
        name = _named(option)
        if name in keys:
            raise ConfigurationError(f"{place}: this option is given as {keys[name]} too: keep one")
        keys[name] = key
        checked = _checked(place, option, value, is_private=is_private)
        try:
            option.get_runtime_param().coerce(checked, param=option, ctx=ctx)
        except typer.BadParameter as error:  # it would name the option, and not the file
            raise ConfigurationError(f"{place}: {error.message}") from None
        if name not in (parameters if is_serve else _SHARED) or name not in parameters:
            continue
        if name == "scope" and os.environ.get(SCOPES_VARIABLE):
            continue  # the variable is not the parser's: its separators are our own
        found[parameters[name]] = checked
    return found


def _content(path: Path) -> tuple[dict[str, Any], bool]:
    """Return the content of the file, and whether only its owner and its group can read it."""
    try:
        with path.open("rb") as file:
            is_private = not secret.is_exposed(os.fstat(file.fileno()).st_mode)
            return tomllib.load(file), is_private
    except OSError as error:
        raise ConfigurationError(
            f"--config: {path} cannot be read ({type(error).__name__})"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigurationError(
            f"--config: {path} is not TOML: line {line} is not UTF-8"
        ) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"--config: {path} is not TOML: {error}") from None


def _option(place: str, key: str, known: Mapping[str, Any]) -> Any:
    name = key.replace("_", "-")
    if name in _SECRETS:
        raise ConfigurationError(f"{place}: the file must not have a secret: {_SECRETS[name]}")
    if name not in known:
        meant = resembling(name, known)
        remedy = f"{meant} is meant" if meant else f"there are {', '.join(sorted(known))}"
        raise ConfigurationError(f"{place}: there is no such option: {remedy}")
    return known[name]


def _checked(place: str, option: Any, value: Any, *, is_private: bool) -> Any:
    if _named(option) == "scope" and isinstance(value, dict):
        if not all(isinstance(text, str) for text in value.values()):
            raise ConfigurationError(
                f"{place}: pass each scope with its description as text; name the powerful ones in"
                " powerful-scopes"
            )
        value = [f"{scope}={text}" for scope, text in value.items()]
    if option.multiple:
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise ConfigurationError(f"{place}: pass a list of texts, such as ['...']")
        return value
    kind, said = _KINDS.get(option.type_descriptor.annotation, (str, "a text"))
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigurationError(f"{place}: pass {said}")
    if isinstance(value, str) and not is_private and _has_password(value):
        raise ConfigurationError(
            f"{place}: it has a password, and the file can be read by every user, or changed by"
            f" its group: `chmod 600` the file, or set {option.envvar} to the URL instead"
        )
    return value


_KINDS: dict[Any, tuple[type | tuple[type, ...], str]] = {
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
}


def _has_password(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:  # a password may have brackets that are not encoded
        return "@" in text
    return bool(parts.password) or "password" in parse_qs(parts.query)


def _names(option: Any) -> Iterator[str]:
    """Yield an option's names in the file: its own, and for a list that of its variable."""
    name = _named(option)
    if name != "config":
        yield name
    if option.multiple:
        variable = option.envvar or SCOPES_VARIABLE
        yield variable.removeprefix(PREFIX).lower().replace("_", "-")


def _named(option: Any) -> str:
    return str(max(option.opts, key=len)).lstrip("-")
