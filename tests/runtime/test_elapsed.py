"""Elapsed seconds: they go on, whatever is done to the clock that shows the date."""

from __future__ import annotations

import time

from bearerguard.runtime.elapsed import elapsed_by
from tests.conformance.harness import Clock

HOUR = 3600


def test_beside_the_systems_clock_the_systems_seconds_count() -> None:
    count = elapsed_by(time.time)
    first = count()
    assert first <= count() < first + HOUR


def test_the_systems_count_is_no_slower_than_the_monotonic_clock() -> None:
    count = elapsed_by(time.time)
    first, before = count(), time.monotonic()
    time.sleep(0.05)
    passed = time.monotonic() - before
    assert count() - first >= passed


def test_the_systems_count_includes_what_the_machine_slept() -> None:
    # Both clocks begin when the machine starts; only this one goes on while it is suspended.
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before <= elapsed_by(time.time)() <= time.clock_gettime(time.CLOCK_BOOTTIME)


def test_beside_another_clock_its_own_steps_count_back_and_forth() -> None:
    clock = Clock()
    count = elapsed_by(clock)
    began = count()
    clock.now += 5
    assert count() - began == 5
    clock.now -= HOUR
    assert count() - began == 5 + HOUR
    clock.now += 7
    assert count() - began == 12 + HOUR
