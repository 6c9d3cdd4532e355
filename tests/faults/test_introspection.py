"""Introspection over real sockets: herds, black holes, and endpoints that talk nonsense."""

from __future__ import annotations

import gzip
import socket
import statistics
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from bearerguard import (
    Guard,
    HttpTransport,
    Introspection,
    Issuer,
    IssuerUnavailable,
    Request,
    TokenError,
)
from bearerguard.testing import LocalIssuer
from tests.conformance.drivers import DRIVERS, Protected, Sent
from tests.conformance.introspection_table import CLIENT_KEYS
from tests.raw_servers import certificate, over_tls, raw_server
from tests.warm import recalled

__all__ = ["certificate"]  # a fixture

HERD = 1000
WINDOWS = 12
CREDENTIALS: dict[str, dict[str, Any]] = {
    "client_secret": {},
    "private_key_jwt": {"private_key": CLIENT_KEYS["RS256"]},
}


@contextmanager
def served(timeout: float = 10, **options: Any) -> Generator[tuple[LocalIssuer, Guard]]:
    """An issuer on loopback, and a guard that asks it over HTTP."""
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.serve():
        how = issuer.introspection.options(**options)
        guard = Guard(issuer.issuer(introspection=how), transport=HttpTransport(timeout=timeout))
        with guard:
            yield issuer, guard


def ask_in_tasks(guard: Guard, token: str, backend: str) -> list[str]:
    subjects: list[str] = []

    async def ask() -> None:
        subjects.append((await guard.averify(token)).identity)

    async def main() -> None:
        async with guard, anyio.create_task_group() as group:
            for _ in range(HERD):
                group.start_soon(ask)

    anyio.run(main, backend=backend)
    return subjects


