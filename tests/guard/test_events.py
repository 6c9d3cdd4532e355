"""Events and log lines: what they contain, and what they never contain."""

from __future__ import annotations

import logging
import os
from typing import Any

import pytest

from bearerguard import (
    Event,
    FetchFailed,
    Guard,
    IssuerUnavailable,
    Request,
    TokenError,
    step_up,
)
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Response
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


def refuse(guard: Guard, issuer: LocalIssuer, *, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(TokenError):
            guard.verify(issuer.token(header={"typ": "JWT"}))


def test_lines_that_are_left_out_are_summed_up_although_no_more_follow(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, issuer = Clock(), LocalIssuer(algorithm="ES256")
    planned: list[float] = []
    with issuer.guard(clock=clock) as guard:
        events = guard._events
        events.schedule = lambda _what, seconds: planned.append(seconds)
        refuse(guard, issuer)
        assert planned == [], "the first line is written"
        refuse(guard, issuer, times=20)
        for _ in range(3):
            with pytest.raises(TokenError):
                guard.verify("a.b.c")
        assert planned == [60.0], "the thread is told once"
        caplog.clear()
        guard.run(events.refresh())
        assert caplog.messages == [], "a minute must have passed"
        assert events.next_refresh() == 60.0
        clock.now += 61
        guard.run(events.refresh())
        assert caplog.messages == ["lines_left_out: 22 (wrong_type 20, malformed_token 2)"]
        assert events.next_refresh() is None
        refuse(guard, issuer, times=3)
        assert planned == [60.0, 60.0]
        caplog.clear()
    assert caplog.messages == ["lines_left_out: 2 (wrong_type 2)"], "closing the guard writes it"


def test_the_thread_that_refreshes_keys_writes_the_summary(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    monkeypatch.setattr("bearerguard.guard.events.SUMMARY_INTERVAL", 0.01)
    clock, issuer = Clock(), LocalIssuer(algorithm="ES256")
    with issuer.guard(clock=clock) as guard:
        guard._events._lines._summary_at = clock.now
        refuse(guard, issuer, times=3)
        until = time.monotonic() + 10
        while not any("lines_left_out" in each for each in caplog.messages):
            assert time.monotonic() < until
            time.sleep(0.01)
    assert "lines_left_out: 2 (wrong_type 2)" in caplog.messages


class Failing:
    """The network of an issuer that can be cut."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.inner = issuer.transport()
        self.down = False

    def fetch(self, request: Fetch) -> Response:
        if self.down:
            raise FetchFailed(f"{request.url}: the connection was refused", kind="refused")
        return self.inner.fetch(request)

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


def test_recovered_keys_are_reported_with_the_length_of_the_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, seen, issuer = Clock(), list[Event](), LocalIssuer(algorithm="ES256", clock=Clock())
    network = Failing(issuer)
    network.down = True
    with issuer.guard(clock=clock, transport=network, on_event=seen.append) as guard:
        for _ in range(3):
            guard.warm()
            clock.now += 20
        network.down = False
        guard.warm()
        clock.now += 400
        guard.warm()
    (restored,) = [each for each in seen if each.code == "keys_restored"]
    assert (restored.issuer, restored.detail) == (issuer.url, "restored after 60 s and 3 failures")
    (record,) = [each for each in caplog.records if "keys_restored" in each.getMessage()]
    assert record.levelno == logging.WARNING, "it is seen wherever the failure is"


def test_recovered_introspection_is_reported() -> None:
    clock, seen = Clock(), list[Event]()
    issuer = LocalIssuer(algorithm="ES256", clock=clock)
    network = Failing(issuer)
    with Guard(
        issuer.issuer(introspection=issuer.introspection.options()),
        clock=clock,
        transport=network,
        on_event=seen.append,
    ) as guard:
        network.down = True
        with pytest.raises(IssuerUnavailable):
            guard.verify(issuer.opaque_token())
        clock.now += 5
        network.down = False
        for _ in range(2):
            guard.verify(issuer.opaque_token())
    restored = [each.detail for each in seen if each.code == "introspection_restored"]
    assert restored == ["restored after 5 s and 1 failure"]


def test_STEP_01_a_login_that_does_not_suffice_is_reported_with_what_would(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    issuer = LocalIssuer(algorithm="ES256", clock=Clock())
    seen: list[Event] = []
    with issuer.guard(require=step_up(max_age=300), on_event=seen.append) as guard:
        for claims in ({"auth_time": int(issuer.clock()) - 600}, {}):
            token = issuer.token(claims=claims)
            sent = Request("POST", "/transfers", {"Authorization": f"Bearer {token}"})
            guard.run(guard.authenticate(sent))
    _, *seen = seen  # the keys were fetched
    assert [event.code for event in seen] == ["insufficient_user_authentication"] * 2
    old, unknown = (event.details["present"] for event in seen)
    assert old == "a login 10 min old"
    assert unknown == "no auth_time (the issuer must send it in access tokens)"
    _, first, *_ = caplog.records
    assert first.levelno == logging.INFO
    assert first.getMessage().startswith(
        "insufficient_user_authentication: POST /transfers needs a login at most 300 s old;"
        " the token has a login 10 min old"
    )
