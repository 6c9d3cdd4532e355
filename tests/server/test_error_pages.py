"""Error pages: the app, a reference that stands in the log, a way back; and pages for no path."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable
from typing import Any

import anyio
import argon2
import pytest

from bearerguard import Response
from bearerguard.errors import ConfigurationError
from bearerguard.server import PeopleOptions, Registration, Scope, User
from tests.server.harness import Harness, Make, Reply
from tests.server.people.visitor import Page, Visitor

REFERENCE = re.compile(r"\b[2-9B-Z]{4}-[2-9B-Z]{4}\b")
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
PASSWORD = "correct horse battery"


@pytest.fixture
def signing_in(make: Make) -> Harness:
    """A server with a login of its own, where Ada has an account."""
    harness = make(people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    harness.server.users.add("ada", PASSWORD, name="Ada Lovelace")
    return harness


def links(page: str) -> dict[str, str]:
    """The links of a page: their texts and URLs."""
    return {text: url for url, text in re.findall(r'<a [^>]*href="([^"]*)">([^<]*)</a>', page)}


def html(reply: Reply) -> str:
    return reply.response.body.decode()


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/oauth/authorize?client_id=nobody", 400),
        ("GET", "/oauth/authorize?client_id={id}&redirect_uri=https://evil.example", 400),
        ("DELETE", "/oauth/authorize", 405),
        ("POST", "/oauth/consent", 403),
        ("GET", "/oauth/login?request=x", 400),
        ("PUT", "/oauth/login", 405),
        ("POST", "/oauth/login", 400),
        ("POST", "/oauth/logout", 400),
    ],
)
def test_the_reference_of_an_error_page_stands_in_the_log_and_in_the_event(
    signing_in: Harness, caplog: pytest.LogCaptureFixture, method: str, url: str, status: int
) -> None:
    with caplog.at_level(logging.WARNING, "bearerguard.server"):
        response = signing_in.send(method, url.format(id=signing_in.app.client_id), b"{}")
    assert response.status == status
    (shown,) = REFERENCE.findall(html(response))
    assert signing_in.events[-1].details["reference"] == shown
    assert f'"reference": "{shown}"' in caplog.text


def test_each_error_page_has_a_reference_of_its_own(signing_in: Harness) -> None:
    shown = {
        REFERENCE.findall(html(signing_in.send("GET", "/oauth/login?request=x")))[0]
        for _ in range(50)
    }
    assert len(shown) == 50


def test_a_form_that_is_too_long_and_a_lost_store_have_a_reference_too(
    signing_in: Harness,
) -> None:
    too_long = signing_in.post("/oauth/login", {"username": "x" * 70_000})
    signing_in.server.close()
    signing_in.store.rename("clients", "elsewhere")
    lost = signing_in.send("GET", f"/oauth/authorize?client_id={signing_in.app.client_id}")
    assert (too_long.status, lost.status) == (413, 503)
    (event,) = signing_in.named("store_unavailable")
    assert event.details["reference"] in html(lost)
    assert "close this page" not in html(lost)
    assert signing_in.named("request_refused")[-1].details["reference"] in html(too_long)


def test_a_program_gets_no_reference_of_a_page(signing_in: Harness) -> None:
    signing_in.server.close()
    signing_in.store.rename("clients", "elsewhere")
    assert signing_in.token(grant_type="client_credentials").status == 503
    assert "reference" not in signing_in.named("store_unavailable")[0].details


def test_an_invalid_configuration_is_found_in_the_log_by_the_pages_reference(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> Any:
        raise ConfigurationError("of the app")

    harness = make(people=PeopleOptions(current_user=broken, login_url="https://app.example.com"))
    response = harness.authorize()
    assert response.status == 503
    assert f"(reference {REFERENCE.findall(html(response))[0]})" in caplog.text


# The app, and the way back


def test_a_broken_link_of_a_known_app_names_it_and_leads_to_its_own_site_alone(
    signing_in: Harness,
) -> None:
    response = signing_in.authorize(redirect_uri="https://evil.example/cb")
    assert response.status == 400
    assert "It is for App." in html(response)
    assert links(html(response)) == {"Go to app.example.com": "https://app.example.com/"}
    assert "evil" not in html(response)


def test_an_app_that_registered_itself_is_named_and_not_linked(make: Make) -> None:
    """Else our page would lead anywhere: anybody can register an address."""
    harness = make(registration=Registration())
    sent = {"client_name": "Stranger", "redirect_uris": ["https://stranger.example/cb"]}
    body = json.dumps(sent).encode()
    reply = harness.send("POST", "/oauth/register", body, content_type="application/json")
    query = f"client_id={reply.json['client_id']}&redirect_uri=https://evil.example"
    page = html(harness.send("GET", f"/oauth/authorize?{query}"))
    assert "It is for Stranger." in page
    assert links(page) == {}
    assert "You can close this page." in page


def test_an_app_without_a_site_is_named_and_not_linked(make: Make) -> None:
    harness = make()
    native = harness.add("Native", public=True, redirect_uris=["com.example.app:/cb"])
    page = html(harness.authorize(native, redirect_uri="https://evil.example"))
    assert "It is for Native." in page
    assert links(page) == {}


@pytest.mark.parametrize("seconds", [0, 3601])
def test_a_login_link_that_has_expired_lets_the_user_begin_again(
    signing_in: Harness, seconds: int
) -> None:
    visitor = Visitor(signing_in.server.handle)
    link = signing_in.link(prompt="login")
    login = visitor.get(visitor.get(link).header("location") or "")
    signing_in.clock.now += seconds
    response = visitor.submit(login, username="ada", password=PASSWORD)
    if not seconds:
        assert response.status == 303
        return
    assert response.status == 400
    assert "It is for App." in response.text
    assert links(response.html)["Start again"].replace("&amp;", "&") == link
    again = visitor.get(link)
    done = visitor.sign_in("ada", PASSWORD, at=again.header("location") or "")
    assert "code=" in (visitor.follow(done).header("location") or "")


def test_a_consent_form_that_has_expired_lets_the_user_begin_again(
    signing_in: Harness,
) -> None:
    visitor, link = Visitor(signing_in.server.handle), signing_in.link(signing_in.phone)
    consent = visitor.follow(
        visitor.sign_in("ada", PASSWORD, at=visitor.get(link).header("location") or "")
    )
    signing_in.clock.now += 3600
    refused = visitor.submit(consent, ("decision", "allow"))
    assert refused.status == 400
    assert links(refused.html)["Start again"].replace("&amp;", "&") == link
    assert visitor.submit(visitor.get(link), ("decision", "allow")).status == 303


def test_a_form_of_another_user_shows_nothing_of_its_request(signing_in: Harness) -> None:
    signing_in.server.users.add("grace", PASSWORD)
    pages: list[tuple[Visitor, Page]] = []
    for name in ("ada", "grace"):
        visitor = Visitor(signing_in.server.handle)
        link = visitor.get(signing_in.link(signing_in.phone, state=name)).header("location") or ""
        pages.append((visitor, visitor.follow(visitor.sign_in(name, PASSWORD, at=link))))
    (_, of_ada), (grace, _) = pages
    refused = grace.submit(of_ada, ("decision", "allow"))
    assert refused.status == 400
    assert links(refused.html) == {}
    assert "Phone" not in refused.text


def test_who_is_signed_in_no_more_is_led_to_the_login(make: Make, signing_in: Harness) -> None:
    own = make()  # whose login is the app's
    for harness, url in ((signing_in, "/oauth/login"), (own, "https://app.example.com/login")):
        harness.user = None
        page = html(harness.post("/oauth/consent", {"decision": "allow"}))
        assert links(page) == {"Sign in": url}


# Pages for no path


def asked(harness: Harness, path: str, accept: str, method: str = "GET", root: str = "") -> Reply:
    """Ask a server that stands alone, under ASGI and under WSGI, which must answer the same."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"accept", accept.encode())]
    scope = {"type": "http", "method": method, "path": root + path, "headers": headers}
    anyio.run(harness.server.asgi_app(), {**scope, "root_path": root}, receive, send)
    start, body = sent
    by_wsgi: list[Any] = []
    environ: dict[str, Any] = {"SCRIPT_NAME": root, "PATH_INFO": path, "HTTP_ACCEPT": accept}
    environ |= {"REQUEST_METHOD": method, "wsgi.input": io.BytesIO()}

    def start_response(*lines: Any) -> Callable[[bytes], object]:
        by_wsgi.extend(lines)
        return bytes

    content = b"".join(harness.server.wsgi_app()(environ, start_response))
    assert by_wsgi[0].startswith(str(start["status"]))
    assert content == body["body"]
    fields = {name.decode(): value.decode() for name, value in start["headers"]}
    assert {name.lower(): value for name, value in by_wsgi[1]} == fields
    return Reply(Response(start["status"], tuple(fields.items()), content))


