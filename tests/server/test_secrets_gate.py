"""The gate that `scripts/test` ends with finds what a server issues where it stands in clear."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from bearerguard.server import Resource
from tests.server.harness import ISSUER, Harness, Make

GATE = Path(__file__).parents[2] / "scripts" / "secrets_gate.py"
OPAQUE = "https://reports.example.com"


@pytest.fixture
def left() -> Generator[Path]:
    """What a run of the tests left; not where the gate of this run looks."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "logs").mkdir()
        (Path(folder) / "logs" / "server.log").write_text("token_issued {}\n")
        yield Path(folder)


def gate(folder: Path) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, GATE, folder], capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout


def issued(harness: Harness) -> dict[str, str]:
    """One of each kind, issued by a server."""
    code = harness.code()
    tokens = harness.redeem(code).json
    opaque = harness.token(grant_type="client_credentials", resource=OPAQUE).json
    found = {
        "code": code,
        "access token": tokens["access_token"],
        "opaque access token": opaque["access_token"],
        "refresh token": tokens["refresh_token"],
        "client secret": harness.app.client_secret or "",
    }
    assert found["opaque access token"].count(".") == 0
    return found


@pytest.mark.sqlite_only
@pytest.mark.parametrize("name", ["auth.db-wal", "postgresql-5432-000000010000000000000001.wal"])
def test_what_a_server_keeps_and_logs_passes_and_each_secret_in_clear_is_found(
    make: Make, left: Path, name: str
) -> None:
    harness = make(resources=[Resource(ISSUER), Resource(OPAQUE, tokens="opaque")])
    secrets = issued(harness)
    harness.server.close()
    (left / "auth.db").write_bytes((harness.folder / "auth.db").read_bytes())
    assert gate(left) == (0, "== Secrets in 1 databases and 1 logs: 0\n")
    for kind, secret in secrets.items():
        (left / name).write_bytes(b"\0" * 40 + secret.encode() + b"\0")
        code, printed = gate(left)
        assert (code, printed.splitlines()[0]) == (1, "== Secrets in 1 databases and 1 logs: 1")
        assert secret[:10] in printed, kind
        assert secret not in printed, kind


def test_a_run_that_left_nothing_to_search_does_not_pass(left: Path) -> None:
    code, printed = gate(left)
    assert code == 1
    assert f"There is no *.db in {left}: nothing was searched" in printed
