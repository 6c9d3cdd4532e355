"""Normalisation of URIs for comparison (RFC 3986 §6.2)."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bearerguard.protocol.http.uri import normalized

SAME = [
    ("https://api.example.com", "https://api.example.com/"),
    ("https://api.example.com", "HTTPS://API.Example.COM"),
    ("https://api.example.com", "https://api.example.com:443"),
    ("https://api.example.com/", "https://api.example.com:/"),
    ("http://api.example.com", "http://api.example.com:80/"),
    ("https://api.example.com?x=1", "https://api.example.com/?x=1"),
    ("https://api.example.com/~ada", "https://api.example.com/%7eada"),
    ("https://api.example.com/a%2Fb", "https://api.example.com/a%2fb"),
    ("https://api.example.com/?q=%C3%A9", "https://api.example.com/?q=%c3%a9"),
    ("https://api.example.com/v1", "https://%41pi.example.com/./x/../%761"),
    ("https://api.example.com/v1/", "https://api.example.com/v1/x/.."),
    ("https://api.example.com/v1/", "https://api.example.com/v1/."),
    ("https://api.example.com/", "https://api.example.com/../.."),
    ("https://[2001:DB8::1]", "https://[2001:db8::1]:443/"),
    ("https://u%7E@api.example.com", "https://u~@API.example.com/"),
    ("urn:example:api", "URN:example:%61pi"),
    ("api:/a", "api:/b/../a"),
    ("api://Example", "api://example/"),
]
OTHER = [
    ("https://api.example.com", "http://api.example.com"),
    ("https://api.example.com", "https://api.example.com:8443"),
    ("https://api.example.com:80", "https://api.example.com"),
    ("https://api.example.com/v1", "https://api.example.com/v1/"),
    ("https://api.example.com/v1", "https://api.example.com/V1"),
    ("https://api.example.com/a/b", "https://api.example.com/a%2Fb"),
    ("https://api.example.com/", "https://api.example.com/?"),
    ("https://api.example.com", "https://api.example.com.evil.example"),
    ("https://api.example.com", "https://api.example.com@evil.example"),
    ("https://api.example.com", "https://Ada@api.example.com"),
    ("https://Ada@api.example.com", "https://ada@api.example.com"),
    ("https://api.example.com", "https://api.example.com%00"),
    ("https://api.example.com/%2541", "https://api.example.com/A"),
    ("https://api.example.com/a//b", "https://api.example.com/a/b"),
    ("https://[::1]", "https://[::1"),
    ("https://::", "https://:"),
    ("https://a:x", "https://a"),
    ("https://[::1]:x", "https://[::1]"),
    ("api:/..//host/", "api://host/"),
    ("urn:example:api", "urn:example:API"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_RES_02_equivalent_spellings_of_a_uri_normalise_alike(one: str, other: str) -> None:
    assert normalized(one) == normalized(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_RES_02_different_uris_normalise_differently(one: str, other: str) -> None:
    assert normalized(one) != normalized(other)


@settings(max_examples=500)
@example("::")
@example("[::]::1")
@given(st.text("aA:/?%[]@.~-_41fF2\0é"))
def test_normalising_twice_is_normalising_once_and_nothing_crashes(text: str) -> None:
    normalized(text)
    uri = "https://" + text
    once = normalized(uri)
    if not re.search("%(?![0-9A-Fa-f]{2})", text):  # else it is no URI (RFC 3986 §2.1)
        assert normalized(once) == once


@given(st.text("abc~-._AZ09", min_size=1))
def test_encoding_unreserved_characters_changes_nothing(text: str) -> None:
    encoded = "".join(f"%{ord(each):02x}" for each in text)
    assert normalized(f"https://h/{encoded}") == normalized(f"https://h/{quote(text)}")


@pytest.mark.parametrize("part", ["@", ":", "/..", "%41", "[", "?", "a"])
def test_a_long_uri_is_normalised_too(part: str) -> None:
    # In time in proportion: a pattern that went back and forth would not end here.
    assert normalized("https://" + part * 60_000 + ":x").startswith("https:")