def test_the_start_page_names_the_site_and_leads_to_the_login(make: Make) -> None:
    harness = make(people=PeopleOptions(site_name="Field Recordings"))
    page = asked(harness, "/", BROWSER)
    assert page.status == 200
    assert "Welcome to Field Recordings" in html(page)
    assert links(html(page)) == {"Sign in": "/oauth/login"}
    assert page.header("x-frame-options") == "DENY"
    assert asked(harness, "/", BROWSER, "HEAD").response.body == b""


@pytest.mark.parametrize(
    "path", ["/nowhere", "/oauth", "/oauth/", "/oauth/token/", "/oauth/logins"]
)
def test_an_unknown_path_has_a_page_for_browsers_and_json_for_programs(
    signing_in: Harness, path: str
) -> None:
    page = asked(signing_in, path, BROWSER)
    assert page.status == 404
    assert "There is no such page" in html(page)
    assert links(html(page)) == {"Go to the start page": "/"}
    for accept in ("*/*", "application/json", ""):
        assert asked(signing_in, path, accept).error == (404, "not_found")
    assert asked(signing_in, "/", "application/json").error == (404, "not_found")
    assert asked(signing_in, "/", BROWSER, "POST").status == 404


def test_below_a_path_the_start_page_is_the_issuers(make: Make) -> None:
    people = PeopleOptions(site_name="Field Recordings")
    harness = make(issuer="https://api.example.com/auth", people=people)
    for path, root in (("/auth", ""), ("/auth/", ""), ("/", "/auth"), ("/", "")):
        page = html(asked(harness, path, BROWSER, root=root))
        assert links(page) == {"Sign in": "/auth/oauth/login"}, (path, root)
    assert links(html(asked(harness, "/x", BROWSER))) == {"Go to the start page": "/auth/"}


