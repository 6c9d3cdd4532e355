"""A failure to renew holds for all who share a storage, for a short while and no longer."""

from __future__ import annotations

import pytest

from bearerguard.client import ClientCredentials, MemoryStorage, TokenManager
from bearerguard.client.backoff import SharedFailure
from bearerguard.errors import StorageError, TokenUnavailable
from tests.client.scripted_server import manager


def shared(storage, time):
    return SharedFailure(storage, "k", time.clock)


def test_a_failure_holds_longer_each_time_and_is_bounded(time):
    storage, held = MemoryStorage(), []
    for _ in range(6):
        shared(storage, time).begin(TokenUnavailable("the server's response was 503"))
        failure = shared(storage, time).current()
        assert str(failure) == "no token at the moment: the server's response was 503"
        held.append(failure.retry_after)
        time.pass_by(failure.retry_after)
        assert shared(storage, time).current() is None
    assert held == [1, 2, 4, 8, 8, 8]
    time.pass_by(3600)
    shared(storage, time).begin(TokenUnavailable("again"))
    assert shared(storage, time).current().retry_after == 1
    shared(storage, time).end()
    assert storage.keys() == []


def test_a_server_that_asks_for_a_pause_gets_it_from_all(time):
    storage = MemoryStorage()
    shared(storage, time).begin(TokenUnavailable("busy", 3600))
    assert shared(storage, time).current().retry_after == 60


def test_a_clock_set_back_ends_a_failure(time):
    storage = MemoryStorage()
    shared(storage, time).begin(TokenUnavailable("busy"))
    time.now -= 3600
    assert shared(storage, time).current() is None


@pytest.mark.parametrize("kept", [b"", b"{}", b'{"version":2}', b'{"version":1,"cause":"a"}'])
def test_what_is_no_failure_is_none(time, kept):
    storage = MemoryStorage()
    storage.swap("k failure", None, kept)
    assert shared(storage, time).current() is None
    shared(storage, time).begin(TokenUnavailable("busy"))
    assert shared(storage, time).current() is not None


def test_managers_that_share_a_storage_share_a_failure_and_then_a_token(server, time):
    storage = MemoryStorage()
    server.answers["/token"] = lambda _: (503, [("Retry-After", "7")], b"")
    for _ in range(3):
        with pytest.raises(TokenUnavailable, match="503"):
            manager(server, time, storage=storage).token()
    assert len(server.at("/token")) == 1
    del server.answers["/token"]
    time.pass_by(7)
    found = {manager(server, time, storage=storage).token().access_token for _ in range(3)}
    assert found == {"t2"}
    assert len(storage.keys()) == 1


def test_a_fault_that_may_be_one_processs_alone_is_not_shared(server, time):
    storage = MemoryStorage()

    def asked(url):
        given = {"token_endpoint": url, "client_id": "c", "client_secret": "s"}
        return TokenManager(ClientCredentials(**given), storage=storage, key="k", **time.options)

    astray = asked(f"{server.url}/token".replace("http:", "https:"))  # there is no TLS at this port
    with pytest.raises(TokenUnavailable) as raised:
        astray.token()
    assert not raised.value.temporary
    assert storage.keys() == []
    assert asked(f"{server.url}/token").token().access_token


def test_a_logout_leaves_no_failure_behind(server, time):
    storage = MemoryStorage()
    server.answers["/token"] = lambda _: (503, [("Retry-After", "60")], b"")
    with pytest.raises(TokenUnavailable):
        manager(server, time, storage=storage).token()
    assert storage.keys()
    manager(server, time, storage=storage).logout()
    assert storage.keys() == []
    del server.answers["/token"]
    assert manager(server, time, storage=storage).token().access_token


def test_a_failure_that_cannot_be_shared_is_raised_all_the_same(server, time):
    class Full(MemoryStorage):
        def swap(self, *_):
            raise StorageError("full")

    server.answers["/token"] = lambda _: (503, [], b"")
    with pytest.raises(TokenUnavailable, match="503"):
        manager(server, time, storage=Full()).token()
