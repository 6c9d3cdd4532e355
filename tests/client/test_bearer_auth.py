"""What each library's `BearerAuth` does against a real API with a real authorization server."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import requests

from bearerguard import ConfigurationError
from bearerguard.client import BearerAuth, ClientCredentials, TokenManager
from bearerguard.client import httpx as for_httpx
from bearerguard.client import requests as for_requests
from bearerguard.errors import InsufficientScope, StepUpRequired
from tests.server.serving import Served, served

COMMAND = ("uvicorn", "tests.client.apps:app", "--no-access-log", "--port", "{port}")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    with served(tmp_path_factory.mktemp("api"), COMMAND) as running:
        yield running


@pytest.fixture
def api(process: Served) -> Served:
    httpx2.get(f"{process.url}/reset")
    return process


def manager(api: Served) -> TokenManager:
    client = api.add()
    return TokenManager(
        ClientCredentials(
            api.url,
            client_id=client.client_id,
            client_secret=client.client_secret,
            scopes="read",
            resources=api.url,
        )
    )


def token_requests(api: Served) -> int:
    count: int = httpx2.get(f"{api.url}/tokens").json()["tokens"]
    return count


@pytest.fixture(params=["httpx2", "httpx", "requests"])
def get(request: Any, api: Served) -> Generator[Any]:
    tokens = manager(api)
    if request.param == "httpx2":
        with httpx2.Client(auth=BearerAuth(tokens)) as client:
            yield client.request
    elif request.param == "httpx":
        with httpx.Client(auth=for_httpx.BearerAuth(tokens)) as old:
            yield old.request
    else:
        with requests.Session() as session:
            session.auth = for_requests.BearerAuth(tokens)
            yield session.request


def test_CL_02_a_401_has_the_token_renewed_and_the_request_sent_again(
    api: Served, get: Any
) -> None:
    first = get("GET", f"{api.url}/x")
    httpx2.get(f"{api.url}/revoke")
    second = get("POST", f"{api.url}/x", data={"a": "body"})
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.text != second.text
    assert token_requests(api) == 2


def test_CL_02_a_body_that_is_a_stream_is_not_sent_again(api: Served, get: Any) -> None:
    first = get("GET", f"{api.url}/x")
    httpx2.get(f"{api.url}/revoke")
    body = iter([b"one", b"two"])
    option = {"data": body} if "requests" in type(get.__self__).__module__ else {"content": body}
    assert get("POST", f"{api.url}/x", **option).status_code == 401
    assert get("GET", f"{api.url}/x").text != first.text
    assert token_requests(api) == 2


def test_CL_02_an_api_that_refuses_every_token_is_asked_twice(api: Served, get: Any) -> None:
    assert get("GET", f"{api.url}/always").status_code == 401
    assert token_requests(api) == 2


def test_CL_03_more_scope_or_another_login_is_demanded_by_an_exception(
    api: Served, get: Any
) -> None:
    with pytest.raises(InsufficientScope, match="write admin") as scope:
        get("GET", f"{api.url}/scope")
    assert scope.value.scopes == ("write", "admin")
    with pytest.raises(StepUpRequired, match="gold silver") as login:
        get("GET", f"{api.url}/login")
    assert (login.value.acr_values, login.value.max_age) == (("gold", "silver"), 5)
    assert token_requests(api) == 1


def test_CL_07_a_token_goes_to_the_bound_origin_only(api: Served, get: Any) -> None:
    with pytest.raises(ConfigurationError, match="origins="):
        get("GET", "http://127.0.0.1:9/x")


def test_CL_04_fifty_threads_that_are_refused_at_once_ask_for_one_token(api: Served) -> None:
    barrier = Barrier(50)
    with httpx2.Client(auth=BearerAuth(manager(api)), timeout=30) as client:
        client.get(f"{api.url}/x")
        httpx2.get(f"{api.url}/revoke")

        def call(_: int) -> int:
            barrier.wait()
            return client.get(f"{api.url}/x").status_code

        with ThreadPoolExecutor(50) as pool:
            assert list(pool.map(call, range(50))) == [200] * 50
    assert token_requests(api) == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_CL_04_fifty_tasks_that_are_refused_at_once_ask_for_one_token(
    api: Served, backend: str
) -> None:
    statuses: list[int] = []

    async def main() -> None:
        async with httpx2.AsyncClient(auth=BearerAuth(manager(api)), timeout=30) as client:
            await client.get(f"{api.url}/x")
            await anyio.to_thread.run_sync(httpx2.get, f"{api.url}/revoke")

            async def call() -> None:
                statuses.append((await client.get(f"{api.url}/x")).status_code)

            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(call)

    anyio.run(main, backend=backend)
    assert statuses == [200] * 50
    assert token_requests(api) == 2
