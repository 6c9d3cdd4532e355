"""STREAM-01 in WSGI: a body that is sent in parts ends when the request's token does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest
from werkzeug.test import EnvironBuilder

from bearerguard import Guard, Revocations
from bearerguard.errors import StreamEnded
from bearerguard.testing import LocalIssuer
from bearerguard.wsgi import BearerMiddleware
from tests.conformance.harness import NOON, Clock


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


class Body:
    """Parts without end, which notice that they are closed."""

    def __init__(self) -> None:
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"x"

    def close(self) -> None:
        self.closed = True


def requested(
    guard: Guard, body: Any, token: str | None, media_type: str = "text/csv", wrapper: Any = None
) -> Any:
    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", media_type)])
        return body

    sent: dict[str, Any] = {**EnvironBuilder().get_environ(), "wsgi.file_wrapper": wrapper}
    if token is not None:
        sent["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    start: Callable[..., Any] = lambda *_: None  # noqa: E731
    return BearerMiddleware(app, guard=guard, optional=True)(sent, start)


def test_STREAM_01_the_body_of_a_wsgi_response_is_cut_off(
    issuer: LocalIssuer, clock: Clock
) -> None:
    body = Body()
    parts = requested(issuer.guard(clock=clock), body, issuer.token(expires_in=60))
    received = iter(parts)
    assert [next(received) for _ in range(3)] == [b"x"] * 3
    clock.now = NOON + 89
    assert next(received) == b"x"
    clock.now = NOON + 90
    with pytest.raises(StreamEnded, match="expired"):
        next(received)
    parts.close()
    assert body.closed


@pytest.mark.parametrize("options", [{}, {"expiry_headers": None, "cache_control": None}])
def test_STREAM_01_server_sent_events_of_wsgi_end_when_the_token_is_revoked(
    issuer: LocalIssuer, clock: Clock, options: dict[str, Any]
) -> None:
    guard = issuer.guard(clock=clock, revocations=Revocations(), **options)
    token = issuer.token()
    received = iter(requested(guard, Body(), token, "text/event-stream"))
    assert [next(received), next(received)] == [b"x"] * 2
    guard.revoke(token)
    if options:  # nobody saw that they are events
        with pytest.raises(StreamEnded, match="revoked"):
            next(received)
    else:
        assert list(received) == []


def test_TSL_01_a_newer_status_list_cuts_off_the_body_of_a_wsgi_response(
    issuer: LocalIssuer, clock: Clock
) -> None:
    trusted = issuer.issuer(status_lists=[issuer.status_list.uri])
    token = issuer.token(claims=issuer.status_list.reference(7))
    with Guard(trusted, transport=issuer.transport(), clock=clock) as guard:
        received = iter(requested(guard, Body(), token))
        assert [next(received), next(received)] == [b"x"] * 2
        issuer.status_list[7] = 1
        clock.now += 61  # the list has reached its age
        assert next(received) == b"x"
        assert guard._trust.statuses is not None
        (cache,) = guard._trust.statuses._all()
        guard.run(cache.refresh())  # as the thread does
        with pytest.raises(StreamEnded, match="revoked or suspended"):
            next(received)


def test_STREAM_01_a_wsgi_body_without_a_token_or_for_the_server_is_left_alone(
    issuer: LocalIssuer, clock: Clock
) -> None:
    guard, token = issuer.guard(clock=clock), issuer.token()
    body = Body()
    assert requested(guard, body, None) is body
    for whole in ([b"x"], (b"x",)):
        assert requested(guard, whole, token) is whole
    file = FileWrapper(Path(__file__).open("rb"))  # noqa: SIM115 - the server's to close
    assert requested(guard, file, token, wrapper=FileWrapper) is file
    file.close()
    free = issuer.guard(clock=clock, stream_until_expiry=False)
    assert requested(free, body, token) is body


def test_a_body_without_close_can_be_closed(issuer: LocalIssuer, clock: Clock) -> None:
    parts = requested(issuer.guard(clock=clock), iter([b"x", b"y"]), issuer.token())
    assert list(parts) == [b"x", b"y"]
    parts.close()
