"""The laws of the house that a tool would not check."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
CHECKLIST = [
    *(f"HDR-{number:02}" for number in range(1, 18)),
    *(f"JWT-{number:02}" for number in range(1, 17)),
    *(f"JWKS-{number:02}" for number in (1, 2, 3, 4, 6)),
    *(f"INT-{number:02}" for number in range(1, 8)),
    "CACHE-01",
    "CACHE-02",
    *(f"EXP-{number:02}" for number in range(1, 4)),
    *(f"DP-{number:02}" for number in range(13)),
    "CNF-01",
    "TSL-01",
    *(f"REVOKED-{number:02}" for number in range(1, 4)),
]


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_what_it_owns(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_every_exemption_from_a_rule_of_ruff_says_why() -> None:
    for path in SOURCES:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if "# noqa" in line:
                said = re.search(r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* - \S", line)
                assert said, f"{path}:{number}"


def test_a_package_has_at_most_15_files() -> None:
    root = ROOT / "src/bearerguard"  # whose files are the list of features
    for package in {path.parent for path in SOURCES} - {root}:
        files = [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 15, package


@pytest.mark.parametrize("item", CHECKLIST)
def test_every_item_of_the_checklist_is_a_row_of_the_table(item: str) -> None:
    rows = "".join(path.read_text() for path in (ROOT / "tests/conformance").glob("*_table.py"))
    assert re.search(rf'"{item} ', rows)


def test_no_lock_file_and_no_registry_is_committed() -> None:
    # The names are put together here, so that this file does not hold them.
    hosts = ["pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "npmjs" + ".com"]
    for path in _tracked():
        assert path.name not in {
            "package-lock.json",
            "uv.lock",
            "poetry.lock",
            "yarn.lock",
            ".npmrc",
        }
        text = path.read_text(errors="replace")
        assert not any(host in text for host in hosts), path


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[<>=]", line)[0].lower() for lines in wanted for line in lines}
    pins = (ROOT / "constraints.txt").read_text().lower().splitlines()
    pinned = {line.split("==")[0] for line in pins}
    assert names - pinned == {"bearerguard"}
    assert all("==" in line for line in pins)


def test_what_the_readme_names_is_there() -> None:
    readme = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^)]+)\)", readme):
        assert (ROOT / link).exists(), link
    for script in re.findall(r"scripts/[a-z]+", readme):
        assert (ROOT / script).stat().st_mode & 0o111, script


def test_no_page_puts_a_token_on_a_command_line() -> None:
    for path in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/README.md")]:
        for line in path.read_text().splitlines():
            assert not re.search(r"curl.* (-H|--header)[ =]?[\"']?Authorization", line), path


# Run in a process of its own, whose environment holds the secret before anything is imported.
_SIGNATURES = """
import importlib, inspect, os, pkgutil, pydoc, types
import bearerguard
from django.conf import settings
settings.configure()  # REST framework and Ninja read them when they are imported
shown = []
for found in pkgutil.walk_packages(bearerguard.__path__, "bearerguard."):
    if ".migrations" in found.name:
        continue  # Alembic imports them
    module = importlib.import_module(found.name)
    for owner in [module, *vars(module).values()]:
        # Not isinstance: Flask's proxies say what they stand for, or raise.
        if owner is not module and not issubclass(type(owner), type):
            continue
        for name, value in list(vars(owner).items()):
            if issubclass(type(value), (classmethod, staticmethod)):
                value = value.__func__
            if not issubclass(type(value), (type, types.FunctionType)):
                continue
            try:
                parameters = inspect.signature(value).parameters.values()
            except (TypeError, ValueError):
                continue  # written in C
            for parameter in parameters:
                if parameter.default is os.environ or parameter.default is os.environb:
                    print("holds the environment:", found.name, name)
                shown.append(repr(parameter.default))
for shows in (bearerguard.Guard, bearerguard.client, bearerguard.server.authorization_server):
    shown.append(pydoc.render_doc(shows, renderer=pydoc.plaintext))
text = "".join(shown)
print(len(shown) > 1000, "from_env" in text, "PROBE" in text)
"""


def test_no_signature_and_no_help_shows_the_environment() -> None:
    """`help(Guard)` is pasted into issues, and documentation is made of signatures."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SIGNATURES],
        cwd=ROOT,
        env={**os.environ, "A_SECRET": "PROBE", "PROBE": "x"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True True False\n"
