"""A missing optional dependency names the extra that installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.extras import MODULES_OF_EXTRA, Extra, MissingExtra

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
# `speed` is left out where it is missing; the others are sums of extras, and for contributors.
NOT_NEEDED = {"speed", "all", "demo", "test", "benchmark", "docs", "fuzz", "lint"}

LACKING = """
import importlib, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:  # as if it were not installed
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Finder())
try:
    importlib.import_module(sys.argv[2])
except ImportError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("package", "module", "extra"),
    [
        ("starlette", "bearerguard.starlette", "starlette"),
        ("fastapi", "bearerguard.fastapi", "fastapi"),
        ("starlette", "bearerguard.fastapi", "fastapi"),
        ("flask", "bearerguard.flask", "flask"),
        ("werkzeug", "bearerguard.flask", "flask"),
        ("django", "bearerguard.django", "django"),
        ("rest_framework", "bearerguard.django.rest_framework", "rest-framework"),
        ("ninja", "bearerguard.ninja", "ninja"),
        ("django", "bearerguard.ninja", "ninja"),
        ("litestar", "bearerguard.litestar", "litestar"),
        ("quart", "bearerguard.quart", "quart"),
        ("werkzeug", "bearerguard.quart", "quart"),
        ("prometheus_client", "bearerguard.prometheus", "prometheus"),
        ("opentelemetry", "bearerguard.opentelemetry", "opentelemetry"),
        ("redis", "bearerguard.redis", "redis"),
        ("sqlalchemy", "bearerguard.server", "server"),
        ("argon2", "bearerguard.server", "server"),
        ("httpx", "bearerguard.client.httpx", "client"),
        ("requests", "bearerguard.client.requests", "client"),
    ],
)
def test_a_module_without_its_package_names_the_extra(
    package: str, module: str, extra: str
) -> None:
    said = subprocess.run(
        [sys.executable, "-c", LACKING, package, module],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert said.strip() == (
        f"MissingExtra {module} needs the package {package}, which is not installed:"
        f" pip install 'bearerguard[{extra}]'"
    )


def test_a_missing_extra_is_a_configuration_error_and_an_import_error() -> None:
    with (
        pytest.raises(ConfigurationError) as caught,
        Extra("fastapi", needed_by="bearerguard.fastapi"),
    ):
        raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")
    assert isinstance(caught.value, ModuleNotFoundError)
    assert isinstance(caught.value, MissingExtra)
    assert caught.value.name == "fastapi"


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'click'", name="click"),
        ModuleNotFoundError("No module named 'flask.views'", name="flask.views"),
        ImportError("cannot import name 'Flask' from 'flask'", name="flask"),
    ],
    ids=["a dependency of the package", "a part of an older release", "a name"],
)
def test_what_another_package_lacks_is_not_explained_by_an_extra(error: ImportError) -> None:
    with pytest.raises(ImportError) as caught, Extra("flask", needed_by="bearerguard.flask"):
        raise error
    assert caught.value is error


def test_every_extra_is_known_and_installs_the_modules_that_are_named() -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    assert set(MODULES_OF_EXTRA) == set(extras) - NOT_NEEDED
    brought_along = {
        "fastapi": {"starlette"},
        "rest-framework": {"django"},
        "ninja": {"django"},
        "quart": {"werkzeug"},
    }
    installed = packages_distributions()
    for extra, modules in MODULES_OF_EXTRA.items():
        named = {re.split(r"[\[>=<]", each)[0].replace("_", "-") for each in extras[extra]}
        for module in {each.partition(".")[0] for each in modules} - brought_along.get(
            extra, set()
        ):
            distributions = {name.lower().replace("_", "-") for name in installed[module]}
            assert distributions & named, f"{module} does not come with [{extra}]"
