"""How each engine runs what requests and pruning send: by an index, never by reading a table."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Double, Integer, LargeBinary

import bearerguard.server
from bearerguard.server.store import (
    clients,
    grants,
    keys,
    people,
    personal_tokens,
    pruning,
)
from bearerguard.server.store.connection import Connection, Prepared
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import migrate
from bearerguard.server.store.schema import metadata
from tests.server.statements import recorded
from tests.server.stores import MakeStore, Store

pytestmark = pytest.mark.both_engines

# Enough for PostgreSQL to prefer an index to reading the table.
ROWS = 20_000
# Rows are named by numbers without an order that a planner could make use of.
KEY = str(5 * 2_654_435_761 % 2**32)
# Tables of a few rows, however much the server has to do.
SMALL = {"signing_keys", "changes", "upkeep"}
# What lists a whole table on purpose: for an operator, not for a request.
LISTS = {
    "ORDER BY clients.created_at",
    "FROM users ORDER BY",
}


@pytest.fixture
def store(make_store: MakeStore, tmp_path: Path) -> Store:
    return make_store(tmp_path)


@pytest.fixture
def database(store: Store) -> Generator[Database]:
    """A database with a client; on PostgreSQL, many rows and the statistics of its planner."""
    made = Database(store.url, connections=2)
    migrate(made)
    if store.engine_name == "postgresql":
        for table in metadata.sorted_tables:
            if table.name not in SMALL:
                values = ", ".join(map(_value, table.columns))
                names = ", ".join(f'"{each.name}"' for each in table.columns)
                store.run(
                    f"INSERT INTO {table} ({names}) SELECT {values}"
                    f" FROM generate_series(1, {ROWS}) AS n"
                )
        store.run("ANALYZE")
    else:
        with made.write() as connection:
            clients.add(connection, **CHANGED)
    yield made
    made.close()


def _value(column: Column[Any]) -> str:
    """Return SQL for a value of row `n`: clients and users have ten rows each in other tables."""
    is_owner = column.name in {"client_id", "user_id"} and not column.primary_key
    number = "(n + 9) / 10" if is_owner else "n"
    if isinstance(column.type, Integer | Double):
        value = number
    elif isinstance(column.type, LargeBinary):
        value = "'x'::bytea"
    else:
        value = f"(({number}) * 2654435761 % 4294967296)::text"
    # Such as the time of a revocation, which most rows do not have.
    return f"CASE WHEN n % 10 = 0 THEN {value} END" if column.nullable else value


def plan(connection: Connection, sql: str, values: Any) -> Iterator[str]:
    """Return the steps of a statement's plan that read a whole table or a whole index."""
    if connection.dialect.name == "sqlite":
        for row in connection.run(f"EXPLAIN QUERY PLAN {sql}", values):
            if row[3].startswith("SCAN") and row[3] != "SCAN CONSTANT ROW":
                yield row[3]
    else:
        explain = f"EXPLAIN (FORMAT JSON) {sql}"
        # Prepared, the placeholders are PostgreSQL's own.
        if isinstance(values, list):
            explained = connection.driver.run_prepared(explain, values).fetchall()[0][0]
        else:
            explained = connection.run(explain, values).scalar()
        content = json.loads(explained) if isinstance(explained, str) else explained
        yield from _scans(content[0]["Plan"], limited=False)


def _scans(node: Mapping[str, Any], *, limited: bool) -> Iterator[str]:
    limited = limited or node["Node Type"] == "Limit"
    kind, table = node["Node Type"], node.get("Relation Name")
    whole = kind == "Seq Scan" or ("Index Cond" not in node and "Index" in kind and not limited)
    if whole and table not in SMALL:
        yield f"{kind} of {table or node.get('Index Name')}: {node.get('Filter', 'all rows')}"
    for each in node.get("Plans", ()):
        yield from _scans(each, limited=limited)


def is_planned(sql: str) -> bool:
    return sql.split(maxsplit=1)[0] in {"SELECT", "UPDATE", "DELETE"}


def test_no_statement_of_a_request_reads_a_whole_table(database: Database) -> None:
    for module in pkgutil.walk_packages(bearerguard.server.__path__, "bearerguard.server."):
        if ".migrations" not in module.name:
            importlib.import_module(module.name)
    found: dict[str, list[str]] = {}
    explained = 0
    with database.read() as connection:
        for each in Prepared.made:
            compiled = each.compiled(connection.dialect)
            if not is_planned(compiled.sql) or _lists(compiled.sql):
                continue
            values = {
                name: _argument(parameter)
                for name, parameter in each.statement.compile().binds.items()  # type: ignore[attr-defined]
                if parameter.required
            }
            explained += 1
            scans = list(plan(connection, compiled.sql, compiled.arguments(values)))
            if scans and not _is_of_few_rows(scans):
                found[compiled.sql] = scans
    assert found == {}
    assert explained > 20


