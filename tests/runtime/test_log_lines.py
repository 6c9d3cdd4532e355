"""The rate limit of log lines, and the count of those left out."""

from __future__ import annotations

import os

from bearerguard.runtime.reporting.log_lines import LineLimit
from tests.conformance.harness import Clock


def test_a_burst_is_written_and_then_one_line_per_interval() -> None:
    clock = Clock()
    limit = LineLimit(clock, burst=3, interval=60)
    assert [limit.admit("a") for _ in range(6)] == [0, 0, 0, None, None, None]
    assert limit.admit("b") == 0, "another kind has its own"
    clock.now += 59
    assert limit.admit("a") is None
    clock.now += 1
    assert [limit.admit("a"), limit.admit("a")] == [4, None]
    clock.now += 180
    assert [limit.admit("a") for _ in range(4)] == [1, 0, 0, None]


def test_all_kinds_together_have_a_limit() -> None:
    clock = Clock()
    limit = LineLimit(clock, burst=3, interval=60, most=2.0, most_at_once=10)
    written = [limit.admit(number) for number in range(100)]
    assert len([each for each in written if each is not None]) == 11
    clock.now += 1
    written = [limit.admit(number) for number in range(200, 300)]
    assert len([each for each in written if each is not None]) == 2
    assert limit.summary() == {}, "not before a minute"
    clock.now += 60
    assert sum(limit.summary().values()) == 187
    assert limit.summary() == {}


def test_invented_kinds_take_bounded_memory_and_are_counted() -> None:
    clock = Clock()
    limit = LineLimit(clock, burst=1, interval=3600)
    for number in range(12_000):
        assert limit.admit(number) == 0
    assert len(limit._whole_at) == 10_000
    flooded = LineLimit(clock, burst=1, interval=60, most=0.001, most_at_once=0)
    written = [flooded.admit(number) for number in range(12_001)]
    assert written == [0, *[None] * 12_000]
    assert len(flooded._left_out) == 10_001
    clock.now += 60
    assert sum(flooded.summary().values()) == 12_000


def test_a_child_process_waits_for_no_lock_of_its_parent_and_reports_its_own_lines() -> None:
    clock = Clock()
    limit = LineLimit(clock, burst=1, interval=60)
    limit.admit("a")
    limit.admit("a")
    clock.now += 61
    with limit._lock:
        child = os.fork()
        if child == 0:
            left_out = len(limit.summary())  # the parent reports its own
            os._exit(left_out * 10 + (limit.admit("a") or 0))
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert sum(limit.summary().values()) == 1
