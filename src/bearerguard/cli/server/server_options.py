"""The options that the server's commands share.

Each has an environment variable, so that all commands can use the same values. The secret has no
option: it comes from `BEARERGUARD_SERVER_SECRET`, from the file of `--secret-file`, or from the
development file beside the store. `--secret-file` and `--config` are added by `config_file`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer

from bearerguard.cli import output
from bearerguard.errors import ConfigurationError
from bearerguard.logs import JsonFormatter, TextFormatter
from bearerguard.server.administration import Administration

SCOPES_VARIABLE = "BEARERGUARD_SERVER_SCOPES"
_LOG_FORMAT = "BEARERGUARD_SERVER_LOG_FORMAT"
_NEXT_SCOPE = re.compile(r"\s+(?=[^\s=]+=)")

Store = Annotated[
    str,
    typer.Option(
        envvar="BEARERGUARD_SERVER_STORE",
        help="The server's database: sqlite:///auth.db for the processes of one machine, or"
        " postgresql://user@host/database for those of several.",
        show_default=False,
    ),
]
Issuer = Annotated[
    str,
    typer.Option(
        envvar="BEARERGUARD_SERVER_ISSUER",
        help="The server's issuer URL, the `iss` of its tokens.",
        show_default=False,
    ),
]
Scopes = Annotated[
    list[str] | None,
    typer.Option(
        "--scope",
        help='A scope with its description: "read=See your recordings"; repeatable. Or all in'
        " BEARERGUARD_SERVER_SCOPES, one a line or separated by semicolons.",
    ),
]
Resources = Annotated[
    list[str] | None,
    typer.Option(
        "--resource",
        envvar="BEARERGUARD_SERVER_RESOURCES",
        help="The URI of an API that tokens are for; the issuer URL by default; repeatable.",
    ),
]


@contextmanager
def opened(
    store: str, issuer: str | None = None, *, create: bool = False
) -> Generator[Administration]:
    """Open a store for administration; `create` creates one that does not exist."""
    with audited():
        with output.naming({"store=": "--store"}):
            administration = Administration(store, issuer=issuer, create=create)
        with administration:
            yield administration


@contextmanager
def audited() -> Generator[None]:
    """Write events to standard error, as `serve` does.

    A terminal gets them only if the format is set: the command says there what it did.
    """
    log_format = os.environ.get(_LOG_FORMAT)
    if log_format is None and sys.stderr.isatty():
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler.addFilter(lambda line: line.levelno >= logging.WARNING or hasattr(line, "event"))
    logger = logging.getLogger("bearerguard.server")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def described(
    scopes: list[str] | None, environ: Mapping[str, str] | None = None
) -> dict[str, str] | None:
    """Return scopes with their descriptions, from the options or else from the environment.

    Raises:
        ConfigurationError: a scope has no description.
    """
    environ = os.environ if environ is None else environ
    given, named = scopes, "--scope"
    if not given:
        given, named = _listed(environ.get(SCOPES_VARIABLE, "")), SCOPES_VARIABLE
    if not given:
        return None
    pairs = [(name.strip(), text.strip()) for name, _, text in (e.partition("=") for e in given)]
    if not all(name and text for name, text in pairs):
        raise ConfigurationError(
            f'{named}: pass each scope with its description: "read=See your recordings"'
        )
    return dict(pairs)


def _listed(text: str) -> list[str]:
    """Return the scopes of a variable: one a line, or separated by semicolons.

    Without these separators, each word that contains an equals sign begins another scope.
    """
    separator = next((each for each in "\n;" if each in text.strip()), None)
    parts = text.split(separator) if separator else _NEXT_SCOPE.split(text.strip())
    return [each.strip() for each in parts if each.strip()]