def _lists(sql: str) -> bool:
    flat = " ".join(sql.split())
    return any(each in flat for each in LISTS)


def _is_of_few_rows(scans: list[str]) -> bool:
    return all(each.removeprefix("SCAN ").split()[0] in SMALL for each in scans)


def _argument(parameter: Any) -> object:
    if isinstance(parameter.type, Integer | Double):
        return 5
    return b"x" if isinstance(parameter.type, LargeBinary) else KEY


def _prune(kind: pruning.Kind, connection: Connection) -> None:
    found = kind(connection, 50.0, 10.0, 50)
    if found is not None:
        found.remove(connection)


CHANGED: clients.ClientRow = {
    "client_id": KEY,
    "name": "x",
    "options": "{}",
    "access_lifetime": 5.0,
    "created_at": 1.0,
}
OTHERS: dict[str, Callable[[Connection], object]] = {
    "renew secret": lambda c: clients.renew_secret(c, KEY, "y"),
    "end secrets": lambda c: clients.end_secrets(c, KEY, 1.0),
    "is user": lambda c: clients.is_user(c, KEY),
    "grants of user": lambda c: grants.revoke_grants_of_user(c, KEY, 1.0),
    "grants to a client": lambda c: grants.revoke_grants_of_user(c, KEY, 1.0, KEY),
    "grants of login": lambda c: grants.revoke_grants_of_login(c, KEY, 1.0, KEY, None),
    "grants of session": lambda c: grants.revoke_grants_of_login(c, KEY, 1.0, KEY, KEY),
    "sessions of login": lambda c: people.end_sessions_of_login(c, KEY, KEY, None),
    "session of login": lambda c: people.end_sessions_of_login(c, KEY, KEY, KEY),
    "end codes": lambda c: grants.end_codes_of_user(c, KEY, KEY),
    "longest life": keys.longest_access_lifetime,
    "remove client": lambda c: clients.remove(c, KEY),
    "change client": lambda c: clients.change(c, CHANGED, ["https://a.example"]),
    "remove secrets": lambda c: clients.remove_secrets(c, KEY),
    "end personal tokens": lambda c: personal_tokens.end_all(c, KEY),
    "end those of clients": lambda c: personal_tokens.end_of_clients(c, KEY),
    "end those of a client": lambda c: personal_tokens.end_of_clients(c, KEY, KEY),
    "end those of grants": lambda c: personal_tokens.end_of_grants(c, KEY, [KEY]),
    "end a client's": lambda c: personal_tokens.end_of_client(c, KEY, 50),
    "expired sessions": lambda c: people.remove_expired(c, people.sessions.c.expires_at, 1.0),
    "expired attempts": lambda c: people.remove_expired(c, people.login_attempts.c.whole_at, 1.0),
    "take task": lambda c: pruning.take_task(c, 1.0, 30.0),
    "keep task": lambda c: pruning.keep_task(c, 1.0, 30.0),
    **{name: partial(_prune, kind) for name, kind in pruning.KINDS.items()},
}


class Undone(Exception):
    """Ends a transaction without a change."""


def test_nothing_else_that_is_sent_beside_requests_reads_a_whole_table(database: Database) -> None:
    found: dict[str, list[str]] = {}
    for name, ask in OTHERS.items():
        with suppress(Undone), database.write() as connection:
            with recorded() as sent:
                ask(Connection(connection.driver, connection.dialect))
            assert sent, name
            for sql, values in sent:
                scans = list(plan(connection, sql, values)) if is_planned(sql) else []
                if scans and not _is_of_few_rows(scans):
                    found[f"{name}: {sql}"] = scans
            raise Undone
    assert found == {}


def test_a_statement_that_reads_a_whole_table_would_be_seen(database: Database) -> None:
    with database.read() as connection:
        for sql in ("SELECT * FROM grants WHERE scope = 'x'", "SELECT count(*) FROM codes"):
            assert list(plan(connection, sql, ()))


def test_what_is_removed_with_a_row_is_found_by_an_index(store: Store, database: Database) -> None:
    for table in metadata.sorted_tables:
        for key in table.foreign_keys:
            with database.read() as connection:
                sql = f"SELECT 1 FROM {table.name} WHERE {key.parent.name} = '{KEY}'"
                assert list(plan(connection, sql, ())) == [], key
