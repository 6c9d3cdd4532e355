"""The verified-token cache: bounded, and it keeps what is used."""

from __future__ import annotations

from bearerguard.guard.token_cache import Entry, Lease, TokenCache, digest
from bearerguard.principal import ANONYMOUS


def entry() -> Entry:
    return Entry(ANONYMOUS, 0, Lease(0))


def test_it_never_holds_more_than_its_size() -> None:
    cache = TokenCache(100)
    for number in range(10_000):
        cache.put(digest(b"%d" % number), entry())
        assert len(cache) <= 100
    cache.clear()
    assert len(cache) == 0


def test_what_is_asked_for_stays() -> None:
    cache = TokenCache(100)
    kept = entry()
    cache.put(b"kept", kept)
    for number in range(1000):
        cache.put(b"%d" % number, entry())
        if number % 20 == 0:
            assert cache.get(b"kept") is kept
    assert cache.get(b"0") is None


def test_an_ended_lease_never_runs_again() -> None:
    lease = Lease(10)
    lease.extend(20)
    assert lease.until == 20
    lease.end()
    lease.extend(30)
    assert lease.until < 0
