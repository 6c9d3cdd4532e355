"""Authorization server metadata: its places, its issuer, the URLs in it."""

from __future__ import annotations

import json

import pytest

from bearerguard.protocol import metadata


def test_META_01_the_well_known_part_goes_after_the_host_or_at_the_end() -> None:
    assert metadata.metadata_urls("https://id.test/tenant/") == (
        "https://id.test/.well-known/oauth-authorization-server/tenant",
        "https://id.test/tenant/.well-known/openid-configuration",
        "https://id.test/.well-known/openid-configuration/tenant",
    )
    assert metadata.metadata_urls("https://id.test") == (
        "https://id.test/.well-known/oauth-authorization-server",
        "https://id.test/.well-known/openid-configuration",
    )


def test_the_issuer_must_be_identical() -> None:
    body = json.dumps({"issuer": "https://id.test", "jwks_uri": "https://id.test/k"}).encode()
    assert metadata.parse(body, "https://id.test")["jwks_uri"] == "https://id.test/k"
    with pytest.raises(ValueError, match=r"https://id.test.*, which differs only by the final /"):
        metadata.parse(body, "https://id.test/")
    with pytest.raises(ValueError, match="not a JSON object"):
        metadata.parse(b"[]", "i")


def test_a_missing_endpoint_names_the_option_to_pass_instead() -> None:
    assert metadata.endpoint({"jwks_uri": "https://id.test/k"}, "jwks_uri", "jwks_uri=")
    with pytest.raises(ValueError, match="it has no jwks_uri: pass jwks_uri="):
        metadata.endpoint({}, "jwks_uri", "jwks_uri=")


@pytest.mark.parametrize(
    ("url", "https", "http", "loopback"),
    [
        ("https://id.test/jwks", True, False, False),
        ("http://id.test", False, True, False),
        ("http://127.0.0.1:8080/x", False, True, True),
        ("http://127.9.9.9", False, True, True),
        ("http://[::1]:1", False, True, True),
        ("http://localhost", False, True, True),
        ("http://LOCALHOST", False, True, True),
        ("http://[::ffff:127.0.0.1]", False, True, True),
        ("http://[::ffff:192.0.2.1]", False, True, False),
        ("http://127.1", False, True, False),
        ("http://0.0.0.0", False, True, False),
        ("http://localhost.evil.test", False, True, False),
        ("http://localhost:80@evil.test", False, False, False),
        ("https://user@id.test", False, False, False),
        ("https://id.test/#x", False, False, False),
        ("https://id.test:99999", False, False, False),
        ("https://", False, False, False),
        ("https://id .test", False, False, False),
        ("https://id.tést", False, False, False),
        ("file:///etc/passwd", False, False, False),
        ("https://[::1", False, False, False),
    ],
)
def test_urls_are_classified(url: str, https: bool, http: bool, loopback: bool) -> None:
    assert metadata.is_https(url) is https
    assert metadata.is_http(url) is http
    assert metadata.is_loopback_http(url) is loopback


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1:6379", True),
        ("127.9.9.9", True),
        ("127.1", True),
        ("2130706433", True),
        ("0x7f.0.0.1", True),
        ("0.0.0.0", True),
        ("[::]", True),
        ("[::1]", True),
        ("[::ffff:7f00:1]", True),
        ("LocalHost", True),
        ("localhost.", True),
        ("api.localhost", True),
        ("id.test", False),
        ("127.0.0.1.evil.test", False),
        ("192.0.2.1", False),
        ("[2001:db8::1]", False),
        ("notlocalhost", False),
    ],
)
def test_only_an_issuer_on_this_machine_may_name_an_endpoint_on_it(host: str, here: bool) -> None:
    assert metadata.leads_here(f"https://{host}/token", "https://id.test") is here
    assert metadata.leads_here(f"https://{host}/token", "http://127.0.0.1:8000") is False
