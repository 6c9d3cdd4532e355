"""Workload identity: a platform's token as a client's credentials (CONFORMANCE JB-03)."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import ConfigurationError, Guard
from bearerguard.protocol import names
from bearerguard.protocol.client_authentication import ASSERTION_TYPE
from bearerguard.server import Registered
from bearerguard.server.administration import Administration
from bearerguard.testing import SigningKey
from tests.server.cross_application import IDP, MCP, PLATFORM, WORKLOAD, World
from tests.server.harness import ISSUER, SECRET, Make, Reply, claims

GRANTS = ["client_credentials", "jwt-bearer"]


@pytest.fixture
def world(make: Make) -> World:
    return World(make)


@pytest.fixture
def agent(world: World) -> Registered:
    return registered(world)


def registered(world: World, *checks: str, **options: Any) -> Registered:
    given: dict[str, Any] = {
        "client_id": WORKLOAD,
        "workload_issuer": PLATFORM,
        "workload_claims": checks or [f"sub={WORKLOAD}"],
        "grant_types": GRANTS,
    }
    return world.add("Workload", **(given | options))


def token(world: World, **changed: Any) -> str:
    usual = {"sub": WORKLOAD, "email": None, "jti": None, "header": {"typ": "JWT"}}
    return world.assertion(issuer=world.platform, **(usual | changed))


def ask(world: World, assertion: str, /, **fields: Any) -> Reply:
    """Ask with a client assertion (RFC 7523 §2.2)."""
    usual = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    return world.harness.post("/oauth/token", usual | fields)


def federate(world: World, assertion: str, /, **fields: Any) -> Reply:
    """Ask with the assertion alone, as MCP's workload identity federation has it."""
    usual = {"grant_type": names.JWT_BEARER, "assertion": assertion}
    return world.harness.post("/oauth/token", usual | fields)


@pytest.mark.both_engines
def test_JB_03_a_workloads_token_authenticates_its_client(world: World, agent: Registered) -> None:
    assert agent.client_secret is None
    response = ask(world, token(world), resource=MCP)
    assert response.status == 200, response.json
    with Guard(world.harness.server.issuer(audience=MCP), clock=world.harness.clock) as guard:
        principal = guard.verify(response.json["access_token"])
    assert (principal.subject, principal.client_id) == (WORKLOAD, agent.client_id)
    assert principal.subject_kind == "client"


def test_JB_03_a_token_without_client_id_or_other_credentials_is_enough_for_the_grant(
    world: World, agent: Registered
) -> None:
    response = federate(world, token(world), resource=MCP, scope="read")
    assert response.status == 200, response.json
    found = claims(response.json["access_token"])
    assert (found["sub"], found["client_id"], found["aud"]) == (WORKLOAD, WORKLOAD, MCP)
    assert response.json["scope"] == "read"


def test_JB_03_a_platform_replaces_its_token_later_so_it_serves_more_than_once(
    world: World, agent: Registered
) -> None:
    mounted = token(world, jti="one")
    for send in (ask, ask, federate, federate):
        assert send(world, mounted).status == 200


def test_JB_03_a_client_with_another_id_is_named_by_the_request(world: World) -> None:
    agent = registered(world, client_id="agent")
    assert ask(world, token(world), client_id="agent").status == 200
    assert federate(world, token(world), client_id="agent").status == 200
    assert ask(world, token(world)).error == (401, "invalid_client")
    assert ask(world, token(world), client_id="other").error == (401, "invalid_client")
    assert agent.client.workload_issuer == PLATFORM


