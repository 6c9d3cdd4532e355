"""The verified-token cache: bounded, and it keeps what is used."""

from __future__ import annotations

import time

import pytest

from bearerguard.guard.token_cache import Entry, Lease, TokenCache, digest
from bearerguard.principal import ANONYMOUS, Principal


def entry() -> Entry:
    return Entry(ANONYMOUS, 0, Lease(0))


def test_it_never_holds_more_than_its_size() -> None:
    cache = TokenCache(100, time.time)
    for number in range(10_000):
        cache.put(digest(b"%d" % number), entry())
        assert len(cache) <= 100
    cache.clear()
    assert len(cache) == 0


def test_what_is_asked_for_stays() -> None:
    cache = TokenCache(100, time.time)
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


def test_a_token_is_recalled_by_its_field_as_text_and_as_octets() -> None:
    now = 100.0
    cache = TokenCache(10_000, lambda: now)
    known = Entry(ANONYMOUS, 200, Lease(150))
    cache.put(digest(b"t"), known)
    for field in ("Bearer t", b"Bearer t"):
        assert cache.recall(field) is ANONYMOUS  # by its digest, and then as it was sent
        assert cache.recall(field) is ANONYMOUS
    assert cache.recall("bearer t") is None
    assert cache.recall("Bearer \u20ac") is None
    now = 150.0
    assert cache.recall("Bearer t") is None


@pytest.mark.parametrize(("size", "most"), [(20_000, 4096), (100, 100)])
def test_few_tokens_are_kept_as_they_were_sent(size: int, most: int) -> None:
    cache = TokenCache(size, lambda: 0.0)
    for number in range(9_000):
        cache.put(digest(b"%d" % number), Entry(ANONYMOUS, 1, Lease(1)))
        assert cache.recall(b"Bearer %d" % number) is ANONYMOUS
        assert len(cache._recent) <= most
    assert cache.recall(b"Bearer 8999") is ANONYMOUS


def test_a_token_forgotten_by_the_cache_is_forgotten_at_once_when_it_is_cleared() -> None:
    cache = TokenCache(100, lambda: 0.0)
    cache.put(digest(b"t"), Entry(ANONYMOUS, 1, Lease(1)))
    assert cache.recall(b"Bearer t") is ANONYMOUS
    cache.clear()
    assert cache.recall(b"Bearer t") is None


def test_a_token_that_ends_like_a_known_one_is_not_taken_for_it() -> None:
    cache = TokenCache(100, lambda: 0.0)
    end = b"e" * 43
    one = Entry(Principal(issuer="one"), 1, Lease(1))
    two = Entry(Principal(issuer="two"), 1, Lease(1))
    cache.put(digest(b"1" + end), one)
    cache.put(digest(b"2" + end), two)
    for _ in range(2):
        assert cache.recall(b"Bearer 1" + end) is one.principal
        assert cache.recall(b"Bearer 3" + end) is None
        assert cache.recall(b"Bearer 2" + end) is two.principal
