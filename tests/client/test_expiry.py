"""When a token is renewed: ahead, behind the requests, by seconds that no clock disturbs."""

from __future__ import annotations

import logging
import threading

import httpx2
import pytest

from bearerguard.client import BearerAuth, MemoryStorage
from bearerguard.client.token import Token
from bearerguard.errors import StorageError
from tests.client.scripted_server import manager, settle


def test_CL_01_a_token_without_expires_in_is_renewed_only_when_it_is_refused(server, time):
    server.lifetime = None
    tokens = manager(server, time)
    with httpx2.Client(auth=BearerAuth(tokens)) as client:
        for _ in range(3):
            assert client.get(f"{server.url}/api").text == "t1"
            time.pass_by(10_000_000)
        server.revoke()
        assert client.get(f"{server.url}/api").text == "t2"
    assert len(server.at("/token")) == 2


@pytest.mark.parametrize(("lifetime", "early"), [(3600, 60), (600, 60), (100, 10), (2, 0.2)])
def test_CL_01_a_token_is_renewed_a_minute_or_a_tenth_before_its_end_while_it_serves(
    server, time, lifetime, early
):
    server.lifetime = lifetime
    tokens = manager(server, time)
    assert tokens.token().access_token == "t1"
    time.pass_by(lifetime - early - 0.01)
    assert tokens.token().access_token == "t1"
    settle()
    assert len(server.at("/token")) == 1
    hold = threading.Event()

    def slow(_):
        hold.wait(10)
        return 200, [], server.granted()

    server.answers["/token"] = slow
    time.pass_by(0.02)
    for _ in range(20):  # nobody waits, and nobody asks besides
        assert tokens.token().access_token == "t1"
    hold.set()
    settle()
    assert tokens.token().access_token == "t2"
    assert len(server.at("/token")) == 2


def test_CL_01_a_token_is_never_used_after_its_end(server, time):
    tokens = manager(server, time)
    tokens.token()
    time.pass_by(3600)
    assert tokens.token().access_token == "t2"


def test_CL_12_a_clock_that_is_set_back_does_not_lengthen_a_tokens_life(server, time):
    tokens = manager(server, time)
    tokens.token()
    time.now -= 1_000_000.0
    assert tokens.token().access_token == "t1"
    time.monotonic += 3539
    assert tokens.token().access_token == "t1"
    settle()
    assert len(server.at("/token")) == 1
    time.monotonic += 61
    assert tokens.token().access_token == "t2"


@pytest.mark.parametrize("slept", [3600.0, 1_000_000.0])
def test_CL_12_a_machine_that_slept_hands_out_no_expired_token(server, time, slept):
    tokens = manager(server, time)
    with httpx2.Client(auth=BearerAuth(tokens)) as client:
        assert client.get(f"{server.url}/api").text == "t1"
        time.now += slept  # monotonic seconds stand still meanwhile
        assert client.get(f"{server.url}/api").text == "t2"
        for _ in range(3):
            assert client.get(f"{server.url}/api").text == "t2"
    assert len(server.at("/token")) == 2


def test_CL_12_a_token_is_renewed_ahead_though_the_machine_slept(server, time):
    tokens = manager(server, time)
    tokens.token()
    time.now += 3550
    assert tokens.token().access_token == "t1"
    settle()
    assert tokens.token().access_token == "t2"


def test_CL_01_a_token_from_a_storage_lives_no_longer_than_when_it_came(server, time):
    storage = MemoryStorage()
    manager(server, time, storage=storage).token()
    time.now -= 1_000_000  # the machine starts again, with a clock that lags
    tokens = manager(server, time, storage=storage)
    assert tokens.token().access_token == "t1"
    time.monotonic += 3600
    assert tokens.token().access_token == "t2"


def test_CL_01_access_tokens_are_opaque_and_short_texts_will_do(server, time):
    server.answers["/token"] = lambda _: (200, [], server.granted(access_token="~"))
    assert manager(server, time).token().access_token == "~"


def test_CL_01_a_failed_renewal_ahead_is_logged_and_tried_again_after_a_pause(server, time, caplog):
    tokens = manager(server, time)
    tokens.token()
    time.pass_by(3550)
    server.answers["/token"] = lambda _: (503, [], b"")
    with caplog.at_level(logging.WARNING, "bearerguard"):
        for _ in range(10):
            assert tokens.token().access_token == "t1"
            settle()
    assert len(server.at("/token")) == 2
    assert "503" in caplog.text
    assert "t1" not in caplog.text
    del server.answers["/token"]
    time.pass_by(1.1)
    tokens.token()
    settle()
    assert tokens.token().access_token == "t3"


def test_the_lifetime_that_an_api_reports_is_used(server, time):
    server.lifetime = None
    server.answers["/api"] = lambda asked: (
        200,
        [("Access-Token-Expires-In", "100")],
        asked.token.encode(),
    )
    tokens = manager(server, time)
    with httpx2.Client(auth=BearerAuth(tokens)) as client:
        assert client.get(f"{server.url}/api").text == "t1"
        time.pass_by(89)
        assert client.get(f"{server.url}/api").text == "t1"
        time.pass_by(11)
        assert client.get(f"{server.url}/api").text == "t2"


@pytest.mark.parametrize("said", ["", "soon", "-1", "1e3", "9" * 11, "\u00b2", "7200"])
def test_what_makes_no_token_live_less_changes_nothing(server, time, said):
    line = ("Access-Token-Expires-In", said)
    server.answers["/api"] = lambda asked: (200, [line], asked.token.encode())
    tokens = manager(server, time)
    with httpx2.Client(auth=BearerAuth(tokens)) as client:
        for _ in range(2):
            assert client.get(f"{server.url}/api").text == "t1"
    assert tokens.lease().valid_until == time.monotonic + 3600


def test_a_kept_token_is_read_back_and_nothing_else_is():
    token = Token("a", "DPoP", 1.5, 2, "r", ("x", "y"), "{}")
    assert Token.from_bytes(token.to_bytes()) == token
    for kept in (
        b"",
        b"{}",
        b"[]",
        b'{"version":2,"access_token":"a"}',
        b'{"version":1}',
        b'{"version":1,"access_token":"a","token_type":"Bearer","odd":1}',
        b'{"version":1,"access_token":7,"token_type":"Bearer"}',
        b'{"version":1,"access_token":"a","token_type":"Bearer","scopes":7}',
    ):
        with pytest.raises(StorageError, match="log in again"):
            Token.from_bytes(kept)
