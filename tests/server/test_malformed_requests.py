"""Whatever is sent to an endpoint gets a documented status, and an error changes nothing."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote_from_bytes, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bearerguard import Request
from tests.faults.size import size
from tests.fuzz.of_server import Guarded
from tests.server.harness import FORM

NAMES = st.sampled_from(
    [
        *("client_id", "client_secret", "grant_type", "code", "code_verifier", "redirect_uri"),
        *("refresh_token", "token", "token_type_hint", "scope", "resource", "audience"),
        *("response_type", "response_mode", "state", "request", "request_uri", "prompt", "nonce"),
        *("max_age", "acr_values", "dpop_jkt", "client_assertion", "client_assertion_type"),
        *("assertion", "subject_token", "subject_token_type", "actor_token", "actor_token_type"),
        *("code_challenge", "code_challenge_method", "decision", "csrf", "username", "password"),
    ]
)
WORDS = st.sampled_from(
    [
        *("code", "authorization_code", "refresh_token", "client_credentials", "S256", "a.b.c"),
        *("urn:ietf:params:oauth:grant-type:jwt-bearer", "read write", "0", "-1", "none", "login"),
        *("urn:ietf:params:oauth:grant-type:token-exchange", "https://app.example.com/cb", "[", ""),
        *("urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "https://api.example.com"),
        "urn:ietf:params:oauth:token-type:access_token",
        "urn:ietf:params:oauth:request_uri:x",
    ]
)
OCTETS = st.binary(max_size=40)
FIELDS = st.lists(st.tuples(NAMES, WORDS | st.text(max_size=20)), max_size=10)
TYPES = st.sampled_from(
    [FORM, f"{FORM}; charset=utf-16", "application/json", "multipart/form-data", "", "a/b", ";;"]
)
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                *(b"authorization", b"cookie", b"origin", b"dpop", b"accept", b"host", b"range"),
                *(b"content-type", b"sec-fetch-site", b"x-forwarded-for", b"if-none-match"),
                *(b"access-control-request-method", b"access-control-request-headers"),
            ]
        ),
        OCTETS | st.sampled_from([b"Basic YTpi", b"Bearer a.b.c", b"null", b"GET", b"a=b; c"]),
    ),
    max_size=5,
)
METHODS = st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "X", ""])
SENT = st.fixed_dictionaries(
    {
        "method": METHODS,
        "query": OCTETS | FIELDS,
        "body": OCTETS | FIELDS | st.just(b'{"redirect_uris":["https://a.example/"]}'),
        "type": TYPES | st.text(max_size=10),
        "headers": HEADERS,
        "as_app": st.booleans(),
    }
)
PATHS = (
    *("/oauth/authorize", "/oauth/token", "/oauth/revoke", "/oauth/introspect", "/oauth/jwks"),
    *("/oauth/register", "/oauth/consent", "/oauth/login", "/oauth/logout", "/oauth/par"),
    *("/oauth/device_authorization", "/oauth/device", "/oauth/account", "/oauth/account/password"),
    *("/oauth/account/tokens", "/oauth/account/api/tokens"),
    *("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"),
)


@pytest.fixture(scope="module")
def server() -> Generator[Guarded]:
    with TemporaryDirectory() as folder:
        made = Guarded(Path(folder))
        yield made
        made.harness.server.close()


def octets(sent: Any) -> bytes:
    return sent if isinstance(sent, bytes) else urlencode(sent).encode()


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=size(500, 25))
@given(SENT)
def test_a_malformed_request_gets_a_documented_status_and_changes_nothing(
    server: Guarded, path: str, sent: Any
) -> None:
    body = octets(sent["body"])
    if sent["as_app"]:
        body = urlencode(server.harness.credentials()).encode() + b"&" + body
    query = sent["query"]
    url = path + "?" + (quote_from_bytes(query) if isinstance(query, bytes) else urlencode(query))
    headers = [(b"content-type", sent["type"].encode("utf-8", "replace")), *sent["headers"]]
    server.send(Request(sent["method"], url, headers, body, peer="192.0.2.1"))


def test_every_endpoint_of_the_server_is_among_those(server: Guarded) -> None:
    assert server.harness.server.paths - set(PATHS) <= {"/oauth/assets", "/oauth/style.css"}


def test_grants_and_tokens_work_after_all_that(server: Guarded) -> None:
    tokens = server.harness.tokens()
    assert server.harness.refresh(tokens["refresh_token"]).status == 200
    assert server.harness.is_active(tokens["access_token"])
