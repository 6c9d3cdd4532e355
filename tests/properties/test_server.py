"""The server's parsers and builders, with any input."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard import ConfigurationError, Request
from bearerguard.protocol import pkce
from bearerguard.runtime.sealing import Sealer
from bearerguard.server.clients import redirect_uri
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.http.parameters import parse
from bearerguard.server.settings import is_resource_identifier
from bearerguard.server.tokens import personal_token_format
from tests.server.harness import FORM, Harness

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
REGISTERED = "https://app.example.com/cb"


@pytest.fixture(scope="module")
def harness() -> Generator[Harness]:
    with TemporaryDirectory() as folder:
        made = Harness(Path(folder))
        yield made
        made.server.close()


@given(st.lists(st.tuples(TEXT, TEXT), max_size=10))
def test_a_form_is_read_as_it_was_written(pairs: list[tuple[str, str]]) -> None:
    parameters = parse(urlencode(pairs).encode())
    first: dict[str, str] = {}
    for name, value in pairs:
        first.setdefault(name, value)
    first.pop("resource", None)
    assert dict(parameters.values) == {name: value for name, value in first.items() if value}
    names = [name for name, _ in pairs if name != "resource"]
    assert parameters.repeated == {name for name in names if names.count(name) > 1}


@given(st.binary(max_size=200))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        parameters = parse(octets)
    except OAuthError:
        return
    assert all(value for value in parameters.values.values())


@given(TEXT)
def test_only_the_registered_uri_matches(text: str) -> None:
    assert redirect_uri.matches(text, [REGISTERED]) is (text == REGISTERED)
    assert not redirect_uri.matches(REGISTERED + text, [REGISTERED]) or not text


@given(st.text(max_size=60))
def test_what_may_be_registered_is_an_absolute_uri_without_a_fragment(text: str) -> None:
    try:
        redirect_uri.check(text)
    except ConfigurationError:
        return
    parts = urlsplit(text)
    assert parts.scheme
    assert "#" not in text
    assert text.isascii()


@given(st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=5))
def test_parameters_are_added_to_a_uri_and_what_it_has_stays(
    pairs: list[tuple[str, str]],
) -> None:
    for uri in (REGISTERED, REGISTERED + "?a=1", REGISTERED + "?", "com.example:/cb"):
        built = redirect_uri.with_parameters(uri, pairs)
        assert built.startswith(uri)
        sent = parse_qsl(urlsplit(built).query, keep_blank_values=True)
        assert sent == [*([("a", "1")] if "a=1" in uri else []), *pairs]


@given(st.text(max_size=140), st.text(max_size=50))
def test_only_a_challenges_own_verifier_proves_it(verifier: str, other: str) -> None:
    mine = "m" * 43
    assert pkce.proves(mine, pkce.challenge(mine))
    assert pkce.is_challenge(pkce.challenge(mine))
    assert pkce.proves(verifier, pkce.challenge(mine)) is (verifier == mine)
    assert not pkce.proves(mine, other) or other == pkce.challenge(mine)


@given(st.text(max_size=40))
def test_a_resource_is_an_absolute_uri_or_refused(text: str) -> None:
    if is_resource_identifier(text):
        assert urlsplit(text).scheme
        assert "#" not in text


@given(st.binary(min_size=1), st.binary(min_size=32, max_size=40))
def test_a_successor_is_opened_by_its_parent_alone(text: bytes, other: bytes) -> None:
    parent = b"the parent of the token, 32 bytes"
    sealed = Sealer(parent, purpose="x").seal(text)
    assert Sealer(parent, purpose="x").open(sealed) == text
    if other != parent:
        with pytest.raises(ValueError, match="another secret"):
            Sealer(other, purpose="x").open(sealed)


PATHS = st.sampled_from(
    ["token", "revoke", "introspect", "authorize", "consent", "login", "logout", "jwks"]
)
METHODS = st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT", "X"])
NAMES = st.sampled_from(
    [
        *("client_id", "client_secret", "grant_type", "code", "code_verifier", "redirect_uri"),
        *("refresh_token", "token", "scope", "resource", "response_type", "state", "request"),
        *("client_assertion", "client_assertion_type", "code_challenge", "decision", "csrf"),
    ]
)
VALUES = st.one_of(
    TEXT,
    st.sampled_from(["code", "authorization_code", "refresh_token", "client_credentials", "a.b.c"]),
)


SENT = st.fixed_dictionaries(
    {
        "method": METHODS,
        "path": PATHS,
        "fields": st.lists(st.tuples(NAMES, VALUES), max_size=8),
        "junk": st.binary(max_size=20),
        "authorization": st.one_of(st.none(), st.binary(max_size=30), st.just(b"Basic YTpi")),
        "as_app": st.booleans(),
    }
)


@given(SENT)
def test_whatever_is_sent_is_answered_and_never_with_500(harness: Harness, sent: Any) -> None:
    fields, junk = sent["fields"], sent["junk"]
    if sent["as_app"]:
        fields = [*harness.credentials().items(), *fields]
    encoded = urlencode(fields)
    headers: list[tuple[bytes | str, bytes | str]] = [
        ("content-type", FORM),
        ("origin", "https://a.example"),
        ("cookie", "a=b; c"),
    ]
    if sent["authorization"] is not None:
        headers.append(("authorization", sent["authorization"]))
    url = f"/oauth/{sent['path']}?{encoded}{quote(junk)}"
    response = harness.server.handle(Request(sent["method"], url, headers, encoded.encode() + junk))
    assert response.status in {200, 204, 303, 400, 401, 403, 404, 405, 413, 429}
    for name, value in response.headers:
        assert (name + value).isascii()
        assert not set("\r\n\0") & set(name + value)


@given(st.from_regex(r"[a-z][a-z0-9]{1,14}_", fullmatch=True))
def test_every_personal_token_that_is_made_is_recognised(prefix: str) -> None:
    assert personal_token_format.is_prefix(prefix)
    token = personal_token_format.make(prefix)
    assert token.startswith(prefix)
    assert personal_token_format.is_token(token)


@given(st.integers(0, 39), st.characters())
def test_no_personal_token_with_another_character_is_recognised(place: int, other: str) -> None:
    token = personal_token_format.make("bgp_")
    altered = token[:place] + other + token[place + 1 :]
    assert personal_token_format.is_token(altered) is (altered == token)


@given(st.text() | st.from_regex(r"bgp_[0-9A-Za-z]{36}", fullmatch=True))
def test_no_other_text_is_a_personal_token(text: str) -> None:
    assert not personal_token_format.is_token(text)
