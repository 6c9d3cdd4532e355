"""Statements and the connection that runs them, in one transaction.

SQLAlchemy writes the SQL of each engine, and the database's driver runs it. What a request runs is
a `Prepared` statement, whose SQL is written once in a process. Any other statement is written each
time that it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

from sqlalchemy import BindParameter, Executable, Insert, Table, bindparam, insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

Values: TypeAlias = Mapping[str, Any]
NONE: Values = MappingProxyType({})
# Advisory locks of PostgreSQL: of all transactions that write, and of the revocation log. Numbers
# that no other application is likely to use.
WRITE_LOCK, LOG_LOCK = 0x6265617265720001, 0x6265617265720002


def is_storable(text: str) -> bool:
    """Whether a row can contain a text, and a query: not NUL, nor a surrogate without its pair."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return False
    return "\0" not in text


class Row(tuple[Any, ...]):
    """A row: a tuple whose columns are attributes, too."""

    __slots__ = ()
    _names: tuple[str, ...] = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __repr__(self) -> str:
        # Without values: some are digests, sealed keys and password hashes.
        return f"Row({', '.join(self._names)})"


def _row_type(names: Sequence[str]) -> type[Row]:
    columns = {name: property(itemgetter(place)) for place, name in enumerate(names)}
    return type("Row", (Row,), {"__slots__": (), "_names": tuple(names), **columns})


@final
class Result:
    """The rows that a statement returned, or the number of rows that it changed."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: list[Row], rowcount: int) -> None:
        self._rows: list[Row] = rows
        self.rowcount: int = rowcount

    def all(self) -> list[Row]:
        """Return all rows."""
        return self._rows

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def first(self) -> Row | None:
        """Return the first row, or None."""
        return self._rows[0] if self._rows else None

    def one_or_none(self) -> Row | None:
        """Return the only row, or None; raises `LookupError` if there are several."""
        if len(self._rows) > 1:
            raise LookupError("the statement returned several rows")
        return self.first()

    def scalars(self) -> list[Any]:
        """Return the first column of all rows."""
        return [row[0] for row in self._rows]

    def scalar(self) -> Any:
        """Return the first column of the first row, or None."""
        return self._rows[0][0] if self._rows else None


class _Compiled:
    """The SQL of a statement for one engine."""

    __slots__ = ("_order", "_own", "numbered", "row", "sql")

    def __init__(self, sql: str, order: Sequence[str] | None = None, own: Values = NONE) -> None:
        self.sql: str = sql
        # The same with PostgreSQL's own placeholders, `$1`, if it is prepared there.
        self.numbered: _Compiled | None = None
        self._order = order
        # The values that the statement itself contains.
        self._own = own
        # Known after the statement has run: which columns it returns.
        self.row: type[Row] | None = None

    def arguments(self, values: Values) -> Any:
        """Return values in the order of the driver's placeholders, or by their names."""
        if self._own:
            values = {**self._own, **values}
        return values if self._order is None else [values[name] for name in self._order]


class Prepared:
    """A statement whose SQL is written once for each engine; its parameters are `bindparam`s.

    Attributes:
        made: all of them, for the test that reads their plans.
    """

    made: list[Prepared] = []  # noqa: RUF012 - a registry

    def __init__(self, statement: Executable) -> None:
        self.statement: Executable = statement
        self._compiled: dict[str, _Compiled] = {}
        self.made.append(self)

    def compiled(self, dialect: Dialect) -> _Compiled:
        """Return the statement's SQL for an engine."""
        found = self._compiled.get(dialect.name)
        if found is None:
            found = _compile(self.statement, dialect)
            if dialect.name == "postgresql":
                make: Any = type(dialect)
                found.numbered = _compile(self.statement, make(paramstyle="numeric_dollar"))
            self._compiled[dialect.name] = found
        return found


def prepared_insert(table: Table, *left_out: str, unless_known: bool = False) -> Prepared:
    """Return the insertion of a row, with a parameter for each column that is not left out.

    With `unless_known`, a row whose key the table has already is not inserted.
    """
    columns = [column.name for column in table.columns if column.name not in left_out]
    values: dict[str, BindParameter[Any]] = {name: bindparam(name) for name in columns}
    if unless_known:  # SQLite has the same clause
        return Prepared(postgresql.insert(table).values(values).on_conflict_do_nothing())
    return Prepared(insert(table).values(values))


def _compile(
    statement: Executable, dialect: Dialect, columns: Sequence[str] | None = None
) -> _Compiled:
    """Return a statement's SQL for an engine, with the values that it contains."""
    compiled: Any = statement.compile(  # type: ignore[attr-defined] # each that is executed has it
        dialect=dialect,
        column_keys=columns,
        compile_kwargs={"render_postcompile": True},
    )
    wanted = {name for name, parameter in compiled.binds.items() if parameter.required}
    own = {name: value for name, value in compiled.params.items() if name not in wanted}
    return _Compiled(str(compiled), compiled.positiontup if compiled.positional else None, own)


class Executes(Protocol):
    """What runs a statement: a transaction's `Connection`, or the `Database` outside of one."""

    def execute(self, statement: Prepared | Executable, values: Values = ...) -> Result:
        """Run a statement."""
        ...


class Connection:
    """A driver's connection within a transaction.

    Args:
        driver: the driver's connection.
        dialect: how its engine writes SQL.
    """

    __slots__ = ("dialect", "driver")

    def __init__(self, driver: Any, dialect: Dialect) -> None:
        self.driver: Any = driver
        self.dialect: Dialect = dialect

    def execute(
        self, statement: Prepared | Executable, values: Values | list[Values] = NONE
    ) -> Result:
        """Run a statement; `values` are those of its parameters, or of each row to insert."""
        if isinstance(values, list):
            cursor = self.driver.cursor()
            compiled = self._compiled(statement, values[0])
            cursor.executemany(compiled.sql, [compiled.arguments(each) for each in values])
            return Result([], cursor.rowcount)
        compiled = self._compiled(statement, values)
        numbered = compiled.numbered
        if numbered is not None:
            cursor = self.driver.run_prepared(numbered.sql, numbered.arguments(values))
        else:
            cursor = self.driver.cursor()
            cursor.execute(compiled.sql, compiled.arguments(values))
        return _result(cursor, compiled)

    def _compiled(self, statement: Prepared | Executable, values: Values) -> _Compiled:
        if isinstance(statement, Prepared):
            return statement.compiled(self.dialect)
        columns = list(values) if isinstance(statement, Insert) and values else None
        return _compile(statement, self.dialect, columns)

    def lock_log(self) -> None:
        """Wait until no other transaction appends to the revocation log, and keep others waiting.

        On SQLite every transaction that writes runs alone.
        """
        if self.dialect.name == "postgresql":
            self.run(f"SELECT pg_advisory_xact_lock({LOG_LOCK})")

    def run(self, sql: str, arguments: Sequence[Any] = ()) -> Result:
        """Run SQL text that was written for this engine."""
        cursor = self.driver.cursor()
        # Without arguments, PostgreSQL allows several statements and any percent sign.
        cursor.execute(sql, arguments) if arguments else cursor.execute(sql)
        return _result(cursor, _Compiled(sql))


def _result(cursor: Any, compiled: _Compiled) -> Result:
    row = compiled.row
    if row is None:
        if cursor.description is None:
            return Result([], cursor.rowcount)
        row = compiled.row = _row_type([column[0] for column in cursor.description])
    return Result(list(map(row, cursor.fetchall())), cursor.rowcount)
