"""Statements: compiled once, run on the driver's connection, and what they return."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Double,
    LargeBinary,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    insert,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from bearerguard.server.store.connection import Connection, Prepared, prepared_insert

NOTES: Table = Table(
    "notes",
    MetaData(),
    Column("key", String(20), primary_key=True),
    Column("body", LargeBinary),
    Column("at", Double),
    Column("seen_at", Double),
)
ADD = prepared_insert(NOTES, "seen_at")
FIND = Prepared(select(NOTES).where(NOTES.c.key == bindparam("key")))
ALL = select(NOTES.c.key).order_by(NOTES.c.key)
# A test reads the plans of the package's own statements.
for _each in (ADD, FIND):
    Prepared.made.remove(_each)


@pytest.fixture
def connection() -> Generator[Connection]:
    """Return a connection to a table of its own."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as driver:
        made = Connection(driver, sqlite.dialect())
        made.run("CREATE TABLE notes (key TEXT PRIMARY KEY, body BLOB, at REAL, seen_at REAL)")
        yield made


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the statements of these tests out of the package's list."""
    monkeypatch.setattr(Prepared, "made", [])


def note(key: str, **values: Any) -> dict[str, Any]:
    return {"key": key, "body": b"secret", "at": 1.5} | values


def filled(connection: Connection) -> Connection:
    for key in "abc":
        connection.execute(ADD, note(key))
    return connection


def test_a_row_is_a_tuple_whose_columns_are_attributes(connection: Connection) -> None:
    connection.execute(ADD, note("a"))
    row = connection.execute(FIND, {"key": "a"}).first()
    assert row is not None
    assert (row.key, row.body, row.at, row.seen_at) == ("a", b"secret", 1.5, None)
    assert list(row) == ["a", b"secret", 1.5, None]
    key, *_ = row
    assert key == row[0] == "a"
    assert hash(row) == hash(tuple(row))
    with pytest.raises(AttributeError):
        row.nothing  # noqa: B018 - it raises


def test_a_row_shows_no_values(connection: Connection) -> None:
    row = filled(connection).execute(FIND, {"key": "a"}).first()
    assert repr(row) == f"{row}" == "Row(key, body, at, seen_at)"


def test_a_label_is_an_attribute_too(connection: Connection) -> None:
    query = select(NOTES.c.key.label("name"), func.count().label("number"))
    (row,) = filled(connection).execute(query.group_by(NOTES.c.key).limit(1))
    assert (row.name, row.number) == ("a", 1)


def test_results_are_read_in_the_ways_of_sqlalchemy(connection: Connection) -> None:
    filled(connection)
    assert [row.key for row in connection.execute(ALL)] == ["a", "b", "c"]
    assert [row.key for row in connection.execute(ALL).all()] == ["a", "b", "c"]
    assert connection.execute(ALL).scalars() == ["a", "b", "c"]
    assert connection.execute(ALL).scalar() == "a"
    assert connection.execute(ALL).first() == ("a",)
    with pytest.raises(LookupError, match="several rows"):
        connection.execute(ALL).one_or_none()
    assert connection.execute(FIND, {"key": "b"}).one_or_none() == ("b", b"secret", 1.5, None)


def test_a_result_without_rows_is_empty_however_it_is_read(connection: Connection) -> None:
    for result in (
        connection.execute(FIND, {"key": "x"}),
        connection.execute(update(NOTES).values(at=2.0)),
    ):
        assert list(result) == result.all() == result.scalars() == []
        assert result.first() is result.one_or_none() is result.scalar() is None


def test_a_change_says_how_many_rows_it_changed(connection: Connection) -> None:
    filled(connection)
    assert connection.execute(update(NOTES).values(at=2.0)).rowcount == 3
    one = update(NOTES).where(NOTES.c.key == "b").values(at=3.0)
    assert connection.execute(one).rowcount == 1
    assert connection.execute(one.where(NOTES.c.at < 3.0)).rowcount == 0


def test_what_a_change_returns_are_rows(connection: Connection) -> None:
    changed = update(NOTES).where(NOTES.c.key != "b").values(at=4.0)
    returned = filled(connection).execute(changed.returning(NOTES.c.key, NOTES.c.at))
    assert sorted((row.key, row.at) for row in returned) == [("a", 4.0), ("c", 4.0)]


def test_a_prepared_insertion_has_a_parameter_for_each_column_but_those_left_out(
    connection: Connection,
) -> None:
    assert connection.execute(ADD, note("a", body=None)).rowcount == 1
    row = connection.execute(FIND, {"key": "a"}).first()
    assert row == ("a", None, 1.5, None)
    with pytest.raises(KeyError, match="at"):
        connection.execute(ADD, {"key": "b", "body": b""})


