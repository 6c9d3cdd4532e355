"""PostgreSQL, for a server of several processes or machines, by psycopg.

Transactions that write are of two kinds. Most run beside each other: what must happen once in them
is decided by one conditional statement, for whose row PostgreSQL lets them wait. Those that need to
see all others finished, such as the revocation of everything that a user has allowed, run alone:
each transaction takes one advisory lock, shared or exclusive.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection as AlchemyConnection
from sqlalchemy import NullPool, create_engine
from sqlalchemy.dialects.postgresql import psycopg as dialects
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import ProgrammingError

from bearerguard.errors import ConfigurationError, StoreUnavailable
from bearerguard.runtime.extras import Extra
from bearerguard.runtime.process_lock import ProcessLock
from bearerguard.server.store.connection import WRITE_LOCK
from bearerguard.server.store.schema import foreign_tables, is_ours

with Extra("postgresql", needed_by="a postgresql:// store"):
    import psycopg
    from psycopg import abc, pq
    from psycopg.adapt import PyFormat, Transformer
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.errors import error_from_result

# Seconds for which a statement may take, and wait for locks, before the response is 503.
_STATEMENT_SECONDS = 10.0
# Seconds after which the connection of a transaction that has not ended is cut: a paused server or
# a broken network gives no error by itself.
_CUT_SECONDS = 15.0
# Seconds for connecting to each host, and after a failure until the next attempt: in between,
# requests get 503 at once.
_CONNECT_SECONDS, _PAUSE = 3.0, 0.5
# Seconds after which the server ends the transaction of a client that has vanished.
_IDLE_SECONDS = 30.0
# The SQLSTATEs of a server that does not write any more: it became a standby, or is stopping.
_STOPPED = frozenset({"25006", "57P01", "57P02", "57P03", "57P05"})
# Those of a connection whose prepared statements are not what they were: the type of a column was
# changed ("cached plan must not change result type"), or something between has removed them.
_STALE = frozenset({"0A000", "26000", "42P05"})
_LOST = _STOPPED | _STALE
_FORBIDDEN = "42501"


def _begin(lock: str) -> bytes:
    begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
    return f"{begin}; SELECT {lock}({WRITE_LOCK})".encode()


_BEGIN_CONCURRENT = _begin("pg_advisory_xact_lock_shared")
_BEGIN_ALONE = _begin("pg_advisory_xact_lock")
# What a server that cannot take connections for now says; all other refusals need an operator.
_PASSING = ("starting up", "shutting down", "recovery", "too many", "slots")
_PARTS = {
    "host": re.compile(r"[^@\s]*"),
    "port": re.compile(r"[\d,]*", re.ASCII),
    "dbname": re.compile(r"[^@:/\s]*"),
}
# So that an interrupted network is noticed soon. In seconds; `tcp_user_timeout` is in milliseconds.
_NETWORK = {
    "connect_timeout": f"{_CONNECT_SECONDS:.0f}",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": f"{1000 * _CUT_SECONDS:.0f}",
}


class _Rows:
    """What a statement returned, with a cursor's ways to read it."""

    __slots__ = ("_result", "_transformer")

    def __init__(self, result: pq.abc.PGresult, transformer: abc.Transformer) -> None:
        self._result = result
        self._transformer = transformer

    @property
    def rowcount(self) -> int:
        changed = self._result.command_tuples
        return -1 if changed is None else changed

    @property
    def description(self) -> list[tuple[str]] | None:
        if self._result.status != pq.ExecStatus.TUPLES_OK:
            return None
        names = (self._result.fname(place) or b"" for place in range(self._result.nfields))
        return [(name.decode(),) for name in names]

    def fetchall(self) -> list[tuple[Any, ...]]:
        self._transformer.set_pgresult(self._result)
        rows: list[tuple[Any, ...]]
        rows = self._transformer.load_rows(0, self._result.ntuples, tuple)
        return rows


