"""A real PostgreSQL of the tests' own, on a free port, to be stopped, killed and paused at will.

Its folder is not pytest's: where the tests run as root, PostgreSQL runs as the user `postgres`, who
may not enter the folders of root.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from psycopg import sql

from tests.processes import START_SECONDS, free_port

# A user with no rights but those on its databases, and a password that a URL has to quote.
USER, PASSWORD = "bearerguard", "p@ss:word/of?tests"
_SUPERUSER = "postgres"
# What a crash of the machine could lose. The tests that kill PostgreSQL or fail over keep it all.
_FORGETFUL = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "lc_messages": "C",
    # All that was ever written can be searched for secrets.
    "wal_keep_size": "4GB",
}


def _programs() -> Path | None:
    """Return the folder of the newest version's programs; Debian has them outside PATH."""
    found = list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return max(found, key=lambda each: float(each.parent.parent.name)).parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


PROGRAMS = _programs()


def missing() -> str:
    """Return what is missing to run PostgreSQL, or nothing."""
    if PROGRAMS is None:
        return "PostgreSQL is not installed"
    if os.geteuid() == 0 and _SUPERUSER not in {each.pw_name for each in pwd.getpwall()}:
        return "PostgreSQL does not run as root, and there is no user `postgres`"
    return ""


def _owner() -> dict[str, Any]:
    """Return how `subprocess` becomes the user who runs PostgreSQL."""
    if os.geteuid():
        return {}
    return {"user": _SUPERUSER, "group": pwd.getpwnam(_SUPERUSER).pw_gid, "extra_groups": []}


