"""How pages go out, and what an operator may change about them."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from bearerguard.errors import ConfigurationError
from bearerguard.server.pages import SAMPLES, Pages
from bearerguard.server.pages.texts import TEXTS, Texts
from tests.server.people.harness import PeopleHarness


def digest(content: str) -> str:
    return base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


OPENER = "Cross-Origin-Opener-Policy"


def test_AZ_06_every_page_is_locked_down(harness: PeopleHarness) -> None:
    visitor = harness.visitor()
    for page in (
        visitor.get("/oauth/login"),
        visitor.get("/oauth/logout"),
        visitor.get("/oauth/login?request=x"),
        visitor.sign_in("ada", "wrong one"),
    ):
        style = re.search("<style>(.*?)</style>", page.html, re.DOTALL)
        assert style
        script = re.search("<script>(.*?)</script>", page.html, re.DOTALL)
        assert bool(script) == ("<form" in page.html and "password" in page.html)
        scripts = {"script-src": f"'sha256-{digest(script[1])}'"} if script else {}
        assert page.policy == {
            **scripts,
            "default-src": "'none'",
            "style-src": f"'sha256-{digest(style[1])}'",
            "form-action": "'self'",
            "frame-ancestors": "'none'",
            "base-uri": "'none'",
        }
        assert page.header("X-Frame-Options") == "DENY"
        assert page.header("Cache-Control") == "no-store"
        assert page.header("Referrer-Policy") == "no-referrer"
        assert page.header("X-Content-Type-Options") == "nosniff"
        assert page.header("Content-Type") == "text/html; charset=utf-8"
        assert '<html lang="en">' in page.html
        assert page.html.count("<script") == (1 if script else 0)
        assert "://" not in page.html.replace("http://www.w3.org", "")
        assert " style=" not in page.html


def test_AZ_10_a_popup_keeps_its_opener_on_every_page_of_an_authorization_request(
    harness: PeopleHarness,
) -> None:
    visitor = harness.visitor()
    for page in (
        visitor.get("/oauth/login"),
        visitor.get("/oauth/login?request=x"),
        visitor.sign_in("ada", "wrong one"),
        visitor.send("PUT", "/oauth/login"),
    ):
        assert page.header(OPENER) == "unsafe-none"
    assert visitor.sign_in("ada", "correct horse battery").header(OPENER) is None
    assert visitor.get("/oauth/logout").header(OPENER) == "same-origin"


def test_AZ_06_a_page_that_redirects_after_a_form_says_303_and_is_not_kept(
    harness: PeopleHarness,
) -> None:
    response = harness.visitor().sign_in("ada", "correct horse battery")
    assert response.status == 303
    assert response.header("Cache-Control") == "no-store"
    assert response.header("Referrer-Policy") == "no-referrer"


def test_AZ_02_an_error_page_says_what_went_wrong_and_leads_nowhere(tmp_path: Path) -> None:
    texts = {"error.link.heading": "Unknown app", "error.link.no_app": "Ask <its> makers."}
    response = Pages("Site", texts=texts).error(400, "link", "no_app")
    assert response.status == 400
    assert b"Unknown app" in response.body
    assert b"Ask &lt;its&gt; makers." in response.body
    assert response.header("Location") is None
    assert b"href" not in response.body


def test_an_operators_templates_win_and_may_build_on_ours(tmp_path: Path) -> None:
    (tmp_path / "login.html").write_text(
        '{% extends "bearerguard/login.html" %}{% block footer %}<p>Ours</p>{% endblock %}'
    )
    (tmp_path / "style.css").write_text("body { color: red }")
    pages = Pages("Site", templates=tmp_path)
    html = pages.page("login", **SAMPLES["login"]).body.decode()
    assert "<p>Ours</p>" in html
    assert "Sign in" in html
    assert "<style>body { color: red }</style>" in html


def test_an_operators_script_is_the_one_that_the_policy_allows(tmp_path: Path) -> None:
    (tmp_path / "page.js").write_text("/* ours */ document.title = 'x'")
    response = Pages("Site", templates=tmp_path).page("login", **SAMPLES["login"])
    assert b"<script>document.title = 'x'</script>" in response.body
    policy = response.header("Content-Security-Policy") or ""
    expected = digest("document.title = 'x'")
    assert f"script-src 'sha256-{expected}'" in policy


def test_a_script_in_a_value_of_a_page_is_text_and_the_policy_allows_none() -> None:
    values = {**SAMPLES["start"], "login": "<script>alert(1)</script>"}
    response = Pages("<script>alert(2)</script>").page("start", **values)
    assert b"<script" not in response.body
    assert "script-src" not in (response.header("Content-Security-Policy") or "")


def test_a_misspelt_argument_of_an_error_page_is_no_header_field() -> None:
    misspelt: Any = {"refrence": "7KQ2-M9XD"}
    with pytest.raises(TypeError, match="refrence"):
        Pages("Site").error(400, "link", "no_app", **misspelt)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("login.html", "{% block x %}", "TemplateSyntaxError"),
        ("consent.html", "{% extends 'missing.html' %}", "TemplateNotFound"),
        ("error.html", "{{ unknown }}", "UndefinedError"),
        ("error.html", "{{ t('unknown') }}", "KeyError"),
        ("style.css", "</style><script>", "must not contain"),
        ("page.js", "document.title = '</script>'", "page.js must not contain"),
        ("page.js", "document.title = '<!--'", "page.js must not contain"),
        ("style.css", "a\udcff", "UnicodeDecodeError"),
    ],
)
def test_a_template_that_cannot_be_used_shows_when_the_server_starts(
    tmp_path: Path, name: str, content: str, complaint: str
) -> None:
    (tmp_path / name).write_text(content, errors="surrogateescape")
    with pytest.raises(ConfigurationError, match=f"templates=: .*{complaint}"):
        Pages("Site", templates=tmp_path)


def test_templates_must_be_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a directory"):
        Pages("Site", templates=tmp_path / "missing")


def test_every_text_may_be_replaced_and_the_language_named(tmp_path: Path) -> None:
    texts = {"lang": "de", "login.heading": "Anmelden", "title": "{site}: {page}"}
    harness = PeopleHarness(tmp_path, texts=texts, site_name="Aufnahmen")
    page = harness.visitor().get("/oauth/login")
    assert '<html lang="de">' in page.html
    assert page.title == "Aufnahmen: Anmelden"


@pytest.mark.parametrize(
    ("key", "text", "complaint"),
    [
        ("login.headline", "x", "there is no text 'login.headline'"),
        ("login.heading", "{client}", "has no value {client}"),
        ("login.heading", "{", "malformed"),
        ("title", "{page:>9}", "without a format"),
        ("title", 5, "as text"),
    ],
)
def test_a_text_that_cannot_be_used_shows_when_the_server_starts(
    key: str, text: str, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^texts=: .*{re.escape(complaint)}"):
        Texts({key: text})


def test_a_text_of_the_consent_page_may_name_the_app_as_ours_does_not() -> None:
    texts = Texts({"consent.scopes": "{client} will be able to:"})
    assert texts("consent.scopes", client="Field Notes") == "Field Notes will be able to:"


def test_a_sentence_stands_once_in_the_catalogue() -> None:
    """Else an operator would have to find and replace it twice."""
    sentences = [text for text in TEXTS.values() if text.endswith(".")]
    assert len(set(sentences)) == len(sentences)


def test_our_own_texts_would_pass_as_replacements() -> None:
    Texts(TEXTS)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1 second"), (5, "5 seconds"), (60, "1 minute"), (61, "2 minutes"), (300, "5 minutes")],
)
def test_a_time_to_wait_is_said_in_words_and_never_too_short(seconds: int, words: str) -> None:
    assert Texts().wait(seconds) == words