def test_JB_03_claims_other_than_the_subject_may_identify_it(world: World) -> None:
    registered(world, "repository=acme/app", "ref=refs/heads/main", client_id="deploy")
    main = {"sub": "repo:acme/app:ref:refs/heads/main", "repository": "acme/app"}
    fields = {"client_id": "deploy"}
    assert ask(world, token(world, **main, ref="refs/heads/main"), **fields).status == 200
    for other in ({"ref": "refs/heads/fork"}, {}, {"ref": ["refs/heads/main"]}):
        assert ask(world, token(world, **main, **other), **fields).status == 401
        assert world.reason == "another_workload"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"aud": "https://kubernetes.default.svc"}, "wrong_assertion_audience"),
        ({"aud": [ISSUER, "https://kubernetes.default.svc"]}, "wrong_assertion_audience"),
        ({"expires_in": -60}, "assertion_expired"),
        ({"expires_in": 86_400}, "assertion_lives_too_long"),
        ({"iat": 1_700_001_000}, "assertion_not_yet_valid"),
        ({"header": {"typ": "at+jwt"}}, "assertion_wrong_type"),
        ({"header": {"alg": "none"}}, "assertion_wrong_algorithm"),
        ({"header": {"kid": 7}}, "assertion_malformed_token"),
        ({"key": SigningKey.generate("ES256", "key-1")}, "assertion_bad_signature"),
        (
            {"key": SigningKey.shared("HS256", b"a secret that has at least 32 bytes")},
            "assertion_wrong_algorithm",
        ),
    ],
)
def test_JB_03_a_bad_token_authenticates_nobody(
    world: World, agent: Registered, changed: dict[str, Any], reason: str
) -> None:
    assertion = token(world, **changed)
    with world.nothing_stored():
        for send in (ask, federate):
            assert send(world, assertion).error == (401, "invalid_client")
            assert world.reason == reason
    assert assertion not in repr(world.harness.events)


def test_JB_03_a_token_of_another_trusted_issuer_is_not_the_workloads(
    world: World, agent: Registered
) -> None:
    elsewhere = world.assertion(sub=WORKLOAD, jti=None)
    assert ask(world, elsewhere).error == (401, "invalid_client")
    assert world.reason == "another_workload"


def test_JB_03_an_issuer_that_is_down_is_503(world: World, agent: Registered) -> None:
    with world.platform.failing(refuses=True):
        for send in (ask, federate):
            assert send(world, token(world)).error == (503, "temporarily_unavailable")


def test_JB_03_a_workload_may_present_a_users_assertion_too(
    world: World, agent: Registered
) -> None:
    response = ask(
        world,
        token(world),
        grant_type=names.JWT_BEARER,
        assertion=world.id_jag(client_id=agent.client_id),
    )
    assert claims(response.json["access_token"])["sub"] == "user-of-ada"


def test_JB_03_other_clients_are_not_authenticated_by_a_workloads_token(world: World) -> None:
    robot = world.add("Robot", client_id="robot", grant_types=GRANTS)
    assert ask(world, token(world, sub="robot")).error == (401, "invalid_client")
    assert world.reason == "wrong_authentication_method"
    response = ask(world, token(world), client_secret=robot.client_secret, client_id="robot")
    assert response.error == (400, "invalid_request")


@pytest.mark.parametrize("subject", [None, 7])
def test_JB_03_a_token_that_names_no_client_authenticates_nobody(
    world: World, agent: Registered, subject: Any
) -> None:
    assert ask(world, token(world, sub=subject)).error == (401, "invalid_client")


def test_JB_03_metadata_name_the_method_where_there_are_trusted_issuers(
    world: World, make: Make
) -> None:
    path = "/.well-known/oauth-authorization-server"
    name = "token_endpoint_auth_methods_supported"
    assert "workload_identity" in world.harness.send("GET", path).json[name]
    assert "workload_identity" not in make().send("GET", path).json[name]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"auth_method": "client_secret"}, "workload_issuer="),
        ({"workload_issuer": None, "auth_method": "workload_identity"}, "workload_issuer="),
        ({"workload_claims": []}, "workload_claims="),
        ({"workload_claims": ["sub"]}, "workload_claims="),
        ({"workload_claims": ["sub="]}, "workload_claims="),
        ({"jwks": {"keys": []}}, "jwks="),
    ],
)
def test_JB_03_a_registration_that_makes_no_sense_is_refused(
    world: World, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        registered(world, **options)


def test_JB_03_without_trusted_issuers_there_is_no_such_method(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="auth_method="):
        make().add("Agent", workload_issuer=IDP, workload_claims=["sub=x"])


def test_JB_03_a_workload_can_be_registered_where_the_store_is_administered(
    world: World,
) -> None:
    with Administration(world.harness.store.url, secret=SECRET) as administration:
        administration.clients.add(
            "Agent",
            client_id=WORKLOAD,
            workload_issuer=PLATFORM,
            workload_claims=[f"sub={WORKLOAD}"],
        )
    assert ask(world, token(world)).status == 200