class PostgreSQLServer:
    """A cluster in `folder`, with the options of `settings`; nothing runs before `start`."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.port = free_port()
        self.settings = {**_SETTINGS, **settings}
        self._folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._names = (f"test_{number}" for number in itertools.count())

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text(errors="replace")

    @property
    def _log(self) -> Path:
        return self._folder / "postgresql.log"

    # Clusters

    def initialize(self) -> None:
        """Make an empty cluster with the two users."""
        passwords = self._folder / "password"
        passwords.write_text(PASSWORD)
        options = ("-A", "scram-sha-256", "--pwfile", str(passwords), "-U", _SUPERUSER)
        plain = ("-E", "UTF8", "--locale=C", "--no-sync", "--wal-segsize=1")
        self._run("initdb", "-D", str(self._data), *options, *plain)
        role = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        told = role.format(sql.Identifier(USER), sql.Literal(PASSWORD)).as_string()
        self._run("postgres", "--single", "-D", str(self._data), "postgres", text=told)

    def copy_of(self, primary: PostgreSQLServer) -> None:
        """Become a standby of another server, which runs."""
        source = primary.url(_SUPERUSER, user=_SUPERUSER, application_name="standby")
        how = ("-R", "-X", "stream", "-c", "fast", "--no-sync")
        self._run("pg_basebackup", "-d", source, "-D", str(self._data), *how)

    def _run(self, program: str, *arguments: str, text: str = "") -> None:
        assert PROGRAMS is not None
        done = subprocess.run(
            [PROGRAMS / program, *arguments],
            **_owner(),
            cwd=self._folder,
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    # The server

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        assert PROGRAMS is not None
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAMS / "postgres", "-D", self._data, "-p", str(self.port), *options],
                **_owner(),
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        wait_until(self._accepts, lambda: self.log)

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End it as an administrator does who does not wait for its clients."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it and all its processes as a power cut would; once more is nothing."""
        children = self._children()
        self._end(signal.SIGKILL)
        for pid in children:
            _signal(pid, signal.SIGKILL)
        # Its memory must be free before it is started again.
        wait_until(lambda: not any(map(_runs, children)), lambda: self.log)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(START_SECONDS)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it hang: connections stay open, new ones are taken, and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        for pid in self._children():
            _signal(pid, signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            for pid in (*self._children(), self._process.pid):
                _signal(pid, signal.SIGCONT)

    def _children(self) -> list[int]:
        if self._process is None:
            return []
        pid = self._process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    # Databases

    def url(self, database: str, *, user: str = USER, **parameters: str) -> str:
        """Return libpq's URL of a database."""
        return _url((self,), database, user, parameters)

    def connect(self, database: str = _SUPERUSER) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the superuser, for whom some connections are reserved."""
        url = self.url(database, user=_SUPERUSER, connect_timeout=str(START_SECONDS))
        return psycopg.connect(url, autocommit=True)

    def create_database(self, template: str = "template0") -> str:
        """Make a database that belongs to `USER`, and return its name."""
        name = next(self._names)
        # By copying files, what the template holds is not written to the log again.
        told = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {} STRATEGY file_copy")
        with closing(self.connect()) as connection:
            connection.execute(
                told.format(*(sql.Identifier(each) for each in (name, USER, template)))
            )
        return name

    def drop_database(self, name: str) -> None:
        with closing(self.connect()) as connection:
            told = sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name))
            connection.execute(told)

    def rename_database(self, name: str) -> str:
        """End a database's connections, let no new one find it, and return its new name."""
        new = next(self._names)
        others = sql.SQL("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity")
        told = sql.SQL("ALTER DATABASE {} RENAME TO {}")
        with closing(self.connect()) as connection:
            query = others + sql.SQL(" WHERE datname = {}").format(sql.Literal(name))
            wait_until(lambda: connection.execute(query).fetchone() == (0,), lambda: self.log)
            connection.execute(told.format(sql.Identifier(name), sql.Identifier(new)))
        return new

    def written(self) -> dict[str, bytes]:
        """Return all that was written to its disk: the write-ahead log, by the files' names."""
        segments = sorted((self._data / "pg_wal").glob("[0-9A-F]" * 24))
        return {f"{self.port}-{each.name}.wal": each.read_bytes() for each in segments}

    def keep(self, folder: Path) -> None:
        """Leave what it wrote and logged where the gate for secrets reads it."""
        for name, content in self.written().items():
            (folder / f"postgresql-{name}").write_bytes(content)
        shutil.copyfile(self._log, folder / f"postgresql-{self.port}.log")


class Pair:
    """A primary and its standby, which has each transaction before it is acknowledged."""

    def __init__(self, primary: PostgreSQLServer, standby: PostgreSQLServer) -> None:
        self.primary = primary
        self.standby = standby

    def url(self, database: str) -> str:
        """Return the URL that names both, and that of which one can write is used."""
        named = (self.primary, self.standby)
        return _url(named, database, USER, {"target_session_attrs": "read-write"})

    def promote(self) -> None:
        """Make the standby the primary, when there is none."""
        with closing(self.standby.connect()) as connection:
            connection.execute("SELECT pg_promote()")


def _url(
    servers: tuple[PostgreSQLServer, ...], database: str, user: str, parameters: Mapping[str, str]
) -> str:
    hosts = ",".join(f"127.0.0.1:{each.port}" for each in servers)
    query = f"?{urlencode(parameters)}" if parameters else ""
    return f"postgresql://{user}:{quote(PASSWORD, safe='')}@{hosts}/{database}{query}"


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # a backend ends with its client
        os.kill(pid, number)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool], explanation: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, explanation()
        time.sleep(0.005)


@contextmanager
def _cluster(settings: Mapping[str, str], *, durable: bool) -> Generator[PostgreSQLServer]:
    """A server that does not run yet; it ends with the block."""
    if reason := missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="bearerguard-") as name:
        if owner := _owner():
            shutil.chown(name, owner["user"], owner["group"])
        server = PostgreSQLServer(Path(name), settings if durable else {**_FORGETFUL, **settings})
        try:
            yield server
        finally:
            server.resume()
            server.kill()
            kept = os.environ.get("BEARERGUARD_TEST_LOGS")
            if kept:
                server.keep(Path(kept))


@contextmanager
def running(*, durable: bool = False, **settings: str) -> Generator[PostgreSQLServer]:
    """Run a server while the block lasts, with options such as `max_connections="10"`."""
    with _cluster(settings, durable=durable) as server:
        server.initialize()
        server.start()
        yield server


@contextmanager
def replicated(**settings: str) -> Generator[Pair]:
    """Run a primary and its standby while the block lasts."""
    with (
        running(durable=True, **settings) as primary,
        _cluster({**settings, "cluster_name": "standby"}, durable=True) as standby,
    ):
        standby.copy_of(primary)
        standby.start()
        with closing(primary.connect()) as connection:
            # After it was copied: the standby must not wait for a standby.
            connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            connection.execute("SELECT pg_reload_conf()")
            query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
            wait_until(lambda: connection.execute(query).fetchone() == (1,), lambda: standby.log)
        yield Pair(primary, standby)
