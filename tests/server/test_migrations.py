"""A database of each earlier version is migrated with all its rows, on either engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, insert

from bearerguard import Guard, TokenError
from bearerguard.server import Registered
from bearerguard.server.store.migrate import HEAD, alembic_config
from bearerguard.server.store.people import users
from tests.server.earlier.record import CLIENTS, HERE
from tests.server.harness import SECRET, Harness, Make, claims
from tests.server.serving import ROOT
from tests.server.stores import Store

pytestmark = pytest.mark.both_engines

# No server was released with the first: its tables have the rows of the second.
RECORDED = {"0001": "0002"}
REVISIONS = [
    each.revision
    for each in ScriptDirectory.from_config(alembic_config()).walk_revisions()
    if each.revision != HEAD
]
# The tables whose changes are counted: the name of their version, and a column.
COUNTED = {
    "clients": ("clients", "name"),
    "client_secrets": ("clients", "created_at"),
    "client_origins": ("clients", "origin"),
    "signing_keys": ("keys", "created_at"),
}


def upgrade(store: Store, revision: str) -> None:
    config = alembic_config()
    with store.connection() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


class Earlier:
    """A server over the database that an earlier version has left, and what that version gave."""

    def __init__(self, make: Make, store: Store, revision: str) -> None:
        upgrade(store, revision)
        recording = HERE / f"{RECORDED.get(revision, revision)}.json"
        self.recorded: dict[str, Any] = json.loads(recording.read_text())
        self.given: dict[str, Any] = self.recorded["given"]
        self.clients: dict[str, dict[str, Any]] = self.recorded["clients"]
        self.rows = self._insert(store)
        self._make, self._store = make, store

    def start(self) -> Harness:
        """Start this version over it, with the client `App` as the harness's own."""
        harness = self._make(store=self._store, secret=self.recorded["secret"])
        app = self.clients["App"]
        harness.app = Registered(
            harness.server.clients.get(app["client_id"]), client_secret=app["client_secret"]
        )
        return harness

    def _insert(self, store: Store) -> dict[str, int]:
        """Insert the recorded rows of the tables that the revision has, and count them."""
        inserted = {}
        found = MetaData()
        with store.connection() as connection:
            found.reflect(connection)
            for table in found.sorted_tables:
                if table.name == "alembic_version":
                    continue
                rows = self.recorded["tables"][table.name]
                if table.name in {"upkeep", "changes"}:
                    connection.execute(table.delete())  # its rows come with the table
                # PostgreSQL would assign the position of a revocation again.
                names = [each.name for each in table.columns if each.name != "position"]
                values = [{name: _octets(row[name]) for name in names} for row in rows]
                if values:
                    connection.execute(insert(table), values)
                inserted[table.name] = len(values)
        return inserted


def _octets(value: Any) -> Any:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


@pytest.fixture
def earlier(make: Make, empty_store: Store, revision: str) -> Earlier:
    return Earlier(make, empty_store, revision)


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_row_of_an_earlier_version_is_there_and_the_tables_are_those_declared(
    earlier: Earlier, empty_store: Store
) -> None:
    upgrade(empty_store, "head")
    left = {table: empty_store.count(table) for table in earlier.rows}
    assert left == earlier.rows
    assert empty_store.count("revocations") == 3
    with empty_store.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, users.metadata) == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_what_an_earlier_version_gave_and_revoked_stays_given_and_revoked(
    earlier: Earlier,
) -> None:
    given, harness = earlier.given, earlier.start()
    with Guard(harness.server.issuer(), clock=harness.clock) as guard:
        for name in ("good", "redeemed", "own"):
            assert guard.verify(given[name]["access_token"])
        for name in ("single", "family", "revoked own"):
            with pytest.raises(TokenError, match="revoked"):
                guard.verify(given[name]["access_token"])
    assert harness.is_active(given["good"]["access_token"])
    assert not harness.is_active(given["single"]["access_token"])
    successor = harness.refresh(given["good"]["refresh_token"]).json
    assert harness.is_active(successor["access_token"])
    assert harness.server.revoke(successor["refresh_token"])
    assert not harness.is_active(successor["access_token"])
    assert harness.refresh(given["family"]["refresh_token"]).error == (400, "invalid_grant")


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_code_of_an_earlier_version_is_redeemed_unless_it_was_before(earlier: Earlier) -> None:
    given, harness = earlier.given, earlier.start()
    verifier = earlier.recorded["verifier"]
    assert harness.redeem(given["code"], code_verifier=verifier).status == 200
    for name in ("code", "redeemed code"):
        again = harness.redeem(given[name], code_verifier=verifier)
        assert again.error == (400, "invalid_grant")


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_refresh_that_an_earlier_version_did_is_repeated_and_its_reuse_is_a_theft(
    earlier: Earlier,
) -> None:
    given, harness = earlier.given, earlier.start()
    first, second = (given[name]["refresh_token"] for name in ("first", "second"))
    assert harness.refresh(first).json["refresh_token"] == second
    harness.clock.now += 11
    assert harness.refresh(first).error == (400, "invalid_grant")
    assert len(harness.named("refresh_token_reused")) == 1
    assert harness.refresh(second).error == (400, "invalid_grant")


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_client_keeps_every_option_that_it_was_registered_with(
    earlier: Earlier, make: Make
) -> None:
    harness, fresh = earlier.start(), make()
    for name, options in CLIENTS.items():
        client_id = earlier.clients[name]["client_id"]
        same = fresh.server.clients.add(name, client_id=client_id, **options)
        assert harness.server.clients.get(client_id) == same.client
    assert harness.token(grant_type="client_credentials").status == 200


