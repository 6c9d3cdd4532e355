"""What an API publishes about itself: `Guard(resource=...)` (RFC 9728), and what is derived."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bearerguard import ConfigurationError, Guard, Issuer, ProtectedResource, Request, scopes
from bearerguard.guard.resource_metadata import PublishedResource
from bearerguard.protocol.resource_metadata import PATH

ID = "https://id.example.com"
API = "https://api.example.com/mcp"


def issuer(audience: Any = API, url: str = ID, **options: Any) -> Issuer:
    return Issuer(url, audience=audience, **options)


def no_header(_name: str) -> None:
    return None


def published(guard: Guard) -> dict[str, Any]:
    assert guard.published is not None
    response = guard.published.respond("GET", no_header)
    found: dict[str, Any] = json.loads(response.body)
    return found


def challenge(guard: Guard) -> str:
    decision: Any = guard.run(guard.authenticate(Request()))
    text: str = decision.challenges[0].build()
    return text


def test_PRM_02_the_resource_is_identical_and_empty_members_are_left_out() -> None:
    assert published(Guard(issuer("other"), resource="https://API.example.com:443/mcp/")) == {
        "resource": "https://API.example.com:443/mcp/",
        "authorization_servers": [ID],
        "bearer_methods_supported": ["header"],
    }


def test_PRM_02_a_described_resource_is_published_whole() -> None:
    resource = ProtectedResource(
        API,
        scopes=["read", "offline_access"],
        name="Recordings",
        documentation="https://api.example.com/docs",
        policy="https://api.example.com/policy",
        terms="https://api.example.com/terms",
        authorization_servers=["https://login.example.com"],
        members={
            "resource_name#de": "Aufnahmen",
            "dpop_bound_access_tokens_required": False,
            "tls_client_certificate_bound_access_tokens": True,
            "authorization_details_types_supported": [],
        },
    )
    assert published(Guard(issuer(), resource=resource)) == {
        "resource": API,
        "authorization_servers": ["https://login.example.com"],
        "scopes_supported": ["read"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Recordings",
        "resource_documentation": "https://api.example.com/docs",
        "resource_policy_uri": "https://api.example.com/policy",
        "resource_tos_uri": "https://api.example.com/terms",
        "resource_name#de": "Aufnahmen",
        "tls_client_certificate_bound_access_tokens": True,
    }


@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        (API, API),
        ([API], API),
        ("https://api.example.com", "https://api.example.com"),
        ("http://127.0.0.1:8000/mcp", "http://127.0.0.1:8000/mcp"),
        ("http://api.example.com", None),
        ([API, "other"], None),
        ("recordings", None),
        ("api://recordings", None),
        ("urn:example:api", None),
        ("https://", None),
        ("https://api.example.com/#fragment", None),
        ("https://api.example.com:port", None),
        ("https://user@api.example.com", None),
        ('https://api.example.com/"', None),
    ],
)
def test_the_audience_is_the_resource_if_it_is_one_url(audience: Any, expected: Any) -> None:
    guard = Guard(issuer(audience))
    assert (guard.resource and guard.resource.url) == expected
    assert (guard.published is None) is (expected is None)
    assert ("resource_metadata" in challenge(guard)) is (expected is not None)


def test_several_issuers_have_one_resource_if_their_audience_is_one() -> None:
    second = "https://second.example.com"
    assert published(Guard(issuer(), issuer(url=second)))["authorization_servers"] == [ID, second]
    assert Guard(issuer(), issuer(f"{API}/2", second)).published is None


def test_plain_http_is_for_issuers_that_allow_it() -> None:
    guard = Guard(issuer("http://api", "http://id", insecure_allow_http=True))
    assert published(guard)["resource"] == "http://api"


def test_tenants_are_not_named() -> None:
    tenants = issuer(url="https://id.example.com/{tenant}", tenants=["a", "b"])
    assert Guard(tenants).published is None
    assert published(Guard(tenants, issuer()))["authorization_servers"] == [ID]
    resource = ProtectedResource(API, authorization_servers=["https://id.example.com/common"])
    assert published(Guard(tenants, resource=resource))["authorization_servers"] == [
        "https://id.example.com/common"
    ]
    with pytest.raises(ConfigurationError, match=r"resource=: none of the issuers .*servers="):
        Guard(tenants, resource=API)


def test_no_metadata_if_that_is_asked_for() -> None:
    guard = Guard(issuer(), resource=False)
    assert (guard.resource, guard.published) == (None, None)
    assert challenge(guard) == 'Bearer realm="api"'


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("https://h", f"https://h{PATH}"),
        ("https://h/", f"https://h{PATH}"),
        ("https://h:8443/api", f"https://h:8443{PATH}/api"),
        ("https://h/api/", f"https://h{PATH}/api/"),
        ("https://h/api?tenant=1", f"https://h{PATH}/api?tenant=1"),
        ("https://h?tenant=1", f"https://h{PATH}?tenant=1"),
    ],
)
def test_PRM_01_the_challenge_names_the_well_known_url(resource: str, expected: str) -> None:
    guard = Guard(issuer(), resource=resource, realm="mcp", require=scopes("read"))
    assert challenge(guard) == f'Bearer realm="mcp", scope="read", resource_metadata="{expected}"'


def test_PRM_04_offline_access_is_never_asked_for() -> None:
    guard = Guard(issuer(), require=scopes("offline_access", "read"))
    assert published(guard)["scopes_supported"] == ["read"]
    assert 'scope="read"' in challenge(guard)
    guard = Guard(issuer(), require=scopes("offline_access"))
    assert "scopes_supported" not in published(guard)
    assert "scope=" not in challenge(guard)


@pytest.mark.parametrize(
    ("path", "root", "found"),
    [
        (PATH, "", True),
        (f"{PATH}/", "", True),
        (f"{PATH}/v1/müsik", "", True),
        (f"{PATH}/v1/müsik/", "", True),
        (f"{PATH}/müsik", "/v1", True),
        (f"{PATH}/v1/müsik", "/v1", True),
        (PATH, "/v1", True),
        (f"{PATH}/müsik", "", False),
        (f"{PATH}/v1", "", False),
        (f"{PATH}/v1/müsik/more", "", False),
        (f"{PATH}x", "", False),
        (f"/v1{PATH}", "", False),
        ("/v1/müsik", "", False),
    ],
)
def test_PRM_04_the_places_of_a_document(path: str, root: str, found: bool) -> None:
    resource = ProtectedResource("https://h/v1/m%C3%BCsik")
    assert PublishedResource(resource, [issuer()], None).is_at(path, root) is found


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Guard(issuer(), resource="api.example.com"), "resource=: 'api.example.com' is no"),
        (lambda: Guard(issuer(), resource=""), "resource=: '' is no URL"),
        (lambda: Guard(issuer(), resource="https://h/#a"), "resource=: 'https://h/#a' has a frag"),
        (lambda: Guard(issuer(), resource=f"https://h{PATH}"), "is where its metadata is"),
        (lambda: Guard(issuer(), resource="https://u:secret@h"), "remove the user and the passw"),
        (lambda: Guard(issuer(), resource="http://h"), "resource=: 'http://h' is no https URL"),
        (lambda: Guard(issuer(), resource=True), "resource=: pass the API's URL, such as"),  # type: ignore[arg-type]
        (lambda: Guard(issuer(), resource=7), "resource=: pass the API's URL, such as"),  # type: ignore[arg-type]
        (lambda: ProtectedResource(7), "resource=: pass the API's URL, not int"),  # type: ignore[arg-type]
        (lambda: ProtectedResource(API, scopes="read"), "(scopes=): pass a list of text"),
        (lambda: ProtectedResource(API, scopes=["a b"]), "(scopes=): 'a b' is no scope"),
        (
            lambda: ProtectedResource(API, authorization_servers=["id"]),
            "(authorization_servers=): 'id' is no issuer",
        ),
        (
            lambda: ProtectedResource(
                API, authorization_servers=[f"{ID}/.well-known/openid-configuration"]
            ),
            "is no issuer",
        ),
        (lambda: ProtectedResource(API, name=""), "(name=): pass a name for people"),
        (lambda: ProtectedResource(API, documentation="docs"), "(documentation=): 'docs' is no"),
        (lambda: ProtectedResource(API, terms="https://h:p/"), "(terms=): 'https://h:p/' is no"),
        (lambda: ProtectedResource(API, members=[]), "(members=): pass a dict"),  # type: ignore[arg-type]
        (lambda: ProtectedResource(API, members={"a": object()}), "(members=): no JSON"),
        (
            lambda: ProtectedResource(API, members={"resource": "https://other"}),
            "(members=): resource has an argument of its own",
        ),
    ],
)
def test_a_resource_that_clients_could_not_use_is_refused_at_start(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        make()
    assert message in str(refused.value)
    assert "secret" not in str(refused.value)


BASE = {"BEARERGUARD_ISSUER": ID, "BEARERGUARD_AUDIENCE": "recordings"}


def test_a_guard_of_the_environment_describes_its_api() -> None:
    guard = Guard.from_env(
        {
            **BASE,
            "BEARERGUARD_RESOURCE": API,
            "BEARERGUARD_RESOURCE_SCOPES": "read, write",
            "BEARERGUARD_RESOURCE_NAME": "Recordings",
            "BEARERGUARD_RESOURCE_DOCUMENTATION": "https://api.example.com/docs",
            "BEARERGUARD_RESOURCE_AUTHORIZATION_SERVERS": "https://login.example.com",
            "BEARERGUARD_IMPLIES": '{"admin": ["read", "write"]}',
        }
    )
    assert published(guard) == {
        "resource": API,
        "authorization_servers": ["https://login.example.com"],
        "scopes_supported": ["read", "write"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Recordings",
        "resource_documentation": "https://api.example.com/docs",
    }
    assert guard.implies == {"admin": ["read", "write"]}


def test_a_mapping_has_the_hierarchy_as_a_dict() -> None:
    guard = Guard.from_mapping({**BASE, "BEARERGUARD_IMPLIES": {"admin": "read"}})
    assert guard.implies == {"admin": "read"}


def test_the_environment_turns_the_metadata_off() -> None:
    values = {**BASE, "BEARERGUARD_AUDIENCE": API}
    assert Guard.from_env(values).published is not None
    assert Guard.from_env({**values, "BEARERGUARD_RESOURCE": "None"}).published is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"BEARERGUARD_RESOURCE": "api"}, "BEARERGUARD_RESOURCE: 'api' is no URL"),
        ({"BEARERGUARD_RESOURCE": "http://api"}, "BEARERGUARD_RESOURCE: 'http://api' is no https"),
        ({"BEARERGUARD_RESOURCE_NAME": "x"}, "BEARERGUARD_RESOURCE is not set: give this API's"),
        (
            {"BEARERGUARD_RESOURCE": "none", "BEARERGUARD_RESOURCE_NAME": "x"},
            "BEARERGUARD_RESOURCE: none means no metadata",
        ),
        (
            {"BEARERGUARD_RESOURCE": API, "BEARERGUARD_RESOURCE_SCOPES": "a b"},
            "BEARERGUARD_RESOURCE_SCOPES: 'a b' is no scope",
        ),
        ({"BEARERGUARD_IMPLIES": "admin"}, "BEARERGUARD_IMPLIES: give a JSON object"),
        ({"BEARERGUARD_IMPLIES": "[]"}, "BEARERGUARD_IMPLIES: give a JSON object"),
        ({"BEARERGUARD_IMPLIES": '{"a": "a"}'}, "BEARERGUARD_IMPLIES: a scope implies itself"),
    ],
)
def test_a_malformed_variable_is_named(values: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Guard.from_env({**BASE, **values})
    assert str(refused.value).startswith(message)
