"""Any octets, to any path, with any method: the response is never a server error."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import argon2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bearerguard import Request
from bearerguard.server import PeopleOptions
from bearerguard.server.http.cookies import Cookies
from tests.faults.size import size
from tests.server.harness import CALLBACK, FORM, ISSUER, Harness, Reply
from tests.server.stores import Store

NAMES = [
    "client_id",
    "client_secret",
    "grant_type",
    "code",
    "redirect_uri",
    "code_verifier",
    "refresh_token",
    "scope",
    "resource",
    "token",
    "token_type_hint",
    "client_assertion",
    "client_assertion_type",
    "request",
    "csrf",
    "decision",
    "username",
    "password",
    "remember",
    "state",
    "response_type",
    "code_challenge",
    "code_challenge_method",
    "prompt",
]
VALUES = [
    *("authorization_code", "client_credentials", "refresh_token", "code", "S256", "plain"),
    *("\0", "é", "a" * 3000, "[", "http://[", "%", "\r\nX: y", "a.b.c", "read  read", "' --"),
    *("javascript:alert(1)", "\u202e", "\uff11\uff12\uff13", "allow", CALLBACK, ISSUER, "read"),
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
]
HEADERS = ["authorization", "cookie", "origin", "accept", "sec-fetch-site", "host", "content-type"]
SESSION_COOKIE, FORM_COOKIE = (
    Cookies(ISSUER).full_name(f"bearerguard_{name}").encode() for name in ("session", "form")
)
LINES = [
    *(b"Basic ", b"Basic Og==", b"Basic ////", b"null", b"http://[", b"Bearer x"),
    SESSION_COOKIE + b"=\xff",
    FORM_COOKIE + b"=" + b"a" * 43,
    b"application/token-introspection+jwt",
]
METHODS = ["GET", "POST", "POST", "HEAD", "OPTIONS", "PUT", "TRACE", "", "\0"]
PAIRS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=20)), max_size=9
)
BODIES = st.binary(max_size=80) | PAIRS.map(
    lambda pairs: urlencode(pairs, errors="surrogatepass").encode()
)
PEOPLES_OWN = {"/oauth/login", "/oauth/logout", "/oauth/account", "/oauth/account/password"}


pytestmark = pytest.mark.both_engines


@pytest.fixture(scope="module", params=["an app's own users", "the server's own users"])
def target(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    module_store: Store,
) -> Generator[Harness]:
    people = PeopleOptions(password_parameters=argon2.profiles.CHEAPEST)
    own: dict[str, Any] = {} if "app" in request.param else {"people": people}
    folder: Path = tmp_path_factory.mktemp("odd")
    harness = Harness(folder, module_store, **own)
    yield harness
    harness.server.close()


@settings(
    max_examples=size(150, 30),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_nothing_that_is_sent_makes_the_server_fail(target: Harness, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(target.server._engine.paths)))
    body = data.draw(BODIES)
    if data.draw(st.booleans()):
        body += b"&" + urlencode(target.credentials()).encode()
    line = st.sampled_from(LINES) | st.binary(max_size=30)
    headers = data.draw(st.lists(st.tuples(st.sampled_from(HEADERS), line), max_size=4))
    kind = [("content-type", FORM.encode())] if data.draw(st.booleans()) else []
    query = f"?{body.decode('latin-1')}" if data.draw(st.booleans()) else ""
    request = Request(data.draw(st.sampled_from(METHODS)), path + query, [*kind, *headers], body)
    target.events.clear()
    response = target.server.handle(request)
    assert response.status < 500, response.body
    if path not in PEOPLES_OWN:
        refused = response.status >= 400 or "error=" in (response.header("location") or "")
        events = [each for each in target.events if {"reason", "error"} <= each.details.keys()]
        assert len(events) == refused, "each refusal is reported once, and nothing else is"
        assert all(each.details["endpoint"] == path for each in events)
    for name, value in response.headers:
        assert f"{name}{value}".isprintable(), "a header field is one line"


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(
    "url", ["//[", "http://[/oauth/token", "//[x]/oauth/token", "http://[::1", "", "*", "//", "\0"]
)
def test_an_address_that_is_none_is_not_found(harness: Harness, method: str, url: str) -> None:
    assert Reply(harness.server.handle(Request(method, url))).status == 404


def test_many_parameters_and_long_bodies_are_refused_before_they_cost_much(
    harness: Harness,
) -> None:
    many = [(f"name{number}", "x") for number in range(5000)]
    assert harness.post("/oauth/token", many).error[0] in {400, 413}
    assert harness.post("/oauth/token", [("a", "x" * 70_000)]).error == (413, "invalid_request")
    query = urlencode(many[:101])
    assert harness.send("GET", f"/oauth/authorize?{query}").status == 400


def test_made_up_clients_with_long_names_take_little_memory(harness: Harness) -> None:
    def fail(number: int) -> None:
        harness.events.clear()
        name = f"{number}-{'x' * 60_000}"
        harness.post("/oauth/token", {"grant_type": "x", "client_id": name, "client_secret": "x"})

    fail(0)
    tracemalloc.start()
    try:
        for number in range(100):
            fail(number)
        gc.collect()  # an exception's frames may wait for it
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 2_000_000, "a hundred names of 60 kB are not what is remembered"


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data", ""])
@pytest.mark.parametrize("path", ["token", "revoke", "introspect"])
def test_a_form_of_another_kind_is_not_read(harness: Harness, path: str, kind: str) -> None:
    body = urlencode({**harness.credentials(), "grant_type": "client_credentials", "token": "x"})
    response = harness.send("POST", f"/oauth/{path}", body.encode(), content_type=kind)
    assert response.error == (400, "invalid_request")


@pytest.mark.parametrize("path", ["token", "revoke", "introspect"])
def test_credentials_in_the_address_are_not_read(harness: Harness, path: str) -> None:
    query = urlencode({**harness.credentials(), "grant_type": "client_credentials", "token": "x"})
    response = harness.send("POST", f"/oauth/{path}?{query}", content_type=FORM)
    assert response.status in {400, 401}
    assert harness.send("GET", f"/oauth/{path}?{query}").status == 405
