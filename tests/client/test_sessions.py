"""Logging in and refreshing, against the authorization server over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import anyio
import httpx2
import pytest

from bearerguard.client import (
    AuthorizationCode,
    BearerAuth,
    ClientCredentials,
    MemoryStorage,
    RefreshToken,
    TokenManager,
)
from bearerguard.errors import (
    LoginRequired,
    StorageError,
    TokenUnavailable,
)
from tests.faults.size import size
from tests.server.serving import Served, served


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    with served(tmp_path_factory.mktemp("server")) as server:
        yield server


def browser(address: str) -> None:
    """Visit an address as the signed-in user, and follow where it sends."""

    def visit() -> None:
        sent = httpx2.get(address, headers={"cookie": "user=ada"}, timeout=30)
        httpx2.get(sent.headers["location"], timeout=30)

    threading.Thread(target=visit).start()


def session(
    running: Served, storage: Any = None, monotonic: Callable[[], float] = time.monotonic
) -> TokenManager:
    client = running.add(redirect_uris=["http://127.0.0.1/callback"])
    source = AuthorizationCode(
        running.url,
        client_id=client.client_id,
        client_secret=client.client_secret,
        scopes="read",
        open_browser=browser,
    )
    return TokenManager(source, storage=storage, monotonic=monotonic)


def test_CL_07_a_login_by_loopback_redirect_ends_with_tokens(running: Served) -> None:
    manager = session(running)
    with pytest.raises(LoginRequired, match="nobody has logged in"):
        manager.token()
    token = manager.login()
    assert token.scopes == ("read",)
    assert manager.token() == token
    assert running.server.introspect(token.access_token)["active"]
    assert manager.logout()
    assert not running.server.introspect(token.access_token)["active"]
    with pytest.raises(LoginRequired):
        manager.token()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_login_works_in_an_event_loop(running: Served, backend: str) -> None:
    manager = session(running)

    async def main() -> bool:
        token = await manager.alogin()
        return await manager.atoken() == token and await manager.alogout()

    assert anyio.run(main, backend=backend)


def test_CL_05_a_rotated_refresh_token_is_kept_before_its_token_is_used(running: Served) -> None:
    storage = MemoryStorage()
    manager = session(running, storage)
    first = manager.login()
    second = manager.renew(manager.lease()).token
    assert second.refresh_token != first.refresh_token
    kept = storage.load(manager.key)
    assert kept is not None
    assert (second.refresh_token or "").encode() in kept
    assert manager.renew(manager.lease()).token.access_token != second.access_token


def test_CL_05_a_refused_refresh_token_is_dropped_and_never_sent_again(running: Served) -> None:
    manager = session(running)
    token = manager.login()
    running.server.revoke(token.refresh_token or "")
    with pytest.raises(LoginRequired) as first:
        manager.renew(manager.lease())
    assert first.value.error == "invalid_grant"
    with pytest.raises(LoginRequired) as second:
        manager.renew(manager.lease())
    assert second.value.error == "login_required"


class FullStorage(MemoryStorage):
    """A disk that is full when a test says so."""

    full = False

    def swap(self, key: str, expected: bytes | None, value: bytes | None) -> bool:
        if self.full:
            raise StorageError("the disk is full: free some of it")
        return super().swap(key, expected, value)


def test_CL_05_a_token_that_cannot_be_kept_is_an_error_and_not_lost(running: Served) -> None:
    storage, seconds = FullStorage(), [1000.0]
    manager = session(running, storage, monotonic=lambda: seconds[0])
    first = manager.login()
    storage.full = True
    with pytest.raises(StorageError, match="full"):
        manager.renew(manager.lease())
    storage.full = False
    seconds[0] += 1.1  # longer than the backoff after one failure
    second = manager.renew(manager.lease()).token
    assert second.refresh_token != first.refresh_token
    assert running.server.introspect(second.access_token)["active"]


def test_CL_05_a_server_that_is_down_costs_no_session(running: Served) -> None:
    client = running.add()
    first = running.redeem(client, running.code(client)).json()["refresh_token"]
    source = RefreshToken(
        "http://127.0.0.1:9",
        token_endpoint="http://127.0.0.1:9/token",
        client_id=client.client_id,
        refresh_token=first,
    )
    manager = TokenManager(source)
    for _ in range(2):
        with pytest.raises(TokenUnavailable):
            manager.token()
    good = RefreshToken(
        running.url,
        client_id=client.client_id,
        client_secret=client.client_secret,
        refresh_token=first,
    )
    assert TokenManager(good).token().refresh_token != first


def test_CL_01_requests_never_fail_while_tokens_of_two_seconds_are_renewed(
    running: Served,
) -> None:
    seconds, threads = size(60, 6), 4
    client = running.add(access_token_lifetime=2)
    source = ClientCredentials(
        running.url,
        client_id=client.client_id,
        client_secret=client.client_secret,
        scopes="read",
        resources=running.url,
    )
    manager = TokenManager(source)
    until = time.monotonic() + seconds
    failed: list[object] = []
    tokens: set[str] = set()
    count = [0] * threads

    def call(number: int) -> None:
        with httpx2.Client(auth=BearerAuth(manager), timeout=30) as http:
            while time.monotonic() < until:
                answer = http.get(f"{running.url}/x")
                token = answer.request.headers["authorization"].partition(" ")[2]
                if token not in tokens:
                    tokens.add(token)
                if answer.status_code != 200 or not manager.token().access_token:
                    failed.append(answer)
                count[number] += 1

    workers = [threading.Thread(target=call, args=(number,)) for number in range(threads)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    print(f"\n{sum(count)} requests in {seconds} s with {len(tokens)} tokens, {len(failed)} failed")
    assert not failed
    assert len(tokens) >= seconds / 2
