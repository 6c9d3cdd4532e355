"""Resources: another spelling of a registered URI is that URI (RES-02, RFC 3986 §6.2)."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import ConfigurationError
from bearerguard.server import Resource
from tests.server.stage import Answer, Make, Stage, claims

OTHERS = [
    ("https://api.example.com", "https://api.example.com/"),
    ("https://api.example.com/", "https://api.example.com"),
    ("https://api.example.com", "HTTPS://API.EXAMPLE.COM:443"),
    ("https://api.example.com/v1~x", "https://api.example.com/v1%7ex"),
    ("urn:example:api", "URN:example:api"),
]
FURTHER = "https://further.example.com"


def own(stage: Stage, **fields: Any) -> Answer:
    return stage.token(grant_type="client_credentials", **fields)


def audience(answer: Any) -> Any:
    return claims(answer["access_token"])["aud"]


@pytest.mark.parametrize(("registered", "sent"), OTHERS)
def test_RES_02_the_token_has_the_registered_spelling_wherever_another_one_is_sent(
    make: Make, registered: str, sent: str
) -> None:
    stage = make(resources=[FURTHER, registered])
    assert audience(own(stage, resource=sent).json) == registered
    code = stage.code(resource=sent)
    tokens = stage.redeem(code, resource=sent).json
    assert audience(tokens) == registered
    refreshed = stage.refresh(tokens["refresh_token"], resource=sent).json
    assert audience(refreshed) == registered
    assert audience(stage.tokens(resource=registered)) == registered
    # People are asked about the API as it is registered.
    page = stage.authorize(stage.phone, resource=sent).response.body.decode()
    assert registered in page.replace("&amp;", "&")
    api = stage.add("API", serves=[sent], redirect_uris=[])
    assert api.client.serves == (registered,)
    assert stage.introspect(refreshed["access_token"], api)["active"] is True


def test_RES_02_two_spellings_are_one_resource(stage: Stage) -> None:
    pairs = [
        *stage.credentials().items(),
        ("grant_type", "client_credentials"),
        ("resource", "https://api.example.com/"),
        ("resource", "https://api.example.com"),
    ]
    assert audience(stage.post("/oauth/token", pairs).json) == "https://api.example.com"


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
def test_RES_01_another_uri_is_refused_and_named(stage: Stage, sent: str) -> None:
    answer = own(stage, resource=sent)
    assert answer.error == (400, "invalid_target")
    assert sent in answer.json["error_description"]
    (refused,) = stage.named("request_refused")
    assert refused.details["resource"] == sent


@pytest.mark.parametrize(("registered", "other"), OTHERS)
def test_RES_02_resources_that_are_one_uri_are_refused_at_the_start(
    stage: Stage, registered: str, other: str
) -> None:
    for pair in ([registered, other], [Resource(other), Resource(registered, tokens="opaque")]):
        with pytest.raises(ConfigurationError, match=r"resources=.*twice"):
            stage.another(resources=pair)


def test_RES_02_a_grant_survives_another_spelling_in_the_configuration(make: Make) -> None:
    stage = make(resources=["https://a.example.com"])
    token = stage.tokens()["refresh_token"]
    stage.server = stage.another(resources=["https://A.example.com/"], people=stage.people)
    refreshed = stage.refresh(token, resource="https://a.example.com").json
    assert audience(refreshed) == "https://A.example.com/"


def test_a_grant_for_a_resource_that_is_gone_is_refused_and_the_resource_named(make: Make) -> None:
    stage = make(resources=["https://a.example.com"])
    token = stage.tokens()["refresh_token"]
    stage.server = stage.another(resources=["https://b.example.com"], on_event=stage.events.append)
    assert stage.refresh(token).error == (400, "invalid_target")
    details = stage.named("request_refused")[-1].details
    assert (details["reason"], details["resource"]) == ("resource_gone", "https://a.example.com")
