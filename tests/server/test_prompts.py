"""`prompt`, `max_age` and `acr_values` of an authorization request (AZ-08)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import argon2
import pytest

from bearerguard.server import PeopleOptions, User
from bearerguard.server.login.prompt import MARK
from tests.server.people.visitor import Visitor
from tests.server.stage import VERIFIER, Answer, Make, Stage, claims

FRESH: list[dict[str, Any]] = [
    {"prompt": "login"},
    {"max_age": "0"},
    {"max_age": "60"},
    {"prompt": "login consent"},
]


def sent_to_login(answer: Answer) -> dict[str, str]:
    assert answer.location.startswith("https://app.example.com/login?"), answer.location
    return {name: value for name, (value,) in parse_qs(urlsplit(answer.location).query).items()}


def come_back(stage: Stage, answer: Answer) -> Answer:
    parts = urlsplit(sent_to_login(answer)["next"])
    return stage.send("GET", f"{parts.path}?{parts.query}")


def sign_in(stage: Stage, *, at: float | None = None) -> None:
    assert stage.user is not None
    stage.user = replace(stage.user, auth_time=stage.clock.now if at is None else at)


def code(stage: Stage, answer: Answer) -> dict[str, Any]:
    found = answer if answer.status == 303 else stage.consent(answer)
    return claims(stage.redeem(found.sent["code"]).json["access_token"])


@pytest.mark.parametrize("fields", FRESH)
def test_AZ_08_too_old_a_login_is_done_anew_once_and_the_token_says_when(
    stage: Stage, fields: dict[str, Any]
) -> None:
    asked = stage.authorize(**fields)
    assert sent_to_login(asked)["prompt"] == "login"
    stage.clock.now += 20
    sign_in(stage)
    back = come_back(stage, asked)
    assert code(stage, back)["auth_time"] == stage.clock.now


@pytest.mark.parametrize("fields", FRESH)
@pytest.mark.parametrize("auth_time", [None, 1_699_999_000.0])
def test_AZ_08_who_comes_back_without_a_new_login_is_told_so_and_not_sent_again(
    stage: Stage, fields: dict[str, Any], auth_time: float | None
) -> None:
    stage.user = User("ada", "Ada", auth_time)
    asked = stage.authorize(**fields)
    assert come_back(stage, asked).sent["error"] == "login_required"


def test_AZ_08_a_login_answers_one_request_and_not_what_comes_long_after(stage: Stage) -> None:
    asked = stage.authorize(prompt="login")
    sign_in(stage)
    assert "code" in come_back(stage, asked).sent
    again = stage.authorize(prompt="login")
    assert sent_to_login(again)["prompt"] == "login"
    stage.clock.now += 301
    late = come_back(stage, asked)
    assert sent_to_login(late)["next"].count(MARK) == 1
    stage.clock.now += 3600
    assert "next" in sent_to_login(come_back(stage, asked))


def test_AZ_08_a_login_that_is_recent_enough_is_not_asked_for(stage: Stage) -> None:
    assert "code" in stage.authorize(max_age="1000").sent
    stage.clock.now += 1
    assert "next" in sent_to_login(stage.authorize(max_age="1000"))


@pytest.mark.parametrize("fields", [*FRESH, {"prompt": "select_account"}])
def test_AZ_08_who_is_not_signed_in_signs_in_once(stage: Stage, fields: dict[str, Any]) -> None:
    stage.user = None
    asked = stage.authorize(**fields)
    stage.clock.now += 90
    stage.user = User("ada", "Ada", stage.clock.now)
    back = come_back(stage, asked)
    assert code(stage, back)["sub"] == "ada"


def test_AZ_08_select_account_lets_the_user_choose_and_needs_no_new_login(stage: Stage) -> None:
    asked = stage.authorize(prompt="select_account")
    assert sent_to_login(asked)["prompt"] == "select_account"
    stage.user = User("grace", "Grace", 1_699_999_000.0)
    assert code(stage, come_back(stage, asked))["sub"] == "grace"


def test_AZ_08_consent_is_asked_for_though_it_is_not_needed(stage: Stage) -> None:
    assert "code" in stage.authorize().sent
    page = stage.authorize(prompt="consent")
    assert page.status == 200
    assert "code" in stage.consent(page).sent


def test_AZ_08_none_shows_the_user_nothing(stage: Stage) -> None:
    assert "code" in stage.authorize(prompt="none").sent
    assert stage.authorize(stage.phone, prompt="none").sent["error"] == "consent_required"
    old = stage.authorize(prompt="none", max_age="60")
    assert old.sent["error"] == "login_required"
    stage.user = None
    answer = stage.authorize(prompt="none")
    assert (answer.sent["error"], answer.sent["state"]) == ("login_required", "a state")
    assert stage.authorize(prompt="none", scope="unheard").sent["error"] == "invalid_scope"
    assert stage.authorize(prompt="none", redirect_uri="https://evil.example").status == 400


@pytest.mark.parametrize(
    "fields",
    [
        *({"prompt": "none login"}, {"prompt": "create"}, {"prompt": "LOGIN"}),
        *({"max_age": "-1"}, {"max_age": "1.5"}, {"max_age": "x"}, {"max_age": "9" * 500}),
        *({"max_age": "\u0663"}, {"max_age": ["1", "2"]}, {"prompt": ["login", "none"]}),
    ],
)
def test_AZ_08_what_cannot_be_understood_is_refused(stage: Stage, fields: dict[str, Any]) -> None:
    assert stage.authorize(**fields).sent["error"] == "invalid_request"
    stage.user = None
    assert stage.authorize(**fields).status == 303


def test_AZ_08_an_authentication_context_that_is_not_to_be_had_is_refused(stage: Stage) -> None:
    others: list[dict[str, Any]] = [{}, {"prompt": "none"}]
    for more in others:
        answer = stage.authorize(acr_values="phr", **more)
        assert answer.sent["error"] == "unmet_authentication_requirements"


@pytest.mark.parametrize("mark", ["x", "", "x" * 4000])
def test_AZ_08_a_mark_that_somebody_made_up_is_none(stage: Stage, mark: str) -> None:
    made_up: dict[str, Any] = {MARK: mark}
    answer = stage.authorize(prompt="login", **made_up)
    assert sent_to_login(answer)["next"].count(MARK) == 1


@pytest.mark.parametrize("fields", [*FRESH, {"prompt": "select_account"}])
def test_AZ_08_our_own_login_asks_for_the_password_again(
    make: Make, fields: dict[str, Any]
) -> None:
    stage = make(people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    stage.server.users.add("ada", VERIFIER)
    visitor = Visitor(stage.server.handle)
    assert visitor.sign_in("ada", VERIFIER).status == 303
    stage.clock.now += 600
    link = stage.authorize(**fields).location
    # The stage has no cookies: the visitor follows the same link with theirs.
    query = parse_qs(urlsplit(link).query)
    assert "request" in query
    page = visitor.get(link)
    assert page.title.startswith("Sign in")
    stage.clock.now += 100
    done = visitor.submit(page, username="ada", password=VERIFIER)
    answer = visitor.follow(done)
    answered = Answer(answer.response)
    if answered.status == 200:
        answered = Answer(visitor.submit(answer, ("decision", "allow")).response)
    assert "code" in answered.sent
