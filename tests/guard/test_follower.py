"""How soon a store that failed is looked for again."""

from __future__ import annotations

from bearerguard.guard.revocation.follower import pause_after


def test_a_store_that_restarts_is_looked_for_all_the_time() -> None:
    pauses = [pause_after(failing) for failing in (0.0, 1.0, 5.0, 14.0)]
    assert len(set(pauses)) == 1
    assert pauses[0] <= 0.05


def test_a_store_that_stays_away_is_looked_for_less_and_soon_enough() -> None:
    assert pause_after(1.0) < pause_after(60.0) == pause_after(86_400.0) <= 0.25
