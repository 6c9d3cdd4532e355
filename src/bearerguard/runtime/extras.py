"""Optional dependencies: which extra installs which package, and the error if one is missing.

A module that has an optional dependency imports it so:

    with Extra("fastapi", needed_by=__name__):
        import fastapi
"""

from __future__ import annotations

from types import TracebackType

from bearerguard.errors import ConfigurationError

# The modules that each extra installs, with those of its dependencies that this package imports.
MODULES_OF_EXTRA: dict[str, tuple[str, ...]] = {
    "starlette": ("starlette",),
    "fastapi": ("fastapi", "starlette"),
    "flask": ("flask", "werkzeug"),
    "django": ("django",),
    "rest-framework": ("rest_framework", "django"),
    "ninja": ("ninja", "django"),
    "litestar": ("litestar",),
    "quart": ("quart", "werkzeug"),
    "mcp": ("mcp",),
    "redis": ("redis",),
    "postgresql": ("psycopg",),
    "server": ("alembic", "anyio", "argon2", "jinja2", "sqlalchemy"),
    "client": ("httpx", "keyring", "requests"),
    "cli": ("rich", "typer", "uvicorn"),
    "prometheus": ("prometheus_client",),
    # A namespace package, which may be there through other distributions.
    "opentelemetry": ("opentelemetry", "opentelemetry.metrics", "opentelemetry.trace"),
}


class MissingExtra(ConfigurationError, ModuleNotFoundError):
    """An optional dependency is not installed; the message names the extra that installs it.

    It is a `ConfigurationError` and an `ImportError`. `name` is the missing module.
    """


class Extra:
    """A `with` block for imports, which raises `MissingExtra` if a package of the extra is missing.

    The error about any other missing module, such as a dependency of a package, is not changed.

    Args:
        name: the extra.
        needed_by: what needs the extra, for the message.

    Raises:
        MissingExtra: a package of the extra is not installed.
    """

    def __init__(self, name: str, *, needed_by: str) -> None:
        self._modules = MODULES_OF_EXTRA[name]
        self._name = name
        self._needed_by = needed_by

    def __enter__(self) -> None:
        """Enter the block."""

    # It returns None, which tells type checkers that every name of the block is bound after it.
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Name the extra where a package of it is missing."""
        missing_module = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing_module is None or missing_module not in self._modules:
            return
        package = missing_module.partition(".")[0]
        missing = MissingExtra(
            f"{self._needed_by} needs the package {package}, which is not installed:"
            f" pip install 'bearerguard[{self._name}]'"
        )
        missing.name = missing_module
        raise missing from error
