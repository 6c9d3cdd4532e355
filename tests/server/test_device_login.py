"""The page for devices behind the built-in login: a person comes back to it after the login."""

from __future__ import annotations

from pathlib import Path

import argon2
import pytest

from bearerguard import Response
from bearerguard.server import PeopleOptions, User
from bearerguard.testing.loopback import serving
from tests.chromium import pressed
from tests.processes import free_port
from tests.server.harness import Harness, Make
from tests.server.people.visitor import Visitor, path
from tests.server.test_device_code import PAGE, PENDING, Screen, screen_client
from tests.uvicorn_thread import running

PASSWORD = "correct horse battery"


@pytest.fixture
def harness(make: Make) -> Harness:
    made = make(people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    for name in ("ada", "bob"):
        made.server.users.add(name, PASSWORD, name=name.title())
    return made


@pytest.fixture
def visitor(harness: Harness) -> Visitor:
    return Visitor(harness.server.handle)


def test_DEV_01_after_the_login_the_code_of_the_link_is_still_there(
    harness: Harness, visitor: Visitor
) -> None:
    screen = Screen(harness)
    sent = visitor.get(f"{PAGE}?user_code={screen.user_code}")
    assert path(sent) == "/oauth/login"
    login = visitor.follow(sent)
    back = visitor.submit(login, username="ada", password=PASSWORD)
    assert back.header("location") == f"{PAGE}?user_code={screen.user_code}"
    page = visitor.follow(back)
    assert page.fields["user_code"] == screen.user_code
    assert page.policy["form-action"] == "'self'"
    consent = visitor.submit(page)
    assert "Ada" in consent.text
    assert screen.user_code in consent.text
    done = visitor.submit(consent, ("decision", "allow"))
    assert "go back to your device" in done.text
    tokens = screen.poll().json
    user_id = harness.server.users.get("ada").user_id
    assert harness.server.introspect(tokens["access_token"])["sub"] == user_id


def test_DEV_01_a_login_without_a_link_leads_to_the_empty_field(visitor: Visitor) -> None:
    login = visitor.follow(visitor.get(PAGE))
    back = visitor.submit(login, username="ada", password=PASSWORD)
    assert back.header("location") == PAGE
    assert visitor.follow(back).fields["user_code"] == ""


@pytest.mark.parametrize("on_the_consent", [True, False])
def test_DEV_01_another_account_is_used_without_losing_the_code(
    harness: Harness, visitor: Visitor, *, on_the_consent: bool
) -> None:
    screen = Screen(harness)
    visitor.sign_in("ada", PASSWORD)
    page = visitor.get(f"{PAGE}?user_code={screen.user_code}")
    if on_the_consent:
        page = visitor.submit(page)
    assert "Use another account" in page.text
    out = visitor.post("/oauth/logout", page.fields)
    login = visitor.follow(out)
    back = visitor.submit(login, username="bob", password=PASSWORD)
    page = visitor.follow(back)
    assert page.fields["user_code"] == screen.user_code
    assert "Bob" in page.text
    assert screen.poll().error == PENDING


def test_DEV_01_a_session_that_ended_meanwhile_leads_back_to_the_code(
    harness: Harness, visitor: Visitor
) -> None:
    screen = Screen(harness, screen_client(harness))
    visitor.sign_in("ada", PASSWORD)
    page = visitor.get(PAGE)
    harness.clock.now += 13 * 3600
    login = visitor.follow(visitor.submit(page, user_code=screen.user_code))
    back = visitor.submit(login, username="ada", password=PASSWORD)
    assert visitor.follow(back).fields["user_code"] == screen.user_code


def test_the_forms_lead_to_a_login_elsewhere_in_chromium(make: Make, tmp_path: Path) -> None:
    """Its policy for forms (`form-action`) would cover the redirect to the app's own login."""
    port = free_port()
    with serving(lambda _: Response(200, (), b"The login of the app")) as login:
        people = PeopleOptions(
            # Signed out after the page was opened.
            current_user=lambda request: User("ada", "Ada") if request.method == "GET" else None,
            login_url=f"{login}/login",
        )
        harness = make(people=people, issuer=f"http://127.0.0.1:{port}")
        with running(harness.server.asgi_app(), port) as url:
            page = f"{url}{PAGE}?user_code=BCDF-GHJK"
            pressed(page, "button.primary", "The login of the app", tmp_path / "profile")


def test_DEV_01_a_disabled_user_gets_no_tokens_for_what_was_allowed_before(
    harness: Harness, visitor: Visitor
) -> None:
    screen = Screen(harness)
    visitor.sign_in("ada", PASSWORD)
    consent = visitor.submit(visitor.get(f"{PAGE}?user_code={screen.user_code}"))
    visitor.submit(consent, ("decision", "allow"))
    harness.server.users.disable("ada")
    assert screen.poll().error == (400, "expired_token")
