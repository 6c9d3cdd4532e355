"""Which requests are handled in the event loop under ASGI, and which in a thread."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

import pytest

from bearerguard.server import RequestRecord, Resource, SigningKeys
from bearerguard.server.store.engines.sqlite import SqliteEngine
from tests.server.harness import FORM, ISSUER, SECRET, Harness, Make
from tests.server.test_authentication_methods import Badge

OWN = {"grant_type": "client_credentials", "scope": "read"}
OLDER = "an older secret of the same server, still known"


class Threads:
    """Notes for each response in which thread it was made."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def responded(self, _record: RequestRecord) -> None:
        self.seen.append(threading.get_ident())

    def store_failed(self) -> None: ...

    def store_restored(self) -> None: ...


def status(harness: Harness, body: bytes) -> int:
    """Send a form to the token endpoint of the ASGI app, in this thread's event loop."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/oauth/token",
        "headers": [(b"content-type", FORM.encode())],
    }
    asyncio.run(harness.server.asgi_app()(scope, receive, send))
    found: int = sent[0]["status"]
    return found


def form(harness: Harness, **fields: Any) -> bytes:
    return urlencode(harness.credentials() | OWN | fields).encode()


@pytest.fixture
def threads() -> Threads:
    return Threads()


def in_loop(harness: Harness, threads: Threads, body: bytes, expected: int = 200) -> bool:
    """Whether a request is handled in the event loop, once the server has its keys in memory."""
    harness.token(grant_type="client_credentials")
    assert status(harness, body) == expected
    return threads.seen[-1] == threading.get_ident()


@pytest.mark.both_engines
def test_on_sqlite_a_client_gets_its_own_token_without_a_thread(
    make: Make, threads: Threads, engine: str
) -> None:
    harness = make(observers=[threads], on_event=None)
    assert in_loop(harness, threads, form(harness)) is (engine == "sqlite")
    refused = form(harness, client_secret="wrong")
    assert in_loop(harness, threads, refused, 401) is (engine == "sqlite")


OPTIONS: dict[str, dict[str, Any]] = {
    "RSA signs slowly": {"signing": SigningKeys(algorithm="RS256")},
    "an opaque token is stored": {"resources": [Resource(ISSUER, tokens="opaque")]},
    "a client's digest may be renewed": {"secret": [SECRET, OLDER]},
    "a callback may do anything": {"on_event": lambda _: None},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_may_take_long_has_a_thread(
    make: Make, threads: Threads, options: dict[str, Any]
) -> None:
    harness = make(**({"observers": [threads], "on_event": None} | options))
    assert not in_loop(harness, threads, form(harness))


def test_with_an_authentication_method_of_the_application_all_have_a_thread(
    make: Make, threads: Threads
) -> None:
    harness = make(observers=[threads], on_event=None)
    harness.server.authentication_methods.register(Badge())
    assert not in_loop(harness, threads, form(harness))


BODIES: dict[str, tuple[Callable[[Harness], bytes], int]] = {
    "a refresh": (
        lambda harness: form(
            harness,
            grant_type="refresh_token",
            refresh_token=harness.tokens()["refresh_token"],
        ),
        200,
    ),
    "an assertion": (
        lambda harness: form(harness, client_assertion="a.b.c", client_assertion_type="jwt"),
        400,
    ),
    "an assertion under an encoded name": (
        lambda harness: form(harness) + b"&client%5Fassertion=a.b.c&client_assertion_type=jwt",
        400,
    ),
    "an encoded grant type": (
        lambda harness: form(harness).replace(b"client_credentials", b"client%5Fcredentials"),
        200,
    ),
    "a long form": (lambda harness: form(harness) + b" " * 5000, 200),
}


@pytest.mark.parametrize(("body", "expected"), BODIES.values(), ids=BODIES)
def test_other_and_unusual_requests_have_a_thread(
    make: Make, threads: Threads, body: Callable[[Harness], bytes], expected: int
) -> None:
    harness = make(observers=[threads], on_event=None)
    assert not in_loop(harness, threads, body(harness), expected)


def test_a_second_grant_type_is_refused_and_not_used(make: Make, threads: Threads) -> None:
    harness = make(observers=[threads], on_event=None)
    tokens = harness.tokens()
    more = urlencode({"refresh_token": tokens["refresh_token"], "grant_type": "refresh_token"})
    body = urlencode(harness.credentials() | {"grant_type": "client_credentials"})
    assert status(harness, f"{body}&grant_type=refresh_token".encode()) == 400
    assert status(harness, f"{body}&{more}".encode()) == 400
    assert harness.refresh(tokens["refresh_token"]).status == 200


@pytest.mark.sqlite_only
def test_while_others_wait_to_write_a_client_gets_its_own_token(make: Make) -> None:
    harness = make(on_event=None, threads=1)
    harness.token(grant_type="client_credentials")
    refresh = form(
        harness, grant_type="refresh_token", refresh_token=harness.tokens()["refresh_token"]
    )
    writers = [threading.Thread(target=status, args=(harness, refresh)) for _ in range(3)]
    with harness.store.writing_alone():
        for each in writers:
            each.start()
        assert status(harness, form(harness)) == 200
        assert all(each.is_alive() for each in writers)
    for each in writers:
        each.join()


@pytest.mark.sqlite_only
def test_without_a_free_connection_a_request_waits_in_a_thread(
    make: Make, threads: Threads
) -> None:
    harness = make(observers=[threads], on_event=None)
    database = harness.server.database
    body = form(harness)
    assert in_loop(harness, threads, body)
    with database.read():
        taken = []
        while database.is_at_hand:
            taken.append(database.read())
            taken[-1].__enter__()
        assert not in_loop(harness, threads, body)
        for each in taken:
            each.__exit__(None, None, None)
    assert in_loop(harness, threads, body)


@pytest.mark.sqlite_only
def test_before_the_database_has_been_read_a_request_waits_for_it_in_a_thread(
    make: Make, threads: Threads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SqliteEngine, "wait", 0.1)
    harness = make(observers=[threads], on_event=None)
    body = form(harness)
    harness.server.close()
    path = harness.folder / "auth.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(2):
            assert status(harness, body) == 503
    assert status(harness, body) == 200
    assert threading.get_ident() not in threads.seen
    assert in_loop(harness, threads, body)
    # From now on, no other program can lock it for readers.
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN EXCLUSIVE")
