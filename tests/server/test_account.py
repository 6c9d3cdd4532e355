"""The account page: what users see of apps and sessions, and end; what operators list and end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import argon2
import pytest

from bearerguard import Request, Response
from bearerguard.errors import AccountError, ClientError, ConfigurationError
from bearerguard.runtime.rate_limits import RateLimit
from bearerguard.server import GrantedAccess, PeopleOptions, Registered
from bearerguard.server.account.applications import place_of
from bearerguard.server.clients.client import Client
from bearerguard.server.http.browsers import Browser, browser_of
from bearerguard.server.login.passwords import Passwords, Verdict
from bearerguard.server.pages.texts import Texts
from tests.server.harness import CALLBACK, Harness, Make, claims
from tests.server.people.visitor import Page, Visitor, path

ACCOUNT, PASSWORD_PAGE, LOGOUT = "/oauth/account", "/oauth/account/password", "/oauth/logout"
PASSWORD, ANOTHER = "correct horse battery", "another horse battery"
FIREFOX = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0"
CHROME = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/131.0.0.0 Mobile Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15"
    " (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1"
)
MAC = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.1 Safari/605.1.15"
)


class Person(Visitor):
    """A user with a browser, who has allowed apps something."""

    def __init__(self, harness: Harness, login: str = "ada", *, agent: str = FIREFOX) -> None:
        self.agent = agent
        self.harness = harness
        super().__init__(harness.server.handle)
        assert self.sign_in(login, PASSWORD).status == 303

    def send(self, method: str, url: str, body: bytes = b"", **headers: str) -> Page:
        return super().send(method, url, body, **{"user_agent": self.agent, **headers})

    def allow(self, client: Registered | None = None, **fields: str) -> dict[str, Any]:
        """Let a client act for this user; return its tokens."""
        answer = self.get(self.harness.link(client, **fields))
        if answer.status == 200:
            remembers = {"remember": "yes"} if "Do not ask me again" in answer.text else {}
            answer = self.submit(answer, ("decision", "allow"), **remembers)
        code = re.search(r"[?&]code=([^&]+)", answer.header("Location") or "")
        assert code, answer.text
        tokens: dict[str, Any] = self.harness.redeem(code[1], client).json
        return tokens

    def press(self, name: str, value: str = "yes", page: Page | None = None) -> Page:
        """Press a button of the account page, and return what the page says then."""
        return self.follow(self.submit(page or self.get(ACCOUNT), (name, value)))

    def apps(self, page: Page | None = None) -> list[str]:
        """The ids of the apps that the page lists."""
        buttons = (page or self.get(ACCOUNT)).buttons
        return [value for name, value in buttons if name == "end"]


def with_accounts(make: Make, **options: Any) -> Harness:
    options.setdefault("password_parameters", argon2.profiles.CHEAPEST)
    harness = make(people=PeopleOptions(**options))
    for login, name in (("ada", "Ada Lovelace"), ("grace", "Grace Hopper")):
        harness.server.users.add(login, PASSWORD, name=name)
    harness.events.clear()
    return harness


@pytest.fixture
def harness(make: Make) -> Harness:
    return with_accounts(make)


def added(harness: Harness, name: str, **options: Any) -> Registered:
    """A client whose consent is asked for."""
    return harness.add(name, **{"require_consent": True, **options})


def grant_of(tokens: dict[str, Any]) -> str:
    grant_id: str = claims(tokens["access_token"])["sid"]
    return grant_id


# What is shown


@pytest.mark.both_engines
def test_GRANT_01_the_page_shows_each_app_with_what_it_may_do_since_when_and_when_it_was_used(
    harness: Harness,
) -> None:
    ada = Person(harness)
    notes = added(harness, "Field Notes", redirect_uris=["https://notes.example.com/cb"])
    tokens = ada.allow(notes, scope="read")
    harness.clock.now += 3 * 3600
    assert harness.refresh(tokens["refresh_token"], notes).status == 200
    harness.clock.now += 5 * 60
    page = ada.get(ACCOUNT)
    assert page.title == "Your account · api.example.com"
    for text in (
        "as Ada Lovelace",
        "Field Notes",
        "Opens at notes.example.com",
        "Read your recordings",
        "Allowed 3 hours ago, last used 5 minutes ago.",
        "It gets access again without asking you.",
    ):
        assert text in page.text
    assert "Change your recordings" not in page.text
    assert page.header("Cache-Control") == "no-store"


def test_GRANT_01_an_app_that_was_allowed_on_several_devices_is_one_app(harness: Harness) -> None:
    ada = Person(harness)
    first = ada.allow(scope="read")
    harness.clock.now += 3600
    second = ada.allow(scope="write")
    page = ada.get(ACCOUNT)
    assert ada.apps(page) == [harness.app.client_id]
    assert "Allowed 2 times" in page.text
    assert "Read your recordings" in page.text
    assert "Change your recordings" in page.text
    after = ada.press("end_one", grant_of(first), page)
    assert "This access has ended." in after.text
    assert "Allowed 2 times" not in after.text
    assert harness.refresh(first["refresh_token"]).status == 400
    assert harness.refresh(second["refresh_token"]).status == 200


def test_GRANT_01_sessions_are_shown_by_device_address_and_time(harness: Harness) -> None:
    phone = Person(harness, agent=CHROME)
    harness.clock.now += 7200
    ada = Person(harness)
    Person(harness, "grace", agent="curl/8.5.0")
    page = ada.get(ACCOUNT)
    here = "Firefox on Windows This browser Signed in less than a minute ago from 192.0.2.7."
    assert here in page.text
    assert "Chrome on Android Signed in 2 hours ago from 192.0.2.7." in page.text
    assert page.text.index("Firefox") < page.text.index("This browser") < page.text.index("Chrome")
    assert "Unknown browser" not in page.text, "that one is Grace's"
    harness.clock.now += 10 * 3600
    assert "Chrome on Android" not in ada.get(ACCOUNT).text, "it has expired"
    assert path(phone.get(ACCOUNT)) == "/oauth/login"


def test_GRANT_01_without_apps_the_page_says_so_and_offers_nothing_to_end(harness: Harness) -> None:
    page = Person(harness).get(ACCOUNT)
    assert "No app has access to your account." in page.text
    assert set(page.buttons) == {("", "")}, "one may sign out"


def test_GRANT_01_what_has_ended_is_not_shown(harness: Harness) -> None:
    ada = Person(harness)
    notes, web, gone = (added(harness, name) for name in ("Notes", "Web", "Gone"))
    ada.allow(notes)
    harness.server.revoke_grant(grant_of(ada.allow(web)))
    ada.allow(gone)
    harness.server.clients.remove(gone.client_id)
    page = ada.get(ACCOUNT)
    assert ada.apps(page) == [notes.client_id, web.client_id]
    assert "It has no access now." in page.text, "but the consent to Web is remembered"
    harness.clock.now += 365 * 86_400
    late = Person(harness)
    assert "Allowed" not in late.get(ACCOUNT).text


def test_names_of_apps_and_users_are_text_in_any_direction(harness: Harness) -> None:
    evil, hebrew = "<script>alert(1)</script>\"'&{{ 7*7 }}", "יומן שדה"
    harness.server.users.add("eve", PASSWORD, name=evil)
    eve = Person(harness, "eve")
    eve.allow(added(harness, evil))
    eve.allow(added(harness, hebrew))
    page = eve.get(ACCOUNT)
    assert "<script" not in page.html
    assert "&lt;script&gt;" in page.html
    assert "49" not in page.text
    assert f"\u2068{hebrew}\u2069 can:" in page.text


def test_an_app_whose_name_nobody_has_checked_is_marked(harness: Harness) -> None:
    registered = harness.server.clients.register(
        "Bank", redirect_uris=[CALLBACK], expires_at=harness.clock() + 600, scopes=["read"]
    )
    ada = Person(harness)
    ada.allow(registered, scope="read")
    assert "This app registered itself here. Nobody has checked its name." in ada.get(ACCOUNT).text


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (FIREFOX, ("Firefox", "Windows")),
        (CHROME, ("Chrome", "Android")),
        (CHROME + " EdgA/131.0", ("Edge", "Android")),
        (CHROME.replace("Chrome/", "SamsungBrowser/27.0 Chrome/"), ("Samsung Internet", "Android")),
        (IPHONE, ("Safari", "iPhone")),
        (MAC, ("Safari", "macOS")),
        (CHROME.replace("Android 10; K", "x86_64") + " OPR/116.0.0.0", ("Opera", "Linux")),
        ("curl/8.5.0", (None, None)),
        ("", (None, None)),
        ("x" * 100_000 + "Firefox/1", (None, None)),
        ("\xff\x00 Firefox/", ("Firefox", None)),
    ],
)
def test_a_browser_is_known_by_its_user_agent(
    agent: str, expected: tuple[str | None, str | None]
) -> None:
    assert browser_of(Request(headers={"user-agent": agent})) == Browser(*expected)


def test_a_session_of_an_unknown_browser_is_shown_and_can_be_ended(harness: Harness) -> None:
    script = Person(harness, agent="curl/8.5.0")
    ada = Person(harness)
    page = ada.get(ACCOUNT)
    assert "Unknown browser" in page.text
    ((name, value),) = [each for each in page.buttons if each[0] == "sign_out"]
    ada.press(name, value, page)
    assert path(script.get(ACCOUNT)) == "/oauth/login"


# What is ended


@pytest.mark.both_engines
def test_GRANT_01_ending_an_app_ends_its_tokens_and_the_remembered_consent(
    harness: Harness,
) -> None:
    ada, grace = Person(harness), Person(harness, "grace")
    notes, web = added(harness, "Notes"), added(harness, "Web")
    ended = [ada.allow(notes), ada.allow(notes)]
    kept = [ada.allow(web), grace.allow(notes)]
    after = ada.press("end", notes.client_id)
    assert "Notes has no access to your account any more." in after.text
    assert ada.apps(after) == [web.client_id]
    api = harness.server.clients.add("API", introspects=["https://api.example.com"])
    for tokens, valid in ((ended[0], False), (ended[1], False), (kept[0], True), (kept[1], True)):
        assert harness.introspect(tokens["access_token"], api)["active"] is valid
    assert harness.refresh(ended[0]["refresh_token"], notes).status == 400
    assert ada.get(harness.link(notes)).status == 200, "consent is asked for again"
    assert ada.get(harness.link(web)).status == 303
    assert {event.details["reason"] for event in harness.named("grant_revoked")} == {"asked"}


def test_GRANT_01_ending_all_ends_every_app_and_no_session(harness: Harness) -> None:
    ada, grace = Person(harness), Person(harness, "grace")
    apps = [added(harness, name) for name in ("Notes", "Web")]
    refused = [ada.allow(app) for app in apps]
    kept = grace.allow(apps[0])
    after = ada.press("end_all")
    assert "No app has access to your account any more." in after.text
    assert ada.apps(after) == []
    for app, tokens in zip(apps, refused, strict=True):
        assert harness.refresh(tokens["refresh_token"], app).status == 400
    assert harness.refresh(kept["refresh_token"], apps[0]).status == 200


def test_GRANT_01_consent_without_access_can_be_ended(harness: Harness) -> None:
    ada, notes = Person(harness), added(harness, "Notes")
    harness.server.revoke_grant(grant_of(ada.allow(notes)))
    assert ada.apps(ada.press("end", notes.client_id)) == []
    assert ada.get(harness.link(notes)).status == 200


def test_GRANT_01_one_session_or_all_others_are_ended(harness: Harness) -> None:
    ada, grace = Person(harness), Person(harness, "grace")
    others = [Person(harness, agent=CHROME) for _ in range(3)]
    page = ada.get(ACCOUNT)
    buttons = [each for each in page.buttons if each[0] == "sign_out"]
    assert len(buttons) == 3
    after = ada.press(*buttons[0], page)
    assert "That browser is signed out." in after.text
    assert sum(each.get(ACCOUNT).status == 200 for each in others) == 2
    after = ada.press("sign_out_others", "yes", after)
    assert "You are signed out everywhere else." in after.text
    assert [each.get(ACCOUNT).status for each in (*others, grace)] == [303, 303, 303, 200]
    reported = [dict(event.details) for event in harness.named("sessions_ended")]
    assert [each["sessions"] for each in reported] == [1, 2]
    assert {each["reason"] for each in reported} == {"asked"}


def test_GRANT_01_this_browser_is_signed_out_from_the_page(harness: Harness) -> None:
    ada = Person(harness)
    page = ada.get(ACCOUNT)
    assert page.buttons["", ""] == LOGOUT
    assert "You are signed out" in ada.follow(ada.submit(page)).text


@pytest.mark.both_engines
def test_GRANT_01_nobody_sees_or_ends_what_is_anothers(harness: Harness) -> None:
    ada, grace = Person(harness), Person(harness, "grace", agent=CHROME)
    notes = added(harness, "Notes")
    tokens = ada.allow(notes)
    page = grace.get(ACCOUNT)
    for shown in ("Notes", "Firefox", "Ada"):
        assert shown not in page.text
    (session,) = harness.server._engine.people.parts.sessions.of_user(
        Request(), harness.server.users.get("ada").user_id
    )
    for name, value in (
        ("end", notes.client_id),
        ("end_one", grant_of(tokens)),
        ("end_all", "yes"),
        ("sign_out", session.session_id),
        ("sign_out_others", "yes"),
    ):
        answer = grace.post(ACCOUNT, {**page.fields, name: value})
        assert answer.status == 303
    assert ada.get(ACCOUNT).status == 200
    assert ada.apps() == [notes.client_id]
    assert harness.refresh(tokens["refresh_token"], notes).status == 200
    assert ada.get(harness.link(notes)).status == 303, "her consent is remembered"


@pytest.mark.parametrize("name", ["end", "end_one", "sign_out", "end_all", "nothing"])
@pytest.mark.parametrize("value", ["unknown", "\0", "\ud800", "x" * 5000, "' OR 1=1 --"])
@pytest.mark.both_engines
def test_what_a_request_names_and_is_not_there_is_ignored(
    harness: Harness, name: str, value: str
) -> None:
    ada = Person(harness)
    body = urlencode({**ada.get(ACCOUNT).fields, name: value}, errors="surrogatepass")
    form = "application/x-www-form-urlencoded"
    answer = ada.send("POST", ACCOUNT, body.encode(), content_type=form)
    assert answer.status in {303, 400}
    assert ada.get(ACCOUNT).status == 200


def test_AZ_06_a_form_of_another_site_or_user_ends_nothing(harness: Harness) -> None:
    ada, grace = Person(harness), Person(harness, "grace")
    tokens = ada.allow()
    own, theirs = ada.get(ACCOUNT).fields, grace.get(ACCOUNT).fields
    for fields in ({}, {"csrf": "x"}, theirs):
        refused = ada.post(ACCOUNT, {**fields, "end_all": "yes"})
        assert refused.status == 400
        assert "Nothing was changed" in refused.text
    assert ada.post(ACCOUNT, {**own, "end_all": "yes"}, sec_fetch_site="cross-site").status == 400
    assert ada.send("POST", ACCOUNT, b"end_all=yes").status == 400
    assert harness.refresh(tokens["refresh_token"]).status == 200
    harness.clock.now += 7200
    assert ada.post(ACCOUNT, {**own, "end_all": "yes"}).status == 400


def test_a_page_that_is_loaded_again_repeats_nothing_and_says_what_was_done_for_a_while(
    harness: Harness,
) -> None:
    ada = Person(harness)
    ada.allow()
    answer = ada.submit(ada.get(ACCOUNT), ("end", harness.app.client_id))
    where = answer.header("Location") or ""
    said = "App has no access to your account any more."
    assert [said in ada.get(where).text for _ in range(2)] == [True, True]
    assert said not in Person(harness, "grace").get(where).text
    assert said not in ada.get(ACCOUNT + "?done=x").text
    harness.clock.now += 300
    assert said not in ada.get(where).text


@pytest.mark.parametrize("end", ["disabled", "deleted", "signed out elsewhere"])
def test_whoever_is_signed_in_no_more_sees_the_login(harness: Harness, end: str) -> None:
    ada = Person(harness)
    page = ada.get(ACCOUNT)
    if end == "disabled":
        harness.server.disable_user("ada")
    elif end == "deleted":
        harness.server.delete_user("ada")
    else:
        Person(harness).press("sign_out_others")
    for path_, answer in (
        (ACCOUNT, ada.get(ACCOUNT)),
        (ACCOUNT, ada.submit(page, ("", ""), end_all="yes")),
        (PASSWORD_PAGE, ada.get(PASSWORD_PAGE)),
        (PASSWORD_PAGE, ada.post(PASSWORD_PAGE, page.fields)),
    ):
        expected = LOGOUT if answer.header("Location") == LOGOUT else "/oauth/login"
        assert (answer.status, path(answer)) == (303, expected), path_


def test_methods_that_the_page_does_not_have_are_refused_by_a_page(harness: Harness) -> None:
    ada = Person(harness)
    for url in (ACCOUNT, PASSWORD_PAGE):
        assert ada.send("DELETE", url).status == 405
        head = ada.send("HEAD", url)
        assert (head.status, head.html) == (200, "")


def test_GRANT_01_many_apps_are_shown_in_pages(harness: Harness) -> None:
    ada = Person(harness)
    for number in range(50):
        ada.allow(harness.add(f"App {number:03}"))
    first = ada.get(ACCOUNT)
    assert len(ada.apps(first)) == 20
    assert "Page 1 of 3" in first.text
    (link,) = re.findall(r'href="(/oauth/account\?page=\d+)"', first.html)
    second = ada.get(link)
    third = ada.get(f"{ACCOUNT}?page=3")
    seen = [app for page in (first, second, third) for app in ada.apps(page)]
    assert len(set(seen)) == 50
    assert [len(ada.apps(each)) for each in (second, third)] == [20, 10]
    for other in ("0", "-1", "x", "999999999999", ""):
        assert ada.get(f"{ACCOUNT}?page={other}").status == 200


# With an app's own login


def test_GRANT_01_with_an_apps_own_login_the_page_shows_the_apps_alone(make: Make) -> None:
    harness = make()
    tokens = harness.tokens()
    page = Page(harness.send("GET", ACCOUNT).response)
    assert "as Ada" in page.text
    assert "Read your recordings" in page.text
    assert "Where you are signed in" not in page.text
    assert "password" not in page.text.lower()
    assert harness.send("GET", PASSWORD_PAGE).status == 404
    cookie = (page.header("Set-Cookie") or "").partition(";")[0]
    fields = {**page.fields, "sign_out_others": "yes", "end": harness.app.client_id}
    assert harness.post(ACCOUNT, fields, cookie=cookie).status == 303
    assert harness.refresh(tokens["refresh_token"]).status == 400
    harness.user = None
    asked = harness.send("GET", ACCOUNT)
    assert asked.status == 303
    assert asked.location == (
        "https://app.example.com/login?next=https%3A%2F%2Fapi.example.com%2Foauth%2Faccount"
    )


# The password


def changed(visitor: Visitor, current: str, new: str, repeated: str | None = None) -> Page:
    page = visitor.get(PASSWORD_PAGE)
    repeated = new if repeated is None else repeated
    return visitor.submit(page, current=current, new=new, repeated=repeated)


@pytest.mark.both_engines
def test_GRANT_01_a_new_password_ends_the_other_sessions_and_renews_this_one(
    harness: Harness,
) -> None:
    ada, other, grace = Person(harness), Person(harness), Person(harness, "grace")
    thief = Visitor(harness.server.handle)
    thief.cookies |= ada.cookies
    tokens = ada.allow()
    after = ada.follow(changed(ada, PASSWORD, ANOTHER))
    assert "Your password is changed" in after.text
    assert [each.get(ACCOUNT).status for each in (other, thief, grace)] == [303, 303, 200]
    assert harness.refresh(tokens["refresh_token"]).status == 200
    fresh = Visitor(harness.server.handle)
    assert fresh.sign_in("ada", PASSWORD).status == 403
    assert fresh.sign_in("ada", ANOTHER).status == 303
    codes = [event.code for event in harness.events]
    assert codes.count("password_changed") == 1
    assert ANOTHER not in repr([event.details for event in harness.events])


@pytest.mark.parametrize(
    ("entered", "status", "said"),
    [
        (("wrong one", ANOTHER, ANOTHER), 403, "The current password is wrong."),
        ((PASSWORD, ANOTHER, ANOTHER + "x"), 400, "two different new passwords"),
        ((PASSWORD, PASSWORD, PASSWORD), 400, "the one that you have"),
        ((PASSWORD, "short", "short"), 400, "at least 12 characters"),
        ((PASSWORD, "x" * 1025, "x" * 1025), 400, "at most 1024 characters"),
        ((PASSWORD, "ababababababab", "ababababababab"), 400, "too easy to guess"),
        ((PASSWORD, "Ada is my name", "Ada is my name"), 400, "too easy to guess"),
        (("", ANOTHER, ANOTHER), 400, "all three fields"),
        ((PASSWORD, "", ""), 400, "all three fields"),
    ],
)
def test_a_password_that_cannot_be_changed_stays(
    harness: Harness, entered: tuple[str, str, str], status: int, said: str
) -> None:
    ada, other = Person(harness), Person(harness)
    page = changed(ada, *entered)
    assert page.status == status
    assert said in page.text
    assert page.title.startswith("Error: ")
    assert ANOTHER not in page.html
    assert other.get(ACCOUNT).status == 200
    assert Visitor(harness.server.handle).sign_in("ada", PASSWORD).status == 303


def test_guesses_of_the_current_password_are_throttled_with_those_at_the_login(
    make: Make,
) -> None:
    harness = with_accounts(make, per_account=RateLimit(attempts=3, interval=60))
    ada = Person(harness)
    assert [changed(ada, f"guess {n} of it", ANOTHER).status for n in range(3)] == [403] * 3
    # The known browser's attempts are used up, and then those of the address.
    assert [changed(ada, f"guess {n} of it", ANOTHER).status for n in range(3)] == [403] * 3
    refused = changed(ada, PASSWORD, ANOTHER)
    assert refused.status == 429
    assert "There were too many attempts. Try again in" in refused.text
    assert int(refused.header("Retry-After") or 0) > 0
    assert Visitor(harness.server.handle).sign_in("ada", PASSWORD).status == 429
    assert [each.code for each in harness.events].count("login_failed") == 6
    harness.clock.now += 180
    assert changed(ada, PASSWORD, ANOTHER).status == 303


def test_a_password_form_needs_the_users_own_proof(harness: Harness) -> None:
    ada, grace = Person(harness), Person(harness, "grace")
    theirs = grace.get(PASSWORD_PAGE).fields
    fields = {**theirs, "current": PASSWORD, "new": ANOTHER, "repeated": ANOTHER}
    assert ada.post(PASSWORD_PAGE, fields).status == 400
    assert ada.send("POST", PASSWORD_PAGE, b"x").status == 400
    assert Visitor(harness.server.handle).sign_in("ada", PASSWORD).status == 303


def test_a_busy_server_checks_no_password_and_charges_no_attempt(harness: Harness) -> None:
    ada = Person(harness)
    places = harness.server.users._passwords._pool._workers.places
    held = 0
    while places.acquire(blocking=False):
        held += 1
    answers = [changed(ada, PASSWORD, ANOTHER) for _ in range(30)]
    assert {(each.status, each.header("Retry-After")) for each in answers} == {(503, "5")}
    places.release(held)
    assert changed(ada, PASSWORD, ANOTHER).status == 303


# For operators


def ids(found: Any) -> list[str]:
    return [each.grant_id for each in found]


@pytest.mark.both_engines
def test_GRANT_01_operators_list_grants_in_parts_the_newest_first(harness: Harness) -> None:
    ada, grace = Person(harness), Person(harness, "grace")
    web = harness.add("Web")
    made: list[str] = []
    for number in range(9):
        harness.clock.now += number % 3  # some are of the same time
        person, client = (ada, grace)[number % 2], (harness.app, web)[number % 3 == 0]
        made.append(grant_of(person.allow(client)))
    access, user_id = harness.server.access, harness.server.users.get("ada").user_id
    every = ids(access.all())
    assert sorted(every) == sorted(made)
    times = [each.created_at for each in access.all()]
    assert times == sorted(times, reverse=True)
    parts, after = list[str](), None
    for _ in range(5):
        page = access.page(limit=2, after=after)
        parts += ids(page.grants)
        after = page.after
    assert parts == every
    assert after is None
    assert access.page(limit=9).after is None
    adas = ids(access.all(login="ada"))
    assert adas == ids(access.all(user_id=user_id))
    assert len(adas) == 5
    webs = ids(access.all(client_id=web.client_id))
    assert len(webs) == 3
    both = ids(access.page(user_id=user_id, client_id=web.client_id).grants)
    assert set(both) == set(adas) & set(webs)
    newest = next(access.all())
    assert newest == GrantedAccess(
        grant_id=made[-1],
        client_id=harness.app.client_id,
        client_name="App",
        user_id=user_id,
        scopes=("read", "write"),
        resources=("https://api.example.com",),
        created_at=harness.clock(),
        last_used_at=None,
        expires_at=newest.expires_at,
    )


def test_a_long_list_is_read_in_parts(harness: Harness) -> None:
    _many(harness, 450)
    assert len(list(harness.server.access.all())) == 450
    page = harness.server.access.page(limit=401)
    assert len(page.grants) == 401
    assert len(harness.server.access.page(limit=401, after=page.after).grants) == 49


def _many(harness: Harness, number: int) -> None:
    values = ", ".join(
        f"('g{n}', '{harness.app.client_id}', 'ada', 'read', '[]', {n}.0, 9e9, 9e9)"
        for n in range(number)
    )
    with harness.server.database.write() as connection:
        connection.run(
            "INSERT INTO grants (grant_id, client_id, user_id, scope, resources, created_at,"
            f" expires_at, access_expires_at) VALUES {values}"
        )


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"login": "nobody"}, AccountError),
        ({"client_id": "nobody"}, ClientError),
        ({"login": "ada", "user_id": "x"}, ConfigurationError),
        ({"user_id": "\0"}, ConfigurationError),
        ({"limit": 0}, ConfigurationError),
        ({"after": "x"}, ConfigurationError),
        ({"after": "x:y"}, ConfigurationError),
        ({"after": "1.0:"}, ConfigurationError),
    ],
)
def test_a_list_that_cannot_be_is_refused(
    harness: Harness, asked: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        harness.server.access.page(**asked)


def test_GRANT_01_operators_revoke_single_grants(harness: Harness) -> None:
    ada, notes = Person(harness), added(harness, "Notes")
    first, second = ada.allow(notes), ada.allow(notes)
    access = harness.server.access
    given = ("unknown", grant_of(first), "\0", grant_of(first))
    assert access.revoke(*given) == (grant_of(first),), "a caller sees which ids were wrong"
    assert access.revoke(grant_of(first)) == ()
    assert harness.refresh(first["refresh_token"], notes).status == 400
    assert harness.refresh(second["refresh_token"], notes).status == 200
    assert ada.get(harness.link(notes)).status == 200, "consent is asked for again"


@pytest.mark.both_engines
def test_GRANT_01_operators_revoke_all_grants_to_a_client(harness: Harness) -> None:
    ada, grace = Person(harness), Person(harness, "grace")
    notes, web = added(harness, "Notes"), added(harness, "Web")
    ended = [ada.allow(notes), grace.allow(notes)]
    kept = ada.allow(web)
    code = ada.get(harness.link(notes)).header("Location") or ""
    _many(harness, 1200)
    heard: list[tuple[str, str]] = []
    harness.server.on_revocation(lambda revoked: heard.append((revoked.kind, revoked.value)))
    assert harness.server.access.revoke_client(notes.client_id) == 2
    assert set(heard) == {("client_id", notes.client_id)}
    for tokens in ended:
        assert harness.refresh(tokens["refresh_token"], notes).status == 400
    assert harness.redeem(re.findall("code=([^&]+)", code)[0], notes).status == 400
    assert ada.get(harness.link(notes)).status == 200, "consent is asked for again"
    assert harness.refresh(kept["refresh_token"], web).status == 200
    (event,) = harness.named("client_revoked")
    assert event.details["grants"] == 2
    assert harness.server.access.revoke_client(harness.app.client_id) == 1200
    with pytest.raises(ClientError):
        harness.server.access.revoke_client("nobody")


@pytest.mark.both_engines
def test_GRANT_01_a_deleted_user_leaves_no_account_session_consent_or_token(
    harness: Harness,
) -> None:
    ada, grace = Person(harness), Person(harness, "grace")
    notes = added(harness, "Notes")
    tokens, kept = ada.allow(notes), grace.allow(notes)
    code = re.findall("code=([^&]+)", ada.get(harness.link(notes)).header("Location") or "")[0]
    user_id = harness.server.users.get("ada").user_id
    assert harness.server.delete_user("ADA").user_id == user_id
    assert [each.login for each in harness.server.users.all()] == ["grace"]
    assert harness.refresh(tokens["refresh_token"], notes).status == 400
    assert harness.redeem(code, notes).status == 400
    assert Visitor(harness.server.handle).sign_in("ada", PASSWORD).status == 403
    assert harness.refresh(kept["refresh_token"], notes).status == 200
    harness.server.prune()
    left = {
        table: harness.store.count(table, f"user_id = '{user_id}'")
        for table in ("users", "sessions", "consents", "grants", "codes")
    }
    assert set(left.values()) == {0}, left
    assert [event.code for event in harness.named("user_deleted")] == ["user_deleted"]
    assert "Ada" not in repr([event.details for event in harness.events])
    with pytest.raises(AccountError):
        harness.server.delete_user("ada")
    again = harness.server.users.add("ada", PASSWORD)
    assert again.user_id != user_id


@pytest.mark.both_engines
def test_a_request_that_a_deletion_overtakes_gets_no_code(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user is deleted after the request has found the session."""
    ada = Person(harness)
    people = harness.server._engine.people
    find: Callable[[Request], Any] = people.signed_in

    def overtaken(request: Request) -> Any:
        found = find(request)
        if found is not None:
            harness.server.delete_user("ada")
        return found

    monkeypatch.setattr(people, "signed_in", overtaken)
    answer = ada.get(harness.link())
    assert path(answer) == "/oauth/login"
    assert harness.store.count("codes") == 0


