"""`prompt`, `max_age` and `acr_values` of an authorization request (AZ-08)."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import argon2
import pytest

from bearerguard import ConfigurationError, Event
from bearerguard.server import PeopleOptions, Resource, User
from bearerguard.server.login.people import PASSWORD_ACR
from bearerguard.server.login.prompt import MARK
from tests.server.harness import ISSUER, VERIFIER, Harness, Make, Reply, claims
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
    return harness.send("GET", f"{parts.path}?{parts.query}", cookie=cookie_of(response))


def cookie_of(response: Reply) -> str:
    """Return the cookie that a response sets, as the browser sends it."""
    return (response.header("set-cookie") or "").partition(";")[0]


def sign_in(harness: Harness, *, at: float | None = None) -> None:
    assert harness.user is not None
    harness.user = replace(harness.user, auth_time=harness.clock.now if at is None else at)


def code(harness: Harness, response: Reply, cookie: str = "") -> dict[str, Any]:
    found = response if response.status == 303 else harness.consent(response, cookie=cookie)
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
    assert code(harness, back, cookie_of(asked))["auth_time"] == harness.clock.now


@pytest.mark.parametrize("fields", FRESH)
@pytest.mark.parametrize("auth_time", [None, 1_699_999_000.0])
def test_AZ_08_returning_without_a_new_login_shows_an_error_instead_of_a_loop(
    harness: Harness, fields: dict[str, Any], auth_time: float | None
) -> None:
    harness.user = User("ada", "Ada", auth_time)
    asked = harness.authorize(**fields)
    assert come_back(harness, asked).sent["error"] == "login_required"


def test_AZ_08_a_new_login_counts_for_a_short_time(harness: Harness) -> None:
    asked = harness.authorize(prompt="login")
    sign_in(harness)
    harness.clock.now += 301
    late = come_back(harness, asked)
    assert sent_to_login(late)["next"].count(MARK) == 1
    harness.clock.now += 3600
    assert "next" in sent_to_login(come_back(harness, asked))


ONCE: list[dict[str, Any]] = [{"prompt": "login"}, {"max_age": "0"}, {"prompt": "login consent"}]


@pytest.mark.both_engines
@pytest.mark.parametrize("fields", ONCE)
def test_AZ_08_a_new_login_counts_once(harness: Harness, fields: dict[str, Any]) -> None:
    """Back in the browser, or a second equal request, has the user log in again."""
    asked = harness.authorize(**fields)
    sign_in(harness)
    back = come_back(harness, asked)
    first = code(harness, back, cookie_of(asked))
    harness.clock.now += 2
    other = harness.another(people=harness.people)
    for each in (harness.server, other):  # whichever process gets it
        harness.server, own = each, harness.server
        again = come_back(harness, asked)
        assert sent_to_login(again)["prompt"] == "login"
        assert sent_to_login(again)["next"].count(MARK) == 1
        vain = come_back_with(harness, again, asked)
        assert vain.sent["error"] == "login_required", "the old login, soon after it"
        harness.server = own
    sign_in(harness)
    new = code(harness, come_back_with(harness, again, asked), cookie_of(asked))
    assert new["auth_time"] == first["auth_time"] + 2
    other.close()


def come_back_with(harness: Harness, response: Reply, first: Reply) -> Reply:
    """Return from the login with the cookie that an earlier response set."""
    parts = urlsplit(sent_to_login(response)["next"])
    return harness.send("GET", f"{parts.path}?{parts.query}", cookie=cookie_of(first))


def test_AZ_08_one_login_serves_one_of_two_tabs(harness: Harness) -> None:
    first = harness.authorize(prompt="login")
    second = harness.send("GET", harness.link(prompt="login", state="b"), cookie=cookie_of(first))
    sign_in(harness)
    assert "code" in come_back(harness, first).sent
    again = come_back_with(harness, second, first)
    assert sent_to_login(again)["prompt"] == "login"
    harness.clock.now += 1
    sign_in(harness)
    assert "code" in come_back_with(harness, again, first).sent


def test_AZ_08_a_later_login_does_not_renew_a_request_that_was_served(harness: Harness) -> None:
    asked = harness.authorize(prompt="login")
    sign_in(harness)
    assert "code" in come_back(harness, asked).sent
    harness.clock.now += 60
    sign_in(harness)  # for something else
    assert sent_to_login(come_back(harness, asked))["prompt"] == "login"


def test_AZ_08_an_account_is_chosen_anew_for_a_request_that_is_repeated(harness: Harness) -> None:
    asked = harness.authorize(prompt="select_account")
    assert "code" in come_back(harness, asked).sent
    assert sent_to_login(come_back(harness, asked))["prompt"] == "select_account"


@pytest.mark.both_engines
def test_AZ_08_of_two_returns_at_once_one_gets_a_code(harness: Harness) -> None:
    asked = harness.authorize(prompt="login")
    sign_in(harness)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: come_back(harness, asked), range(4)))
    assert ["code" in each.sent for each in found].count(True) == 1
    assert harness.store.count("codes") == 1
    assert all("code" in each.sent or sent_to_login(each)["next"] for each in found)


def test_AZ_08_a_login_that_is_recent_enough_is_not_used_up(harness: Harness) -> None:
    asked = harness.authorize(max_age="60")
    sign_in(harness)
    harness.clock.now += 59
    for _ in range(2):
        assert "code" in come_back(harness, asked).sent
    harness.clock.now += 2
    assert "code" in come_back(harness, asked).sent, "no loop for a user who was slow"
    assert sent_to_login(come_back(harness, asked))["prompt"] == "login"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"max_age": "1000"}, 1),
        ({"max_age": "2000"}, 1001),
        ({"max_age": "60", "prompt": "consent"}, 61),
    ],
)
def test_AZ_08_a_consent_page_that_was_left_open_gives_no_code_for_an_old_login(
    harness: Harness, fields: dict[str, Any], seconds: int
) -> None:
    if "prompt" in fields:
        sign_in(harness)
    page = harness.authorize(harness.phone, **fields)
    assert page.status == 200
    harness.clock.now += seconds
    asked = harness.consent(page)
    assert sent_to_login(asked)["prompt"] == "login"
    assert harness.store.count("codes") == 0
    cookie = cookie_of(page)
    parts = urlsplit(sent_to_login(asked)["next"])
    assert parts.path == "/oauth/authorize"
    link = f"{parts.path}?{parts.query}"
    assert harness.send("GET", link, cookie=cookie).sent["error"] == "login_required"
    sign_in(harness)
    again = harness.send("GET", link, cookie=cookie)
    assert again.status == 200, "the user decides again"
    found = harness.consent(again, cookie=cookie)
    token = harness.redeem(found.sent["code"], harness.phone).json["access_token"]
    assert claims(token)["auth_time"] == harness.clock.now


def test_AZ_08_a_refusal_is_a_refusal_however_old_the_login_is(harness: Harness) -> None:
    page = harness.authorize(harness.phone, max_age="1000")
    harness.clock.now += 3000
    assert harness.consent(page, decision="deny").sent["error"] == "access_denied"


def test_AZ_08_a_consent_page_is_no_use_after_its_login_was_used(harness: Harness) -> None:
    """Such as one of the same request in a second window."""
    asked = harness.authorize(harness.phone, prompt="login")
    cookie = cookie_of(asked)
    sign_in(harness)
    pages = [come_back(harness, asked) for _ in range(2)]
    assert "code" in harness.consent(pages[0], cookie=cookie).sent
    second = harness.consent(pages[1], cookie=cookie, remember="yes")
    assert sent_to_login(second)["prompt"] == "login"
    assert harness.store.count("codes") == 1


def test_AZ_08_a_login_that_another_request_uses_at_this_moment_is_asked_for_anew(
    make: Make,
) -> None:
    others: list[Callable[[], Reply]] = []
    first: list[Reply] = []

    def meanwhile(event: Event) -> None:
        if event.code == "consent_given" and others:
            first.append(others.pop()())

    harness = make(on_event=meanwhile)
    asked = harness.authorize(harness.phone, prompt="login")
    cookie = cookie_of(asked)
    sign_in(harness)
    pages = [come_back(harness, asked) for _ in range(2)]
    others.append(lambda: harness.consent(pages[0], cookie=cookie))
    second = harness.consent(pages[1], cookie=cookie)
    assert "code" in first[0].sent
    assert sent_to_login(second)["prompt"] == "login"
    assert harness.store.count("codes") == 1


def test_AZ_08_a_consent_page_asks_anew_for_a_stronger_login_too(strong: Harness) -> None:
    """An app may take back how a user logged in."""
    strong.user = User("ada", "Ada", strong.clock.now, "passkey")
    page = strong.authorize(strong.phone, acr_values="passkey")
    strong.user = User("ada", "Ada", strong.clock.now, "pwd")
    assert sent_to_login(strong.consent(page))["acr_values"] == "passkey"


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
    assert code(harness, back, cookie_of(asked))["sub"] == "ada"


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


@pytest.mark.parametrize("fields", FRESH[:3])
def test_AZ_08_the_mark_of_one_request_lets_no_other_request_pass(
    harness: Harness, fields: dict[str, Any]
) -> None:
    """Back in the browser, or with an address that was kept, an old login would do."""
    asked = harness.authorize(**fields)
    sign_in(harness)
    harness.clock.now += 61
    mark = parse_qs(urlsplit(sent_to_login(asked)["next"]).query)[MARK]
    moved: dict[str, Any] = {MARK: mark, "state": "another state"}
    again = harness.authorize(**fields, **moved)
    assert sent_to_login(again)["prompt"] == "login"
    assert sent_to_login(again)["next"].count(MARK) == 1


@pytest.mark.parametrize("fields", FRESH)
def test_AZ_08_a_login_in_the_future_is_not_recent(
    harness: Harness, fields: dict[str, Any]
) -> None:
    """Such as one in milliseconds, or one from before the clock was set back."""
    sign_in(harness, at=harness.clock.now * 1000)
    asked = harness.authorize(**fields)
    assert sent_to_login(asked)["prompt"] == "login"
    assert come_back(harness, asked).sent["error"] == "login_required"


def test_AZ_08_the_mark_of_one_browser_lets_no_other_browser_pass(harness: Harness) -> None:
    asked = harness.authorize(prompt="login")
    sign_in(harness)
    parts = urlsplit(sent_to_login(asked)["next"])
    other = cookie_of(harness.authorize(prompt="login"))
    for cookie in ("", other, cookie_of(asked) + "x"):
        response = harness.send("GET", f"{parts.path}?{parts.query}", cookie=cookie)
        assert response.sent["error"] == "login_required", cookie
    assert "code" in come_back(harness, asked).sent


def test_AZ_08_a_browser_keeps_its_name_so_that_two_tabs_can_log_in(harness: Harness) -> None:
    first = harness.authorize(prompt="login")
    link = sent_to_login(first)["next"].partition("&" + MARK)[0].replace("a+state", "b")
    parts = urlsplit(link)
    second = harness.send("GET", f"{parts.path}?{parts.query}", cookie=cookie_of(first))
    assert second.header("set-cookie") is None
    sign_in(harness)
    assert "code" in come_back(harness, first).sent
    harness.clock.now += 1
    sign_in(harness)
    parts = urlsplit(sent_to_login(second)["next"])
    back = harness.send("GET", f"{parts.path}?{parts.query}", cookie=cookie_of(first))
    assert "code" in back.sent


@pytest.fixture
def strong(make: Make) -> Harness:
    """A server whose app can log users in by password and by passkey."""
    harness: Harness
    people = PeopleOptions(
        current_user=lambda _: harness.user,
        login_url="https://app.example.com/login",
        acr_values=["passkey", "pwd"],
    )
    harness = make(people=people)
    harness.user = User("ada", "Ada", harness.clock.now, "pwd")
    return harness


def test_AZ_08_a_login_in_a_stronger_context_is_asked_for_and_named_by_the_token(
    strong: Harness,
) -> None:
    assert code(strong, strong.authorize(acr_values="pwd passkey"))["acr"] == "pwd"
    asked = strong.authorize(acr_values="phr passkey")
    assert sent_to_login(asked)["prompt"] == "login"
    assert sent_to_login(asked)["acr_values"] == "passkey"
    strong.user = User("ada", "Ada", strong.clock.now, "passkey")
    assert code(strong, come_back(strong, asked))["acr"] == "passkey"


def test_AZ_08_both_a_context_and_an_age_must_be_met(strong: Harness) -> None:
    strong.user = User("ada", "Ada", strong.clock.now - 600, "passkey")
    asked = strong.authorize(acr_values="passkey", max_age="60")
    assert sent_to_login(asked)["acr_values"] == "passkey"
    strong.user = User("ada", "Ada", strong.clock.now, "pwd")
    assert come_back(strong, asked).sent["error"] == "unmet_authentication_requirements"
    strong.user = User("ada", "Ada", strong.clock.now, "passkey")
    found = code(strong, come_back(strong, asked))
    assert (found["acr"], found["auth_time"]) == ("passkey", strong.clock.now)


def test_AZ_08_no_page_is_shown_for_a_stronger_context_with_prompt_none(strong: Harness) -> None:
    silent = strong.authorize(acr_values="passkey", prompt="none")
    assert silent.sent["error"] == "login_required"
    never = strong.authorize(acr_values="phr", prompt="none")
    assert never.sent["error"] == "unmet_authentication_requirements"


def test_AZ_08_whoever_is_not_signed_in_is_told_which_contexts_suffice(strong: Harness) -> None:
    strong.user = None
    asked = strong.authorize(acr_values="passkey")
    assert sent_to_login(asked)["acr_values"] == "passkey"
    assert "acr_values" not in sent_to_login(strong.authorize())
    strong.user = User("ada", "Ada", strong.clock.now, "passkey")
    assert code(strong, come_back(strong, asked))["acr"] == "passkey"


def test_AZ_08_a_login_of_which_nothing_is_known_is_claimed_to_be_nothing(strong: Harness) -> None:
    strong.user = User("ada", "Ada")
    found = code(strong, strong.authorize())
    assert "acr" not in found
    assert "auth_time" not in found
    asked = strong.authorize(acr_values="pwd")
    assert come_back(strong, asked).sent["error"] == "unmet_authentication_requirements"


def test_AZ_08_a_refresh_and_introspection_tell_of_the_login_that_there_was(
    strong: Harness,
) -> None:
    then = strong.clock.now
    tokens = strong.tokens()
    strong.clock.now += 500
    later = strong.refresh(tokens["refresh_token"]).json["access_token"]
    for found in (claims(later), strong.introspect(later)):
        assert (found["acr"], found["auth_time"]) == ("pwd", then)


def test_AZ_08_opaque_tokens_tell_of_the_login_too(make: Make) -> None:
    harness: Harness
    people = PeopleOptions(
        current_user=lambda _: harness.user,
        login_url="https://app.example.com/login",
        acr_values=["pwd"],
    )
    harness = make(people=people, resources=[Resource(ISSUER, tokens="opaque")])
    harness.user = User("ada", "Ada", harness.clock.now - 5, "pwd")
    tokens = harness.tokens()
    api = harness.add("API", introspects=[ISSUER])
    renewed = harness.refresh(tokens["refresh_token"]).json
    for token in (tokens, renewed):
        found = harness.introspect(token["access_token"], api)
        assert (found["acr"], found["auth_time"]) == ("pwd", harness.clock.now - 5)


def test_AZ_08_the_metadata_names_what_prompts_and_contexts_there_are(
    strong: Harness, make: Make
) -> None:
    found = strong.send("GET", "/.well-known/oauth-authorization-server").json
    assert found["acr_values_supported"] == ["passkey", "pwd"]
    assert found["prompt_values_supported"] == ["none", "login", "consent", "select_account"]
    builtin = make(people=None).send("GET", "/.well-known/openid-configuration").json
    assert builtin["acr_values_supported"] == [PASSWORD_ACR]
    named = make(people=PeopleOptions(acr_values=["pwd"]))
    found = named.send("GET", "/.well-known/openid-configuration").json
    assert found["acr_values_supported"] == ["pwd"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("pwd", "pass a list of names"),
        (["two words"], "pass a list of names"),
        ([1], "pass a list of names"),
        (["pwd", "passkey"], "the built-in login knows passwords alone"),
    ],
)
def test_unusable_acr_values_are_refused_at_the_start(make: Make, values: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make(people=PeopleOptions(acr_values=values))


@pytest.mark.parametrize("acr", ["two words", "", 5])
def test_a_user_with_a_malformed_acr_is_the_apps_error(
    strong: Harness, caplog: pytest.LogCaptureFixture, acr: Any
) -> None:
    strong.user = User("ada", "Ada", strong.clock.now, acr)
    assert strong.authorize().status == 503
    assert "current_user=: return a User whose acr has no space" in caplog.text


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
    first = visitor.follow(visitor.get(harness.link(**fields)))
    assert "to continue to App" in first.text
    assert visitor.sign_in("ada", VERIFIER).status == 303
    harness.clock.now += 600
    page = visitor.follow(visitor.get(harness.link(**fields)))
    assert page.title.startswith("Sign in")
    is_again = "App asks you to sign in again" in page.text
    assert is_again is ("select_account" not in fields.values())
    harness.clock.now += 100
    done = visitor.submit(page, username="ada", password=VERIFIER)
    response = visitor.follow(done)
    final = Reply(response.response)
    if final.status == 200:
        final = Reply(visitor.submit(response, ("decision", "allow")).response)
    found = claims(harness.redeem(final.sent["code"]).json["access_token"])
    assert found["acr"] == PASSWORD_ACR
    assert found["auth_time"] == harness.clock.now


@pytest.mark.parametrize("fields", [*FRESH, {"prompt": "select_account"}])
def test_AZ_08_another_account_is_asked_for_its_password_once(
    make: Make, fields: dict[str, Any]
) -> None:
    harness = make(people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    for name in ("ada", "eve"):
        harness.server.users.add(name, VERIFIER, name=name.title())
    app = harness.server.clients.add("Asks", redirect_uris=["https://app.example.com/cb"])
    visitor = Visitor(harness.server.handle)
    login = visitor.follow(visitor.get(harness.link(app, scope=None, **fields)))
    consent = visitor.follow(visitor.submit(login, username="ada", password=VERIFIER))
    button = next(each for each in consent.buttons if "logout" in consent.buttons[each])
    harness.clock.now += 100
    login = visitor.follow(visitor.submit(consent, button))
    consent = visitor.follow(visitor.submit(login, username="eve", password=VERIFIER))
    assert "Signed in as Eve" in consent.text
    allowed = Reply(visitor.submit(consent, ("decision", "allow")).response)
    tokens = harness.redeem(allowed.sent["code"], app).json
    assert claims(tokens["access_token"])["sub"] == harness.server.users.get("eve").user_id
