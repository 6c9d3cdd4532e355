"""Which clients may ask for device codes: those of operators, of requests and of documents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from bearerguard import ConfigurationError, FetchFailed
from bearerguard.cli import app
from bearerguard.protocol import names
from bearerguard.server import ClientMetadataDocuments, Registration
from tests.server.harness import SECRET, Harness, Make
from tests.server.stores import Store
from tests.server.test_device_code import ASK, Person, Screen, text
from tests.server.test_metadata_documents import HOST, URL, Agent
from tests.server.test_registration import Site

GRANTS = [names.DEVICE_CODE, "refresh_token"]
# What a television sends that registers itself.
TELEVISION: dict[str, Any] = {
    "redirect_uris": None,
    "grant_types": GRANTS,
    "response_types": [],
    "client_name": "Television",
    "token_endpoint_auth_method": "none",
}


@pytest.fixture
def site(make: Make) -> Site:
    return Site(make)


@pytest.fixture
def agent(make: Make) -> Agent:
    made = Agent(make)
    made.web.publish(redirect_uris=None, grant_types=GRANTS, response_types=[])
    return made


@pytest.mark.parametrize("left_out", [[], ["redirect_uris"], ["redirect_uris", "response_types"]])
def test_DEV_01_DCR_01_a_device_registers_without_a_redirect_uri(
    site: Site, left_out: list[str]
) -> None:
    content = {name: value for name, value in TELEVISION.items() if name not in left_out}
    reply = site.register(content)
    assert reply.status == 201, reply.json
    assert (reply.json["redirect_uris"], reply.json["response_types"]) == ([], [])
    assert reply.json["grant_types"] == GRANTS[::-1]
    harness = site.harness
    assert harness.post(ASK, {"client_id": reply.json["client_id"]}).status == 200


def test_DEV_01_DCR_01_a_device_without_a_name_gets_one(site: Site) -> None:
    reply = site.register({**TELEVISION, "client_name": ""})
    assert reply.json["client_name"] == "Device"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"response_types": ["token"]}, "unsupported_response_type"),
        ({"grant_types": ["refresh_token"]}, "unsupported_grant_type"),
        ({"grant_types": [*GRANTS, "authorization_code"]}, "unsupported_response_type"),
        (
            {"grant_types": [*GRANTS, "authorization_code"], "response_types": None},
            "missing_redirect_uris",
        ),
        ({"redirect_uris": ["http://app.example.com/cb"]}, "unfit_redirect_uri"),
    ],
)
def test_DEV_01_DCR_01_what_does_not_fit_is_refused(
    site: Site, wrong: dict[str, Any], reason: str
) -> None:
    assert site.register({**TELEVISION, **wrong}).status == 400
    assert site.reason == reason


def test_DEV_01_DCR_01_a_client_that_does_not_name_the_grant_does_not_have_it(site: Site) -> None:
    client = site.registered()
    refused = site.harness.post(ASK, {"client_id": client.client_id})
    assert refused.error == (400, "unauthorized_client")


@pytest.mark.both_engines
def test_DEV_01_CIMD_01_a_device_with_a_document_gets_tokens(agent: Agent) -> None:
    harness = agent.harness
    asked = harness.post(ASK, {"client_id": URL})
    assert asked.status == 200
    assert harness.store.count("clients", f"client_id = '{URL}'") == 0  # nobody allowed it yet
    page = Person(harness).enter(asked.json["user_code"])
    assert f"<strong>{HOST}</strong>" in text(page)
    Person(harness).decide(asked.json["user_code"])
    device = {"grant_type": names.DEVICE_CODE, "device_code": asked.json["device_code"]}
    issued = agent.token(**device)
    assert issued.status == 200
    assert harness.server.introspect(issued.json["access_token"])["client_id"] == URL


def test_DEV_01_CIMD_01_a_document_that_cannot_be_had_any_more_is_a_page(agent: Agent) -> None:
    harness = agent.harness
    user_code = harness.post(ASK, {"client_id": URL}).json["user_code"]
    harness.server.close()
    harness.server = harness.another(  # one that has not fetched it yet
        people=harness.people, client_metadata=ClientMetadataDocuments(transport=agent.web)
    )
    agent.web.answers[URL] = FetchFailed("slow", kind="timed_out")
    away = Person(harness).enter(user_code)
    assert (away.status, "cannot be reached" in text(away)) == (503, True)
    harness.clock.now += 60
    agent.web.publish(grant_types=["password"])
    unfit = Person(harness).enter(user_code)
    assert (unfit.status, "has not published what it is" in text(unfit)) == (400, True)
    harness.clock.now += 60
    agent.web.publish(redirect_uris=None, grant_types=GRANTS, response_types=[])
    assert Person(harness).enter(user_code).status == 200


def test_DEV_01_CIMD_01_a_client_that_is_being_removed_gets_a_page(agent: Agent) -> None:
    harness = agent.harness
    asked = harness.post(ASK, {"client_id": URL}).json
    person = Person(harness)
    page = person.enter(asked["user_code"])
    harness.store.run(
        "INSERT INTO clients (client_id, name, options, access_lifetime, created_at)"
        f" VALUES ('{URL}', 'x', '{{}}', -1, 1)"
    )
    refused = person.send(page, decision="allow")
    assert (refused.status, refused.header("retry-after")) == (503, "2")
    assert "text/html" in (refused.header("content-type") or "")
    assert harness.named("consent_given") == []


def test_DEV_01_a_public_client_needs_a_redirect_uri_or_the_grant_of_devices(
    harness: Harness,
) -> None:
    add = harness.server.clients.add
    with pytest.raises(ConfigurationError, match="device_code"):
        add("Nothing", public=True)
    client = add("Screen", public=True, grant_types=["device_code"]).client
    assert client.grant_types == (names.DEVICE_CODE,)
    # Anybody can pose as it, so users are asked (RFC 8628 §5.6).
    with pytest.raises(ConfigurationError, match="require_consent"):
        add("Screen", public=True, grant_types=["device_code"], require_consent=False)


def test_DEV_01_the_command_registers_a_device(empty_store: Store) -> None:
    arguments = ("client", "add", "Screen", "--public", "--grant-type", "device_code", "--json")
    done = CliRunner().invoke(
        app,
        [*arguments, "--grant-type", "refresh_token"],
        env={
            "BEARERGUARD_SERVER_STORE": empty_store.url,
            "BEARERGUARD_SERVER_SECRET": SECRET,
        },
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["grant_types"] == GRANTS


def test_DEV_01_a_first_partys_device_is_asked_about_all_the_same(harness: Harness) -> None:
    television = harness.add("Television", grant_types=["device_code"], redirect_uris=[])
    assert not television.client.require_consent
    screen = Screen(harness, television)
    page = Person(harness).enter(screen.user_code)
    assert "Television asks for access" in text(page)


def test_DEV_01_registration_may_be_limited_to_scopes(make: Make) -> None:
    harness = make(registration=Registration(scopes=["read"]))
    site = Site.__new__(Site)
    site.harness = harness
    client = site.register(TELEVISION).json
    asked = harness.post(ASK, {"client_id": client["client_id"], "scope": "read write"}).json
    page = Person(harness).enter(asked["user_code"])
    assert "Read your recordings" in text(page)
    assert "Change your recordings" not in text(page)
