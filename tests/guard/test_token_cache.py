"""The verified-token cache: bounded, and tokens that are used stay."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from bearerguard import Revocations
from bearerguard.guard.keys.key_validity import KeyValidity
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.guard.revocation.revocations import GuardRevocations
from bearerguard.guard.token_cache import TokenCache, VerifiedToken, digest
from bearerguard.principal import ANONYMOUS, Principal
from tests.warm import recalled


def entry() -> VerifiedToken:
    return VerifiedToken(ANONYMOUS, 0, KeyValidity(0))


def test_it_never_holds_more_than_its_size() -> None:
    cache = TokenCache(100, time.time)
    for number in range(10_000):
        cache.put(digest(b"%d" % number), entry())
        assert len(cache) <= 100
    cache.clear()
    assert len(cache) == 0


def test_a_token_that_is_used_stays_cached() -> None:
    cache = TokenCache(100, time.time)
    kept = entry()
    cache.put(b"kept", kept)
    for number in range(1000):
        cache.put(b"%d" % number, entry())
        if number % 20 == 0:
            assert cache.get(b"kept") is kept
    assert cache.get(b"0") is None


def test_a_key_that_ended_stays_invalid() -> None:
    validity = KeyValidity(10)
    validity.set_until(20)
    assert validity.until == 20
    validity.end()
    validity.set_until(30)
    assert validity.until < 0


def test_a_cached_token_is_found_by_its_field_as_text_and_as_octets() -> None:
    now = 100.0
    cache = TokenCache(10_000, lambda: now)
    known = VerifiedToken(ANONYMOUS, 200, KeyValidity(150))
    cache.put(digest(b"t"), known)
    for field in ("Bearer t", b"Bearer t"):
        assert recalled(cache, field) == ANONYMOUS  # by its digest, and then as it was sent
        assert recalled(cache, field) == ANONYMOUS
    assert recalled(cache, "bearer t") is None
    assert recalled(cache, "Bearer \u20ac") is None
    now = 150.0
    assert recalled(cache, "Bearer t") is None


@pytest.mark.parametrize(("size", "most"), [(20_000, 4096), (100, 100)])
def test_few_tokens_are_kept_as_they_were_sent(size: int, most: int) -> None:
    cache = TokenCache(size, lambda: 0.0)
    for number in range(9_000):
        cache.put(digest(b"%d" % number), VerifiedToken(ANONYMOUS, 1, KeyValidity(1)))
        assert recalled(cache, b"Bearer %d" % number) == ANONYMOUS
        assert len(cache.recent) <= most
    assert recalled(cache, b"Bearer 8999") == ANONYMOUS


def test_a_token_forgotten_by_the_cache_is_forgotten_at_once_when_it_is_cleared() -> None:
    cache = TokenCache(100, lambda: 0.0)
    cache.put(digest(b"t"), VerifiedToken(ANONYMOUS, 1, KeyValidity(1)))
    assert recalled(cache, b"Bearer t") == ANONYMOUS
    cache.clear()
    assert recalled(cache, b"Bearer t") is None


def test_a_token_with_the_suffix_of_a_cached_one_is_not_taken_for_it() -> None:
    cache = TokenCache(100, lambda: 0.0)
    end = b"e" * 43
    one = VerifiedToken(Principal(issuer="one"), 1, KeyValidity(1))
    two = VerifiedToken(Principal(issuer="two"), 1, KeyValidity(1))
    cache.put(digest(b"1" + end), one)
    cache.put(digest(b"2" + end), two)
    for _ in range(2):
        assert recalled(cache, b"Bearer 1" + end) == one.principal
        assert recalled(cache, b"Bearer 3" + end) is None
        assert recalled(cache, b"Bearer 2" + end) == two.principal


REVOKED = Revocation("token", "one", "id", None, 1e12)


def ends_key(validity: KeyValidity, _revocations: GuardRevocations) -> None:
    validity.end()


def ends_sooner(validity: KeyValidity, _revocations: GuardRevocations) -> None:
    validity.set_until(100.5)


def revokes_something(_lease: KeyValidity, revocations: GuardRevocations) -> None:
    revocations.shared.add([REVOKED])


def distrusts(_lease: KeyValidity, revocations: GuardRevocations) -> None:
    revocations.trust(0.0)


EVENTS = [ends_key, ends_sooner, revokes_something, distrusts]


class Setting:
    """A cache with one token, whose key and revocations may change; a clock that may act."""

    def __init__(self) -> None:
        self.acts: list[Callable[[], Any]] = []
        self.revocations = Revocations().attach(time.time, lambda *_: None)
        self.cache = TokenCache(100, self.clock, self.revocations)
        self.validity = KeyValidity(200, self.cache.forget_recent)
        known = VerifiedToken(Principal(issuer="one"), 300, self.validity)
        known.checked = self.revocations.current
        self.cache.put(digest(b"t"), known)

    def clock(self) -> float:
        if self.acts:
            self.acts.pop()()
        return 100.0


@pytest.mark.parametrize("event", EVENTS)
def test_recent_credentials_are_looked_up_again_after_a_change(event: Any) -> None:
    setting = Setting()
    assert recalled(setting.cache, b"Bearer t") is not None
    assert setting.cache.recent
    event(setting.validity, setting.revocations)
    assert not setting.cache.recent


@pytest.mark.parametrize("event", EVENTS)
def test_a_change_during_a_lookup_is_not_missed(event: Any) -> None:
    # The clock is read between finding that the token holds and noting that it is in use.
    setting = Setting()
    setting.acts.append(lambda: event(setting.validity, setting.revocations))
    assert setting.cache.cached(b"Bearer t") is None
    assert not setting.cache.recent


def test_a_key_that_another_thread_ends_meanwhile_leaves_no_recent_credentials() -> None:
    setting = Setting()
    setting.validity.ended = True  # the other thread is about to say until when
    setting.validity.until = 400
    assert recalled(setting.cache, b"Bearer t") is not None
    setting.validity.set_until(500)
    assert setting.validity.until < 0
    assert not setting.cache.recent


def test_revocations_do_not_keep_caches_alive() -> None:
    revocations = Revocations().attach(time.time, lambda *_: None)
    caches = [TokenCache(100, time.time, revocations) for _ in range(3)]
    gone = weakref.ref(caches.pop())
    gc.collect()
    assert gone() is None
    revocations.shared.add([REVOKED])  # the other caches are cleared
    assert len(caches) == 2
