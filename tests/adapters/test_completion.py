"""What the faces add to responses: made once for many, and as fresh as if made each time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bearerguard.middleware.response_headers import Completion
from bearerguard.principal import Principal
from bearerguard.testing import LocalIssuer
from tests.adapters.doors import DOORS, Door, Line
from tests.conformance.harness import NOON, Clock

NOW = NOON
EXPIRY = ["cache-control", "access-token-expires-in", "access-token-expires-at"]


@pytest.fixture(params=DOORS)
def behind(request: pytest.FixtureRequest) -> Callable[..., Door]:
    """Return what puts an app that answers with these lines behind a face."""
    made: Callable[..., Door] = request.param
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


def told(lines: list[Line]) -> Line:
    found = dict(lines)
    return found["access-token-expires-in"], found["access-token-expires-at"]


def test_each_response_tells_its_own_token_and_moment(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    ask = behind(issuer.guard(clock=clock), [])
    lives = [*range(1, 200), 3600]
    tokens = [issuer.token(lifetime=lifetime) for lifetime in lives]
    for _ in range(3):  # by a decision, and then warm
        for token, lifetime in zip(tokens, lives, strict=True):
            assert told(ask(token).lines) == (str(lifetime), f"@{int(NOW) + lifetime}")
    for passed, left in ((0.5, 3599), (1.0, 3599), (1.001, 3598), (3599.5, 0), (3610.0, 0)):
        clock.now = NOW + passed
        assert told(ask(tokens[-1]).lines) == (str(left), f"@{int(NOW) + 3600}")
    clock.now = NOW + 10  # the clock was set back
    assert told(ask(tokens[-1]).lines)[0] == "3590"


def test_more_expiries_than_are_remembered_are_each_told(issuer: LocalIssuer, clock: Clock) -> None:
    completion = Completion(issuer.guard(clock=clock), encode=str, name=str)
    for expires_at in range(int(NOW), int(NOW) + 6_000):
        telling = completion.telling(Principal(issuer="i", expires_at=expires_at))
        lines = dict(completion.renewed(telling, NOW))
        assert lines["Access-Token-Expires-In"] == str(expires_at - int(NOW))
        assert lines["Access-Token-Expires-At"] == f"@{expires_at}"


def test_a_remembered_line_is_no_responses_own(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    ask = behind(issuer.guard(clock=clock), [("y", "2")], optional=True)
    token = issuer.token()
    for _ in range(3):
        names = [name for name, _ in ask(token, origin="https://app.example").lines]
        assert names == ["y", *EXPIRY, "vary", "access-control-expose-headers"]


def test_an_anonymous_response_is_told_of_no_token(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    for sent in ([("y", "2")], [("cache-control", "max-age=60")]):
        ask = behind(issuer.guard(clock=clock), sent, optional=True)
        for _ in range(2):
            assert ask().lines == [*sent, ("vary", "Authorization")]


def test_what_an_app_says_itself_stands(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    token = issuer.token()
    for sent, added in (
        ([("Cache-Control", "no-store")], EXPIRY[1:]),
        ([("Access-Token-Expires-In", "1")], EXPIRY[:1]),
        ([("cache-control", "public, max-age=60")], []),
        ([("last-modified", "today"), ("x-request-id", "1")], EXPIRY),
    ):
        ask = behind(issuer.guard(clock=clock), sent)
        for _ in range(2):
            lines = ask(token).lines
            assert lines[: len(sent)] == [(name.lower(), value) for name, value in sent]
            assert [name for name, _ in lines[len(sent) :]] == added


def test_an_expiry_beyond_the_calendar_is_told_alike_beside_what_an_app_says(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    token = issuer.token(exp=10**13)
    for sent in ([], [("cache-control", "no-store")]):
        ask = behind(issuer.guard(clock=clock), sent)
        for _ in range(2):
            assert told(ask(token).lines) == ("253402300799", "@253402300799")


def test_a_token_without_expiry_tells_none(issuer: LocalIssuer) -> None:
    completion = Completion(issuer.guard(), encode=str, name=str)
    since, until, lines = completion.telling(Principal(issuer="i")).present
    assert (since, until) == (float("-inf"), float("inf"))
    assert lines == [("Cache-Control", "private")]
