"""The statistics of the rounds, with times that the test chooses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import pytest

from benchmarks.report import targets as print_targets
from benchmarks.rounds import Case, Effort, added_ratio, figure, measure, ratio
from benchmarks.targets import ALL_TARGETS, Target


def lasting(seconds: Iterator[float]) -> Case:
    """Return a case whose operations take these seconds."""
    return Case(lambda count: next(seconds) * count, count=1000)


def test_each_case_is_compared_with_the_other_one_of_its_round() -> None:
    # The machine is ten times slower in every other round, which does not change the ratio.
    slow, fast = cycle([20.0, 2.0]), cycle([10.0, 1.0])
    samples = measure({"slow": lasting(slow), "fast": lasting(fast)}, Effort(rounds=6))
    found = ratio(samples, "slow", "fast")
    assert found.median == pytest.approx(2, rel=1e-6)
    assert found.low == pytest.approx(found.high, rel=1e-6)


def test_what_is_added_is_in_floors() -> None:
    samples = {"with": [5.0, 50.0], "without": [3.0, 30.0], "floor": [1.0, 10.0]}
    assert added_ratio(samples, "with", "without", "floor").median == 2


def test_a_figure_is_the_median_between_its_quartiles() -> None:
    found = figure([1.0, 2.0, 3.0, 4.0, 100.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)


def test_a_count_is_chosen_so_that_a_batch_lasts_as_long_as_it_should() -> None:
    counts: list[int] = []

    def run(count: int) -> float:
        counts.append(count)
        return count * 1e-5

    measure({"": Case(run)}, Effort(rounds=1, batch=0.01))
    assert counts[-1] == 1000


def test_preparation_is_not_timed() -> None:
    done: list[str] = []
    case = Case(
        lambda _count: done.append("run"), prepare=lambda _count: done.append("prepare"), count=1
    )
    measure({"": case}, Effort(rounds=2))
    assert done == ["prepare", "run", "prepare", "run"]


def test_a_target_is_printed_with_whether_it_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    wanted = [
        Target("A", "at most", 2.0),
        Target("B", "at least", 0.9, floor=True),
        Target("C", "unknown", 1.0),
    ]
    print_targets(wanted, {"A": 2.5, "B": 0.95})
    printed = capsys.readouterr().out
    assert [line.split()[-1] for line in printed.splitlines()[4:7]] == ["MISSED", "met", "measured"]
    assert "1 met, 1 missed, 1 not measured" in printed


def test_every_target_has_a_name_of_its_own() -> None:
    names = [target.name for target in ALL_TARGETS]
    assert len(names) == len(set(names))
