"""From an API's address, or its challenge, to the issuer and its endpoints (RFC 9728, RFC 8414)."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from bearerguard import ConfigurationError
from bearerguard.client import (
    BearerAuth,
    ClientCredentials,
    Discovered,
    TokenManager,
    adiscover,
    discover,
)
from bearerguard.errors import DiscoveryError, TokenUnavailable
from bearerguard.transports.http import HttpTransport
from tests.client.callers import caller
from tests.client.scripted_server import METADATA, RESOURCE

WAYS = ["sync", "asyncio", "trio"]


def found(way, *arguments):
    if way == "sync":
        return discover(*arguments)
    return anyio.run(partial(adiscover, *arguments), backend=way)


@pytest.fixture
def api(server, other):
    """An API whose tokens come from another origin."""
    other.about = {
        "resource": f"{other.url}/api",
        "authorization_servers": [server.url, "https://second.example"],
        "scopes_supported": ["read", "write"],
    }
    other.answers["/meta"] = lambda _: (200, [], other.about)
    other.challenge = f'Bearer resource_metadata="{other.url}/meta"'
    other.answers["/api"] = lambda _: (401, [("WWW-Authenticate", other.challenge)], b"")
    return other


@pytest.mark.parametrize("way", WAYS)
def test_an_api_is_asked_and_its_challenge_leads_to_the_issuers_endpoints(server, api, way):
    assert found(way, f"{api.url}/api") == Discovered(
        resource=f"{api.url}/api",
        issuer=server.url,
        issuers=(server.url, "https://second.example"),
        scopes=("read", "write"),
        metadata=server.metadata,
    )
    assert all("authorization" not in each.headers for each in (*api.asked, *server.asked))


@pytest.mark.parametrize("way", WAYS)
def test_a_challenge_that_was_received_is_not_requested_again(api, way):
    lines = ["Basic realm=x", f'{api.challenge}, scope="admin read"']
    assert found(way, f"{api.url}/api/v1", lines).scopes == ("admin", "read")
    assert not api.at("/api")


@pytest.mark.parametrize("place", [f"{RESOURCE}/api", RESOURCE])
def test_an_api_whose_challenge_leads_nowhere_is_found_at_the_well_known_places(api, place):
    api.challenge = "Bearer realm=x"
    api.answers[place] = api.answers["/meta"]
    assert discover(f"{api.url}/api").resource == f"{api.url}/api"


def test_an_api_that_challenges_nobody_is_found_at_the_well_known_places(api):
    api.answers["/api"] = lambda _: (200, [("WWW-Authenticate", api.challenge)], b"")
    api.answers[METADATA] = lambda _: (404, [], b"")
    with pytest.raises(DiscoveryError, match=r"no metadata was found.*404"):
        discover(f"{api.url}/api")
    api.answers[RESOURCE] = api.answers["/meta"]
    assert discover(f"{api.url}/api").issuer


def test_what_is_discovered_is_enough_to_call_the_api(server, api):
    known = discover(f"{api.url}/api")
    source = ClientCredentials(
        known.issuer,
        client_id="c",
        client_secret="s",
        resources=known.resource,
        scopes=known.scopes,
    )
    api.answers["/api"] = lambda asked: (200, [], asked.token.encode())
    with caller("httpx2", TokenManager(source)) as call:
        assert call("GET", f"{api.url}/api").text == "t1"
    assert server.at("/token")[0].form["resource"] == f"{api.url}/api"
    assert BearerAuth(TokenManager(source))


@pytest.mark.parametrize(
    "resource",
    ["{other}", "{url}/apix", "{url}/api/v2", "https://evil.example/api", "http://[", "", None, 7],
)
def test_CL_07_metadata_of_another_api_is_refused(server, api, resource):
    if isinstance(resource, str):
        resource = resource.format(other=server.url, url=api.url)
    api.about["resource"] = resource
    with pytest.raises(DiscoveryError, match="resource is another"):
        discover(f"{api.url}/api")


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        ([], "names no authorization server"),
        (None, "names no authorization server"),
        (7, "names no authorization server"),
        ([7], "names no authorization server"),
        (["http://id.example"], "no https URL"),
        (["file:///etc/passwd"], "no https URL"),
    ],
)
def test_CL_07_an_issuer_must_be_named_and_safe(api, servers, said):
    api.about["authorization_servers"] = servers
    with pytest.raises(DiscoveryError, match=said):
        discover(f"{api.url}/api")


def test_CL_07_metadata_with_another_issuer_is_refused(server, api):
    server.metadata["issuer"] = "https://id.example"
    with pytest.raises(DiscoveryError, match=r"its issuer is .https://id.example., not "):
        discover(f"{api.url}/api")


@pytest.mark.parametrize("place", ["http://api.example/meta", "ftp://h/", "meta"])
def test_CL_07_a_challenge_leads_to_no_unsafe_place(api, place):
    with pytest.raises(DiscoveryError, match=r"resource_metadata.*no https URL"):
        discover(f"{api.url}/api", [f'Bearer resource_metadata="{place}"'])


def test_CL_07_an_api_by_https_leads_to_no_place_on_this_machine(api):
    with pytest.raises(DiscoveryError, match="no https URL"):
        discover("https://api.example.com", [api.challenge])


@pytest.mark.parametrize("url", ["http://api.example.com", "api", "", None])
def test_CL_07_an_api_by_plain_http_is_not_asked(url):
    with pytest.raises(ConfigurationError, match="url"):
        discover(url)


@pytest.mark.parametrize("status", [429, 500])
def test_an_api_in_trouble_may_be_asked_later(api, status):
    api.answers["/meta"] = lambda _: (status, [("Retry-After", "7")], b"")
    with pytest.raises(TokenUnavailable) as error:
        discover(f"{api.url}/api", transport=HttpTransport())
    assert error.value.retry_after == 7


def test_an_api_that_does_not_answer_may_be_asked_later():
    with pytest.raises(TokenUnavailable):
        discover("http://127.0.0.1:9/api")
