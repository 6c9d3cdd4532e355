"""Five worker processes that share a Redis, and the clients that call them."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from bearerguard.testing import LocalIssuer
from tests.faults.worker import AUDIENCE, ISSUER
from tests.processes import START_SECONDS, free_port
from tests.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
# The first one revokes; sync and async workers are among those that must refuse the token.
KINDS = ("asgi", "wsgi", "asgi", "wsgi", "asgi")


class Client:
    """One connection to one worker; of one thread."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=20)

    def get(self, path: str, token: str | None = None) -> tuple[int, bytes]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            self._connection.request("GET", path, headers=headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (HTTPException, OSError):
            self._connection.close()
            raise

    def close(self) -> None:
        self._connection.close()


class Workers:
    """The workers, and every token that was issued to call them."""

    def __init__(self, redis: RedisServer, issuer: LocalIssuer, ports: list[int]) -> None:
        self.redis = redis
        self.ports = ports
        self.issued: dict[str, str] = {}
        self._issuer = issuer

    def token(self) -> tuple[str, str]:
        """Return a new token's jti and the token."""
        name = f"token-{len(self.issued)}"
        self.issued[name] = self._issuer.token(claims={"jti": name})
        return name, self.issued[name]

    def health(self, port: int) -> dict[str, Any]:
        client = Client(port)
        found: dict[str, Any] = json.loads(client.get("/health")[1])
        client.close()
        return found

    def revoke(self, name: str) -> bool:
        """Whether the first worker's `revoke()` returned without an error."""
        client = Client(self.ports[0])
        status = client.get(f"/revoke/{name}")[0]
        client.close()
        assert status in {200, 503}
        return status == 200

    def seconds_until_all_others_refuse(self, token: str, since: float) -> list[float]:
        """Ask the other four at the same time, over and over, for how long they let it pass."""
        found: list[float] = []
        threads = [
            threading.Thread(target=_until_refused, args=(port, token, since, found))
            for port in self.ports[1:]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == len(threads)
        return found


def _until_refused(port: int, token: str, since: float, found: list[float]) -> None:
    client = Client(port)
    while (status := client.get("/", token)[0]) != 401:
        assert status in {200, 503}
        assert time.monotonic() - since < START_SECONDS
    found.append(time.monotonic() - since)
    client.close()


@contextmanager
def workers(redis: RedisServer) -> Generator[Workers]:
    """Run the five while the block lasts."""
    issuer = LocalIssuer(ISSUER, audience=AUDIENCE, algorithm="ES256")
    ports = [free_port() for _ in KINDS]
    with ExitStack() as stack:
        for kind, port in zip(KINDS, ports, strict=True):
            stack.enter_context(_worker(kind, port, redis.url, issuer))
        for port in ports:
            _wait_for(port)
        yield Workers(redis, issuer, ports)


@contextmanager
def _worker(kind: str, port: int, url: str, issuer: LocalIssuer) -> Generator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.worker", kind, str(port), url],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(issuer.jwks()).encode())
    process.stdin.close()
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client = Client(port)
            assert client.get("/health")[0] == 200
            client.close()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


class Load:
    """Clients that send tokens, some of them revoked meanwhile, and keep count.

    Attributes:
        answers: how often each status came.
        leaks: how often a token passed in a request that began at least `grace` seconds
            after its `revoke()` had returned.
    """

    def __init__(self, them: Workers, *, grace: float = 1.0) -> None:
        self.answers: Counter[int | str] = Counter()
        self.leaks = 0
        self._grace = grace
        self._workers = them
        self._live: list[tuple[str, str]] = [them.token() for _ in range(20)]
        self._revoked: list[tuple[float, str]] = []
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(port,)) for port in them.ports]
        self._threads.append(threading.Thread(target=self._revoke))

    @contextmanager
    def running(self) -> Generator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join()

    @property
    def revoked(self) -> int:
        return len(self._revoked)

    def _call(self, port: int) -> None:
        client = Client(port)
        turn = 0
        while not self._stopped.wait(0.002):
            turn += 1
            self._ask(client, self._live[turn % len(self._live)][1])
            revoked = self._revoked
            if revoked:
                # The newest are the likeliest to be lost, the others to be forgotten.
                place = -1 - (turn % 10) if turn % 2 else turn
                at, token = revoked[place % len(revoked)]
                late = time.monotonic() >= at + self._grace
                if self._ask(client, token) == 200 and late:
                    self.leaks += 1
        client.close()

    def _ask(self, client: Client, token: str) -> int | str:
        try:
            status: int | str = client.get("/", token)[0]
        except (HTTPException, OSError) as error:
            status = type(error).__name__
        self.answers[status] += 1
        return status

    def _revoke(self) -> None:
        while not self._stopped.wait(0.03):
            name, token = self._workers.token()
            if self._workers.revoke(name):
                self._revoked.append((time.monotonic(), token))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