@pytest.mark.parametrize("revision", [each for each in REVISIONS if each > "0001"])
def test_a_user_of_an_earlier_version_is_a_user(earlier: Earlier) -> None:
    assert earlier.start().server.revoke_user(login="grace@example.com") == 0


def test_the_migrations_make_exactly_the_declared_tables(empty_store: Store) -> None:
    upgrade(empty_store, "head")
    assert ScriptDirectory.from_config(alembic_config()).get_current_head() == HEAD
    with empty_store.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, users.metadata) == []


def test_each_revision_that_a_server_had_was_recorded() -> None:
    recorded = {path.stem for path in HERE.glob("*.json")}
    assert recorded == {RECORDED.get(each, each) for each in REVISIONS}


@pytest.mark.parametrize("revision", ["0005"])
def test_a_grant_of_an_earlier_version_ends_with_the_last_of_its_access_tokens(
    earlier: Earlier, empty_store: Store
) -> None:
    given = earlier.given
    # In that version the refresh added a second access token.
    first, second = (claims(given[name]["access_token"]) for name in ("first", "second"))
    none = claims(given["good"]["access_token"])["sid"]
    empty_store.run("DELETE FROM access_tokens WHERE grant_id = :none", {"none": none})
    later = "UPDATE access_tokens SET expires_at = expires_at + 60 WHERE token_key = :key"
    empty_store.run(later, {"key": second["jti"]})
    earlier.start()
    ends = dict(empty_store.run("SELECT grant_id, access_expires_at FROM grants"))
    assert first["sid"] == second["sid"]
    assert (ends[first["sid"]], ends[none]) == (second["exp"] + 60, None)


@pytest.mark.parametrize("table", COUNTED)
def test_each_change_by_sql_alone_makes_a_new_version(harness: Harness, table: str) -> None:
    name, column = COUNTED[table]
    page = harness.add("Page", public=True, origins=["https://one.example.com"])
    assert page.client.origins

    def version() -> int:
        query = "SELECT version FROM changes WHERE name = :name"
        found: int = harness.store.run(query, {"name": name})[0][0]
        return found

    seen = [version()]
    for statement in (
        f"CREATE TABLE kept AS SELECT * FROM {table} LIMIT 1",
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        f"INSERT INTO {table} SELECT * FROM kept",
    ):
        harness.store.run(statement)
        seen.append(version())
    assert seen[1] == seen[0]
    assert len(set(seen[1:])) == len(seen[1:]), "each change makes another version"


START = """
import sys
from bearerguard.server import AuthorizationServer
url, secret = sys.argv[1:]
codes = []
server = AuthorizationServer(
    "https://api.example.com", store=url, secret=secret, on_event=lambda e: codes.append(e.code)
)
print(codes.count("store_migrated"), codes.count("key_made"))
server.close()
"""


@pytest.mark.parametrize("revision", ["0002", ""])
def test_of_processes_that_start_at_once_one_migrates(
    make: Make, empty_store: Store, revision: str
) -> None:
    secret = SECRET
    if revision:
        secret = Earlier(make, empty_store, revision).recorded["secret"]
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", START, empty_store.url, secret],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        for _ in range(3)
    ]
    printed = [process.communicate(timeout=60)[0].split() for process in starting]
    migrated, made = zip(*printed, strict=True)
    assert sorted(migrated) == ["0", "0", "1" if revision else "0"]
    # The recorded key signs with another algorithm than the default: a new one follows it.
    assert sorted(made) == ["0", "0", "1"]
    assert empty_store.count("signing_keys") == (2 if revision else 1)
