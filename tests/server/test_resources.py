"""Resources: another spelling of a registered URI is that URI (RES-02, RFC 3986 §6.2)."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import ConfigurationError
from bearerguard.server import Resource
from tests.server.harness import Harness, Make, Reply, claims

OTHERS = [
    ("https://api.example.com", "https://api.example.com/"),
    ("https://api.example.com/", "https://api.example.com"),
    ("https://api.example.com", "HTTPS://API.EXAMPLE.COM:443"),
    ("https://api.example.com/v1~x", "https://api.example.com/v1%7ex"),
    ("urn:example:api", "URN:example:api"),
]
FURTHER = "https://further.example.com"


def own(harness: Harness, **fields: Any) -> Reply:
    return harness.token(grant_type="client_credentials", **fields)


def audience(response: Any) -> Any:
    return claims(response["access_token"])["aud"]


@pytest.mark.parametrize(("registered", "sent"), OTHERS)
def test_RES_02_the_token_has_the_registered_spelling_wherever_another_one_is_sent(
    make: Make, registered: str, sent: str
) -> None:
    harness = make(resources=[FURTHER, registered])
    assert audience(own(harness, resource=sent).json) == registered
    code = harness.code(resource=sent)
    tokens = harness.redeem(code, resource=sent).json
    assert audience(tokens) == registered
    refreshed = harness.refresh(tokens["refresh_token"], resource=sent).json
    assert audience(refreshed) == registered
    assert audience(harness.tokens(resource=registered)) == registered
    # People are asked about the API as it is registered.
    page = harness.authorize(harness.phone, resource=sent).response.body.decode()
    assert registered in page.replace("&amp;", "&")
    api = harness.add("API", introspects=[sent], redirect_uris=[])
    assert api.client.introspects == (registered,)
    assert harness.introspect(refreshed["access_token"], api)["active"] is True


def test_RES_02_two_spellings_are_one_resource(harness: Harness) -> None:
    pairs = [
        *harness.credentials().items(),
        ("grant_type", "client_credentials"),
        ("resource", "https://api.example.com/"),
        ("resource", "https://api.example.com"),
    ]
    assert audience(harness.post("/oauth/token", pairs).json) == "https://api.example.com"


@pytest.mark.parametrize(
    "sent",
    [
        "https://api.example.com/v1",
        "https://api.example.com//",
        "https://api.example.com?",
        "http://api.example.com",
        "https://api.example.com:8443",
        "https://x@api.example.com",
    ],
)
def test_RES_01_another_uri_is_refused_and_named(harness: Harness, sent: str) -> None:
    response = own(harness, resource=sent)
    assert response.error == (400, "invalid_target")
    assert sent in response.json["error_description"]
    (refused,) = harness.named("request_refused")
    assert refused.details["resource"] == sent


@pytest.mark.parametrize(("registered", "other"), OTHERS)
def test_RES_02_resources_that_are_one_uri_are_refused_at_the_start(
    harness: Harness, registered: str, other: str
) -> None:
    for pair in ([registered, other], [Resource(other), Resource(registered, tokens="opaque")]):
        with pytest.raises(ConfigurationError, match=r"resources=.*twice"):
            harness.another(resources=pair)


def test_RES_02_a_grant_survives_another_spelling_in_the_configuration(make: Make) -> None:
    harness = make(resources=["https://a.example.com"])
    token = harness.tokens()["refresh_token"]
    harness.server = harness.another(resources=["https://A.example.com/"], people=harness.people)
    refreshed = harness.refresh(token, resource="https://a.example.com").json
    assert audience(refreshed) == "https://A.example.com/"


def test_a_grant_for_a_resource_that_is_gone_is_refused_and_the_resource_named(make: Make) -> None:
    harness = make(resources=["https://a.example.com"])
    token = harness.tokens()["refresh_token"]
    harness.server = harness.another(
        resources=["https://b.example.com"], on_event=harness.events.append
    )
    assert harness.refresh(token).error == (400, "invalid_target")
    details = harness.named("request_refused")[-1].details
    assert (details["reason"], details["resource"]) == ("resource_gone", "https://a.example.com")
