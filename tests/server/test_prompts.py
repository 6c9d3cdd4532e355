"""`prompt`, `max_age` and `acr_values` of an authorization request (AZ-08)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import argon2
import pytest

from bearerguard.server import PeopleOptions, User
from bearerguard.server.login.prompt import MARK
from tests.server.harness import VERIFIER, Harness, Make, Reply, claims
from tests.server.people.visitor import Visitor

FRESH: list[dict[str, Any]] = [
    {"prompt": "login"},
    {"max_age": "0"},
    {"max_age": "60"},
    {"prompt": "login consent"},
]


def sent_to_login(response: Reply) -> dict[str, str]:
    assert response.location.startswith("https://app.example.com/login?"), response.location
    return {name: value for name, (value,) in parse_qs(urlsplit(response.location).query).items()}


def come_back(harness: Harness, response: Reply) -> Reply:
    parts = urlsplit(sent_to_login(response)["next"])
    return harness.send("GET", f"{parts.path}?{parts.query}")


def sign_in(harness: Harness, *, at: float | None = None) -> None:
    assert harness.user is not None
    harness.user = replace(harness.user, auth_time=harness.clock.now if at is None else at)


def code(harness: Harness, response: Reply) -> dict[str, Any]:
    found = response if response.status == 303 else harness.consent(response)
    return claims(harness.redeem(found.sent["code"]).json["access_token"])


@pytest.mark.parametrize("fields", FRESH)
def test_AZ_08_too_old_a_login_is_done_anew_once_and_the_token_says_when(
    harness: Harness, fields: dict[str, Any]
) -> None:
    asked = harness.authorize(**fields)
    assert sent_to_login(asked)["prompt"] == "login"
    harness.clock.now += 20
    sign_in(harness)
    back = come_back(harness, asked)
    assert code(harness, back)["auth_time"] == harness.clock.now


@pytest.mark.parametrize("fields", FRESH)
@pytest.mark.parametrize("auth_time", [None, 1_699_999_000.0])
def test_AZ_08_returning_without_a_new_login_shows_an_error_instead_of_a_loop(
    harness: Harness, fields: dict[str, Any], auth_time: float | None
) -> None:
    harness.user = User("ada", "Ada", auth_time)
    asked = harness.authorize(**fields)
    assert come_back(harness, asked).sent["error"] == "login_required"


def test_AZ_08_a_new_login_counts_for_one_request_and_for_a_short_time(harness: Harness) -> None:
    asked = harness.authorize(prompt="login")
    sign_in(harness)
    assert "code" in come_back(harness, asked).sent
    again = harness.authorize(prompt="login")
    assert sent_to_login(again)["prompt"] == "login"
    harness.clock.now += 301
    late = come_back(harness, asked)
    assert sent_to_login(late)["next"].count(MARK) == 1
    harness.clock.now += 3600
    assert "next" in sent_to_login(come_back(harness, asked))


def test_AZ_08_a_login_that_is_recent_enough_is_not_asked_for(harness: Harness) -> None:
    assert "code" in harness.authorize(max_age="1000").sent
    harness.clock.now += 1
    assert "next" in sent_to_login(harness.authorize(max_age="1000"))


@pytest.mark.parametrize("fields", [*FRESH, {"prompt": "select_account"}])
def test_AZ_08_who_is_not_signed_in_signs_in_once(harness: Harness, fields: dict[str, Any]) -> None:
    harness.user = None
    asked = harness.authorize(**fields)
    harness.clock.now += 90
    harness.user = User("ada", "Ada", harness.clock.now)
    back = come_back(harness, asked)
    assert code(harness, back)["sub"] == "ada"


def test_AZ_08_select_account_lets_the_user_choose_and_needs_no_new_login(harness: Harness) -> None:
    asked = harness.authorize(prompt="select_account")
    assert sent_to_login(asked)["prompt"] == "select_account"
    harness.user = User("grace", "Grace", 1_699_999_000.0)
    assert code(harness, come_back(harness, asked))["sub"] == "grace"


def test_AZ_08_consent_is_asked_for_though_it_is_not_needed(harness: Harness) -> None:
    assert "code" in harness.authorize().sent
    page = harness.authorize(prompt="consent")
    assert page.status == 200
    assert "code" in harness.consent(page).sent


def test_AZ_08_none_shows_the_user_nothing(harness: Harness) -> None:
    assert "code" in harness.authorize(prompt="none").sent
    assert harness.authorize(harness.phone, prompt="none").sent["error"] == "consent_required"
    old = harness.authorize(prompt="none", max_age="60")
    assert old.sent["error"] == "login_required"
    harness.user = None
    response = harness.authorize(prompt="none")
    assert (response.sent["error"], response.sent["state"]) == ("login_required", "a state")
    assert harness.authorize(prompt="none", scope="unheard").sent["error"] == "invalid_scope"
    assert harness.authorize(prompt="none", redirect_uri="https://evil.example").status == 400


@pytest.mark.parametrize(
    "fields",
    [
        *({"prompt": "none login"}, {"prompt": "create"}, {"prompt": "LOGIN"}),
        *({"max_age": "-1"}, {"max_age": "1.5"}, {"max_age": "x"}, {"max_age": "9" * 500}),
        *({"max_age": "\u0663"}, {"max_age": ["1", "2"]}, {"prompt": ["login", "none"]}),
    ],
)
def test_AZ_08_what_cannot_be_understood_is_refused(
    harness: Harness, fields: dict[str, Any]
) -> None:
    assert harness.authorize(**fields).sent["error"] == "invalid_request"
    harness.user = None
    assert harness.authorize(**fields).status == 303


def test_AZ_08_an_authentication_context_that_is_not_to_be_had_is_refused(harness: Harness) -> None:
    others: list[dict[str, Any]] = [{}, {"prompt": "none"}]
    for more in others:
        response = harness.authorize(acr_values="phr", **more)
        assert response.sent["error"] == "unmet_authentication_requirements"


@pytest.mark.parametrize("mark", ["x", "", "x" * 4000])
def test_AZ_08_a_mark_that_somebody_made_up_is_none(harness: Harness, mark: str) -> None:
    made_up: dict[str, Any] = {MARK: mark}
    response = harness.authorize(prompt="login", **made_up)
    assert sent_to_login(response)["next"].count(MARK) == 1


@pytest.mark.parametrize("fields", [*FRESH, {"prompt": "select_account"}])
def test_AZ_08_our_own_login_asks_for_the_password_again(
    make: Make, fields: dict[str, Any]
) -> None:
    harness = make(people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    harness.server.users.add("ada", VERIFIER)
    visitor = Visitor(harness.server.handle)
    assert visitor.sign_in("ada", VERIFIER).status == 303
    harness.clock.now += 600
    link = harness.authorize(**fields).location
    # The harness has no cookies: the visitor follows the same link with theirs.
    query = parse_qs(urlsplit(link).query)
    assert "request" in query
    page = visitor.get(link)
    assert page.title.startswith("Sign in")
    harness.clock.now += 100
    done = visitor.submit(page, username="ada", password=VERIFIER)
    response = visitor.follow(done)
    final = Reply(response.response)
    if final.status == 200:
        final = Reply(visitor.submit(response, ("decision", "allow")).response)
    assert "code" in final.sent