def test_the_start_page_leads_to_the_login_of_an_app_that_has_its_own(
    harness: Harness,
) -> None:
    assert links(html(asked(harness, "/", BROWSER))) == {"Sign in": "https://app.example.com/login"}


def test_a_browser_that_looks_for_an_icon_or_for_anything_leaves_no_line_in_the_log(
    signing_in: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    signing_in.events.clear()
    with caplog.at_level(logging.DEBUG, "bearerguard"):
        assert asked(signing_in, "/favicon.ico", "image/avif,image/webp,*/*;q=0.8").status == 404
        assert asked(signing_in, "/wp-login.php", BROWSER).status == 404
    assert signing_in.events == []
    assert caplog.records == []


# Scopes on the consent page


@pytest.fixture
def scoped(make: Make) -> Harness:
    return make(
        scopes={
            "read": "See your recordings",
            "write": "Add recordings",
            "openid": "openid",
            "offline_access": "",
            "delete": Scope("Delete recordings", powerful=True),
        }
    )


def shown(page: Reply) -> list[tuple[str, list[str]]]:
    """The lists of scopes on a consent page: the heading of each, and its lines."""
    parts = re.findall(r'<h2 id="[a-z-]*">(.*?)</h2>\s*<ul(.*?)</ul>', html(page), re.DOTALL)
    return [
        (heading, [line.strip() for line in re.findall(r"<div>(.*?)<", items)])
        for heading, items in parts
    ]


def test_scopes_are_in_words_and_the_powerful_come_first_and_are_marked(
    scoped: Harness,
) -> None:
    app = scoped.add("Notes", scopes=["read", "openid", "offline_access", "delete"], public=True)
    page = scoped.authorize(app, scope="read openid offline_access delete")
    (heading, lines) = shown(page)[0]
    assert heading == "If you allow it, this app can:"
    assert lines == [
        "Delete recordings",
        "See your recordings",
        "Know who you are",
        "Stay signed in while you are away",
    ]
    assert html(page).count('class="badge">Powerful<') == 1
    assert html(page).index("Powerful") < html(page).index("See your recordings")


def test_the_apps_name_stands_once_on_the_page_and_then_it_is_this_app(
    scoped: Harness,
) -> None:
    app = scoped.add("Recorder of Birds", scopes=["read"], public=True)
    page = html(scoped.authorize(app, scope="read"))
    assert page.partition("<main")[2].count("Recorder of Birds") == 1
    assert page.count("this app") >= 2


def test_what_an_app_has_is_told_from_what_is_new_to_it(scoped: Harness) -> None:
    app = scoped.add("Notes", scopes=["read", "openid", "delete"], require_consent=True)
    assert [heading for heading, _ in shown(scoped.authorize(app, scope="read"))] == [
        "If you allow it, this app can:"
    ]
    scoped.tokens(app, scope="read")
    new, known = shown(scoped.authorize(app, scope="read openid delete"))
    assert new == (
        "New: if you allow it, this app can also:",
        ["Delete recordings", "Know who you are"],
    )
    assert known == ("It can already:", ["See your recordings"])
    again = shown(scoped.authorize(app, scope="read"))
    assert again == [("Nothing new: this app can already:", ["See your recordings"])]


def test_what_has_ended_or_is_anothers_or_for_another_api_is_new(make: Make) -> None:
    resources = ["https://api.example.com", "https://other.example.com"]
    harness = make(resources=resources)
    app = harness.add("Notes", scopes=["read"], require_consent=True)
    tokens = harness.tokens(app, scope="read")
    known = ["Nothing new: this app can already:"]
    new = ["If you allow it, this app can:"]

    def headings(**fields: Any) -> list[str]:
        page = harness.authorize(app, scope="read", **fields)
        return [heading for heading, _ in shown(page)]

    assert headings() == known
    assert headings(resource=resources[1]) == new
    assert headings(resource=resources) == new
    user, harness.user = harness.user, User("grace", "Grace")
    assert headings() == new
    harness.user = user
    harness.server.revoke(tokens["refresh_token"])
    assert headings() == new


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((" ",), r"Scope\(description=\): say what it allows"),
        ((5,), r"Scope\(description=\)"),
        (("Read", "yes"), r"Scope\(powerful=\): pass True or False"),
    ],
)
def test_a_scope_that_says_nothing_is_refused(arguments: tuple[Any, ...], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Scope(*arguments)
