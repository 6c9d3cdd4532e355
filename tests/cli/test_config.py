"""`bearerguard config`: the configuration in force, without secrets, and where it comes from."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bearerguard import Guard
from bearerguard.cli import app
from bearerguard.cli.client import client_options
from bearerguard.cli.guard import config as config_module
from bearerguard.guard.config.settings import SETTINGS
from bearerguard.server.settings import VARIABLES
from bearerguard.testing import LocalIssuer

SECRET = "hush-hush-hush-hush-hush-hush-hush-hush"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("BEARERGUARD_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, code: int = 0, **environ: str) -> Result:
    result = CliRunner().invoke(app, ["config", *arguments], env=environ)
    assert result.exit_code == code, result.output
    assert SECRET not in result.output
    return result


def document(*arguments: str, code: int = 0, **environ: str) -> Any:
    return json.loads(run("--json", *arguments, code=code, **environ).stdout)


def settings_of(found: Any, role: str, index: int = 0) -> dict[str, tuple[Any, str]]:
    sections = [each for each in found["sections"] if each["role"] == role]
    return {each["name"]: (each["value"], each["source"]) for each in sections[index]["settings"]}


def test_each_variable_has_its_value_and_its_source() -> None:
    found = document(
        BEARERGUARD_ISSUER="https://id.example.com",
        BEARERGUARD_AUDIENCE="a,b",
        BEARERGUARD_LEEWAY="30",
        BEARERGUARD_SERVER_ALGORITHM="ES256",
        BEARERGUARD_CLIENT_ID="app",
    )
    guard = settings_of(found, "guard")
    assert guard["BEARERGUARD_ISSUER"] == ("https://id.example.com", "environment")
    assert guard["BEARERGUARD_AUDIENCE"] == (["a", "b"], "environment")
    assert guard["BEARERGUARD_LEEWAY"] == (30, "environment")
    assert guard["BEARERGUARD_REALM"] == ("api", "default")
    assert guard["BEARERGUARD_REQUEST_ID_HEADERS"] == (["x-request-id", "traceparent"], "default")
    assert guard["BEARERGUARD_CLAIMS_ROLES"] == (None, "default")
    assert guard["introspection"] == (None, "default")
    server = settings_of(found, "server")
    assert server["BEARERGUARD_SERVER_ALGORITHM"] == ("ES256", "environment")
    assert server["BEARERGUARD_SERVER_REFRESH_GRACE"] == (10, "default")
    client = settings_of(found, "client")
    assert client["BEARERGUARD_CLIENT_ID"] == ("app", "environment")
    assert client["BEARERGUARD_CLIENT_STORAGE"] == ("auto", "default")
    assert (found["warnings"], found["problems"]) == ([], [])


def test_every_variable_of_every_role_is_shown() -> None:
    found = document(
        BEARERGUARD_ISSUER="https://id.example.com",
        BEARERGUARD_AUDIENCE="a",
        BEARERGUARD_INTROSPECTION_CLIENT_ID="api",
        BEARERGUARD_INTROSPECTION_CLIENT_SECRET=SECRET,
    )
    assert {each.name for each in SETTINGS} <= set(settings_of(found, "guard"))
    assert set(settings_of(found, "server")) == VARIABLES
    assert set(settings_of(found, "client")) == client_options.VARIABLES


def test_a_secret_is_only_said_to_be_set() -> None:
    found = document(
        BEARERGUARD_ISSUER="https://id.example.com",
        BEARERGUARD_AUDIENCE="a",
        BEARERGUARD_SHARED_SECRET=SECRET,
        BEARERGUARD_FETCH_HEADERS=f"X-Key: {SECRET}",
        BEARERGUARD_SERVER_SECRET=SECRET,
        BEARERGUARD_SERVER_STORE=f"postgresql://me:{SECRET}@db/auth?sslpassword={SECRET}&a=b",
        BEARERGUARD_CLIENT_TOKEN=SECRET,
    )
    guard = settings_of(found, "guard")
    assert guard["BEARERGUARD_SHARED_SECRET"] == ("set", "environment")
    assert guard["BEARERGUARD_FETCH_HEADERS"] == ("set", "environment")
    server = settings_of(found, "server")
    assert server["BEARERGUARD_SERVER_SECRET"] == ("set", "environment")
    assert server["BEARERGUARD_SERVER_REVOCATIONS_SECRET"] == ("not set", "default")
    assert server["BEARERGUARD_SERVER_STORE"] == (
        "postgresql://me:***@db/auth?sslpassword=***&a=b",
        "environment",
    )
    assert settings_of(found, "client")["BEARERGUARD_CLIENT_TOKEN"] == ("set", "environment")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://:{SECRET}@cache:6379/0", "redis://:***@cache:6379/0"),
        (f"rediss://me:{SECRET}@cache", "rediss://me:***@cache"),
        (f"https://id.test/keys?api_key={SECRET}&v=1", "https://id.test/keys?api_key=***&v=1"),
        (f"postgresql://me:a/b@{SECRET}@db/auth", "postgresql://me:***@db/auth"),
        (f"postgresql://me:a {SECRET}@db/auth", "postgresql://me:***@db/auth"),
        (f"https://{SECRET}@id.test/x", "https://***@id.test/x"),
        (f"redis://{SECRET}@cache", "redis://***@cache"),
        (f"https://id.test/keys?sig={SECRET}&v=1", "https://id.test/keys?sig=***&v=1"),
        (f"host=db password = {SECRET} x", "host=db password =***"),
        ("postgresql://me@db/auth", "postgresql://me@db/auth"),
        ("postgresql+psycopg://me@db/auth", "postgresql+psycopg://me@db/auth"),
        ("https://id.test/a@b?c=d", "https://id.test/a@b?c=d"),
        ("sqlite:///auth.db", "sqlite:///auth.db"),
    ],
)
def test_the_passwords_in_urls_are_masked(url: str, shown: str) -> None:
    assert config_module._masked(url) == shown


def test_the_values_of_a_list_are_masked_too() -> None:
    found = document(
        BEARERGUARD_ISSUER="https://id.example.com",
        BEARERGUARD_AUDIENCE=f"https://me:{SECRET}@api.test,b",
    )
    shown, _ = settings_of(found, "guard")["BEARERGUARD_AUDIENCE"]
    assert shown == ["https://me:***@api.test", "b"]


def test_a_misspelt_variable_ends_the_command_with_the_name_that_was_meant() -> None:
    result = run(
        code=2,
        BEARERGUARD_ISSUER="https://id.example.com",
        BEARERGUARD_AUDIENC="a",
        BEARERGUARD_SHARED_SECRET=SECRET,
    )
    assert "BEARERGUARD_AUDIENCE is meant" in result.stderr
    assert result.stderr.count("BEARERGUARD_AUDIENC:") == 1
    assert "https://id.example.com" in result.stdout
    found = document(code=2, BEARERGUARD_AUDIENCE="a")
    assert found["problems"] == [
        "BEARERGUARD_ISSUER is not set: give the issuer's URL, as tokens have it in `iss`; required"
    ]
    assert settings_of(found, "guard") == {"BEARERGUARD_AUDIENCE": ("a", "environment")}


def test_variables_that_bearerguard_does_not_read_are_warned_about() -> None:
    found = document(
        BEARERGUARD_COLOUR="blue",
        BEARERGUARD_SERVER_STOER="sqlite:///auth.db",
        BEARERGUARD_CLIENT_IDD="x",
    )
    assert [warning.partition(":")[0] for warning in found["warnings"]] == [
        "BEARERGUARD_CLIENT_IDD",
        "BEARERGUARD_COLOUR",
        "BEARERGUARD_SERVER_STOER",
    ]
    assert "BEARERGUARD_SERVER_STORE is meant" in found["warnings"][2]
    assert "BEARERGUARD_COLOUR" in run(BEARERGUARD_COLOUR="blue").stderr


def test_the_configuration_is_shown_without_any_request(tmp_path: Path) -> None:
    local = LocalIssuer()
    with local.serve():
        (tmp_path / "configured_and_served.py").write_text(
            f"from bearerguard import Guard, Issuer\n"
            f"guard = Guard(Issuer({local.url!r}, audience='a'))\n"
        )
        run("configured_and_served:guard")
        time.sleep(0.3)  # a thread of the guard would fetch keys at once
    assert not local.hits


def test_without_a_guard_it_says_how_to_show_one() -> None:
    shown = run().stdout
    assert "no BEARERGUARD_* variable is set" in shown
    assert "import path" in shown


APP = """
from bearerguard import Guard, Introspection, Issuer, Revocations, scopes
from bearerguard.asgi import BearerMiddleware

