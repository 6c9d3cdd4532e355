"""One DPoP proof, sent many times at once to several worker processes over a real Redis."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException

from bearerguard.protocol import dpop
from bearerguard.protocol.jose import signing
from bearerguard.testing import LocalIssuer
from tests.faults.worker import AUDIENCE, ISSUER
from tests.faults.workers import ROOT
from tests.processes import START_SECONDS, free_port
from tests.redis_server import RedisServer

WORKERS, THREADS, SENT = 4, 40, 1000
KEY = signing.PrivateKey("ES256", None, signing.generate("ES256"))


@contextmanager
def dpop_workers(redis: RedisServer, issuer: LocalIssuer) -> Generator[list[int]]:
    """Run the workers inside the block, which gets their ports."""
    ports = [free_port() for _ in range(WORKERS)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.dpop_worker", str(port), redis.url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
        )
        for port in ports
    ]
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps(issuer.jwks()).encode())
            process.stdin.close()
        for port in ports:
            _wait(port)
        yield ports
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(START_SECONDS)


def _wait(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            assert connection.getresponse().status == 401
        except (OSError, HTTPException):
            assert time.monotonic() < deadline, "a worker did not start"
            time.sleep(0.05)
        else:
            return
        finally:
            connection.close()


def send_all(ports: list[int], headers: dict[str, str]) -> Counter[int]:
    """Send the same request from many threads at once, in turn to each worker."""
    statuses: list[int] = []
    together = threading.Barrier(THREADS)

    def send(first: int) -> None:
        connections = [HTTPConnection("127.0.0.1", port, timeout=20) for port in ports]
        together.wait()
        for number in range(SENT // THREADS):
            connection = connections[(first + number) % len(ports)]
            connection.request("GET", "/things", headers=headers)
            response = connection.getresponse()
            response.read()
            statuses.append(response.status)
        for connection in connections:
            connection.close()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(statuses)


def test_DP_06_of_a_thousand_uses_of_a_proof_on_four_workers_one_passes(
    redis: RedisServer,
) -> None:
    issuer = LocalIssuer(ISSUER, audience=AUDIENCE)
    token = issuer.token(claims={"cnf": {"jkt": dpop.key_thumbprint(KEY)}})
    with dpop_workers(redis, issuer) as ports:
        found: list[Counter[int]] = []
        for number in range(3):
            proof = dpop.proof(
                KEY,
                "GET",
                f"{AUDIENCE}/things",
                now=time.time(),
                jti=f"proof-{number}",
                access_token=token,
            )
            headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
            began = time.monotonic()
            found.append(send_all(ports, headers))
            seconds = time.monotonic() - began
            print(f"\none proof, {SENT} times on {WORKERS} workers in {seconds:.1f} s: {found[-1]}")
    assert found == [Counter({401: SENT - 1, 200: 1})] * 3
    with redis.client() as client:
        keys = list(client.scan_iter("bearerguard:dpop:*"))
        assert len(keys) == 3
        assert all(0 < client.pttl(key) <= 360_000 for key in keys)
        assert not [key for key in keys if b"proof-" in key]
