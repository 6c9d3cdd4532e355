"""The headers that the adapters add to responses: cached, and right at each moment."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bearerguard.middleware.expiry_headers import ResponseHeaders
from bearerguard.principal import Principal
from bearerguard.testing import LocalIssuer
from tests.adapters.adapters import Header, Send
from tests.conformance.harness import NOON, Clock

NOW = NOON
EXPIRY = ["cache-control", "access-token-expires-in", "access-token-expires-at"]


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


def expiry(headers: list[Header]) -> Header:
    found = dict(headers)
    return found["access-token-expires-in"], found["access-token-expires-at"]


def test_each_response_has_the_expiry_of_its_token_at_its_moment(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    send = behind(issuer.guard(clock=clock), [])
    lives = [*range(1, 200), 3600]
    tokens = [issuer.token(expires_in=lifetime) for lifetime in lives]
    for _ in range(3):  # by a decision, and then warm
        for token, lifetime in zip(tokens, lives, strict=True):
            assert expiry(send(token).headers) == (str(lifetime), f"@{int(NOW) + lifetime}")
    for passed, left in ((0.5, 3599), (1.0, 3599), (1.001, 3598), (3599.5, 0), (3610.0, 0)):
        clock.now = NOW + passed
        assert expiry(send(tokens[-1]).headers) == (str(left), f"@{int(NOW) + 3600}")
    clock.now = NOW + 10  # the clock was set back
    assert expiry(send(tokens[-1]).headers)[0] == "3590"


def test_more_expiries_than_are_cached_are_each_right(issuer: LocalIssuer, clock: Clock) -> None:
    response_headers = ResponseHeaders(issuer.guard(clock=clock), encode=str, name=str)
    for expires_at in range(int(NOW), int(NOW) + 6_000):
        token = response_headers.of_token(Principal(issuer="i", expires_at=expires_at))
        headers = dict(response_headers.complete(token, []))
        assert headers["Access-Token-Expires-In"] == str(expires_at - int(NOW))
        assert headers["Access-Token-Expires-At"] == f"@{expires_at}"


def test_a_cached_header_list_is_never_changed(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    send = behind(issuer.guard(clock=clock), [("y", "2")], optional=True)
    token = issuer.token()
    for _ in range(3):
        names = [name for name, _ in send(token, origin="https://app.example").headers]
        assert names == ["y", *EXPIRY, "vary", "access-control-expose-headers"]


def test_an_anonymous_response_has_no_expiry_headers(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    for sent in ([("y", "2")], [("cache-control", "max-age=60")]):
        send = behind(issuer.guard(clock=clock), sent, optional=True)
        for _ in range(2):
            assert send().headers == [*sent, ("vary", "Authorization")]


def test_headers_that_the_app_sets_stay_as_they_are(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    token = issuer.token()
    for sent, added in (
        ([("Cache-Control", "no-store")], EXPIRY[1:]),
        ([("Access-Token-Expires-In", "1")], EXPIRY[:1]),
        ([("cache-control", "public, max-age=60")], []),
        ([("last-modified", "today"), ("x-request-id", "1")], EXPIRY),
    ):
        send = behind(issuer.guard(clock=clock), sent)
        for _ in range(2):
            lines = send(token).headers
            assert lines[: len(sent)] == [(name.lower(), value) for name, value in sent]
            assert [name for name, _ in lines[len(sent) :]] == added


def test_an_expiry_beyond_the_calendar_is_the_same_beside_headers_of_the_app(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    token = issuer.token(claims={"exp": 10**13})
    for sent in ([], [("cache-control", "no-store")]):
        send = behind(issuer.guard(clock=clock), sent)
        for _ in range(2):
            assert expiry(send(token).headers) == ("253402300799", "@253402300799")


def test_a_token_without_expiry_gets_no_expiry_headers(issuer: LocalIssuer) -> None:
    response_headers = ResponseHeaders(issuer.guard(), encode=str, name=str)
    token = response_headers.of_token(Principal(issuer="i"))
    assert response_headers.complete(token, [("X", "y")]) == [
        ("X", "y"),
        ("Cache-Control", "private"),
    ]


def test_any_number_of_names_that_an_app_sets_is_looked_through(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    others = [(f"x-{number}", "1") for number in range(1000)] + [("x" * 100, "1")]
    send = behind(issuer.guard(clock=clock), [*others, ("Cache-Control", "no-store")])
    token = issuer.token()
    for _ in range(2):
        assert [name for name, _ in send(token).headers[1002:]] == EXPIRY[1:]