def ask_in_threads(guard: Guard, token: str) -> list[str]:
    subjects: list[str] = []
    together = threading.Barrier(HERD)

    def ask() -> None:
        together.wait()
        subjects.append(guard.verify(token).identity)

    threads = [threading.Thread(target=ask) for _ in range(HERD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return subjects


@pytest.mark.parametrize("credentials", CREDENTIALS)
@pytest.mark.parametrize("driver", ["asyncio", "trio", "threads"])
def test_INT_04_a_thousand_concurrent_first_uses_cost_one_call(
    driver: str, credentials: str
) -> None:
    with served(**CREDENTIALS[credentials]) as (issuer, guard):
        token = issuer.opaque_token(subject="ada")
        issuer.delay = 0.3
        if driver == "threads":
            subjects = ask_in_threads(guard, token)
        else:
            subjects = ask_in_tasks(guard, token, driver)
        assert subjects == ["ada"] * HERD
        assert issuer.hits["/introspect"] == 1
        print(f"{HERD} first uses in {driver} with {credentials}: 1 call")


def test_INT_07_a_black_hole_costs_warm_tokens_nothing_and_new_ones_no_waiting() -> None:
    timeout = 0.3
    with served(timeout=timeout, cache_ttl=600) as (issuer, guard):
        token = issuer.opaque_token()
        guard.verify(token)
        request = Request(headers={"Authorization": f"Bearer {token}"})

        def window() -> float:
            began = time.perf_counter()
            for _ in range(2000):
                assert recalled(guard, b"Bearer " + token.encode()) is not None
            return (time.perf_counter() - began) / 2000

        healthy, black_holed = [], []
        for _ in range(WINDOWS):
            issuer.delay = 0.0
            healthy.append(window())
            issuer.delay = 3.0
            black_holed.append(window())
        ratio = statistics.median(black_holed) / statistics.median(healthy)
        print(
            f"warm opaque tokens, medians of {WINDOWS} interleaved windows:"
            f" healthy {statistics.median(healthy) * 1e6:.2f} µs,"
            f" black-holed {statistics.median(black_holed) * 1e6:.2f} µs, ratio {ratio:.3f}"
        )
        flow = guard.authenticate(request)
        with pytest.raises(StopIteration):  # it returns before any effect
            next(flow)

        waited = []
        for _ in range(3):
            began = time.perf_counter()
            with pytest.raises(IssuerUnavailable):
                guard.verify(issuer.opaque_token())
            waited.append(time.perf_counter() - began)
        before = issuer.hits["/introspect"]
        began = time.perf_counter()
        for _ in range(100):
            flow = guard.authenticate(
                Request(headers={"Authorization": f"Bearer {issuer.opaque_token()}"})
            )
            with pytest.raises(StopIteration) as stop:
                next(flow)
            assert stop.value.value.status == 503
            assert stop.value.value.retry_after >= 1
        taken = time.perf_counter() - began
        assert issuer.hits["/introspect"] == before
        print(
            f"new opaque tokens: the first three waited {max(waited):.2f} s at most (timeout"
            f" {timeout} s), the next hundred {taken * 1e4:.0f} µs each, asking nobody"
        )


def test_INT_07_the_issuer_is_asked_again_when_it_is_back() -> None:
    with served(timeout=0.2) as (issuer, guard):
        guard.warm()
        issuer.delay = 2.0
        for _ in range(3):
            with pytest.raises(IssuerUnavailable):
                guard.verify(issuer.opaque_token())
        assert guard.health()["introspection"][issuer.url]["status"] == "down"
        issuer.delay = 0.0
        token, deadline = issuer.opaque_token(subject="ada"), time.monotonic() + 20
        while True:
            try:
                assert guard.verify(token).subject == "ada"
                break
            except IssuerUnavailable:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert guard.health()["introspection"][issuer.url]["status"] == "ok"


def whole(body: bytes, *, status: str = "200 OK", headers: bytes = b"") -> Callable[..., None]:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n".encode()
    length = f"Content-Length: {len(body)}\r\n".encode()
    return lambda connection: connection.sendall(head + headers + length + b"\r\n" + body)


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n")
    for _ in range(40):
        connection.sendall(b" ")
        time.sleep(0.05)


def pour(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    for _ in range(10):
        connection.sendall(b" " * 1024 * 1024)


NONSENSE: dict[str, Callable[[socket.socket], None]] = {
    "HTML": whole(b"<!doctype html><title>Sign in</title>"),
    "active as text": whole(b'{"active": "true", "aud": "api"}'),
    "10 MB, announced": whole(b'{"active": true}' + b" " * 10 * 1024 * 1024),
    "10 MB, not announced": pour,
    "a slow drip": drip,
    "a redirect": whole(b"", status="307 Temporary Redirect", headers=b"Location: /other\r\n"),
    "a redirect elsewhere": whole(
        b'{"active": true, "aud": "api"}',
        status="302 Found",
        headers=b"Location: http://127.0.0.1:1/\r\n",
    ),
    "a cut answer": lambda connection: connection.sendall(
        b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"active": true, "aud": "api"'
    ),
    "no HTTP": lambda connection: connection.sendall(b"220 ready\r\n"),
    "nothing": lambda _connection: None,
}


def guard_of(endpoint: str, **transport: Any) -> Guard:
    return Guard(
        Issuer(
            "https://issuer.test",
            audience="api",
            tokens="opaque",
            introspection=Introspection("api", client_secret="s", endpoint=endpoint),
        ),
        transport=HttpTransport(timeout=0.4, **transport),
    )


def answers_503_and_caches_nothing(guard: Guard) -> None:
    """Both adapters respond with 503, each after a call of its own."""
    with guard:
        for call in DRIVERS.values():
            answer = call(
                Protected(guard, {}, ()), Sent([("Authorization", b"Bearer opaque-token")])
            )
            assert answer.status == 503
            assert int(answer.one("retry-after")) >= 1
            assert answer.values("www-authenticate") == []
        assert guard.health()["cached_tokens"] == 0
        assert guard.health()["introspection"]["https://issuer.test"]["failures"] == 2


@pytest.mark.parametrize("nonsense", NONSENSE)
def test_INT_02_a_malformed_response_is_503_and_is_not_cached(nonsense: str) -> None:
    with raw_server(NONSENSE[nonsense]) as endpoint:
        answers_503_and_caches_nothing(guard_of(endpoint))


def test_INT_02_tls_that_cannot_be_trusted_is_503(certificate: Path) -> None:
    good = whole(b'{"active": true, "aud": "api"}')
    with raw_server(over_tls(certificate, good), reads=False) as endpoint:
        answers_503_and_caches_nothing(guard_of(endpoint.replace("http:", "https:")))


def test_INT_02_no_tls_where_it_must_be_is_503() -> None:
    with raw_server(whole(b'{"active": true, "aud": "api"}')) as endpoint:
        answers_503_and_caches_nothing(guard_of(endpoint.replace("http:", "https:")))


def test_INT_02_nobody_there_is_503() -> None:
    with raw_server(lambda _connection: None) as endpoint:
        gone = endpoint
    answers_503_and_caches_nothing(guard_of(gone))


def test_INT_01_the_token_and_the_secret_are_nowhere_but_in_the_body_and_its_header(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        whole(b'{"active": false}')(connection)

    def noting(connection: socket.socket) -> None:
        seen.append(connection.recv(65_536))
        answer(connection)

    with raw_server(noting, reads=False) as endpoint:
        guard = guard_of(endpoint)
        with guard, pytest.raises(TokenError, match="inactive") as refused:
            guard.verify("opaque-token")
    line = seen[0].split(b"\r\n", 1)[0]
    assert line == b"POST /jwks HTTP/1.1"
    assert "opaque-token" not in caplog.text + str(refused.value) + repr(guard)


BLOCK_PAGES = {
    "too long": b"Content-Length: 600000\r\n\r\n",
    "too long, of unannounced length": b"\r\n" + b"x" * 600_000,
    "compressed by brotli": b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc",
    "no gzip, though it says so": b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "a gzip bomb": b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"0" * 1_000_000),
}


@pytest.mark.parametrize("page", BLOCK_PAGES.values(), ids=BLOCK_PAGES)
@pytest.mark.parametrize(("status", "stops_others"), [(200, False), (403, False), (503, True)])
def test_an_unreadable_page_about_a_strangers_token_stops_no_others(
    page: bytes, status: int, *, stops_others: bool
) -> None:
    about_others = b'{"active": true, "aud": "https://api.example", "sub": "ada"}'

    def answer(connection: socket.socket) -> None:
        asked = connection.recv(4096)
        while b"token_type_hint" not in asked:  # the head may come before the form
            asked += connection.recv(4096)
        if b"token=good" in asked:
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + about_others)
        else:
            connection.sendall(b"HTTP/1.1 %d X\r\nConnection: close\r\n" % status + page)

    with raw_server(answer, reads=False) as url:
        how = Introspection("api", client_secret="s3cret", endpoint=url)
        issuer = Issuer("https://id.example", audience="https://api.example", introspection=how)
        with Guard(issuer) as guard:
            for number in range(5):
                with pytest.raises(IssuerUnavailable):
                    guard.verify(f"made-up-{number}")
            if stops_others:
                with pytest.raises(IssuerUnavailable):
                    guard.verify("good")
            else:
                assert guard.verify("good").subject == "ada"
