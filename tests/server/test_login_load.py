"""Under a load of logins, token requests still get responses: passwords have their own threads."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import islice
from typing import Any
from urllib.parse import urlencode

import anyio
import argon2
import httpx2
import pytest

from bearerguard import Request, Response
from bearerguard.server import PeopleOptions
from tests.server.harness import FORM, ISSUER, Harness, Make
from tests.server.people.visitor import Visitor

PASSWORD = "correct horse battery"
REFERENCE = re.compile(r"\b[2-9B-Z]{4}-[2-9B-Z]{4}\b")


class Storm:
    """Many people with a filled-in login form, while argon2's own threads are held."""

    def __init__(self, make: Make, people: int, **options: Any) -> None:
        self.harness: Harness = make(
            people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST), **options
        )
        self.harness.server.users.add("ada", PASSWORD)
        self.forms = [self._form() for _ in range(people)]
        self.robot = self.harness.add("Robot", redirect_uris=[])
        self.own = {"grant_type": "client_credentials"} | self.harness.credentials(self.robot)
        self.gate = threading.Event()
        workers = self.harness.server.users._passwords._pool._workers
        for _ in range(2):
            workers.executor.submit(self.gate.wait)
        self.places = workers.places

    def _form(self) -> tuple[dict[str, str], bytes]:
        visitor = Visitor(self.harness.server.handle)
        page = visitor.get("/oauth/login")
        cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
        fields = {**page.fields, "username": "ada", "password": PASSWORD}
        return {"Cookie": cookie, "Content-Type": FORM}, urlencode(fields).encode()

    @property
    def waiting(self) -> int:
        """How many requests hold a thread until their password is looked at."""
        return 4 - self.places._value

    @contextmanager
    def held(self) -> Generator[None]:
        """Let go of argon2's threads at the end, whatever happens."""
        try:
            yield
        finally:
            self.gate.set()


async def until(reached: Callable[[], bool]) -> None:
    while not reached():  # noqa: ASYNC110 - there is no event to wait for
        await anyio.sleep(0.005)  # what is waited for happens in other threads


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_under_asgi_tokens_are_issued_and_introspected_while_logins_wait(
    make: Make, backend: str
) -> None:
    storm = Storm(make, 9)
    transport = httpx2.ASGITransport(storm.harness.server.asgi_app())
    logins: list[int] = []

    async def program() -> None:
        async with httpx2.AsyncClient(transport=transport, base_url=ISSUER) as http:

            async def sign_in(headers: dict[str, str], body: bytes) -> None:
                response = await http.post("/oauth/login", headers=headers, content=body)
                logins.append(response.status_code)

            async with anyio.create_task_group() as tasks:
                for headers, body in storm.forms:
                    tasks.start_soon(sign_in, headers, body)
                with storm.held(), anyio.fail_after(60):
                    await until(lambda: storm.waiting == 4)
                    token = await http.post("/oauth/token", data=storm.own)
                    asked = storm.harness.credentials(storm.robot) | {
                        "token": token.json()["access_token"]
                    }
                    assert (await http.post("/oauth/introspect", data=asked)).json()["active"]
                    assert (await http.get("/oauth/login")).status_code == 200
                    assert (logins, storm.waiting) == ([], 4), "they waited all the time"

    anyio.run(program, backend=backend)
    assert logins == [303] * 9, "nobody was turned away"


def test_under_asgi_some_logins_wait_and_the_rest_get_503(make: Make) -> None:
    storm = Storm(make, 1)
    headers, body = storm.forms[0]
    transport = httpx2.ASGITransport(storm.harness.server.asgi_app())
    statuses: Counter[int] = Counter()
    shown: list[str] = []

    async def program() -> None:
        async with httpx2.AsyncClient(transport=transport, base_url=ISSUER) as http:

            async def sign_in() -> None:
                response = await http.post("/oauth/login", headers=headers, content=body)
                statuses[response.status_code] += 1
                if response.status_code == 503:
                    assert response.headers["retry-after"] == "5"
                    assert "Many people are signing in" in response.text
                    shown.append(REFERENCE.findall(response.text)[0])

            async with anyio.create_task_group() as tasks:
                for _ in range(110):
                    tasks.start_soon(sign_in)
                with storm.held(), anyio.fail_after(60):
                    await until(lambda: statuses[503] == 6 and storm.waiting == 4)
                    assert statuses == {503: 6}

    anyio.run(program)
    assert statuses.total() == 110
    refused = [each.details for each in storm.harness.named("request_refused")]
    assert [each["reference"] for each in refused] == shown
    assert {(each["endpoint"], each["reason"]) for each in refused} == {
        ("/oauth/login", "no_thread")
    }


def test_in_eight_threads_of_a_wsgi_server_half_are_left_to_programs(make: Make) -> None:
    storm = Storm(make, 10)
    handle = storm.harness.server.handle

    def sign_in(headers: dict[str, str], body: bytes) -> Response:
        return handle(Request("POST", "/oauth/login", headers, body))

    with ThreadPoolExecutor(8) as pool:
        logins: list[Future[Response]] = [pool.submit(sign_in, *form) for form in storm.forms]
        with storm.held():
            token = pool.submit(lambda: storm.harness.token(storm.robot, **storm.own))
            assert token.result(60).status == 200
            turned_away = list(islice(as_completed(logins, timeout=60), 6))
            assert [login.result().status for login in turned_away] == [503] * 6
            assert storm.waiting == 4
        statuses = Counter(login.result(60).status for login in logins)
    assert statuses == {303: 4, 503: 6}


@pytest.mark.parametrize(("threads", "places"), [(1, 1), (2, 1), (4, 2), (16, 8)])
def test_with_other_numbers_of_threads_half_of_them_wait_at_most(
    make: Make, threads: int, places: int
) -> None:
    storm = Storm(make, 0, threads=threads)
    with storm.held():
        assert storm.places._value == places
