"""Every part of the benchmark runs; no time is asserted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks.__main__ import PARTS, SERVER_PARTS
from benchmarks.children import ROOT, environment
from benchmarks.server_tokens.servers import OURS, POSTGRESQL, SQLITE, Kind

# These load real servers.
WITH_WRK = {"server", "workers"}
SECONDS = 300


@pytest.mark.parametrize("part", [*PARTS, *SERVER_PARTS])
def test_a_part_runs_and_prints_figures(part: str, tmp_path: Path) -> None:
    if part in WITH_WRK and shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", part, "--quick", "--output", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "eyJ" not in done.stdout + done.stderr, "a token was printed"
    assert len(done.stdout.splitlines()) > 5
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["parts"][part], "no figure was kept"
    assert ET.parse(tmp_path / "benchmark.svg").getroot().tag.endswith("svg")


def test_an_unknown_part_is_named_with_those_that_exist(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nonesuch", "--output", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert "no such part: nonesuch" in done.stderr
    assert "asgi" in done.stderr


def test_parts_that_are_run_only_when_named_are_not_among_the_others() -> None:
    assert not set(PARTS) & set(SERVER_PARTS)


def test_a_server_is_chosen_by_its_name_or_the_beginning_of_it() -> None:
    sqlite, postgresql = (Kind(OURS, engine, 2, "ES256") for engine in (SQLITE, POSTGRESQL))
    assert sqlite.is_chosen(())
    assert sqlite.is_chosen(("oidc-provider", "ours-sqlite"))
    assert sqlite.is_chosen(("ours-sqlite-2-es256",))
    assert not postgresql.is_chosen(("ours-sqlite",))
    assert not Kind(OURS, SQLITE, 4, "ES256").is_chosen(("ours-sqlite-2",))
