"""Events and log lines: what they contain, and what they never contain."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest

from bearerguard import Event, Guard, IssuerUnavailable, TokenError
from bearerguard.testing import LocalIssuer
from tests.conformance.harness import Clock


def test_every_refusal_is_an_event_and_one_line_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    clock, seen = Clock(), list[Event]()
    issuer = LocalIssuer(algorithm="ES256", clock=clock)
    with issuer.guard(on_event=seen.append) as guard:
        for _ in range(5):
            with pytest.raises(TokenError):
                guard.verify(issuer.token(header={"typ": "JWT"}))
        clock.now += 61
        with pytest.raises(TokenError):
            guard.verify(issuer.token(header={"typ": "JWT"}))
    refusals = [event for event in seen if event.code == "wrong_type"]
    assert len(refusals) == 6
    assert refusals[0].issuer == issuer.url
    assert (refusals[0].at, refusals[-1].at) == (clock.now - 61, clock.now)
    assert 'pass token_types=("at+jwt", "JWT")' in refusals[0].detail
    first, second = [line for line in caplog.messages if line.startswith("wrong_type")]
    assert "more" not in first
    assert second.endswith(f"(issuer {issuer.url}) (and 4 more since the last line)")


def test_a_callback_that_fails_harms_no_request(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_event: Event) -> None:
        raise RuntimeError("the callback's own trouble")

    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard(on_event=fail) as guard:
        assert guard.verify(issuer.token()).subject == "user"
    assert "on_event= raised for the event keys_fetched" in caplog.text


def test_no_token_subject_or_claim_is_ever_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    issuer = LocalIssuer(algorithm="ES256")
    errors: list[Exception] = []
    guard = issuer.guard()
    changes: list[dict[str, Any]] = [
        {},
        {"aud": "x"},
        {"exp": 1},
        {"exp": None},
        {"iss": "x"},
        {"cnf": {}},
    ]
    headers: list[dict[str, Any]] = [
        {},
        {"typ": "x"},
        {"alg": "none"},
        {"kid": "unknown"},
        {"crit": []},
    ]
    tokens = [
        issuer.token(
            header=header, subject="secret-sub", claims={**claims, "email": "secret-mail"}
        )[:cut]
        for claims in changes
        for header in headers
        for cut in (None, -9)
    ]
    with guard:
        for token in [*tokens, "abc", "a.b.c", tokens[0] + ".x.y"]:
            try:
                shown = repr(guard.verify(token))
            except (TokenError, IssuerUnavailable) as error:
                shown = str(error) + repr(error)
                errors.append(error)
            assert "secret-mail" not in shown
            assert token not in shown or len(token) < 9
    assert len(errors) > 50
    for token in tokens:
        assert token not in caplog.text
        assert token.rpartition(".")[2] not in caplog.text
    assert "secret-" not in caplog.text


def test_a_child_process_logs_although_the_parent_held_the_lock() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    guard: Guard = issuer.guard()
    with guard._events._lines._lock:
        child = os.fork()
        if child == 0:
            try:
                guard._events.emit("expired", None, "in the child")
            finally:
                os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0
