"""Introspection requests and responses (RFC 7662, RFC 9701)."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard.protocol import client_authentication, introspection
from bearerguard.protocol.introspection import IntrospectionFailed
from bearerguard.runtime.messages import Response
from tests.properties.test_parsers import JSON, TOKEN68

TYPE = ("Content-Type", "application/json")
ENDPOINT = "https://issuer.test/introspect"


@given(TOKEN68.map(bytes.decode), st.booleans())
def test_the_token_is_in_the_body_and_nowhere_else(token: str, signed: bool) -> None:
    proof = client_authentication.client_secret_post("api", "s3cret&=+ ")
    request = introspection.request(ENDPOINT, token, proof, signed=signed)
    assert (request.method, request.url) == ("POST", ENDPOINT)
    form = parse_qs(request.body.decode("ascii"), strict_parsing=True)
    assert form["token"] == [token]
    assert form["client_secret"] == ["s3cret&=+ "]
    headers = dict(request.headers)
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert ("jwt" in headers["accept"]) is signed
    assert repr(request) == f"Fetch(method='POST', url='{ENDPOINT}', keep_alive=True)"


@given(st.integers(100, 599), st.binary() | JSON.map(lambda each: json.dumps(each).encode()))
def test_any_response_is_read_or_is_introspection_failed(status: int, body: bytes) -> None:
    for kind in ("application/json", introspection.SIGNED_MEDIA_TYPE, "text/html"):
        try:
            read = introspection.read(
                Response(status, (("Content-Type", kind),), body), signed=False
            )
        except IntrospectionFailed:
            continue
        assert status == 200
        document = json.loads(body)
        assert document["active"] is (read is not None)


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_all_members_of_an_active_token_are_returned(members: dict[str, object]) -> None:
    members = json.loads(json.dumps(members)) if "NaN" not in json.dumps(members) else {}
    members.pop("active", None)
    if "Infinity" in json.dumps(members):
        members = {}
    body = json.dumps({**members, "active": True}).encode()
    assert introspection.read(Response(200, (TYPE,), body), signed=False) == members


def test_an_error_code_is_quoted_and_only_unsupported_token_type_is_about_the_token() -> None:
    for status, body, words, of_this_token in (
        (400, b'{"error": "unsupported_token_type"}', "400 and error 'unsupported_token", True),
        (401, b'{"error": "invalid_client"}', "status 401 and error 'invalid_client'", False),
        (401, b'{"error": 7}', "^status 401$", False),
        (503, b"<html>", "^status 503$", False),
    ):
        with pytest.raises(IntrospectionFailed, match=words) as failed:
            introspection.read(Response(status, (), body), signed=False)
        assert failed.value.of_this_token is of_this_token


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"introspection_endpoint": 7},
        {"introspection_endpoint": ENDPOINT, "issuer": "https://other.test"},
    ],
)
def test_metadata_without_an_endpoint_is_refused(document: dict[str, object]) -> None:
    body = json.dumps({"issuer": "https://issuer.test", **document}).encode()
    with pytest.raises(ValueError, match=r"introspection_endpoint|its issuer is"):
        introspection.endpoint_and_methods(body, "https://issuer.test")


def test_only_names_among_the_methods_count() -> None:
    for methods, expected in (([1, "client_secret_post"], ("client_secret_post",)), ("x", ())):
        document = {
            "issuer": "https://issuer.test",
            "introspection_endpoint": ENDPOINT,
            "introspection_endpoint_auth_methods_supported": methods,
        }
        found = introspection.endpoint_and_methods(
            json.dumps(document).encode(), "https://issuer.test"
        )
        assert found == (ENDPOINT, expected)
