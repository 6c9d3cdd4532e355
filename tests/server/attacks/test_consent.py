"""Consent that nobody gave: skipped, widened after it was shown, or given by another's hand."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import argon2
import pytest

from bearerguard.server import PeopleOptions, Registered, User
from bearerguard.server.http.cookies import Cookies
from tests.server.harness import CALLBACK, FORM, ISSUER, Harness, Make, claims, hidden_fields
from tests.server.people.visitor import Visitor

A, B = "https://a.example.com", "https://b.example.com"
PASSWORD = "correct horse battery"


@pytest.fixture
def careful(harness: Harness) -> Registered:
    return harness.add("Careful", require_consent=True)


@pytest.mark.parametrize(
    "trick",
    [
        *({"approval_prompt": "auto"}, {"prompt": "consent"}),
        *({"decision": "allow"}, {"remember": "yes"}, {"csrf": "x", "request_token": "x"}),
        {"user_id": "ada"},
    ],
)
def test_no_parameter_of_the_link_takes_the_place_of_the_users_word(
    harness: Harness, careful: Registered, trick: dict[str, Any]
) -> None:
    for client in (careful, harness.phone):
        response = harness.authorize(client, **trick)
        assert response.status == 200, "the page asks"
        assert response.header("location") is None


@pytest.mark.parametrize("prompt", ["none", "consent none"])
def test_a_link_with_prompt_none_gets_no_code_without_consent(
    harness: Harness, careful: Registered, prompt: str
) -> None:
    for client in (careful, harness.phone):
        response = harness.authorize(client, prompt=prompt)
        assert response.sent["error"] in {"consent_required", "invalid_request"}
        assert "code" not in response.sent


def test_what_is_added_to_the_form_adds_nothing_to_the_grant(make: Make) -> None:
    harness = make(resources=[A, B])
    careful = harness.add("Careful", require_consent=True)
    page = harness.authorize(careful, scope="read")
    response = harness.consent(
        page,
        scope="read write",
        resource=B,
        client_id=harness.app.client_id,
        redirect_uri="https://evil.example/cb",
        user_id="bob",
    )
    assert response.location.startswith(f"{CALLBACK}?")
    tokens = harness.redeem(response.sent["code"], careful).json
    content = claims(tokens["access_token"])
    assert (content["scope"], content["aud"], content["sub"]) == ("read", A, "ada")


def test_two_decisions_are_none(harness: Harness, careful: Registered) -> None:
    page = harness.authorize(careful)
    form = [*hidden_fields(page.response.body.decode()).items()]
    cookie = (page.header("set-cookie") or "").partition(";")[0]
    for decisions in (["deny", "allow"], ["allow", "allow"], [], ["ALLOW"], ["allow "]):
        fields = [*form, *(("decision", each) for each in decisions)]
        response = harness.post("/oauth/consent", fields, cookie=cookie)
        assert response.status == 400
        assert response.header("location") is None


def test_the_page_of_one_user_is_worth_nothing_in_the_hands_of_another(
    harness: Harness, careful: Registered
) -> None:
    page = harness.authorize(careful)
    harness.user = User("bob", "Bob")
    assert harness.consent(page).status == 400
    mixed = hidden_fields(harness.authorize(careful).response.body.decode())
    assert harness.consent(page, csrf=mixed["csrf"]).status == 400, "bob's form, ada's request"
    harness.user = None
    assert harness.consent(page).status == 403


def test_a_form_sent_from_another_site_is_no_consent(harness: Harness, careful: Registered) -> None:
    page = harness.authorize(careful)
    form = hidden_fields(page.response.body.decode()) | {"decision": "allow"}
    cookie = (page.header("set-cookie") or "").partition(";")[0]
    assert harness.post("/oauth/consent", form).status == 400, "without the browser's cookie"
    for site in ("cross-site", "same-site", "same-origin, cross-site", ""):
        response = harness.post("/oauth/consent", form, cookie=cookie, sec_fetch_site=site)
        assert response.status == 400, site
    planted = f"{cookie}; {cookie.partition('=')[0]}={'a' * 43}"
    assert harness.post("/oauth/consent", form, cookie=planted).status == 400
    get = harness.send("GET", f"/oauth/consent?{urlencode(form)}", cookie=cookie)
    assert get.status == 405
    assert harness.post("/oauth/consent", form, cookie=cookie).status == 303


def test_names_and_texts_are_shown_and_never_run(make: Make) -> None:
    markup = "<script>alert(1)</script>\"'><img src=x>{{7*7}}"
    harness = make(scopes={"read": markup, "write": "Write"})
    harness.user = User("ada", markup)
    page = harness.authorize(harness.add(markup, require_consent=True))
    html = page.response.body.decode()
    assert page.status == 200
    assert "<script" not in html
    assert "<img" not in html
    assert "{{7*7}}" in html, "no template is made of it"
    policy = page.header("content-security-policy") or ""
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert page.header("x-frame-options") == "DENY"
    assert "no-store" in (page.header("cache-control") or "")
    assert page.header("referrer-policy") == "no-referrer"


def test_a_login_name_comes_back_as_text(make: Make) -> None:
    harness = make(people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    visitor = Visitor(harness.server.handle)
    form = visitor.get("/oauth/login")
    page = visitor.submit(form, username='"><script>x</script>', password="wrong")
    assert page.status == 403
    assert "<script>x" not in page.html
    assert page.html.count("<script") == 1, "the page's own, which the policy names by its hash"


@pytest.mark.parametrize("planted", ["a" * 43, "", "x; y", "\xff"])
def test_a_session_planted_before_the_login_never_becomes_the_users(
    make: Make, planted: str
) -> None:
    harness = make(people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    harness.server.users.add("ada", PASSWORD)
    visitor = Visitor(harness.server.handle)
    name = Cookies(ISSUER).full_name("bearerguard_session")
    visitor.cookies[name] = planted
    visitor.submit(visitor.get("/oauth/login"), username="ada", password=PASSWORD)
    assert visitor.cookies[name] != planted
    intruder = Visitor(harness.server.handle)
    intruder.cookies[name] = planted
    query = urlencode({"client_id": harness.phone.client_id, "redirect_uri": CALLBACK + "/phone"})
    assert "/oauth/login?" in (intruder.get(f"/oauth/authorize?{query}").header("location") or "")
    for line in visitor.set_cookies:
        assert line.startswith("__Host-")
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(line.split("; "))
        assert "Domain" not in line
    stranger = harness.send("POST", "/oauth/logout", b"", content_type=FORM, cookie=f"{name}=x")
    assert stranger.status == 303