async def inner(scope, receive, send): ...

guard = Guard(
    Issuer(
        "https://id.example.com",
        audience=["a", "b"],
        introspection=Introspection("api", client_secret="SECRET"),
    ),
    Issuer("https://other.example.com", audience="a", shared_secret="SECRET"),
    require=scopes("read"),
    revocations=Revocations(),
    realm="recordings",
)
app = BearerMiddleware(inner, guard=guard, require=scopes("write"))
""".replace("SECRET", SECRET)


def test_an_app_shows_what_its_code_has_set_for_each_issuer(tmp_path: Path) -> None:
    (tmp_path / "configured_in_code.py").write_text(APP)
    found = document("configured_in_code:app")
    assert [each["issuer"] for each in found["sections"][:2]] == [
        "https://id.example.com",
        "https://other.example.com",
    ]
    first, second = settings_of(found, "guard"), settings_of(found, "guard", 1)
    assert first["BEARERGUARD_AUDIENCE"] == (["a", "b"], "code")
    assert first["BEARERGUARD_INTROSPECTION_CLIENT_SECRET"] == ("set", "code")
    assert first["BEARERGUARD_INTROSPECTION_CACHE_TTL"] == (60, "default")
    assert first["BEARERGUARD_SHARED_SECRET"] == ("not set", "default")
    assert first["BEARERGUARD_REALM"] == ("recordings", "code")
    assert first["require"] == ("scope 'read' and scope 'write'", "code")
    assert first["revocations"] == ("local", "code")
    assert second["BEARERGUARD_SHARED_SECRET"] == ("set", "code")
    assert second["BEARERGUARD_ALGORITHMS"] == (["HS256"], "default")
    assert second["introspection"] == (None, "default")


def test_an_app_of_environment_and_code_shows_which_is_which(tmp_path: Path) -> None:
    (tmp_path / "configured_by_both.py").write_text(
        "from bearerguard import Guard\n"
        "guard = Guard.from_env(realm='recordings')\n"
        "other = Guard.from_mapping({'BEARERGUARD_ISSUER': 'https://i.test',"
        " 'BEARERGUARD_AUDIENCE': ['a'], 'BEARERGUARD_REALM': ''})\n"
    )
    found = document(
        "configured_by_both:guard",
        BEARERGUARD_ISSUER="https://id.example.com",
        BEARERGUARD_AUDIENCE="a",
    )
    shown = settings_of(found, "guard")
    assert shown["BEARERGUARD_ISSUER"] == ("https://id.example.com", "environment")
    assert shown["BEARERGUARD_REALM"] == ("recordings", "code")
    shown = settings_of(document("configured_by_both:other"), "guard")
    assert shown["BEARERGUARD_AUDIENCE"] == (["a"], "settings")
    assert shown["BEARERGUARD_REALM"] == ("api", "default")


def test_the_names_of_settings_are_not_broken_at_80_columns() -> None:
    shown = run(
        BEARERGUARD_ISSUER="https://id.example.com/" + "realm/" * 20,
        BEARERGUARD_AUDIENCE="a",
        BEARERGUARD_INTROSPECTION_CLIENT_ID="api",
        BEARERGUARD_INTROSPECTION_CLIENT_SECRET=SECRET,
        COLUMNS="80",
    ).stdout
    for setting in SETTINGS:
        assert f" {setting.name.removeprefix('BEARERGUARD_')} " in shown


def test_a_guard_keeps_the_names_of_its_settings_and_no_values() -> None:
    guard = Guard.from_mapping(
        {"BEARERGUARD_ISSUER": "https://id.example.com", "BEARERGUARD_AUDIENCE": "a"}
    )
    assert guard.settings_read == {"BEARERGUARD_ISSUER", "BEARERGUARD_AUDIENCE"}


def test_without_the_extra_of_the_server_the_other_roles_are_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "bearerguard.cli.server.serve", raising=False)
    found = document()
    assert [section["role"] for section in found["sections"]] == ["guard", "client"]
    assert found["problems"] == []
    found = document(code=2, BEARERGUARD_SERVER_ISSUER="https://id.example.com")
    assert "uvicorn" in found["problems"][0]


def test_the_metadata_of_the_api_is_shown_and_where_it_comes_from() -> None:
    base = {"BEARERGUARD_ISSUER": "https://id.example.com", "BEARERGUARD_AUDIENCE": "recordings"}

    def shown(**variables: str) -> dict[str, Any]:
        chosen: dict[str, Any] = base | variables
        found = settings_of(document(**chosen), "guard")
        names = ("RESOURCE", "RESOURCE_SCOPES", "IMPLIES")
        return {name: found[f"BEARERGUARD_{name}"] for name in names}

    assert shown() == {
        "RESOURCE": (None, "default"),
        "RESOURCE_SCOPES": (None, "default"),
        "IMPLIES": (None, "default"),
    }
    url = "https://api.example.com"
    assert shown(BEARERGUARD_AUDIENCE=url)["RESOURCE"] == (url, "default")
    assert shown(BEARERGUARD_AUDIENCE=url, BEARERGUARD_RESOURCE="none")["RESOURCE"] == (
        None,
        "environment",
    )
    assert shown(
        BEARERGUARD_RESOURCE=url,
        BEARERGUARD_RESOURCE_SCOPES="read,write",
        BEARERGUARD_IMPLIES='{"admin": ["read", "write"], "write": "read"}',
    ) == {
        "RESOURCE": (url, "environment"),
        "RESOURCE_SCOPES": (["read", "write"], "environment"),
        "IMPLIES": (["admin: read write", "write: read"], "environment"),
    }


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("False", (None, "code")),
        ("'https://api.example.com'", ("https://api.example.com", "code")),
    ],
)
def test_metadata_that_the_code_decides_on_is_named_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resource: str, expected: Any
) -> None:
    (tmp_path / "metadata_of_code.py").write_text(
        "from bearerguard import Guard, Issuer\n"
        f"guard = Guard(Issuer('https://id.example.com', audience='a'), resource={resource})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "metadata_of_code", raising=False)
    found = document("metadata_of_code:guard")
    assert settings_of(found, "guard")["BEARERGUARD_RESOURCE"] == expected
