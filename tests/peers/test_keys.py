"""Rotation, outage and herds: how often the issuer is asked, and what callers notice."""

from __future__ import annotations

import base64
import json
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx2
import pytest

from bearerguard import Guard, Issuer, KeyPolicy, TokenError
from tests.examples.servers import serving
from tests.peers.conftest import OidcProvider, bearer

AUDIENCE = "urn:api:ES256"
PATH = "/api/v1/recordings"
HERD = 100


def renamed(token: str, kid: str) -> str:
    """The same token under another kid: nobody can have signed it."""
    header, payload, signature = token.split(".")
    members = json.loads(base64.urlsafe_b64decode(header + "=="))
    octets = json.dumps(members | {"kid": kid}).encode()
    return f"{base64.urlsafe_b64encode(octets).decode().rstrip('=')}.{payload}.{signature}"


async def herd(url: str, tokens: list[str]) -> list[int]:
    """Send all at once; return the statuses."""
    statuses: list[int] = []
    async with httpx2.AsyncClient(timeout=30) as client, anyio.create_task_group() as group:

        async def call(token: str) -> None:
            statuses.append((await client.get(url + PATH, headers=bearer(token))).status_code)

        for token in tokens:
            group.start_soon(call, token)
    return statuses


@pytest.mark.parametrize(("server", "processes"), [("waitress", 1), ("gunicorn", 2), ("flask", 1)])
def test_a_cold_herd_of_threads_costs_one_fetch_a_process(
    server: str, processes: int, issuer: OidcProvider
) -> None:
    token = issuer.token("ES256")
    with serving(server, issuer.url, AUDIENCE) as url:
        issuer.delay(300)
        assert anyio.run(herd, url, [token] * HERD) == [200] * HERD
        assert 1 <= issuer.hits <= processes


def test_a_cold_herd_of_tasks_costs_one_fetch(issuer: OidcProvider) -> None:
    # The example warms its guard at start; here the keys are still to be fetched.
    guard = Guard(Issuer(issuer.url, audience=AUDIENCE))
    token = issuer.token("ES256")
    issuer.delay(200)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(HERD):
                group.start_soon(guard.averify, token)

    with guard:
        anyio.run(main)
        assert issuer.hits == 1


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_all_who_wait_for_a_cancelled_leader_get_a_response(
    backend: str, issuer: OidcProvider
) -> None:
    guard = Guard(Issuer(issuer.url, audience=AUDIENCE))
    token = issuer.token("ES256")
    issuer.delay(200)
    answered: list[str] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            leader = anyio.CancelScope()

            async def lead() -> None:
                with leader:
                    await guard.averify(token)

            async def follow() -> None:
                answered.append((await guard.averify(token)).identity)

            group.start_soon(lead)
            await anyio.sleep(0.05)
            for _ in range(HERD):
                group.start_soon(follow)
            await anyio.sleep(0.05)
            leader.cancel()

    with guard:
        anyio.run(main, backend=backend)
    assert answered == ["caller"] * HERD


@pytest.mark.parametrize("server", ["uvicorn", "waitress"])
def test_a_thousand_random_kids_cost_three_fetches(server: str, issuer: OidcProvider) -> None:
    token = issuer.token("ES256")
    with serving(server, issuer.url, AUDIENCE) as url, httpx2.Client(base_url=url) as client:
        assert client.get(PATH, headers=bearer(token)).status_code == 200
        before = issuer.hits
        random_kids = [renamed(token, secrets.token_hex(8)) for _ in range(1000)]
        statuses = {client.get(PATH, headers=bearer(each)).status_code for each in random_kids}
        assert statuses == {401}
        assert issuer.hits - before <= 3
        assert client.get(PATH, headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("server", ["uvicorn", "waitress"])
def test_a_rotated_key_is_accepted_at_once_and_a_dropped_one_refused(
    server: str, issuer: OidcProvider
) -> None:
    old = issuer.token("ES256")
    with serving(server, issuer.url, AUDIENCE) as url, httpx2.Client(base_url=url) as client:
        assert client.get(PATH, headers=bearer(old)).status_code == 200

        issuer.rotate(keep=True)
        began = time.monotonic()
        kept = issuer.token("ES256")
        assert client.get(PATH, headers=bearer(kept)).status_code == 200
        print(f"{server}: a rotated key was accepted after {time.monotonic() - began:.3f} s")
        assert client.get(PATH, headers=bearer(old)).status_code == 200

        issuer.rotate(keep=False)
        assert client.get(PATH, headers=bearer(issuer.token("ES256"))).status_code == 200
        # That fetch was the next refresh: what the dropped keys signed is over, cached or not.
        assert client.get(PATH, headers=bearer(old)).status_code == 401
        assert client.get(PATH, headers=bearer(kept)).status_code == 401


def test_a_dropped_key_is_refused_at_the_next_refresh_ahead(issuer: OidcProvider) -> None:
    guard = Guard(Issuer(issuer.url, audience=AUDIENCE, key_policy=KeyPolicy(refresh=0.5)))
    token = issuer.token("ES256")
    with guard:
        guard.verify(token)
        issuer.rotate(keep=False)
        deadline = time.monotonic() + 10
        while _is_accepted(guard, token):
            assert time.monotonic() < deadline, "the dropped key was accepted for 10 s"
            time.sleep(0.05)
        with pytest.raises(TokenError, match="unknown_key"):
            guard.verify(token)


def _is_accepted(guard: Guard, token: str) -> bool:
    try:
        guard.verify(token)
    except TokenError:
        return False
    return True


@pytest.mark.parametrize("server", ["uvicorn", "waitress"])
def test_in_an_outage_known_keys_pass_and_unknown_ones_are_503(
    server: str, issuer: OidcProvider
) -> None:
    first, second = issuer.token("ES256"), issuer.token("ES256")
    with serving(server, issuer.url, AUDIENCE) as url, httpx2.Client(base_url=url) as client:
        assert client.get(PATH, headers=bearer(first)).status_code == 200
        healthy = _median(client, first)
        issuer.outage(on=True)
        assert client.get(PATH, headers=bearer(first)).status_code == 200
        assert client.get(PATH, headers=bearer(second)).status_code == 200
        before = issuer.hits
        for _ in range(20):
            answer = client.get(PATH, headers=bearer(renamed(first, secrets.token_hex(8))))
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            assert "www-authenticate" not in answer.headers
        assert issuer.hits - before <= 2
        down = _median(client, first)
        print(f"{server}: {down / healthy:.2f} x the latency of a healthy issuer")
        issuer.outage(on=False)


def _median(client: httpx2.Client, token: str) -> float:
    taken = []
    for _ in range(50):
        began = time.perf_counter()
        client.get(PATH, headers=bearer(token))
        taken.append(time.perf_counter() - began)
    return sorted(taken)[25]


def test_a_cold_guard_answers_503_in_an_outage_and_recovers(issuer: OidcProvider) -> None:
    token = issuer.token("ES256")
    issuer.outage(on=True)
    with serving("waitress", issuer.url, AUDIENCE) as url, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: httpx2.get(url + PATH, headers=bearer(token)), range(40)))
        assert {answer.status_code for answer in answers} == {503}
        issuer.outage(on=False)
        deadline = time.monotonic() + 10
        while httpx2.get(url + PATH, headers=bearer(token)).status_code == 503:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert httpx2.get(url + PATH, headers=bearer(token)).status_code == 200
