"""The connections of one process: which one is taken, and when each is closed."""

from __future__ import annotations

import pytest

from bearerguard.errors import StoreUnavailable
from bearerguard.server.store.engines.pool import Pool


class Driver:
    """A connection of which only the opening and the closing matter."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def pool(most: int = 2) -> Pool:
    return Pool(Driver, most=most, wait=0)


def test_the_connection_that_was_returned_last_is_taken_first() -> None:
    made = pool()
    first, second = made.take(), made.take()
    made.give_back(second)
    made.give_back(first)
    assert made.take() is first


def test_no_more_connections_are_open_than_the_pool_has_places() -> None:
    made = pool(1)
    taken = made.take()
    with pytest.raises(StoreUnavailable, match="all connections"):
        made.take()
    made.give_back(taken)
    assert made.take() is taken


def test_a_connection_that_cannot_be_opened_leaves_its_place_to_the_next() -> None:
    answers: list[Exception | Driver] = [OSError("down"), Driver()]

    def connect() -> Driver:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    made = Pool(connect, most=1, wait=0)
    with pytest.raises(OSError, match="down"):
        made.take()
    assert made.take().driver is not None


def test_after_a_loss_no_connection_from_before_is_used_again() -> None:
    made = pool()
    lost, idle = made.take(), made.take()
    made.give_back(idle)
    made.lose(lost)
    assert lost.driver.closed
    taken = [made.take(), made.take()]
    assert idle.driver.closed
    assert not any(each.driver.closed for each in taken)


def test_a_closed_pool_closes_what_is_idle_now_and_what_is_used_when_it_is_returned() -> None:
    made = pool()
    used, idle = made.take(), made.take()
    made.give_back(idle)
    made.close()
    assert idle.driver.closed
    assert not used.driver.closed
    made.give_back(used)
    assert used.driver.closed
