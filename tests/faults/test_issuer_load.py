"""What callers of real servers notice while the issuer is away, or rotates its keys, under load.

BEARERGUARD_STRESS=1 runs it in the size of `scripts/stress`; the figures are printed.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

import httpx2
import pytest

from tests.faults.issuer_place import Place, says_nothing
from tests.faults.size import size
from tests.processes import free_port, program
from tests.server.serving import ROOT

OUTAGE, CLIENTS = size(300, 15), 4
ROTATIONS = size(20, 3)
COOLDOWN = 1.0
_MODULE = "tests.faults.guarded_api"
UVICORN = ("uvicorn", f"{_MODULE}:app", "--no-access-log", "--port", "{port}")
GUNICORN = ("gunicorn", f"{_MODULE}:wsgi", "-b", "127.0.0.1:{port}", "--keep-alive", "60")
THREADS = (*GUNICORN, "--threads", "8")
GEVENT = (*GUNICORN, "-k", "gevent")


@contextmanager
def api(place: Place, command: Sequence[str], **environ: str) -> Generator[str]:
    """Run an API that trusts the issuer; gets its URL."""
    port = free_port()
    arguments = [part.format(port=port) for part in command]
    variables = {
        "ISSUER": place.url,
        "AUDIENCE": place.issuer.audience,
        "COOLDOWN": str(COOLDOWN),
        "PYTHONPATH": str(ROOT),
        **environ,
    }
    with program([sys.executable, "-m", *arguments], cwd=ROOT, environ=variables) as running:
        running.wait_for_port(port)
        yield f"http://127.0.0.1:{port}"


class Load:
    """Clients that call without pause, each time with what `token` returns."""

    def __init__(self, url: str, token: Callable[[], str], clients: int = CLIENTS) -> None:
        self.statuses: Counter[int] = Counter()
        self.slowest = 0.0
        self._url, self._token = url, token
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._call) for _ in range(clients)]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join(60)

    def _call(self) -> None:
        with httpx2.Client(timeout=30) as client:
            while not self._over.is_set():
                began = time.perf_counter()
                status = called(client, self._url, self._token())
                with self._lock:
                    self.statuses[status] += 1
                    self.slowest = max(self.slowest, time.perf_counter() - began)


def called(client: httpx2.Client, url: str, token: str) -> int:
    return client.get(url, headers={"Authorization": f"Bearer {token}"}).status_code


def test_each_request_with_a_known_key_passes_while_the_issuer_is_away() -> None:
    """The keys are due every second or two, so that refreshes fail all the time."""
    with Place() as place, ExitStack() as stack:
        warm = place.issuer.token(expires_in=OUTAGE + 3600)
        urls = {
            kind: stack.enter_context(api(place, command, REFRESH="2", TIMEOUT="0.5"))
            for kind, command in (("asgi", UVICORN), ("wsgi", THREADS))
        }
        client = stack.enter_context(httpx2.Client(timeout=30))
        for url in urls.values():
            assert called(client, url, warm) == 200
        loads = {
            f"{kind}, {what}": stack.enter_context(Load(url, token, clients=2))
            for kind, url in urls.items()
            for what, token in (("warm", lambda: warm), ("new tokens", place.issuer.token))
        }
        with place.refusing():
            time.sleep(OUTAGE / 2)
        with place.black_holed():
            time.sleep(OUTAGE / 2)
        stack.pop_all().close()
    for name, load in loads.items():
        count = load.statuses.total()
        print(
            f"{OUTAGE} s of outage, {name}: {load.statuses[200]} of {count} requests passed,"
            f" the slowest took {load.slowest * 1000:.0f} ms"
        )
        assert load.statuses == {200: count}, name
        assert count > OUTAGE


@pytest.mark.parametrize("command", [UVICORN, THREADS, GEVENT], ids=["asgi", "wsgi", "gevent"])
def test_no_request_fails_while_the_issuer_rotates_its_keys(command: Sequence[str]) -> None:
    with Place() as place, api(place, command) as url, httpx2.Client(timeout=30) as client:
        assert called(client, url, place.issuer.token()) == 200
        asked = place.asked
        with Load(url, place.issuer.token) as load:
            for _ in range(ROTATIONS):
                place.issuer.rotate()
                time.sleep(COOLDOWN * 1.1)
        count = load.statuses.total()
        print(f"{ROTATIONS} rotations: {count} requests passed, {place.asked - asked} fetches")
        assert load.statuses == {200: count}
        assert place.asked - asked <= ROTATIONS


def _pids(client: httpx2.Client, url: str, token: str, wanted: int) -> set[str]:
    found: set[str] = set()
    deadline = time.monotonic() + 20
    while len(found) < wanted and time.monotonic() < deadline:
        answer = client.get(
            url, headers={"Authorization": f"Bearer {token}", "Connection": "close"}
        )
        assert answer.status_code == 200
        found.add(answer.headers["x-pid"])
    return found


@pytest.mark.parametrize("worker", ["gthread", "gevent"])
def test_workers_that_were_forked_with_keys_notice_a_withdrawn_one(worker: str) -> None:
    """The guard has fetched keys, and has its thread, before gunicorn forks (`--preload`)."""
    command = (*GUNICORN, "--preload", "--workers", "2", "-k", worker)
    with Place() as place, httpx2.Client(timeout=30) as client:
        old = place.issuer.token()
        with api(place, command, WARM="1", REFRESH="1") as url:
            assert len(_pids(client, url, old, 2)) == 2
            place.issuer.rotate(keep=False)
            deadline = time.monotonic() + 10
            refusals = 0
            while refusals < 20 and time.monotonic() < deadline:
                time.sleep(0.05)
                answer = client.get(
                    url, headers={"Authorization": f"Bearer {old}", "Connection": "close"}
                )
                assert answer.status_code in {200, 401}
                refusals = refusals + 1 if answer.status_code == 401 else 0
            assert refusals == 20
            assert len(_pids(client, url, place.issuer.token(), 2)) == 2


def test_a_gevent_worker_serves_warm_requests_while_the_issuer_hangs() -> None:
    """One process, one thread: a fetch that waits must not hold up the others."""
    with Place() as place, ExitStack() as stack:
        issuer = place.issuer
        secret = issuer.introspection.client_secret
        url = stack.enter_context(api(place, GEVENT, INTROSPECTION=secret))
        warm, opaque = issuer.token(), issuer.opaque_token()
        with httpx2.Client(timeout=30) as client:
            assert called(client, url, warm) == 200
            assert called(client, url, opaque) == 200
            hanging = place.answering(says_nothing)
            with hanging, Load(url, issuer.opaque_token, clients=8) as waiting:
                time.sleep(0.3)
                taken = []
                for _ in range(20):
                    began = time.perf_counter()
                    assert called(client, url, warm) == 200
                    taken.append(time.perf_counter() - began)
            assert set(waiting.statuses) == {503}
            print(f"gevent, warm beside 8 that wait: {max(taken) * 1000:.0f} ms at most")
            assert max(taken) < 1.5  # the timeout of a fetch is 2 s


def test_first_uses_at_once_in_a_gevent_worker_cost_one_fetch() -> None:
    with Place() as place, api(place, GEVENT) as url:
        token = place.issuer.token()
        together, statuses = threading.Barrier(40), Counter[int]()

        def first() -> None:
            with httpx2.Client(timeout=30) as client:
                together.wait(30)
                statuses[called(client, url, token)] += 1

        threads = [threading.Thread(target=first) for _ in range(40)]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        assert statuses == {200: 40}
        assert place.issuer.hits["/jwks"] == 1
