"""Bound tokens at grants that take a token (TX-01, JB-01): nobody exchanges one without its key."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard.protocol import names
from bearerguard.server import Registered, Resource
from tests.server.cross_application import MCP, World
from tests.server.devices import Device
from tests.server.harness import CALLBACK, Make, Reply, claims

DEVICE, THIEF = Device(), Device()
BOUND = {"jkt": DEVICE.thumbprint}
REFUSED = (400, "invalid_request")
GRANTS = ["authorization_code", "client_credentials", "jwt-bearer", "token-exchange"]


@pytest.fixture
def world(make: Make) -> World:
    return World(make)


@pytest.fixture
def app(world: World) -> Registered:
    return world.add("App", grant_types=GRANTS, redirect_uris=[CALLBACK])


def proof(world: World, device: Device = DEVICE) -> str:
    return device.proof(world.harness)


def bound_token(world: World, app: Registered) -> str:
    harness = world.harness
    code = harness.code(app, resource=MCP)
    token: str = harness.redeem(code, app, proof=proof(world)).json["access_token"]
    return token


def cnf(response: Reply) -> Any:
    assert response.status == 200, response.json
    found = claims(response.json["access_token"]).get("cnf")
    assert response.json["token_type"] == ("Bearer" if found is None else "DPoP")
    return found


def test_TX_01_a_bound_token_is_exchanged_with_its_key_and_stays_bound(
    world: World, app: Registered
) -> None:
    token = bound_token(world, app)
    response = world.exchange(token, app, scope="read", proof=proof(world))
    assert cnf(response) == BOUND
    assert response.json["issued_token_type"] == names.TYPE_ACCESS_TOKEN


@pytest.mark.parametrize("tokens", ["jwt", "opaque"])
def test_TX_01_a_stolen_bound_token_is_exchanged_for_nothing(make: Make, tokens: Any) -> None:
    world = World(make, resources=[Resource(MCP, tokens=tokens)])
    app = world.add("App", grant_types=GRANTS, redirect_uris=[CALLBACK])
    api = world.add("API", introspects=[MCP])
    token = bound_token(world, app)
    for client in (app, api):
        with world.nothing_stored():
            assert world.exchange(token, client, resource=MCP).error == REFUSED
        assert world.reason == "subject_token_of_another_key"
        stolen = world.exchange(token, client, resource=MCP, proof=proof(world, THIEF))
        assert (stolen.error, world.reason) == (REFUSED, "subject_token_of_another_key")
    assert world.harness.server.introspect(token)["active"]


def test_TX_01_an_unbound_token_is_exchanged_for_one_that_is_bound(
    world: World, app: Registered
) -> None:
    token = world.harness.tokens(app, resource=MCP)["access_token"]
    assert cnf(world.exchange(token, app, proof=proof(world))) == BOUND
    assert cnf(world.exchange(token, app)) is None


def test_TX_01_a_bound_actor_token_needs_its_key_too(world: World, app: Registered) -> None:
    harness = world.harness
    asked = {"grant_type": "client_credentials", "resource": MCP}
    actor = harness.token(app, proof(world), **asked).json["access_token"]
    subject = harness.tokens(app, resource=MCP)["access_token"]
    given = {"actor_token": actor, "actor_token_type": names.TYPE_ACCESS_TOKEN}
    for stolen in (None, proof(world, THIEF)):
        assert world.exchange(subject, app, proof=stolen, **given).error == REFUSED
        assert world.reason == "actor_token_of_another_key"
    assert cnf(world.exchange(subject, app, proof=proof(world), **given)) == BOUND


CONFIRMATIONS: list[Any] = [
    {"jkt": THIEF.thumbprint},
    {"x5t#S256": "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"},
    {**BOUND, "x5t#S256": "A4DtL2JmUMhAsvJj5tKyn64SqzmuXbMrJa0n761y5v0"},
    {"jwk": DEVICE.jwk},
    {"jkt": [DEVICE.thumbprint]},
    {},
    "jkt",
    [],
    DEVICE.thumbprint,
    0,
]
# The keys, and so the names of these tests, would differ between the processes that run them.
NUMBERS = [str(number) for number in range(len(CONFIRMATIONS))]


@pytest.mark.parametrize("confirmation", CONFIRMATIONS, ids=NUMBERS)
def test_TX_01_a_trusted_issuers_token_needs_every_key_that_it_names(
    world: World, app: Registered, confirmation: Any
) -> None:
    fields = {"subject_token_type": names.TYPE_JWT, "resource": MCP, "proof": proof(world)}
    refused = world.exchange(world.assertion(cnf=confirmation), app, **fields)
    assert (refused.error, world.reason) == (REFUSED, "subject_token_of_another_key")
    fields["proof"] = proof(world)
    assert cnf(world.exchange(world.assertion(cnf=BOUND), app, **fields)) == BOUND


@pytest.mark.parametrize("confirmation", CONFIRMATIONS, ids=NUMBERS)
def test_JB_01_an_assertion_that_names_a_key_needs_it(world: World, confirmation: Any) -> None:
    make = world.id_jag
    with world.nothing_stored():
        refused = world.present(make(cnf=confirmation))
        assert refused.error == (400, "invalid_grant")
        assert world.reason == "assertion_of_another_key"
    refused = world.present(make(cnf=confirmation), proof=proof(world))
    assert (refused.error, world.reason) == ((400, "invalid_grant"), "assertion_of_another_key")
    assert cnf(world.present(make(cnf=BOUND), proof=proof(world))) == BOUND
    assert cnf(world.present(make(), proof=proof(world))) == BOUND
    assert cnf(world.present(make())) is None


def test_JB_01_an_assertion_survives_an_attempt_without_its_key(world: World) -> None:
    assertion = world.id_jag(cnf=BOUND)
    assert world.present(assertion, proof=proof(world, THIEF)).error == (400, "invalid_grant")
    assert cnf(world.present(assertion, proof=proof(world))) == BOUND
