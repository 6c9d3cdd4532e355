"""Asking for consent, answering, remembering."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.login.consent import ConsentAnswer, ConsentRequest, ScopeLine, destination
from bearerguard.server.login.people import User
from bearerguard.server.store.clients import add
from tests.server.people.harness import PASSWORD, PeopleHarness
from tests.server.people.visitor import Page, Visitor, path

QUERY = "client_id=notes&state=xyz"
ASKED = ConsentRequest(
    client_id="notes",
    client_name="Field Notes",
    scopes=(ScopeLine("read", "See your recordings"), ScopeLine("write", "write")),
    redirect_uri="https://notes.example.com/callback",
    query=QUERY,
    resources=("https://api.example.com",),
)


class Endpoint:
    """What stands behind the visitor here: People, and their answers as they come."""

    def __init__(self, harness: PeopleHarness, asked: ConsentRequest = ASKED) -> None:
        self.people = harness.people
        self.asked = asked
        self.answers: list[ConsentAnswer] = []

    def __call__(self, request: Request) -> Response:
        signed_in = self.people.signed_in(request)
        if signed_in is not None and "/oauth/authorize" in request.url:
            return self.people.ask_consent(request, signed_in, self.asked)
        if signed_in is not None and "/oauth/consent" in request.url:
            answer = self.people.consent_answer(request, signed_in)
            if isinstance(answer, Response):
                return answer
            self.answers.append(answer)
            return Response(204)
        return self.people.handle(request)


def asking(harness: PeopleHarness, asked: ConsentRequest = ASKED) -> tuple[Endpoint, Visitor, Page]:
    endpoint = Endpoint(harness, asked)
    visitor = Visitor(endpoint, url=harness.issuer)
    visitor.sign_in("ada", PASSWORD)
    return endpoint, visitor, visitor.get("/oauth/authorize")


ALLOW, DENY = ("decision", "allow"), ("decision", "deny")


def test_the_page_names_who_asks_for_what_and_where_the_answer_goes(harness: PeopleHarness) -> None:
    _, _, page = asking(harness)
    assert page.status == 200
    assert page.title == "Field Notes asks for access to your account · api.example.com"
    for text in ("See your recordings", "Signed in as Ada Lovelace", "notes.example.com"):
        assert text in page.text
    assert page.html.count("<code>") == 1  # a scope without a description is its own


@pytest.mark.parametrize(
    ("button", "ticked", "expected"),
    [
        (ALLOW, {}, (True, False)),
        (ALLOW, {"remember": "yes"}, (True, True)),
        (DENY, {}, (False, False)),
        (DENY, {"remember": "yes"}, (False, False)),
    ],
)
def test_the_answer_is_what_was_pressed(
    harness: PeopleHarness,
    button: tuple[str, str],
    ticked: dict[str, str],
    expected: tuple[bool, bool],
) -> None:
    endpoint, visitor, page = asking(harness)
    visitor.submit(page, button, **ticked)
    (answer,) = endpoint.answers
    assert (answer.allowed, answer.remember) == expected
    assert answer.scopes == {"read", "write"}
    assert answer.query == QUERY
    assert QUERY not in repr(answer)


def test_what_a_client_asked_for_is_shown_and_never_run(harness: PeopleHarness) -> None:
    evil = "<script>alert(1)</script>\"'&{{ 7*7 }}"
    asked = replace(ASKED, client_name=evil, scopes=(ScopeLine("x", evil),))
    _, _, page = asking(harness, asked)
    assert "<script" not in page.html
    assert "&lt;script&gt;" in page.html
    assert "49" not in page.text


def test_a_form_of_another_browser_or_user_is_refused(harness: PeopleHarness) -> None:
    harness.people.accounts.add("grace", PASSWORD)
    endpoint, visitor, page = asking(harness)
    _, other, others = asking(harness)
    mixed = {**page.fields, "decision": "allow"}
    assert other.post("/oauth/consent", mixed).status == 400
    assert visitor.submit(others, ALLOW).status == 400
    visitor.submit(visitor.get("/oauth/logout"))
    visitor.sign_in("grace", PASSWORD)
    refused = visitor.submit(page, ALLOW)
    assert refused.status == 400
    assert "This page has expired" in refused.text
    assert endpoint.answers == []


@pytest.mark.parametrize(
    "change",
    [{"decision": "maybe"}, {"decision": ""}, {"request": ""}, {"request": "x"}, {"csrf": "x"}],
)
def test_a_form_that_was_altered_is_refused(harness: PeopleHarness, change: dict[str, str]) -> None:
    endpoint, visitor, page = asking(harness)
    fields = {**page.fields, "decision": "allow", **change}
    assert visitor.post("/oauth/consent", fields).status == 400
    assert visitor.send("POST", "/oauth/consent", b"x").status == 400
    assert endpoint.answers == []


def test_a_page_that_was_open_for_an_hour_is_refused(harness: PeopleHarness) -> None:
    endpoint, visitor, page = asking(harness)
    harness.clock.now += 3600
    assert visitor.submit(page, ALLOW).status == 400
    assert endpoint.answers == []


def test_another_account_may_be_chosen_and_the_request_goes_on(harness: PeopleHarness) -> None:
    harness.people.accounts.add("grace", PASSWORD)
    _, visitor, page = asking(harness)
    login = visitor.follow(visitor.submit(page))
    assert "to continue to Field Notes" in login.text
    answer = visitor.submit(login, username="grace", password=PASSWORD)
    assert answer.header("Location") == f"/oauth/authorize?{QUERY}"
    assert "Signed in as grace" in visitor.follow(answer).text


def test_a_client_that_cannot_prove_itself_is_not_offered_to_be_remembered(
    harness: PeopleHarness,
) -> None:
    _, _, page = asking(harness, replace(ASKED, rememberable=False))
    assert "Do not ask me again" not in page.text


def test_without_scopes_the_page_says_so(harness: PeopleHarness) -> None:
    _, _, page = asking(harness, replace(ASKED, scopes=()))
    assert "only learns that you have an account" in page.text


@pytest.mark.parametrize(
    ("redirect_uri", "kind", "shown"),
    [
        ("https://app.example.com:8443/cb", "host", "app.example.com:8443"),
        ("http://127.0.0.1:5000/cb", "device", "127.0.0.1:5000"),
        ("http://[::1]:5000/cb", "device", "[::1]:5000"),
        ("com.example.app:/cb", "app", "com.example.app:"),
        ("cursor://anysphere.cursor-mcp/cb", "app", "cursor:"),
    ],
)
def test_the_policy_lets_the_answer_reach_its_client(
    harness: PeopleHarness, redirect_uri: str, kind: str, shown: str
) -> None:
    asked = replace(ASKED, redirect_uri=redirect_uri)
    _, _, page = asking(harness, asked)
    assert destination(redirect_uri) == (kind, shown)
    assert f"{shown}" in page.text
    assert "form-action" not in page.policy, "Chromium would hold the client's redirects to it"
    assert page.policy["default-src"] == "'none'"
    assert page.header("Cross-Origin-Opener-Policy") == "unsafe-none"


def register(harness: PeopleHarness, client_id: str) -> None:
    with harness.database.write() as connection:
        add(connection, client_id=client_id, name=client_id, options="{}", created_at=0.0)


def remember(harness: PeopleHarness, *given: Any) -> None:
    with harness.database.write() as connection:
        harness.people.remember(connection, *given)


def test_A8_consent_is_remembered_per_user_client_and_resource_and_grows(
    harness: PeopleHarness,
) -> None:
    people, one, two = harness.people, "https://one.example.com", "https://two.example.com"
    for client_id in ("notes", "other"):
        register(harness, client_id)
    assert people.remembered("user-1", "notes", [one]) == frozenset()
    remember(harness, "user-1", "notes", frozenset({"read"}), [one])
    remember(harness, "user-1", "notes", frozenset({"write"}), [two, one])
    remember(harness, "user-1", "other", frozenset({"read"}), [one])
    assert people.remembered("user-1", "notes", [one]) == {"read", "write"}
    assert people.remembered("user-1", "notes", [two]) == {"write"}
    assert people.remembered("user-1", "notes", [one, two]) == {"write"}
    assert people.remembered("user-1", "notes", [one, "https://three.example.com"]) == frozenset()
    assert people.remembered("user-1", "other", [two]) == frozenset()
    assert people.remembered("user-2", "notes", [one]) == frozenset()
    people.forget("user-1", "notes")
    assert people.remembered("user-1", "notes", [one]) == frozenset()
    assert people.remembered("user-1", "other", [one]) == {"read"}
    people.forget("user-1")
    assert people.remembered("user-1", "other", [one]) == frozenset()


def test_A8_what_an_earlier_version_remembered_names_no_resource_and_is_asked_again(
    harness: PeopleHarness,
) -> None:
    register(harness, "notes")
    with harness.database.write() as connection:
        connection.run(
            "INSERT INTO consents (user_id, client_id, scope, given_at)"
            " VALUES ('user-1', 'notes', 'read write', 0)"
        )
    resources = ["https://api.example.com"]
    assert harness.people.remembered("user-1", "notes", resources) == frozenset()
    remember(harness, "user-1", "notes", frozenset({"read"}), resources)
    assert harness.people.remembered("user-1", "notes", resources) == {"read"}


class AppLogin:
    """An app that knows its users by a header of its own."""

    def __call__(self, request: Request) -> User | None:
        names = request.values(b"x-app-user")
        return User(f"app|{names[0].decode()}", "Ada of the app", 99.0) if names else None


def test_an_app_with_its_own_login_brings_its_users(tmp_path: Path) -> None:
    harness = PeopleHarness(
        tmp_path, current_user=AppLogin(), login_url="https://www.example.com/login?lang=en"
    )
    request = Request("GET", "https://api.example.com/oauth/authorize?client_id=notes")
    assert harness.people.signed_in(request) is None
    asked = harness.people.ask_to_sign_in(
        request, query="client_id=notes", client_name="Field Notes"
    )
    assert asked.status == 303
    assert asked.header("Location") == (
        "https://www.example.com/login?lang=en&next="
        "https%3A%2F%2Fapi.example.com%2Foauth%2Fauthorize%3Fclient_id%3Dnotes"
    )
    assert harness.people.paths == frozenset()
    assert harness.people.handle(Request("GET", "/oauth/login")).status == 404


def test_the_users_of_an_app_are_asked_and_answer_like_ours(tmp_path: Path) -> None:
    harness = PeopleHarness(tmp_path, current_user=AppLogin(), login_url="/login")
    endpoint = Endpoint(harness)
    visitor = Visitor(endpoint)
    page = visitor.get("/oauth/authorize", X_App_User="ada")
    assert "Signed in as Ada of the app" in page.text
    assert "Use another account" not in page.text
    fields = {**page.fields, "decision": "allow"}
    assert visitor.post("/oauth/consent", fields, X_App_User="eve").status == 400
    assert visitor.post("/oauth/consent", fields, X_App_User="ada").status == 204
    assert endpoint.answers[0].allowed


@pytest.mark.parametrize("options", [{"current_user": AppLogin()}, {"login_url": "/login"}])
def test_an_own_login_needs_both_of_its_options(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="current_user=, login_url=: pass both"):
        PeopleHarness(tmp_path, **options)


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("ada", "return a User with an id, or None"),
        (User("", "Ada"), "return a User with an id, or None"),
        (User("a" * 256, "Ada"), "at most 255 characters"),
        (User("a\0", "Ada"), "none of them NUL"),
        (User("a\ud800", "Ada"), "lone surrogate"),
    ],
)
def test_what_is_no_user_is_refused(tmp_path: Path, returned: Any, said: str) -> None:
    harness = PeopleHarness(tmp_path, current_user=lambda _request: returned, login_url="/login")
    with pytest.raises(ConfigurationError, match=said):
        harness.people.signed_in(Request())


def test_a_refused_logout_leads_back_to_its_page(harness: PeopleHarness) -> None:
    assert path(harness.visitor().post("/oauth/logout", {})) == "/oauth/logout"
