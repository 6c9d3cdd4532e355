"""The pauses between attempts to reach a store that failed."""

from __future__ import annotations

from bearerguard.guard.revocation.follower import pause_after


def test_a_store_that_restarts_is_tried_after_short_pauses() -> None:
    pauses = [pause_after(failing) for failing in (0.0, 1.0, 5.0, 14.0)]
    assert len(set(pauses)) == 1
    assert pauses[0] <= 0.05


def test_a_store_that_stays_away_is_tried_after_longer_pauses() -> None:
    assert pause_after(1.0) < pause_after(60.0) == pause_after(86_400.0) <= 0.25
