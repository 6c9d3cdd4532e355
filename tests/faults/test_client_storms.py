"""Fifty requests that are refused at once have one token asked for, whoever sends them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import anyio
import httpx2
import pytest

from bearerguard.client import BearerAuth, TokenManager
from bearerguard.server import Registered
from tests.faults.client_process import robot
from tests.faults.size import size
from tests.server.serving import ROOT, Served, served

COMMAND = ("uvicorn", "tests.faults.client_api:app", "--no-access-log", "--port", "{port}")
AT_ONCE, ROUNDS = 50, size(20, 2)


@pytest.fixture
def api(tmp_path: Path) -> Generator[Served]:
    with served(tmp_path, COMMAND) as running:
        yield running


def seen(api: Served) -> Counter[str]:
    return Counter(httpx2.get(f"{api.url}/seen", timeout=30).json())


def revoke_all(api: Served) -> None:
    httpx2.get(f"{api.url}/revoke", timeout=30).raise_for_status()


def manager(api: Served, folder: Path, client: Registered) -> TokenManager:
    return robot(api.url, folder / "state" / "tokens", client.client_id, client.client_secret or "")


class Tally:
    """What came of each round."""

    def __init__(self, api: Served, who: str) -> None:
        self._api, self._who = api, who
        self._before = seen(api)
        self.statuses: Counter[int] = Counter()
        self.asked: list[int] = []
        self.refused: list[int] = []

    def round(self, statuses: list[int]) -> None:
        after = seen(self._api)
        self.statuses.update(statuses)
        self.asked.append(after["tokens"] - self._before["tokens"])
        self.refused.append(after["refused"] - self._before["refused"])
        self._before = after

    def check(self) -> None:
        print(f"\n{ROUNDS} x {AT_ONCE} requests at once by {self._who}, their token revoked:")
        print(f"  {dict(self.statuses)}, 401s at first {self.refused}, tokens asked {self.asked}")
        assert self.statuses == {200: AT_ONCE * ROUNDS}
        assert self.asked == [1] * ROUNDS
        assert min(self.refused) > 1


def test_CL_04_fifty_threads_that_are_refused_at_once_have_one_token_asked_for(
    api: Served, tmp_path: Path
) -> None:
    start = Barrier(AT_ONCE)
    with (
        httpx2.Client(auth=BearerAuth(manager(api, tmp_path, api.add())), timeout=30) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        client.get(f"{api.url}/x").raise_for_status()

        def call(_: int) -> int:
            start.wait()
            return client.get(f"{api.url}/x").status_code

        tally = Tally(api, "threads")
        for _ in range(ROUNDS):
            revoke_all(api)
            tally.round(list(pool.map(call, range(AT_ONCE))))
    tally.check()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_CL_04_fifty_tasks_that_are_refused_at_once_have_one_token_asked_for(
    api: Served, tmp_path: Path, backend: str
) -> None:
    tokens = manager(api, tmp_path, api.add())
    tally = Tally(api, f"tasks ({backend})")

    async def main() -> None:
        async with httpx2.AsyncClient(auth=BearerAuth(tokens), timeout=30) as client:
            (await client.get(f"{api.url}/x")).raise_for_status()
            tally.round([])
            tally.asked.clear()
            tally.refused.clear()
            for _ in range(ROUNDS):
                await anyio.to_thread.run_sync(revoke_all, api)
                statuses: list[int] = []

                async def call(found: list[int] = statuses) -> None:
                    found.append((await client.get(f"{api.url}/x")).status_code)

                async with anyio.create_task_group() as tasks:
                    for _ in range(AT_ONCE):
                        tasks.start_soon(call)
                await anyio.to_thread.run_sync(tally.round, statuses)

    anyio.run(main, backend=backend)
    tally.check()


def test_CL_04_fifty_requests_of_four_processes_have_one_token_asked_for(
    api: Served, tmp_path: Path
) -> None:
    client = api.add()
    given = (api.url, str(tmp_path / "state" / "tokens"), client.client_id, client.client_secret)
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.client_process", "call", *given, str(width)],  # type: ignore[list-item]
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for width in (13, 13, 12, 12)
    ]
    try:
        assert [_line(each) for each in processes] == ["READY"] * 4
        assert seen(api)["tokens"] == 1, "the four do not share their token"
        tally = Tally(api, "4 processes that share an encrypted file")
        for _ in range(ROUNDS):
            revoke_all(api)
            for each in processes:
                assert each.stdin is not None
                each.stdin.write("\n")
                each.stdin.flush()
            tally.round([status for each in processes for status in json.loads(_line(each))])
    finally:
        for each in processes:
            each.kill()
            each.communicate()
    tally.check()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