class _Connection(psycopg.Connection[Any]):
    """A connection that runs prepared statements by libpq's own calls.

    A cursor of psycopg waits for the network in Python, so that other threads wait for its thread
    several times in one statement: that is most of what a short statement costs.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # The names of the statements that this connection has prepared, by their SQL and the types
        # of their arguments.
        self._names: dict[tuple[str, tuple[int, ...] | None], bytes] = {}

    def __del__(self, *_: Any) -> None:
        """Warn of a connection that was lost, but not when the program ends with one in use."""
        if not sys.is_finalizing():
            super().__del__()

    def run_prepared(self, sql: str, arguments: Sequence[Any]) -> _Rows:
        """Run a statement whose placeholders are `$1`, `$2` and so on, prepared at its first use.

        Raises `psycopg.Error`.
        """
        transformer = Transformer(self)
        # None is NULL, which `exec_prepared` takes, against its annotation.
        values: Any = transformer.dump_sequence(arguments, [PyFormat.AUTO] * len(arguments))
        key = (sql, transformer.types)
        name = self._names.get(key)
        if name is None:
            name = _name(sql, transformer.types)
            _check(self.pgconn.prepare(name, sql.encode(), transformer.types))
            self._names[key] = name
        result = self.pgconn.exec_prepared(name, values, transformer.formats)
        return _Rows(_check(result), transformer)

    def run_command(self, command: bytes) -> None:
        """Run statements without arguments, all in one message; raises `psycopg.Error`."""
        _check(self.pgconn.exec_(command))


def _name(sql: str, types: tuple[int, ...] | None) -> bytes:
    """Return a name that no other statement has.

    Under a number, a connection that something between lends to several, as PgBouncer does, would
    run another one's statement.
    """
    return b"bearerguard_" + hashlib.sha256(f"{types} {sql}".encode()).hexdigest()[:32].encode()


def _check(result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status not in {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}:
        raise error_from_result(result)
    return result


class PostgresqlEngine:
    """PostgreSQL, with the database of one URL.

    Args:
        url: a connection URI of libpq, `postgresql://user:password@host:port/database`. It may name
            several hosts, of which the one that accepts writes is used, and any parameter of libpq,
            such as `sslmode=verify-full`.
        create: whether the tables may be created; the database must exist.
        patient: whether a server that cannot be reached now is no error; `prepare` checks the
            database later.

    Raises:
        ConfigurationError: the URL is not valid, the server refuses the user, or the database has
            tables of another application.
        StoreUnavailable: the server cannot be reached, and `patient` is false.
    """

    dialect: Dialect = dialects.dialect()  # type: ignore[no-untyped-call]
    errors: type[Exception] = psycopg.Error
    path: Path | None = None
    wait: float = _STATEMENT_SECONDS

    def __init__(self, url: str, *, create: bool, patient: bool) -> None:
        given = _parsed(url)
        self.name: str = _shown(given)
        timeouts = {
            "statement_timeout": _STATEMENT_SECONDS,
            "lock_timeout": _STATEMENT_SECONDS,
            "idle_in_transaction_session_timeout": _IDLE_SECONDS,
        }
        options = " ".join(f"-c {name}={1000 * each:.0f}" for name, each in timeouts.items())
        # A standby refuses to write: connect to the primary, whichever host that is now.
        self._parameters = {"target_session_attrs": "read-write", **_NETWORK, **given}
        # The URL's own options come last, and win.
        self._parameters["options"] = f"{options} {given.get('options', '')}".strip()
        self._retry_at = 0.0
        self._watch = _Watch()
        self._create, self._checked = create, False
        try:
            self.prepare()
        except StoreUnavailable:
            if not patient:
                raise

    def prepare(self) -> None:
        """Raise `ConfigurationError` if the database is another application's, or has no tables."""
        if self._checked:
            return
        query = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
        try:
            with psycopg.connect(make_conninfo(**self._parameters)) as connection:
                tables = {row[0] for row in connection.execute(query)}
        except psycopg.Error as error:
            refusal = _refusal(error)
            if refusal:
                raise ConfigurationError(
                    f"store=: {self.name} refuses this user ({refusal}): check the user, the"
                    " password and the database of the URL"
                ) from error
            raise StoreUnavailable(f"{self.name} cannot be reached: {self.cause(error)}") from error
        ours = is_ours(tables)
        if not ours and not self._create:
            raise ConfigurationError(
                f"store=: {self.name} is no authorization server's database: name the server's"
            )
        if not ours and (foreign := foreign_tables(tables)):
            raise ConfigurationError(
                f"store=: {self.name} is the database of another application, whose tables"
                f" {', '.join(foreign)} have the names of ours: name another database, or"
                " another schema by ?options=-csearch_path%3Dbearerguard"
            )
        self._checked = True

    def connect(self) -> _Connection:
        """Return a new connection of the driver; raises `StoreUnavailable` soon after a failure."""
        if time.monotonic() < self._retry_at:
            raise StoreUnavailable(f"{self.name} cannot be reached")
        try:
            return _Connection.connect(
                make_conninfo(**self._parameters),
                autocommit=True,
                # Else psycopg prepares, too, and after a rollback deallocates all, also ours.
                prepare_threshold=None,
            )
        except psycopg.Error:
            self._retry_at = time.monotonic() + _PAUSE
            raise

    def begun(self, connection: Any) -> None:
        """Watch a connection that is used from now on."""
        self._watch.add(connection)

    def ended(self, connection: Any) -> None:
        """Watch a connection no longer."""
        self._watch.remove(connection)

    def check(self, connection: Any) -> None:
        """Do nothing: the server guards its files."""

    def is_lost(self, connection: Any, error: Exception) -> bool:
        """Whether the connection is useless after an error, and others may be, too."""
        return connection.closed or getattr(error, "sqlstate", None) in _LOST

    def cause(self, error: Exception) -> str:
        """Return what a driver's error says, without its details, which quote values."""
        message = error.diag.message_primary if isinstance(error, psycopg.Error) else None
        return message or (str(error).splitlines() or [type(error).__name__])[0]

    def begin_reading(self, connection: Any) -> None:
        """Begin a transaction that reads one consistent snapshot."""
        connection.run_command(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def begin_writing(self, connection: Any, *, concurrent: bool) -> None:
        """Begin a transaction that writes, beside others of its kind or alone."""
        # Each later statement sees what was committed before it began.
        connection.run_command(_BEGIN_CONCURRENT if concurrent else _BEGIN_ALONE)

    @contextmanager
    def migrating(self) -> Generator[AlchemyConnection]:
        """Begin a transaction that runs alone, for migrations; they may take long."""
        made = create_engine(
            "postgresql+psycopg://",
            creator=lambda: psycopg.connect(make_conninfo(**self._parameters)),
            poolclass=NullPool,
            hide_parameters=True,
        )
        try:
            with made.connect() as connection:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
                yield connection
                connection.commit()
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) != _FORBIDDEN:
                raise
            raise ConfigurationError(
                f"store=: the user may not change the tables of {self.name} ({error.orig}): grant"
                " it, or migrate with another user's URL first"
            ) from error

    def close(self) -> None:
        """Do nothing: all that is open are connections."""


