"""People get pages, and an operator can replace every sentence of them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import argon2
import pytest

from bearerguard.protocol import pkce
from bearerguard.server import PeopleOptions, User
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.pages.texts import TEXTS
from tests.server.harness import CALLBACK, FORM, ISSUER, VERIFIER, Harness, Make, Reply
from tests.server.people.visitor import Visitor

# Every sentence stands for itself: whatever else a page says was not in the catalogue.
MARKED = {name: f"[{name}]" for name in TEXTS if name not in {"lang", "title", "title.error"}}
REFERENCE = re.compile(r"[2-9B-Z]{4}-[2-9B-Z]{4}|\[error\.reference\]")
MARK = re.compile(r"\[[a-z_.]+\]")


@pytest.fixture
def marked(make: Make) -> Harness:
    return make(people=PeopleOptions(texts=MARKED))


def said(response: Reply) -> list[str]:
    """What an error page says, between its tags, without its reference."""
    assert (response.header("content-type") or "").startswith("text/html"), response.response.body
    main = re.search(r"<main.*</main>", response.response.body.decode(), re.DOTALL)
    assert main
    texts = [unescape(text).strip() for text in re.split(r"<[^>]*>", main[0])]
    return [text for text in texts if text and not REFERENCE.fullmatch(text)]


def asked(harness: Harness, **fields: str) -> str:
    query = {"client_id": harness.app.client_id, "redirect_uri": CALLBACK, "response_type": "code"}
    return "&".join(f"{name}={value}" for name, value in (query | fields).items())


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("response_type=code", "no_app"),
        ("client_id=nobody", "unknown_app"),
        ("client_id={id}&client_id={id}", "no_app"),
        ("client_id=%zz", "malformed"),
        ("client_id=\x01", "malformed"),
        ("client_id={id}&redirect_uri=https://evil.example", "wrong_return"),
        ("client_id={id}&redirect_uri=a&redirect_uri=b", "two_returns"),
        ("client_id={phone}", "no_return"),
    ],
)
def test_a_link_that_does_not_work_is_explained_in_the_operators_words(
    marked: Harness, query: str, text: str
) -> None:
    filled = query.format(id=marked.app.client_id, phone=marked.phone.client_id)
    response = marked.send("GET", f"/oauth/authorize?{filled}")
    assert response.status == 400
    is_known = text in {"wrong_return", "two_returns", "no_return"}
    about, back = (["[error.app]"], "[error.back.app]") if is_known else ([], "[error.close]")
    assert said(response) == ["[error.link.heading]", *about, f"[error.link.{text}]", back]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 400),
        (FORM, b"a=%zz", 400),
        (FORM, b"a=" + b"x" * 70_000, 413),
    ],
)
@pytest.mark.parametrize("path", ["login", "logout", "consent"])
def test_a_form_that_cannot_be_read_is_explained_in_the_operators_words(
    make: Make, path: str, content_type: str, body: bytes, status: int
) -> None:
    own = {"current_user": lambda _: User("ada", "Ada"), "login_url": "https://app.example.com"}
    # A consent form is read for somebody who is signed in.
    chosen: dict[str, Any] = own if path == "consent" else {}
    harness = make(people=PeopleOptions(texts=MARKED, **chosen))
    response = harness.send("POST", f"/oauth/{path}", body, content_type=content_type)
    assert response.status == status
    assert said(response) == [*("[error.request.heading]", "[error.request.text]", "[error.close]")]


def test_a_form_of_a_signed_out_user_gets_the_operators_text(marked: Harness) -> None:
    response = marked.post("/oauth/consent", {"decision": "allow"})
    assert response.status == 403
    assert said(response) == [
        *("[error.signed_out.heading]", "[error.signed_out.text]", "[error.back.sign_in]")
    ]


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "DELETE", "OPTIONS"])
def test_a_wrong_method_on_a_page_gets_a_page(marked: Harness, method: str) -> None:
    for path, allowed in (
        ("authorize", "GET"),
        ("consent", "POST"),
        ("login", "GET, HEAD, POST"),
        ("logout", "GET, HEAD, POST"),
    ):
        if method in allowed:
            continue
        response = marked.send(method, f"/oauth/{path}")
        assert (response.status, response.header("allow")) == (405, allowed)
        assert (response.header("content-type") or "").startswith("text/html")
        if method != "HEAD":
            assert said(response) == [
                *("[error.method.heading]", "[error.method.text]", "[error.close]")
            ]


@pytest.mark.parametrize("path", ["authorize", "login", "logout", "consent"])
def test_an_unavailable_store_gets_a_page_where_people_go(marked: Harness, path: str) -> None:
    marked.server.close()
    for table in ("clients", "sessions"):
        marked.store.rename(table, f"elsewhere_{table}")
    cookie = f"{Cookies(ISSUER).full_name('bearerguard_session')}=" + "x" * 43
    method = "POST" if path == "consent" else "GET"
    response = marked.send(method, f"/oauth/{path}?{asked(marked)}", cookie=cookie)
    assert response.status == 503
    assert response.header("retry-after") is not None
    assert said(response) == ["[error.unavailable.heading]", "[error.unavailable.text]"]


def test_a_request_that_is_too_long_for_a_login_link_is_refused_at_once(marked: Harness) -> None:
    short = asked(marked, state="")
    response = marked.send("GET", f"/oauth/authorize?{short}{'x' * (5001 - len(short))}")
    assert response.status == 400
    assert said(response) == ["[error.link.heading]", "[error.link.length]", "[error.close]"]


@pytest.mark.parametrize("letter", ["x", '"', "\\", "+"])
def test_the_longest_request_that_is_taken_comes_back_whole_from_the_login(
    make: Make, letter: str
) -> None:
    people = PeopleOptions(password_parameters=argon2.profiles.CHEAPEST)
    harness = make(people=people)
    harness.server.users.add("ada", "correct horse battery")
    app = harness.add("\U0001f3a7" * 100, redirect_uris=["https://app.example.com/" + "y" * 1900])
    start = f"client_id={app.client_id}&response_type=code&code_challenge_method=S256"
    start += f"&code_challenge={pkce.challenge(VERIFIER)}&state="
    visitor = Visitor(harness.server.handle)
    sent = visitor.get(f"/oauth/authorize?{start}{letter * (5000 - len(start))}")
    link = sent.header("location") or ""
    signed_in = visitor.sign_in("ada", "correct horse battery", at=link)
    response = visitor.follow(signed_in)
    assert response.status == 303
    assert "code=" in (response.header("location") or "")


def test_a_form_that_a_host_does_not_read_is_refused_with_a_page(marked: Harness) -> None:
    said_by_wsgi: list[Any] = []
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/oauth/login",
        "CONTENT_LENGTH": "9999999",
        "wsgi.input": io.BytesIO(),
    }

    def start_response(*lines: Any) -> Callable[[bytes], object]:
        said_by_wsgi.extend(lines)
        return bytes

    marked.server.wsgi_app()(environ, start_response)
    assert said_by_wsgi[0].startswith("413")
    assert dict(said_by_wsgi[1])["Content-Type"].startswith("text/html")
