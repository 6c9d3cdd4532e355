"""Every snippet of the README and of the documentation is run as it stands.

An issuer of this machine stands for https://id.example.com. On the pages about clients an API of
this machine stands for https://api.example.com.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bearerguard.testing import LocalIssuer
from tests.docs.pages import PAGES, ROOT, parts

ISSUER, API = "https://id.example.com", "https://api.example.com"
PASSWORD = "correct horse battery staple\n"
# Blocks that log in with a browser, or start a server that stays.
NOT_RUN = 6
CLIENT_PAGES = {"docs/client.md"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


RUN = [page for page in PAGES if any(part.run for part in parts(page))]


@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_what_a_page_shows_works(
    page: Path, local_issuer: LocalIssuer, place: Path, request: pytest.FixtureRequest
) -> None:
    # Frameworks look in a function's module for what its annotations name.
    module = ModuleType("page")
    request.getfixturevalue("monkeypatch").setitem(sys.modules, "page", module)
    names: dict[str, Any] = vars(module)
    names |= {"local_issuer": local_issuer, "PAGE": page}
    real = {ISSUER: local_issuer.url}
    if name_of(page) in CLIENT_PAGES:
        request.getfixturevalue("visitor")
        api = request.getfixturevalue("api")
        names["api"] = api
        real[API] = api.url
    for part in parts(page):
        if part.kind == "python":
            text = part.text
            for shown, instead in real.items():
                text = text.replace(shown, instead)
            code = "\n" * (part.line - 1) + text
            exec(compile(code, str(page), "exec"), names)
        elif part.kind == "file":
            file = place / part.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(part.text)
        elif part.run:
            run([each.replace(ISSUER, local_issuer.url) for each in part.commands])


def run(commands: list[str]) -> None:
    """Run the commands of a block in one shell; installing is left to whoever reads."""
    ours = [each for each in commands if each.startswith(("bearerguard ", "export "))]
    script = "\n".join(["set -e", *ours])
    done = subprocess.run(
        ["bash", "-c", script],
        input=PASSWORD,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, (ours, done.stderr)


def test_few_commands_are_not_run() -> None:
    left_out = [part for page in PAGES for part in parts(page) if not part.run]
    assert len(left_out) == NOT_RUN
