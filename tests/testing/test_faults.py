"""The faults of a test issuer, and its clock."""

from __future__ import annotations

import time

import anyio
import pytest

from bearerguard import IssuerUnavailable, TokenError, TokenExpired
from bearerguard.testing import Clock, LocalIssuer
from tests.conformance.harness import NOON

FAULTS = {
    "outage": ({"outage": True}, "status 503"),
    "refused connections": ({"refuses": True}, "refused"),
    "a slow issuer": ({"delay": 9.0}, "timed out: no complete response in"),
    "garbage": ({"garbage": b"<html>"}, "JSON"),
}


@pytest.mark.parametrize(("fault", "words"), FAULTS.values(), ids=FAULTS)
def test_inside_the_block_the_issuer_fails_and_after_it_it_works(fault, words) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    transport = issuer.transport(timeout=0.05)
    with issuer.guard(transport=transport) as guard:
        with issuer.failing(**fault), pytest.raises(IssuerUnavailable, match=words):
            guard.verify(issuer.token())
        assert (issuer.outage, issuer.refuses, issuer.delay, issuer.garbage) == (
            *(False, False),
            *(0.0, None),
        )
        issuer.clock.advance(60)  # the pause after a failure
        assert guard.verify(issuer.token()).subject == "user"


@pytest.mark.parametrize(("fault", "words"), FAULTS.values(), ids=FAULTS)
def test_introspection_fails_as_a_fetch_of_keys_does(fault, words) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard(introspects=True, transport=issuer.transport(timeout=0.05)) as guard:
        assert guard.verify(issuer.opaque_token()).subject == "user"
        with issuer.failing(**fault), pytest.raises(IssuerUnavailable, match=words):
            anyio.run(guard.averify, issuer.opaque_token())


def test_a_block_hides_faults_that_were_set_and_restores_them() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    issuer.outage = True
    with issuer.guard() as guard:
        with issuer.failing():
            assert guard.verify(issuer.token()).subject == "user"
        assert issuer.outage


def test_a_response_within_the_timeout_is_only_late() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    issuer.delay = 0.05
    with issuer.guard() as guard:
        began = time.monotonic()
        assert guard.verify(issuer.token()).subject == "user"
        assert time.monotonic() - began >= 0.1  # discovery and keys


def test_tokens_outlive_no_key_that_was_removed() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard() as guard:
        token, withdrawn = issuer.token(), issuer.key.kid
        assert guard.verify(token).subject == "user"
        issuer.rotate()
        issuer.remove(withdrawn or "")
        issuer.clock.advance(400)  # until the keys are fetched again
        guard.warm()
        with pytest.raises(TokenError):
            guard.verify(token)
        assert guard.verify(issuer.token()).subject == "user"


def test_the_clock_of_an_issuer_is_that_of_its_guards() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    assert abs(issuer.clock() - time.time()) < 5
    with issuer.guard() as guard:
        token = issuer.token(expires_in=600)
        assert guard.verify(token).expires_in(issuer.clock()) == pytest.approx(600, abs=1)
        issuer.clock.advance(700)
        with pytest.raises(TokenExpired):
            guard.verify(token)
        issuer.clock.advance(-700)
        assert guard.verify(token).subject == "user"


def test_a_clock_that_was_given_a_time_stands_still() -> None:
    clock = Clock(NOON)
    assert clock() == NOON == clock()
    clock.advance(1.5)
    assert clock() == NOON + 1.5
    clock.set(NOON - 10)
    assert clock() == NOON - 10
    assert repr(clock) == "Clock(1799999990.000)"


def test_a_clock_over_another_goes_with_it() -> None:
    now = [NOON]
    clock = Clock(lambda: now[0])
    clock.advance(5)
    now[0] += 1
    assert clock() == NOON + 6


def test_a_clock_follows_what_replaces_the_system_s_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As freezegun and time-machine do."""
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: NOON)
    assert clock() == NOON


@pytest.mark.parametrize("source", [True, "now"])
def test_what_is_no_time_is_refused(source) -> None:
    with pytest.raises(TypeError, match="pass Unix seconds, or a callable"):
        Clock(source)


def test_the_keys_of_a_closed_issuer_are_used_again_if_they_are_slow_to_make() -> None:
    first = LocalIssuer(algorithm="RS256")
    private = first.key.private
    first.close()
    first.close()
    second, third = LocalIssuer(algorithm="PS256"), LocalIssuer(algorithm="RS256")
    assert second.key.private is private
    assert third.key.private is not private
    quick = LocalIssuer(algorithm="ES256")
    quick_private = quick.key.private
    quick.close()
    assert LocalIssuer(algorithm="ES256").key.private is not quick_private