@pytest.mark.parametrize("change", ["set_password", "disable", "delete"])
def test_a_new_password_that_a_change_of_the_user_overtakes_is_not_set(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    ada, users = Person(harness), harness.server.users
    check = Passwords.check

    def overtaken(self: Passwords, stored: str | None, password: str) -> Verdict:
        verdict = check(self, stored, password)
        arguments = ("ada", "a third horse battery") if change == "set_password" else ("ada",)
        getattr(users, change)(*arguments)
        return verdict

    page = ada.get(PASSWORD_PAGE)
    monkeypatch.setattr(Passwords, "check", overtaken)
    answer = ada.submit(page, current=PASSWORD, new=ANOTHER, repeated=ANOTHER)
    monkeypatch.undo()
    assert path(answer) == "/oauth/login"
    assert Visitor(harness.server.handle).sign_in("ada", ANOTHER).status == 403


def test_a_password_page_whose_user_is_deleted_meanwhile_leads_to_the_login(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, people = Person(harness), harness.server._engine.people
    found = people.signed_in(
        Request(headers={"cookie": "; ".join(map("=".join, ada.cookies.items()))})
    )
    harness.server.delete_user("ada")
    monkeypatch.setattr(people, "signed_in", lambda _: found)
    assert path(ada.get(PASSWORD_PAGE)) == "/oauth/login"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-5, "less than a minute ago"),
        (59, "less than a minute ago"),
        (60, "1 minute ago"),
        (3599, "59 minutes ago"),
        (3600, "1 hour ago"),
        (86_399, "23 hours ago"),
        (86_400, "1 day ago"),
        (30 * 86_400 - 1, "29 days ago"),
        (30 * 86_400, "on 2023-10-15"),
    ],
)
def test_a_time_is_told_by_how_long_ago_it_is_or_by_its_day(seconds: int, said: str) -> None:
    assert Texts().ago(1_700_000_000.0 - seconds, 1_700_000_000.0) == said


def test_an_app_is_where_it_is_published_or_where_it_returns_to() -> None:
    def client(client_id: str = "x", **options: Any) -> Client:
        return Client(client_id=client_id, name="x", created_at=0.0, **options)

    published = client("https://App.example.com/meta.json", registered_by="document")
    assert place_of(published) == ("published", "app.example.com")
    assert place_of(client()) == ("", "")
    assert place_of(client(redirect_uris=(CALLBACK,))) == ("host", "app.example.com")
    assert place_of(client(redirect_uris=("http://127.0.0.1/cb",))) == ("device", "127.0.0.1")


def test_a_lost_database_gets_a_page(harness: Harness) -> None:
    ada = Person(harness)

    def handle(request: Request) -> Response:
        return harness.server.handle(request)

    assert handle(Request("GET", ACCOUNT)).status == 303
    harness.server.database.close()
    harness.store.run("ALTER TABLE sessions RENAME TO lost")
    page = ada.get(ACCOUNT)
    assert page.status == 503
    assert "This site is not available at the moment" in page.text
