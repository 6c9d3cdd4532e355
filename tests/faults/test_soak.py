"""A short run of scripts/soak: each kind of load is answered as expected, and growth is noticed."""

from __future__ import annotations

from collections import Counter

from tests.faults.size import size
from tests.faults.soak import KINDS, Held, Report, soak, verdict

SECONDS = size(300, 5)


def test_a_server_and_a_guard_hold_no_more_after_a_mixed_load_than_before() -> None:
    report = soak(SECONDS)
    assert not verdict(report)
    assert set(report.outcomes) == set(KINDS)
    assert min(report.outcomes.values()) >= SECONDS / 2
    print(f"soak of {SECONDS} s: {report.outcomes.total()} requests, {report.series}")


def test_what_grows_is_named() -> None:
    flat = [Held(80.0, 20, 5)] * 12
    growing = {
        "leaks memory": [Held(80.0 + 2 * number, 20, 5) for number in range(12)],
        "leaks files": [Held(80.0, 20 + 3 * number, 5) for number in range(12)],
        "leaks threads": [Held(80.0, 20, 5 + 3 * number) for number in range(12)],
    }
    report = Report({"flat": flat, **growing}, problems=Counter({"warm: 503": 2}))
    found = verdict(report)
    assert "flat:" not in found
    for name, what in zip(growing, ("memory", "open files", "threads"), strict=True):
        assert f"{name}: {what} from " in found
    assert "2 times warm: 503" in found
