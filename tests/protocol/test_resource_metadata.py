"""Protected resource metadata (RFC 9728): its places, and its resource."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard.protocol import resource_metadata

URL = "https://api.example.com/v1/recordings"


def document(**members):
    return json.dumps({"resource": "https://api.example.com"} | members).encode()


@pytest.mark.parametrize(
    ("url", "places"),
    [
        ("https://h", ("https://h/.well-known/oauth-protected-resource",)),
        ("https://h/", ("https://h/.well-known/oauth-protected-resource",)),
        (
            "https://h:8443/a/b/?q#f",
            (
                "https://h:8443/.well-known/oauth-protected-resource/a/b",
                "https://h:8443/.well-known/oauth-protected-resource",
            ),
        ),
    ],
)
def test_metadata_stands_at_the_well_known_places(url, places):
    assert resource_metadata.metadata_urls(url) == places


def test_a_document_is_read():
    found = resource_metadata.parse(
        document(authorization_servers=["https://id", 7], scopes_supported=["a", None, "b"]), URL
    )
    assert found.resource == "https://api.example.com"
    assert (found.authorization_servers, found.scopes) == (("https://id",), ("a", "b"))


@pytest.mark.parametrize("members", [{}, {"authorization_servers": "x", "scopes_supported": {}}])
def test_missing_members_are_empty(members):
    found = resource_metadata.parse(document(**members), URL)
    assert (found.authorization_servers, found.scopes) == ((), ())


@pytest.mark.parametrize(
    "resource",
    [
        "https://api.example.com",
        "https://api.example.com/",
        "HTTPS://API.example.com:443/v1",
        "https://api.example.com/v1/",
        URL,
        URL + "/",
    ],
)
def test_CL_07_a_resource_may_be_the_api_or_a_prefix_of_it(resource):
    assert resource_metadata.parse(document(resource=resource), URL).resource == resource


@pytest.mark.parametrize(
    "resource",
    [
        "https://evil.example",
        "http://api.example.com",
        "https://api.example.com:8443",
        "https://api.example.com.evil.example",
        "https://api.example.com/v",
        "https://api.example.com/v1/recordings/7",
        "https://api.example.com:port/",
        "https://[",
        "api.example.com",
        "",
        None,
        7,
        [],
    ],
)
def test_CL_07_another_resource_is_refused(resource):
    with pytest.raises(ValueError, match="another one"):
        resource_metadata.parse(document(resource=resource), URL)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Api.Example.com:443/a?b", "https://api.example.com"),
        ("http://h:80", "http://h"),
        ("http://h:443/", "http://h:443"),
        ("https://[::1]:8443/", "https://[::1]:8443"),
        ("HTTP://u:p@h/", "http://h"),
    ],
)
def test_an_origin_has_one_spelling(url, expected):
    assert resource_metadata.origin(url) == expected


@given(st.text(max_size=60) | st.text("htps:/[].@1?#", max_size=30).map(lambda x: f"http://{x}"))
def test_an_origin_is_its_own_origin(url):
    try:
        found = resource_metadata.origin(url)
    except ValueError:
        return
    assert "?" not in found
    if urlsplit(url).hostname and not set(found) & set("#@"):
        assert resource_metadata.origin(found) == found


@given(st.binary(max_size=60) | st.text(max_size=30).map(lambda each: document(resource=each)))
def test_metadata_is_that_of_the_api_or_refused(body):
    try:
        found = resource_metadata.parse(body, URL)
    except ValueError:
        return
    assert resource_metadata.origin(found.resource) == "https://api.example.com"