class _Watch:
    """Cuts connections whose transaction has not ended in time."""

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._until: dict[psycopg.Connection[Any], float] = {}
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def add(self, connection: psycopg.Connection[Any]) -> None:
        """Watch a connection from now on."""
        with self._lock:
            if self._pid != os.getpid():
                # A child leaves its parent's connections alone.
                self._until.clear()
            self._until[connection] = time.monotonic() + _CUT_SECONDS
            if self._thread is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._thread = threading.Thread(
                    target=self._run, name="bearerguard-postgresql", daemon=True
                )
                self._thread.start()

    def remove(self, connection: psycopg.Connection[Any]) -> None:
        """Watch a connection no longer."""
        with self._lock:
            self._until.pop(connection, None)

    def _run(self) -> None:
        while True:
            time.sleep(1)
            now = time.monotonic()
            with self._lock:
                if not self._until:
                    self._thread = None
                    return
                overdue = [each for each, until in self._until.items() if until <= now]
                for connection in overdue:
                    del self._until[connection]
                    _cut(connection)


def _cut(connection: psycopg.Connection[Any]) -> None:
    """End a connection's socket: what waits for it gets an error."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def _refusal(error: psycopg.Error) -> str:
    """Return why the server refuses a connection for good; "" if it does not, or is not there."""
    for line in str(error).splitlines():
        _, fatal, text = line.partition("FATAL:")
        if fatal and not any(each in text for each in _PASSING):
            return text.strip()
    return ""


def _parsed(url: str) -> dict[str, str]:
    # Without a driver, which URLs of SQLAlchemy name.
    found: Mapping[str, object] = {}
    # Without libpq's message, which quotes the URL.
    with suppress(psycopg.Error):
        found = conninfo_to_dict(f"postgresql://{url.partition('://')[2]}")
    given = {name: str(value) for name, value in found.items() if value is not None}
    # A part of a password that is not encoded would be taken for a host, a port or a database.
    if not found or not all(
        pattern.fullmatch(given.get(name, "")) for name, pattern in _PARTS.items()
    ):
        raise ConfigurationError(
            'store=: pass a database URL such as "postgresql://user:password@host/database",'
            " with special characters in the password percent-encoded, and only parameters that"
            " libpq has"
        )
    if not given.get("dbname"):
        raise ConfigurationError(
            'store=: name the database: "postgresql://user:password@host/database"'
        )
    return given


def _shown(given: dict[str, str]) -> str:
    user = f"{given['user']}@" if given.get("user") else ""
    hosts = given.get("host", "").split(",")
    ports = given.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    places = [f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False)]
    return f"postgresql://{user}{','.join(places)}/{given['dbname']}"
