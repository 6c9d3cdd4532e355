"""The one value that the guard and the server report."""

from __future__ import annotations

import pickle

import pytest

from bearerguard import Event


def test_an_event_is_a_value_that_nobody_can_change() -> None:
    details = {"client_id": "app"}
    event = Event("token_issued", 1.0, "https://id.example.com", "one line", details)
    details["client_id"] = "another"
    assert event.details["client_id"] == "app"
    with pytest.raises(TypeError):
        event.details["client_id"] = "another"  # type: ignore[index]
    assert hash(event) == hash(Event("token_issued", 1.0, "https://id.example.com", "one line"))


def test_an_event_can_be_sent_to_another_process() -> None:
    event = Event("token_issued", 1.0, None, "one line", {"client_id": "app"})
    assert pickle.loads(pickle.dumps(event)) == event