def test_an_insertion_that_is_not_prepared_has_the_columns_of_its_values(
    connection: Connection,
) -> None:
    connection.execute(insert(NOTES), {"key": "a", "seen_at": None})
    connection.execute(insert(NOTES).values(key="b", at=2.0))
    assert connection.execute(select(NOTES).order_by(NOTES.c.key)).all() == [
        ("a", None, None, None),
        ("b", None, 2.0, None),
    ]


@pytest.mark.parametrize("statement", [ADD, insert(NOTES)], ids=["prepared", "not prepared"])
def test_several_rows_are_inserted_at_once(connection: Connection, statement: Any) -> None:
    inserted = connection.execute(statement, [note("a"), note("b", at=None)])
    assert inserted.rowcount == 2
    assert inserted.all() == []
    found = connection.execute(select(NOTES.c.key, NOTES.c.at).order_by(NOTES.c.key)).all()
    assert found == [("a", 1.5), ("b", None)]


def test_values_within_a_statement_and_its_parameters_are_kept_apart(
    connection: Connection,
) -> None:
    query = Prepared(
        select(NOTES.c.key, literal("it's 100 % literal").label("text"))
        .where(NOTES.c.at < bindparam("until"), NOTES.c.key != "b")
        .order_by(NOTES.c.key)
        .limit(1)
    )
    filled(connection)
    for until, found in ((2.0, [("a", "it's 100 % literal")]), (1.0, [])):
        assert connection.execute(query, {"until": until}).all() == found


def test_a_list_of_keys_is_a_parameter_for_each(connection: Connection) -> None:
    filled(connection)
    for keys in (["a", "c"], ["b"], []):
        assert connection.execute(ALL.where(NOTES.c.key.in_(keys))).scalars() == keys


def test_a_value_is_never_part_of_the_sql(connection: Connection) -> None:
    evil = "x'; DROP TABLE notes; --"
    assert connection.execute(ALL.where(NOTES.c.key == evil)).all() == []
    connection.execute(ADD, note(evil))
    assert connection.execute(FIND, {"key": evil}).scalar() == evil
    for dialect in (sqlite.dialect(), postgresql.dialect()):
        sql = Prepared(ALL.where(NOTES.c.key == evil)).compiled(dialect).sql
        assert "DROP" not in sql


def test_none_is_null_and_a_null_in_a_statement_stays_one(connection: Connection) -> None:
    forget = Prepared(update(NOTES).values(at=null(), body=bindparam("body"), seen_at=None))
    connection.execute(insert(NOTES), note("a", seen_at=3.0))
    assert connection.execute(forget, {"body": None}).rowcount == 1
    assert connection.execute(FIND, {"key": "a"}).first() == ("a", None, None, None)


def test_a_parameter_may_be_used_twice(connection: Connection) -> None:
    mark = Prepared(
        update(NOTES).where(NOTES.c.at < bindparam("now")).values(seen_at=bindparam("now"))
    )
    assert filled(connection).execute(mark, {"now": 7.0}).rowcount == 3
    assert connection.execute(select(NOTES.c.seen_at)).scalars() == [7.0] * 3


def test_a_statement_is_compiled_once_for_each_engine() -> None:
    class Counting(Prepared):
        compilations = 0

        def __init__(self, statement: Any) -> None:
            super().__init__(self)  # type: ignore[arg-type] # it counts, and passes on
            self._wrapped = statement

        def compile(self, **options: Any) -> Any:
            Counting.compilations += 1
            return self._wrapped.compile(**options)

    query = Counting(select(NOTES).where(NOTES.c.key == bindparam("key")))
    dialects: list[Dialect] = [sqlite.dialect(), postgresql.dialect()]
    written = [query.compiled(each).sql for each in dialects * 3]
    # For PostgreSQL twice: with the driver's placeholders, and with its own.
    assert Counting.compilations == 3
    assert len(set(written)) == 2
    assert Prepared.made == [query]


def test_sql_in_the_engines_own_words_is_run_as_it_is(connection: Connection) -> None:
    assert connection.run("SELECT '100 % ?', 1 AS one").all() == [("100 % ?", 1)]
    (row,) = connection.run("SELECT ? AS first, ? AS second", ("a", None))
    assert (row.first, row.second) == ("a", None)
    assert connection.run("DELETE FROM notes").rowcount == 0
