"""`bearerguard store copy`: a database of a server that lived, moved to another engine and back."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bearerguard import Request
from bearerguard.cli import app
from bearerguard.server import Resource
from bearerguard.server.store.copying import _TABLES
from tests.postgresql_server import PASSWORD
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
    )
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
    pages = harness.server._engine.people._login_endpoint
    pages._throttle.charge("ada", "192.0.2.1")
    pages._sessions.begin(Request(), harness.server.users.get("ada").user_id)
    harness.server.clients.use_assertion(harness.app.client_id, "jti", harness.clock() + 60)
    harness.server.keys.rotate()
    harness.server.prune()
    return harness, {**kept, "opaque": opaque}


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
    )
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
