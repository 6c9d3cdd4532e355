"""Lines that are made once for many responses: bounded, and as fresh as those made each time."""

from __future__ import annotations

from bearerguard.guard.answer import Completion
from bearerguard.guard.guard import Guard
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.testing import LocalIssuer

NOW = 1_800_000_000.0


def completion(guard: Guard) -> Completion[str]:
    return Completion(guard, encode=str, name=str)


def told(lines: list[tuple[str, str]]) -> tuple[str, str]:
    found = dict(lines)
    return found["Access-Token-Expires-In"], found["Access-Token-Expires-At"]


def test_each_response_tells_its_own_token_and_moment() -> None:
    clock = [NOW]
    guard = LocalIssuer(algorithm="ES256").guard(clock=lambda: clock[0])
    complete = completion(guard).complete
    for expires_at in range(int(NOW), int(NOW) + 6_000):  # more than are remembered
        principal = Principal(issuer="i", expires_at=expires_at)
        left = str(expires_at - int(NOW))
        assert told(complete([], principal, False, False)) == (left, f"@{expires_at}")
    clock[0] += 5_999.5
    assert told(complete([], principal, False, False))[0] == "0"
    clock[0] += 100
    assert told(complete([], principal, False, False))[0] == "0"


def test_a_remembered_line_is_no_responses_own() -> None:
    guard = LocalIssuer(algorithm="ES256").guard(clock=lambda: NOW)
    complete = completion(guard).complete
    principal = Principal(issuer="i", expires_at=NOW + 10)
    first = complete([("X", "1")], principal, False, False)
    first.clear()
    sent = [("Y", "2")]
    second = complete(sent, principal, True, True)
    assert sent == [("Y", "2")]  # the app may send the same list again
    assert [name for name, _ in second] == [
        "Y",
        "Cache-Control",
        "Access-Token-Expires-In",
        "Access-Token-Expires-At",
        "Vary",
        "Access-Control-Expose-Headers",
    ]


def test_what_an_anonymous_response_gets_is_not_added_to_the_apps_own_list() -> None:
    guard = LocalIssuer(algorithm="ES256").guard(clock=lambda: NOW)
    sent = [("Y", "2")]
    lines = completion(guard).complete(sent, ANONYMOUS, False, True)
    assert sent == [("Y", "2")]
    assert lines == [("Y", "2"), ("Vary", "Authorization")]
    cached = [("Cache-Control", "max-age=60")]
    lines = completion(guard).complete(cached, ANONYMOUS, False, True)
    assert lines == [*cached, ("Vary", "Authorization")]


def test_an_expiry_beyond_the_calendar_is_told_alike_beside_what_an_app_says() -> None:
    guard = LocalIssuer(algorithm="ES256").guard(clock=lambda: NOW)
    complete = completion(guard).complete
    principal = Principal(issuer="i", expires_at=1e13)
    alone = complete([], principal, False, False)
    beside = complete([("cache-control", "no-store")], principal, False, False)
    assert told(alone) == told(beside) == ("253402300799", "@253402300799")


def test_a_token_without_expiry_tells_none() -> None:
    guard = LocalIssuer(algorithm="ES256").guard(clock=lambda: NOW)
    lines = completion(guard).complete([], Principal(issuer="i"), False, False)
    assert lines == [("Cache-Control", "private")]
