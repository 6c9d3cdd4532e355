"""`bearerguard store copy`: a database of a server that lived, moved to another engine and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from alembic import command as alembic
from alembic.config import Config
from sqlalchemy import MetaData
from typer.testing import CliRunner, Result

from bearerguard import Request
from bearerguard.cli import app
from bearerguard.server import PersonalTokens, Resource
from bearerguard.server.store.copying import _TABLES
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import HEAD, migrate
from tests.postgresql_server import PASSWORD
from tests.server.earlier.record import HERE
from tests.server.harness import ISSUER, SECRET, Harness
from tests.server.stores import Store, postgresql_store, sqlite_store

PASSWORD_OF_ADA = "correct horse battery"
SITE = "https://page.example.com"
VARIABLES = {"BEARERGUARD_SERVER_SECRET": SECRET}
MakeEmpty = Callable[[str], Store]


@pytest.fixture
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[MakeEmpty]:
    """Make an empty database of an engine."""
    with ExitStack() as stack:

        def make(engine: str) -> Store:
            if engine == "postgresql":
                server = request.getfixturevalue("postgresql_server")
                return stack.enter_context(postgresql_store(server))
            folder = tmp_path / f"target-{len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            return sqlite_store(folder)

        yield make


def lived(folder: Path, store: Store) -> tuple[Harness, dict[str, Any]]:
    """Return a server whose tables all have rows, and what it issued."""
    harness = Harness(
        folder,
        store,
        resources=[ISSUER, Resource("https://opaque.example.com", tokens="opaque")],
        personal_tokens=PersonalTokens(),
    )
    personal = harness.server.personal_tokens.add("ada", "CI", scopes=["read"]).value
    harness.server.users.add("ada", PASSWORD_OF_ADA, name="Ada L\u00f6velace \U0001f600")
    tokens = harness.tokens()
    harness.refresh(tokens["refresh_token"])
    kept = harness.tokens()
    harness.tokens(harness.phone)
    page = harness.add("Page", public=True, redirect_uris=[f"{SITE}/cb"], origins=[SITE])
    harness.consent(harness.authorize(page), remember="yes")
    opaque = harness.token(
        grant_type="client_credentials", resource="https://opaque.example.com"
    ).json["access_token"]
    harness.server.revoke(harness.token(grant_type="client_credentials").json["access_token"])
    harness.server.revoke(harness.tokens()["refresh_token"])
    parts = harness.server._engine.people.parts
    parts.throttle.charge("ada", "192.0.2.1")
    parts.sessions.begin(Request(), harness.server.users.get("ada").user_id)
    harness.server.users.link("ada", issuer="https://idp.example.com", subject="00u1")
    harness.server.clients.use_assertion(harness.app.client_id, "jti", harness.clock() + 60)
    harness.server.keys.rotate()
    harness.server.clients.register(
        "Stranger", redirect_uris=[f"{SITE}/cb"], expires_at=harness.clock() + 60
    )
    fields = {"response_type": "code", "code_challenge": "m" * 43, "code_challenge_method": "S256"}
    harness.post("/oauth/par", harness.credentials() | fields)
    screen = harness.add("Screen", public=True, grant_types=["device_code"])
    harness.post("/oauth/device_authorization", {"client_id": screen.client_id})
    harness.server.prune()
    return harness, {**kept, "opaque": opaque, "personal": personal}


def restored(folder: Path, version: str) -> Store:
    """Return the recorded database of an earlier version."""
    store = sqlite_store(folder)
    database = Database(store.url, connections=1)
    database.engine.prepare()
    config = Config()
    config.set_main_option("script_location", "bearerguard.server.store:migrations")
    config.set_main_option("path_separator", "os")
    with database.migrating() as connection:
        config.attributes["connection"] = connection
        alembic.upgrade(config, version)
    database.close()
    recorded = json.loads((HERE / f"{version}.json").read_text())["tables"]
    with store.connection() as connection:
        tables = MetaData()
        tables.reflect(connection)
        for table in tables.sorted_tables:
            rows = [_values(row) for row in recorded[table.name]]
            connection.execute(table.delete())
            if rows:
                connection.execute(table.insert(), rows)
    return store


def _values(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
        for name, value in row.items()
    }


def command(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["store", *arguments], env=VARIABLES)
    assert result.exit_code == code, result.output
    return result


def contents(store: Store) -> dict[str, list[Any]]:
    found = {}
    for table in _TABLES:
        columns = ", ".join(f'"{column.name}"' for column in table.columns)
        found[table.name] = sorted(store.run(f"SELECT {columns} FROM {table.name}"), key=repr)
    return found


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("sqlite", "postgresql"),
        ("postgresql", "sqlite"),
        ("sqlite", "sqlite"),
        ("postgresql", "postgresql"),
    ],
)
def test_a_server_goes_on_with_the_copy_where_it_was(
    tmp_path: Path, empty: MakeEmpty, source: str, target: str
) -> None:
    origin, copied = empty(source), empty(target)
    harness, issued = lived(tmp_path, origin)
    harness.server.close()
    before = contents(origin)
    assert [name for name, rows in before.items() if not rows] == []

    result = command("copy", origin.url, copied.url, "--json")
    report = json.loads(result.stdout)
    assert contents(origin) == before == contents(copied)
    assert {each["table"]: each["rows"] for each in report["tables"]} == {
        name: len(rows) for name, rows in before.items()
    }
    assert report["rows"] == sum(map(len, before.values()))
    assert PASSWORD not in result.output
    assert "store_copied" in result.stderr

    harness.server = harness.another(
        store=copied.url,
        people=harness.people,
        resources=[ISSUER, Resource("https://opaque.example.com", tokens="opaque")],
        personal_tokens=PersonalTokens(),
    )
    assert harness.server.introspect(issued["personal"])["active"]
    assert harness.refresh(issued["refresh_token"]).status == 200
    assert harness.is_active(issued["access_token"])
    assert harness.token(grant_type="client_credentials").status == 200
    assert harness.server.users.get("ada").name == "Ada L\u00f6velace \U0001f600"
    positions = {row[0] for row in copied.run("SELECT position FROM revocations")}
    harness.server.revoke(issued["access_token"])
    (added,) = {row[0] for row in copied.run("SELECT position FROM revocations")} - positions
    assert added == max(positions) + 1
    harness.server.close()


@pytest.mark.parametrize(("source", "target"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_positions_continue_where_all_entries_of_the_log_have_expired(
    tmp_path: Path, empty: MakeEmpty, source: str, target: str
) -> None:
    origin, copied = empty(source), empty(target)
    harness, _ = lived(tmp_path, origin)
    last = max(row[0] for row in origin.run("SELECT position FROM revocations"))
    origin.run("DELETE FROM revocations")
    harness.server.close()
    command("copy", origin.url, copied.url)
    harness.server = harness.another(store=copied.url, people=harness.people)
    harness.server.revoke(harness.tokens()["refresh_token"])
    assert copied.run("SELECT position FROM revocations") == [(last + 1,)]
    harness.server.close()


def rows_of(store: Store) -> int:
    return sum(map(len, contents(store).values()))


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_server_that_still_runs_is_noticed_and_nothing_is_copied(
    tmp_path: Path, empty: MakeEmpty, kind: str
) -> None:
    origin, copied = empty(kind), empty("sqlite")
    harness, _ = lived(tmp_path, origin)
    assert harness.token(grant_type="client_credentials").status == 200  # its connections are open
    refused = command("copy", origin.url, copied.url, code=2)
    assert "open: stop every server and command on it first" in refused.stderr
    assert rows_of(copied) == 0
    assert harness.token(grant_type="client_credentials").status == 200
    harness.server.close()
    command("copy", origin.url, copied.url)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_with_rows_is_not_written(tmp_path: Path, empty: MakeEmpty, kind: str) -> None:
    origin, other = empty("sqlite"), empty(kind)
    lived(tmp_path, origin)[0].server.close()
    Harness(tmp_path, other).server.close()
    before = contents(other)
    refused = command("copy", origin.url, other.url, code=2)
    assert "has rows in the table clients: name an empty database" in refused.stderr
    assert contents(other) == before
    itself = command("copy", origin.url, origin.url, code=2)
    assert "cannot be copied into itself" in itself.stderr


def test_the_secret_of_the_source_is_needed(tmp_path: Path, empty: MakeEmpty) -> None:
    origin, copied = empty("sqlite"), empty("postgresql")
    lived(tmp_path, origin)[0].server.close()
    result = CliRunner().invoke(
        app,
        ["store", "copy", origin.url, copied.url],
        env={"BEARERGUARD_SERVER_SECRET": "another secret that is long enough too"},
    )
    assert result.exit_code == 2
    assert "BEARERGUARD_SERVER_SECRET: the keys in" in result.stderr
    assert "another secret that" not in result.output
    missing = CliRunner().invoke(app, ["store", "copy", origin.url, copied.url])
    assert "BEARERGUARD_SERVER_SECRET is not set" in missing.stderr


def test_a_value_that_the_other_engine_refuses_is_named_by_its_table(
    tmp_path: Path, empty: MakeEmpty
) -> None:
    origin, copied = empty("sqlite"), empty("postgresql")
    lived(tmp_path, origin)[0].server.close()
    origin.run("UPDATE users SET name = 'a' || char(0) || 'secret name'")
    refused = command("copy", origin.url, copied.url, code=2)
    assert "the table users of" in refused.stderr
    assert "refuses: PostgreSQL text fields cannot contain NUL" in refused.stderr
    assert "secret name" not in refused.output
    assert rows_of(copied) == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_copy_that_differs_is_undone(tmp_path: Path, empty: MakeEmpty, kind: str) -> None:
    origin, copied = empty("sqlite"), empty(kind)
    lived(tmp_path, origin)[0].server.close()
    prepare = Database(copied.url, connections=1)
    migrate(prepare)
    prepare.close()
    if kind == "sqlite":
        copied.run(
            "CREATE TRIGGER other AFTER INSERT ON grants BEGIN"
            " UPDATE grants SET scope = 'admin' WHERE grant_id = NEW.grant_id; END"
        )
    else:
        copied.run(
            "CREATE FUNCTION other() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.scope = 'admin'; RETURN NEW; END $$"
        )
        copied.run(
            "CREATE TRIGGER other BEFORE INSERT ON grants FOR EACH ROW EXECUTE FUNCTION other()"
        )
    failed = command("copy", origin.url, copied.url, code=1)
    assert "the table grants differs" in failed.stderr
    assert "nothing was copied" in failed.stderr
    assert rows_of(copied) == 0


def test_a_source_of_an_earlier_version_is_migrated_by_a_command_of_its_own(
    tmp_path: Path, empty: MakeEmpty
) -> None:
    copied = empty("sqlite")
    old, path = restored(tmp_path, "0005"), tmp_path / "auth.db"
    before = path.read_bytes()
    refused = command("copy", old.url, copied.url, code=2)
    assert "has the schema 0005" in refused.stderr
    assert "bearerguard store migrate" in refused.stderr
    assert path.read_bytes() == before
    migrated = command("migrate", "--store", old.url)
    assert f"had the schema 0005, and has {HEAD} now" in migrated.stdout
    noted = f'store_migrated {{"before": "0005", "after": "{HEAD}", "by": "command"}}'
    assert noted in migrated.stderr
    assert json.loads(command("migrate", "--store", old.url, "--json").stdout) == {
        "store": str(path),
        "before": HEAD,
        "schema": HEAD,
    }
    command("copy", old.url, copied.url)
    assert contents(copied) == contents(old)
    assert old.count("grants") > 0
