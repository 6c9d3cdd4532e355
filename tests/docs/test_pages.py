"""What pages say about the code is as the code has it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from bearerguard import Guard, Introspection, Issuer
from bearerguard.cli.guard.doctor import api, issuer, keys, server, store, web
from bearerguard.cli.guard.doctor.finding import Rule
from bearerguard.cli.guard.inspect import FLAGS, flag_of
from bearerguard.guard.config.settings import SETTINGS
from bearerguard.server import (
    AuthorizationServer,
    PeopleOptions,
    PersonalTokens,
    Registration,
    RequestRecord,
    UpstreamLogin,
)
from tests.docs import floors
from tests.docs.pages import PAGES, ROOT

DOCS = ROOT / "docs"
_SOURCE = r"`((?:guard|server|client|protocol|middleware|runtime)/[\w/]+\.py)`"


@pytest.mark.parametrize(
    ("page", "described"),
    [
        ("configuration.md", Guard),
        ("configuration.md", Issuer),
        ("configuration.md", Introspection),
        ("authorization-server.md", AuthorizationServer),
    ],
)
def test_every_option_is_described(page: str, described: type) -> None:
    text = (DOCS / page).read_text()
    for parameter in inspect.signature(described).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            assert f"`{parameter.name}`" in text or f"`{parameter.name}=" in text, parameter.name


def test_every_path_of_a_server_is_in_the_table_of_paths(tmp_path: Path) -> None:
    page = (DOCS / "authorization-server.md").read_text()
    named = set(re.findall(r"`(/[\w./-]+)`", page[: page.index("\n## Users and clients")]))
    upstream = UpstreamLogin(
        "https://id.example.com",
        client_id="a",
        client_secret="b",
        name="KEY",
        domains=["a.example"],
    )
    server = AuthorizationServer(
        "https://api.example.com",
        store=f"sqlite:///{tmp_path}/auth.db",
        secret="s" * 32,
        scopes={"read": "Read", "manage": "Manage tokens"},
        personal_tokens=PersonalTokens(api_scope="manage"),
        registration=Registration(scopes=["read"]),
        people=PeopleOptions(upstreams=[upstream]),
    )
    served = {path.replace("/key", "/KEY") for path in server.paths}
    server.close()
    assert served - named == set()


def test_the_endpoints_that_records_name_are_on_the_page_and_in_the_docstring() -> None:
    source = (ROOT / "src/bearerguard/server/engine.py").read_text()
    names = {
        *re.findall(r"(?:Endpoint|_for_people)\(\s*\"(\w+)\"", source),
        *("login", "logout"),
    }
    assert len(names) > 15
    page = (DOCS / "observability.md").read_text().partition("\n`endpoint` is ")[2]
    for text in (page.partition("`outcome`")[0], inspect.getdoc(RequestRecord) or ""):
        assert names - set(re.findall(r"`(\w+)`", text)) == set()


def test_the_picture_of_the_floors_is_that_of_the_contract() -> None:
    assert floors.PICTURE.read_text() == floors.drawn(), "run `python -m tests.docs.floors`"


@pytest.mark.parametrize("page", ["docs/performance.md", "README.md"])
def test_figures_are_those_of_the_chart(page: str) -> None:
    chart = re.findall(r">([^<]+)<", (DOCS / "benchmark.svg").read_text())
    text = (ROOT / page).read_text()
    figures = re.findall(r"^\|[^|]+\| ([\d.,]+) \|$", text, re.MULTILINE)
    assert figures
    for figure in figures:
        assert figure in chart, figure


def test_files_that_a_page_names_are_there() -> None:
    for page in PAGES:
        if page.name == "conformance.md":
            continue  # has a test of its own
        for name in re.findall(
            r"`((?:guard|server|client|protocol|middleware)/[\w/]+\.py)`", page.read_text()
        ):
            assert (ROOT / "src" / "bearerguard" / name).exists(), (page, name)


def test_every_page_is_reached() -> None:
    index = (DOCS / "index.md").read_text()
    for page in DOCS.glob("*.md"):
        if page.name not in {"index.md", "logout.md"}:
            assert re.search(rf"^{page.stem}$", index, re.MULTILINE), page.name


def _source(folder: str = "") -> str:
    files = (ROOT / "src" / "bearerguard" / folder).rglob("*.py")
    return "\n".join(path.read_text() for path in files)


def _prose() -> str:
    return "\n".join(page.read_text() for page in PAGES)


def test_variables_that_a_page_names_are_read() -> None:
    source = _source()
    # The message about a misspelt one has it.
    prose = re.sub(r"\bBEARERGUARD_\w+: there is no such setting", "", _prose())
    for name in set(re.findall(r"\bBEARERGUARD_[A-Z_]*[A-Z]\b", prose)):
        short = name.removeprefix("BEARERGUARD_")
        for prefix in ("SERVER_", "CLIENT_", "INTROSPECTION_", "KEYS_", "CLAIMS_", "RESOURCE_"):
            short = short.removeprefix(prefix)
        composed = rf'["}}](?:{short}|{short.lower()})\b'
        assert name in source or re.search(composed, source), name


def test_options_of_commands_that_a_page_names_are_there() -> None:
    policy = " ".join(map(flag_of, FLAGS.values()))
    source = _source("cli") + _source("server") + policy
    commands = "\n".join(
        re.findall(r"^\$ bearerguard.*|`(?:bearerguard [^`]*)?--[^`]*`", _prose(), re.MULTILINE)
    )
    others = {"help", "all", "check", "workers", "preload", "instructions", "update", "deploy"}
    for option in set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", commands)):
        if option not in others:
            known = re.search(rf"--{option}\b|\b{option.replace('-', '_')}s?:", source)
            assert known, option


def test_every_setting_is_described() -> None:
    text = (DOCS / "configuration.md").read_text()
    assert [each.name for each in SETTINGS if f"`{each.name}`" not in text] == []


def test_every_check_of_doctor_is_described_and_no_other() -> None:
    modules = (api, issuer, keys, server, store, web)
    rules = [each for module in modules for each in vars(module).values() if isinstance(each, Rule)]
    areas = "|".join({each.check.partition(".")[0] for each in rules})
    named = re.findall(rf"`((?:{areas})\.[a-z_0-9]+)`", (DOCS / "doctor.md").read_text())
    assert set(named) == {each.check for each in rules}


def test_no_page_passes_a_secret_as_an_argument() -> None:
    commands = re.findall(r"^\$ .*(?:\\\n.*)*", _prose(), re.MULTILINE)
    secret = r"-H ['\"]?Authorization|--(?:password|token|secret|client-secret)[ =]|-u \S+:"
    assert [each for each in commands if re.search(secret, each)] == []
