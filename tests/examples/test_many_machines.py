"""The page "From one machine to many": its commands, in their order, with real programs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from bearerguard.errors import StoreUnavailable
from bearerguard.server.store.database import Database
from tests import postgresql_server as postgresql
from tests.docs.pages import ROOT
from tests.processes import free_port, program
from tests.redis_server import RedisServer

PAGE = (ROOT / "docs" / "many-machines.md").read_text()
_BLOCKS = re.compile(r"^(<!-- serves -->\n)?```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# How the environment of one block becomes that of the next one.
_CARRIED = "\nenv -0 > environ\n"


def encrypt(server: postgresql.PostgreSQLServer, folder: Path) -> Path:
    """Let a server take encrypted connections too, and return the file of its authority."""
    made = server._folder / "data" / "server.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(made.with_suffix(".key")), "-out", str(made)),
        ],
        check=True,
        capture_output=True,
        **postgresql._owner(),
    )
    with server.connect() as connection:
        connection.execute("ALTER SYSTEM SET ssl = on")
    server.restart()
    return Path(shutil.copyfile(made, folder / "ca.pem"))


class Reader:
    """Whoever runs the page's commands, one after the other, in one folder."""

    def __init__(self, folder: Path, names: dict[str, str], environ: dict[str, str]) -> None:
        self.folder = folder
        self._names = names
        programs = f"{Path(sys.executable).parent}:{postgresql.PROGRAMS}"
        self.environ = {**os.environ, **environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    def written(self, block: str) -> str:
        for name, real in self._names.items():
            block = block.replace(name, real)
        return block

    def run(self, block: str, given: str = "") -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.written(block) + _CARRIED],
            cwd=self.folder,
            env=self.environ,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        lines = (self.folder / "environ").read_bytes().decode().split("\0")
        self.environ = dict(each.split("=", 1) for each in lines if each)
        return done.stdout


def test_the_page_moves_a_server_and_its_backups_can_be_used(
    tmp_path: Path, redis: RedisServer
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    blocks = [(bool(serves), block) for serves, block in _BLOCKS.findall(PAGE)]
    (serve,) = [block for serves, block in blocks if serves]
    with postgresql.running() as server:
        reader = Reader(
            tmp_path,
            {
                "db.example.com:*": f"127.0.0.1:{server.port}",
                "db.example.com/": f"127.0.0.1:{server.port}/",
                "/etc/ssl/certs/db-ca.pem": str(encrypt(server, tmp_path)),
                "redis.example.com:6379": redis.url.split("/")[2],
                "10.0.0.21 --port 8000": f"127.0.0.1 --port {port}",
                "10.0.0.10": "127.0.0.1",
                "https://id.example.com": url,
            },
            {"ADMIN": server.url("postgres", user="postgres")},
        )

        printed = ""

        def attempt() -> int:
            """Serve as the page says, and log in with a wrong password."""
            command = ["bash", "-c", reader.written(serve)]
            with program(command, cwd=tmp_path, environ=reader.environ) as running:
                running.wait_for_port(port)
                assert httpx2.get(f"{url}/health", timeout=60).json()["ready"] is True
                with httpx2.Client(base_url=url, timeout=60) as browser:
                    page = browser.get("/oauth/login").text
                    fields = dict(re.findall(r'hidden" name="(\w+)" value="([^"]*)"', page))
                    wrong = fields | {"username": "ada", "password": "a wrong password"}
                    assert browser.post("/oauth/login", data=wrong).status_code == 403
                password = (tmp_path / "auth.pgpass").read_text().strip().rpartition(":")[2]
                assert password not in running.output + printed
            with redis.client() as client:
                return len(client.keys("{bearerguard}:*"))

        store = "--store sqlite:///auth.db"
        reader.run(f"bearerguard user add ada {store}", given="correct horse battery\n")
        reader.run(f"bearerguard client add Notes --id notes {store}")
        reader.run(f"bearerguard keys rotate {store}")
        kept: list[int] = []
        for serves, block in blocks:
            if serves:
                kept.append(attempt())
            else:
                printed += reader.run(block)
        kept.append(attempt())
        with server.connect("auth") as connection:
            query = "SELECT count(*) FROM login_attempts"
            assert connection.execute(query).fetchone() == (2,)
        with server.connect("auth_restored") as connection:
            assert connection.execute("SELECT client_id FROM clients").fetchone() == ("notes",)
    assert kept[0] == 0
    assert kept[1] > 2, "the attempts, the log of revocations and its mark"
    assert "rows of" in printed
    assert printed.count("notes") == 2, "both backups have the client"
    assert "is withdrawn" in printed


def test_a_database_without_the_named_certificate_is_not_used(tmp_path: Path) -> None:
    with postgresql.running() as server:
        encrypt(server, tmp_path)
        name = server.create_database()
        other = tmp_path / "other.pem"
        key = ("-nodes", "-keyout", str(tmp_path / "other.key"), "-subj", "/CN=127.0.0.1")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", *key, "-out", str(other)],
            check=True,
            capture_output=True,
        )
        for authority, works in ((tmp_path / "ca.pem", True), (other, False)):
            url = server.url(name, sslmode="verify-full", sslrootcert=str(authority))
            if works:
                Database(url, connections=1).close()
            else:
                with pytest.raises(StoreUnavailable, match="certificate") as raised:
                    Database(url, connections=1)
                assert postgresql.PASSWORD not in str(raised.value)
