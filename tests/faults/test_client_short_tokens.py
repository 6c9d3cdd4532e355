"""Tokens of two seconds, renewed for a minute under load: no request fails."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx2
import pytest

from bearerguard.client import BearerAuth, RefreshToken, TokenManager
from tests.faults.client_process import robot, storage
from tests.faults.size import size
from tests.faults.test_client_storms import COMMAND, seen
from tests.server.serving import Served, served

SECONDS, REQUESTS = size(60, 6), size(10_000, 1_000)
WIDTH = 8


class Load:
    """Counts answers, until there were enough of them and the time is over."""

    def __init__(self, url: str) -> None:
        self.url = f"{url}/x"
        self.answers: Counter[str] = Counter()
        self.tokens: set[str] = set()
        self._until = time.monotonic() + SECONDS
        self._lock = threading.Lock()

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._until and self.answers.total() >= REQUESTS

    def note(self, answer: httpx2.Response) -> None:
        with self._lock:
            self.answers[str(answer.status_code)] += 1
            self.tokens.add(answer.request.headers["authorization"])

    def note_error(self, error: Exception) -> None:
        with self._lock:
            self.answers[repr(error)] += 1


def by_threads(manager: TokenManager, load: Load) -> None:
    def call() -> None:
        with httpx2.Client(auth=BearerAuth(manager, origins=load.url), timeout=30) as client:
            while not load.is_over:
                try:
                    load.note(client.get(load.url))
                except Exception as error:
                    load.note_error(error)

    threads = [threading.Thread(target=call) for _ in range(WIDTH)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


def by_tasks(manager: TokenManager, load: Load) -> None:
    async def main() -> None:
        auth = BearerAuth(manager, origins=load.url)
        async with httpx2.AsyncClient(auth=auth, timeout=30) as client:

            async def call() -> None:
                while not load.is_over:
                    try:
                        load.note(await client.get(load.url))
                    except Exception as error:
                        load.note_error(error)

            async with anyio.create_task_group() as tasks:
                for _ in range(WIDTH):
                    tasks.start_soon(call)

    anyio.run(main)


def refreshing(api: Served, folder: Path) -> TokenManager:
    client = api.add()
    first = api.redeem(client, api.code(client)).json()["refresh_token"]
    source = RefreshToken(
        api.url,
        client_id=client.client_id,
        client_secret=client.client_secret,
        refresh_token=first,
        resources=api.url,
    )
    return TokenManager(source, storage=storage(folder / "state" / "tokens"))


def credentials(api: Served, folder: Path) -> TokenManager:
    client = api.add()
    file = folder / "state" / "tokens"
    return robot(api.url, file, client.client_id, client.client_secret or "")


@pytest.mark.parametrize("source", [credentials, refreshing])
@pytest.mark.parametrize("sender", [by_threads, by_tasks])
def test_CL_01_no_request_fails_while_tokens_of_two_seconds_are_renewed(
    tmp_path: Path,
    source: Callable[[Served, Path], TokenManager],
    sender: Callable[[TokenManager, Load], None],
) -> None:
    with served(tmp_path, COMMAND, LIFETIME="2") as api:
        manager = source(api, tmp_path)
        before = seen(api)
        load = Load(api.url)
        sender(manager, load)
        after = seen(api)
    asked, refused = after["tokens"] - before["tokens"], after["refused"] - before["refused"]
    failed = load.answers.total() - load.answers["200"]
    print(f"\n{load.answers.total()} requests {sender.__name__}, {source.__name__}, {SECONDS} s:")
    print(f"  {failed} failed; {asked} token requests, {refused} answered 401 and sent again")
    assert load.answers == {"200": load.answers.total()}
    assert load.answers.total() >= REQUESTS
    # Each lived for two seconds, so there were several; each was asked for by one.
    assert SECONDS / 2 - 1 <= len(load.tokens) <= asked + 1
