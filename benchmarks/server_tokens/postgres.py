"""A PostgreSQL of the benchmark's own, in a temporary folder, with the defaults that matter on.

It commits as PostgreSQL does by default: each commit waits for the disk.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.children import end
from benchmarks.serving import START_SECONDS, ServerError, free_port

_USER = "postgres"
MISSING = (
    "PostgreSQL, or the user `postgres` that it needs where it may not run as root, is not here (on"
    " Debian: apt-get install postgresql), so what runs on it is left out."
)
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Each worker of each server keeps connections, also while another server is measured.
    "max_connections": "400",
    "shared_buffers": "512MB",
}


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL."""

    port: int
    pid: int

    def url(self, database: str) -> str:
        """Return libpq's URL of a database."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """Make an empty database and return its URL."""
        with closing(psycopg.connect(self.url(_USER), autocommit=True)) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')  # type: ignore[arg-type, unused-ignore]
        return self.url(database)


def is_here() -> bool:
    """Whether PostgreSQL can be started."""
    if _programs() is None:
        return False
    return bool(os.geteuid()) or _USER in {each.pw_name for each in pwd.getpwall()}


def _programs() -> Path | None:
    # Debian has them outside PATH.
    found = list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return max(found, key=lambda each: float(each.parent.parent.name)).parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _owner() -> dict[str, Any]:
    """Return how `subprocess` becomes a user for whom PostgreSQL runs."""
    if os.geteuid():
        return {}
    return {"user": _USER, "group": pwd.getpwnam(_USER).pw_gid, "extra_groups": []}


@contextmanager
def started() -> Iterator[Cluster]:
    """Run PostgreSQL while the block lasts."""
    programs = _programs()
    if programs is None:
        raise ServerError(MISSING)
    # Not in the benchmark's own folder, which another user may not enter.
    with tempfile.TemporaryDirectory(prefix="benchmark-postgresql-") as folder:
        if owner := _owner():
            shutil.chown(folder, owner["user"], owner["group"])
        data, port = f"{folder}/data", free_port()
        making = ["-D", data, "-A", "trust", "-U", _USER, "-E", "UTF8", "--locale=C"]
        subprocess.run(
            [programs / "initdb", *making],
            **owner,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, "-p", str(port), *options],
                **owner,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        try:
            cluster = Cluster(port, process.pid)
            _wait(cluster, process, Path(folder, "log"))
            yield cluster
        finally:
            end(process)


def _wait(cluster: Cluster, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(cluster.url(_USER)).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise ServerError(f"PostgreSQL did not start:\n{log.read_text()}")
