"""Checks of an application's own on the claims of a token: `Issuer(checks=)`."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import (
    ClaimCheckFailed,
    ClaimMapping,
    Claims,
    ConfigurationError,
    Deny,
    Event,
    Guard,
    Reason,
    Request,
    TokenError,
    Unavailable,
)
from bearerguard.testing import LocalIssuer
from tests.conformance.harness import NOON, Clock


class Organisation:
    """Accepts the tokens of one organisation, and counts how often it is called."""

    def __init__(self) -> None:
        self.seen: list[Claims] = []

    def __call__(self, claims: Claims) -> str | None:
        self.seen.append(claims)
        return None if claims.get("org") == "acme" else "its org is not ours"


def trusting(check: Any, events: list[Event] | None = None, **options: Any) -> Any:
    """Return an issuer in this process, and a guard that trusts it with this check."""
    local = LocalIssuer(algorithm="ES256", clock=Clock())
    issuer = local.issuer(
        checks=[check],
        introspection=local.introspection.options(**options),
        hints={"refused_by_check": "ask for an account"},
    )
    guard = Guard(
        issuer,
        transport=local.transport(),
        clock=local.clock,
        on_event=None if events is None else events.append,
    )
    return local, guard


def made(local: LocalIssuer, kind: str, **claims: Any) -> str:
    return local.opaque_token(claims=claims) if kind == "opaque" else local.token(claims=claims)


def decided(guard: Guard, token: str) -> Any:
    request = Request(headers={"Authorization": f"Bearer {token}"})
    return guard.run(guard.authenticate(request))


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_a_check_refuses_with_its_reason_in_the_log_and_not_in_the_response(kind: str) -> None:
    events: list[Event] = []
    local, guard = trusting(Organisation(), events)
    with guard:
        assert guard.verify(made(local, kind, org="acme")).claims["org"] == "acme"
        decision = decided(guard, made(local, kind, org="other"))
    assert isinstance(decision, Deny)
    assert (decision.status, decision.error) == (401, "invalid_token")
    assert decision.reason == Reason("refused_by_check")
    assert "org" not in repr(decision)
    (event,) = [each for each in events if each.code == "refused_by_check"]
    assert event.detail == "Organisation: its org is not ours; ask for an account"
    assert event.issuer == local.url


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_a_result_is_cached_with_the_token(kind: str) -> None:
    check = Organisation()
    local, guard = trusting(check)
    token = made(local, kind, org="acme")
    with guard:
        for _ in range(3):
            guard.verify(token)
        assert len(check.seen) == 1
        guard.verify(made(local, kind, org="acme", jti="2"))
        assert len(check.seen) == 2


def test_a_check_gets_the_tokens_own_claims_immutable() -> None:
    check = Organisation()
    local = LocalIssuer(algorithm="ES256", clock=Clock())
    issuer = local.issuer(checks=(check,), claims=ClaimMapping(roles="groups"))
    with Guard(issuer, transport=local.transport(), clock=local.clock) as guard:
        assert guard.verify(local.token(claims={"org": "acme", "groups": ["a"]})).roles == {"a"}
    (claims,) = check.seen
    assert isinstance(claims, Claims)
    assert claims["groups"] == ("a",)
    assert "roles" not in claims


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
def test_a_check_runs_only_on_tokens_that_are_valid_otherwise(kind: str) -> None:
    check = Organisation()
    local, guard = trusting(check)
    with guard:
        for wrong in ({"aud": "other"}, {"exp": int(NOON) - 3600}):
            with pytest.raises(TokenError):
                guard.verify(made(local, kind, org="acme", **wrong))
    assert check.seen == []


def test_a_check_may_raise_a_refusal_with_a_reason_of_its_own() -> None:
    def check(_claims: Claims) -> None:
        raise TokenError(Reason("suspended", "The account is suspended"), "see the customer list")

    local, guard = trusting(check)
    with guard:
        decision = decided(guard, local.token())
    assert (decision.status, decision.reason.code) == (401, "suspended")


@pytest.mark.parametrize("kind", ["jwt", "opaque"])
@pytest.mark.parametrize(
    ("check", "named"),
    [
        (lambda claims: claims["s3cret"], "raised KeyError"),
        (lambda _: True, "returned bool: return None to accept a token"),
        (lambda _: False, "returned bool"),
        (lambda _: {}, "returned dict"),
    ],
)
def test_a_check_that_fails_lets_nothing_pass_and_is_no_500(
    kind: str, check: Any, named: str
) -> None:
    events: list[Event] = []
    local, guard = trusting(check, events)
    with guard:
        token = made(local, kind)
        decision = decided(guard, token)
        assert isinstance(decision, Unavailable)
        assert (decision.status, decision.retry_after) == (503, 1)
        with pytest.raises(ClaimCheckFailed, match=f"^checks=: .*{named}"):
            guard.verify(token)
    found = [each for each in events if each.code == "claim_check_failed"]
    assert len(found) == 2
    assert "s3cret" not in str(found)


def test_a_check_that_fails_on_a_fresh_response_has_no_older_one_used() -> None:
    check = Organisation()
    broken: list[bool] = []

    def failing(claims: Claims) -> str | None:
        if broken:
            raise RuntimeError
        return check(claims)

    local, guard = trusting(failing, cache_ttl=10, stale_ttl=1000)
    token = local.opaque_token(claims={"org": "acme"})
    with guard:
        guard.verify(token)
        local.clock.advance(20)
        broken.append(True)
        with pytest.raises(ClaimCheckFailed):
            guard.verify(token)


async def waits(_claims: Claims) -> None: ...


class Waits:
    async def __call__(self, _claims: Claims) -> None: ...


@pytest.mark.parametrize(
    ("checks", "named"),
    [
        (waits, "pass a list of callables"),
        ("check", "pass a list of callables"),
        (["check"], "pass a list of callables"),
        ([waits], "waits is async"),
        ([Waits()], "Waits is async"),
    ],
)
def test_what_cannot_be_a_check_is_refused(checks: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"checks=: .*{named}"):
        LocalIssuer().issuer(checks=checks)


@pytest.mark.parametrize("reason", ["a\nWARNING forged", "\x1b[31mred", "x" * 100_000])
def test_a_reason_is_one_line_of_the_log(reason: str, caplog: pytest.LogCaptureFixture) -> None:
    local, guard = trusting(lambda _: reason)
    assert isinstance(decided(guard, local.token()), Deny)
    (line,) = [text for text in caplog.messages if "refused_by_check" in text]
    assert line.isprintable()
    assert len(line) < 1000


def test_a_reason_in_any_language_stays_as_it_is() -> None:
    local, guard = trusting(lambda _: "die Gruppe fehlt: ä")
    with pytest.raises(TokenError, match="die Gruppe fehlt: ä"):
        guard.verify(local.token())
