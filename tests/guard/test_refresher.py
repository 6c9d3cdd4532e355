"""The thread that refreshes ahead."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bearerguard.errors import IssuerUnavailable
from bearerguard.guard.keys.refresher import Refresher
from bearerguard.runtime.flow import Flow, run


class Thing:
    """Counts its refreshes; fails with what it was given, one after the other."""

    def __init__(self, *failures: Exception, again: float | None = None) -> None:
        self.failures = list(failures)
        self.again = again
        self.refreshed: list[float] = []
        self.done = threading.Event()

    def refresh(self) -> Flow[None]:
        self.refreshed.append(time.monotonic())
        if self.failures:
            raise self.failures.pop(0)
        self.done.set()
        yield from ()

    def next_refresh(self) -> float | None:
        return None if self.done.is_set() else self.again


def drive(flow: Flow[None]) -> None:
    run(flow, {})


@pytest.fixture
def refresher() -> Iterator[Refresher]:
    refresher = Refresher(drive)
    yield refresher
    refresher.close()


def test_the_earliest_time_of_a_refresh_counts(refresher: Refresher) -> None:
    late, soon = Thing(), Thing()
    refresher.schedule(late, 3600)
    refresher.schedule(soon, 3600)
    refresher.schedule(soon, 0.01)
    refresher.schedule(soon, 60)
    assert soon.done.wait(10)
    refresher.schedule(late, 0)
    assert late.done.wait(10)
    assert (len(late.refreshed), len(soon.refreshed)) == (1, 1)


def test_failures_do_not_end_the_thread(
    refresher: Refresher, caplog: pytest.LogCaptureFixture
) -> None:
    failing = Thing(IssuerUnavailable("i", 1, "down"), RuntimeError("unforeseen"), again=0.01)
    refresher.schedule(failing, 0)
    assert failing.done.wait(10)
    assert len(failing.refreshed) == 3
    assert "unexpected exception" in caplog.text
    assert "down" not in caplog.text  # was reported as an event where it happened


def test_closing_before_the_first_use_is_nothing() -> None:
    Refresher(drive).close()


def _in_child(work: Callable[[], bool]) -> int:
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1]


def test_a_child_closes_nothing_of_its_parents(refresher: Refresher) -> None:
    thing = Thing()
    refresher.schedule(thing, 3600)

    def work() -> bool:
        refresher.close()
        refresher.schedule(thing, 0)
        return thing.done.wait(10)

    assert _in_child(work) == 0
    refresher.schedule(thing, 0)
    assert thing.done.wait(10)
