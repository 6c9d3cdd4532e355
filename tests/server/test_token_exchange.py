"""Token exchange (CONFORMANCE TX-01): who may exchange which token, for what, and who acts then."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import Actor, Claims, ConfigurationError, Guard, TokenError
from bearerguard.protocol import names
from bearerguard.server import Registered, Resource
from tests.server.cross_application import MCP, OTHER, World
from tests.server.harness import CALLBACK, ISSUER, Harness, Make, claims

JWT = names.TYPE_JWT


@pytest.fixture
def world(make: Make) -> World:
    return World(make)


@pytest.fixture
def api(world: World) -> Registered:
    return api_of(world)


def api_of(world: World, **options: Any) -> Registered:
    """Return the API `MCP` as a client, which exchanges the tokens that it gets."""
    given: dict[str, Any] = {"introspects": [MCP], "exchanges_for": [OTHER]}
    return world.add("API", grant_types=["token-exchange"], **(given | options))


def user_token(world: World, **fields: Any) -> str:
    token: str = world.harness.tokens(resource=MCP, **fields)["access_token"]
    return token


@pytest.mark.both_engines
@pytest.mark.parametrize("tokens", ["jwt", "opaque"])
def test_TX_01_an_api_gets_a_token_for_another_api_and_becomes_the_actor(
    make: Make, tokens: Any
) -> None:
    kinds = [Resource(MCP, tokens=tokens), Resource(OTHER, tokens=tokens)]
    world = World(make, resources=kinds)
    api = api_of(world)
    response = world.exchange(user_token(world), api, resource=OTHER, scope="read")
    assert response.status == 200, response.json
    assert response.json["issued_token_type"] == names.TYPE_ACCESS_TOKEN
    assert (response.json["token_type"], response.json["scope"]) == ("Bearer", "read")
    assert "refresh_token" not in response.json
    with Guard(world.harness.server.issuer(audience=OTHER), clock=world.harness.clock) as guard:
        principal = guard.verify(response.json["access_token"])
    assert (principal.subject, principal.client_id) == ("ada", api.client_id)
    assert principal.actor == Actor(Claims({"sub": api.client_id}))
    assert principal.subject_kind == "user"


def test_TX_01_the_audience_parameter_names_a_resource_too_and_may_be_repeated(
    world: World, api: Registered
) -> None:
    fields = [
        *world.harness.credentials(api).items(),
        ("grant_type", names.TOKEN_EXCHANGE),
        ("subject_token", user_token(world)),
        ("subject_token_type", names.TYPE_ACCESS_TOKEN),
        ("audience", MCP),
        ("audience", OTHER),
    ]
    response = world.harness.post("/oauth/token", fields)
    assert claims(response.json["access_token"])["aud"] == [MCP, OTHER]


def test_TX_01_a_client_narrows_its_own_token_and_no_actor_is_added(world: World) -> None:
    app = world.add(
        "App", grant_types=["authorization_code", "token-exchange"], redirect_uris=[CALLBACK]
    )
    token = world.harness.tokens(app, resource=MCP)["access_token"]
    response = world.exchange(
        token, app, scope="read", requested_token_type=names.TYPE_ACCESS_TOKEN
    )
    assert response.json["scope"] == "read"
    assert "act" not in claims(response.json["access_token"])
    assert claims(response.json["access_token"])["aud"] == MCP


@pytest.mark.both_engines
@pytest.mark.parametrize("tokens", ["jwt", "opaque"])
def test_TX_01_the_end_of_the_grant_ends_the_exchanged_token(make: Make, tokens: Any) -> None:
    world = World(make, resources=[MCP, Resource(OTHER, tokens=tokens)])
    api = api_of(world)
    token = user_token(world)
    exchanged = world.exchange(token, api, resource=OTHER).json["access_token"]
    with Guard(world.harness.server.issuer(audience=OTHER), clock=world.harness.clock) as guard:
        assert guard.verify(exchanged).subject == "ada"
        assert world.harness.server.revoke_grant(claims(token)["sid"])
        with pytest.raises(TokenError):
            guard.verify(exchanged)
    assert world.harness.server.introspect(exchanged) == {"active": False}


def test_TX_01_it_expires_no_later_than_the_token_that_it_was_exchanged_for(
    world: World, api: Registered
) -> None:
    token = user_token(world)
    world.harness.clock.now += 3000
    response = world.exchange(token, api, resource=OTHER)
    assert claims(response.json["access_token"])["exp"] == claims(token)["exp"]
    assert response.json["expires_in"] == 600


def test_TX_01_actors_are_nested_and_their_chain_is_bounded(world: World, api: Registered) -> None:
    token = user_token(world)
    apis = [api, *(api_of(world, introspects=[MCP, OTHER]) for _ in range(5))]
    for each in apis[:5]:
        response = world.exchange(token, each, resource=MCP)
        assert response.status == 200, response.json
        token = response.json["access_token"]
    act, found = claims(token)["act"], []
    while act:
        found.append(act["sub"])
        act = act.get("act")
    assert found == [each.client_id for each in reversed(apis[:5])]
    assert world.exchange(token, apis[5], resource=MCP).error == (400, "invalid_request")
    assert world.reason == "too_many_actors"


def test_TX_01_an_actor_token_says_who_acts(world: World, api: Registered) -> None:
    platform = world.assertion(issuer=world.platform, sub="agent-7", email=None)
    actor = {"actor_token": platform, "actor_token_type": JWT}
    response = world.exchange(user_token(world), api, resource=OTHER, **actor)
    assert claims(response.json["access_token"])["act"] == {
        "iss": world.platform.url,
        "sub": "agent-7",
    }
    robot = world.add(
        "Robot", grant_types=["client_credentials", "token-exchange"], introspects=[MCP]
    )
    own = world.harness.token(robot, grant_type="client_credentials").json["access_token"]
    actor = {"actor_token": own, "actor_token_type": names.TYPE_ACCESS_TOKEN}
    response = world.exchange(user_token(world), robot, **actor)
    assert claims(response.json["access_token"])["act"] == {
        "sub": robot.client_id,
        "client_id": robot.client_id,
    }
    assert world.exchange(user_token(world), api, **actor).error == (400, "invalid_request")
    assert world.reason == "actor_token_of_another_client"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"subject_token": None}, "missing_parameter"),
        ({"subject_token_type": None}, "missing_parameter"),
        ({"subject_token_type": names.TYPE_ID_TOKEN}, "unsupported_token_type"),
        ({"requested_token_type": names.TYPE_ID_JAG}, "unsupported_requested_token_type"),
        ({"actor_token_type": JWT}, "actor_token_type_alone"),
        ({"actor_token": "x"}, "missing_parameter"),
        ({"actor_token": "x", "actor_token_type": JWT}, "assertion_malformed_token"),
        ({"subject_token": "x"}, "assertion_malformed_token"),
        ({"subject_token": "a.b.c"}, "assertion_malformed_token"),
    ],
)
def test_TX_01_a_malformed_request_is_refused_with_its_reason(
    world: World, api: Registered, fields: dict[str, Any], reason: str
) -> None:
    token = user_token(world)
    with world.nothing_stored():
        assert world.exchange(token, api, **fields).error == (400, "invalid_request")
    assert world.reason == reason


def test_TX_01_a_revoked_or_expired_token_is_refused(world: World, api: Registered) -> None:
    token = user_token(world)
    world.harness.server.revoke(token)
    assert world.exchange(token, api).error == (400, "invalid_request")
    assert world.reason == "inactive_subject_token"
    token = user_token(world)
    actor = {"actor_token": token, "actor_token_type": names.TYPE_ACCESS_TOKEN}
    world.harness.clock.now += 3600
    assert world.exchange(token, api).error == (400, "invalid_request")
    assert world.exchange(user_token(world), api, **actor).error == (400, "invalid_request")
    assert world.reason == "inactive_actor_token"


def test_TX_01_only_tokens_that_concern_the_client_are_exchanged(
    world: World, api: Registered
) -> None:
    token = user_token(world)
    assert world.exchange(token, world.agent).error == (400, "invalid_request")
    assert world.reason == "subject_token_of_another_client"
    robot = world.harness.token(grant_type="client_credentials", resource=MCP).json["access_token"]
    assert world.exchange(robot, api).error == (400, "invalid_request")
    assert world.reason == "subject_is_a_client"
    assert token not in repr(world.harness.events)


def test_TX_01_neither_scope_nor_resource_goes_beyond(world: World, api: Registered) -> None:
    narrow = user_token(world, scope="read")
    with world.nothing_stored():
        assert world.exchange(narrow, api, scope="read write").error == (400, "invalid_scope")
        bounded = world.add("Bounded", grant_types=["token-exchange"], introspects=[MCP])
        assert world.exchange(narrow, bounded, resource=OTHER).error == (400, "invalid_target")
        unknown = "https://unknown.example.com"
        assert world.exchange(narrow, api, resource=unknown).error == (400, "invalid_target")
        assert world.exchange(narrow, api, audience="api").error == (400, "invalid_target")
    assert world.exchange(narrow, api).json["scope"] == "read"
    less = api_of(world, scopes=["write"])
    assert world.exchange(narrow, less).json["scope"] == ""


def test_TX_01_a_token_whose_resource_is_gone_needs_another(make: Make) -> None:
    world = World(make)
    api, token = api_of(world), user_token(world)
    server = world.harness.another(resources=[OTHER])
    world.harness.server.close()
    world.harness.server = server
    assert world.exchange(token, api).error == (400, "invalid_target")
    assert claims(world.exchange(token, api, resource=OTHER).json["access_token"])["aud"] == OTHER


# Tokens of trusted issuers


def foreign(world: World, **changed: Any) -> str:
    return world.assertion(**({"header": {"typ": "at+jwt"}} | changed))


@pytest.mark.both_engines
def test_TX_01_a_token_of_a_trusted_issuer_gives_one_of_the_user_that_the_hook_names(
    world: World,
) -> None:
    token = foreign(world, act={"sub": "console", "iat": 7}, scope="read")
    for kind in (JWT, names.TYPE_ACCESS_TOKEN):  # more than once: it is no assertion
        response = world.exchange(token, subject_token_type=kind)
        assert response.status == 200, response.json
        found = claims(response.json["access_token"])
        assert (found["sub"], found["aud"], found["scope"]) == ("user-of-ada", MCP, "read")
        # An actor that the token names is one of its issuer, not of this server.
        console = {"iss": world.idp.url, "sub": "console"}
        assert found["act"] == {"sub": world.agent.client_id, "act": console}
        assert found["exp"] == claims(token)["exp"]
    assert world.harness.server.revoke_user(user_id="user-of-ada") == 2
    assert world.harness.server.introspect(response.json["access_token"]) == {"active": False}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"aud": "https://elsewhere.example.com"}, "assertion_wrong_audience"),
        ({"sub": None}, "assertion_missing_claim"),
        ({"expires_in": -60}, "assertion_expired"),
        ({"expires_in": 0}, "expired_subject_token"),
        ({"header": {"typ": names.ID_JAG_JWT}}, "assertion_wrong_type"),
        ({"email": "eve@example.com"}, "unknown_subject"),
        ({"act": "console"}, "malformed_act"),
        ({"act": {}}, "malformed_act"),
        ({"act": {"sub": 7}}, "malformed_act"),
        ({"act": {"sub": "x" * 256}}, "malformed_act"),
        ({"may_act": {"sub": "another"}}, "actor_may_not_act"),
        ({"may_act": {}}, "actor_may_not_act"),
        ({"may_act": "anybody"}, "actor_may_not_act"),
    ],
)
def test_TX_01_a_bad_token_of_a_trusted_issuer_is_refused_with_its_reason(
    world: World, changed: dict[str, Any], reason: str
) -> None:
    with world.nothing_stored():
        response = world.exchange(foreign(world, **changed))
        assert response.error == (400, "invalid_request")
    assert world.reason == reason


def test_TX_01_a_chain_of_actors_beyond_the_bound_is_refused(world: World) -> None:
    act: dict[str, Any] = {"sub": "first"}
    for number in range(4):
        act = {"sub": f"actor-{number}", "act": act}
    assert world.exchange(foreign(world, act=act)).error == (400, "invalid_request")
    assert world.reason == "too_many_actors"
    for _ in range(40):
        act = {"sub": "more", "act": act}
    assert world.exchange(foreign(world, act=act)).error == (400, "invalid_request")
    assert world.reason == "malformed_act"


def test_TX_01_may_act_names_who_may_act(world: World) -> None:
    allowed = {"sub": world.agent.client_id}
    assert world.exchange(foreign(world, may_act=allowed)).status == 200
    assert world.exchange(foreign(world, may_act=allowed | {"iss": ISSUER})).status == 200
    elsewhere = allowed | {"iss": "https://elsewhere.example.com"}
    assert world.exchange(foreign(world, may_act=elsewhere)).error == (400, "invalid_request")


def test_TX_01_may_act_without_an_issuer_allows_nobody_of_a_third_one(world: World) -> None:
    platform = world.assertion(issuer=world.platform, sub="agent-7", email=None)
    actor: dict[str, Any] = {"actor_token": platform, "actor_token_type": JWT}
    allowed = {"sub": "agent-7"}
    response = world.exchange(foreign(world, may_act=allowed), **actor)
    assert response.error == (400, "invalid_request")
    assert world.reason == "actor_may_not_act"
    allowed["iss"] = world.platform.url
    assert world.exchange(foreign(world, may_act=allowed), **actor).status == 200
    own = world.assertion(sub="agent-7", email=None)
    actor = {"actor_token": own, "actor_token_type": JWT}
    allowed = {"sub": "agent-7"}
    assert world.exchange(foreign(world, may_act=allowed), **actor).status == 200


def test_TX_01_an_issuer_limits_the_clients_and_scopes_of_its_tokens(make: Make) -> None:
    world = World(make, policy={"clients": ["friend"], "scopes": ["read"]})
    actor = {"actor_token": foreign(world), "actor_token_type": JWT}
    assert world.exchange(foreign(world)).error == (400, "invalid_request")
    assert world.reason == "client_not_trusted_with_issuer"
    api = api_of(world)
    assert world.exchange(user_token(world), api, **actor).error == (400, "invalid_request")
    assert world.reason == "client_not_trusted_with_issuer"
    friend = world.add("Friend", client_id="friend")
    assert world.exchange(foreign(world), friend).json["scope"] == "read"


def test_TX_01_the_hook_cannot_name_the_client(make: Make) -> None:
    world = World(make, policy={"subject": lambda _: "friend"})
    friend = world.add("Friend", client_id="friend")
    assert world.exchange(foreign(world), friend).error == (400, "invalid_request")
    assert world.reason == "user_has_a_clients_id"
    assert world.exchange(foreign(world)).error == (400, "invalid_grant")


def test_TX_01_resources_for_tokens_of_a_trusted_issuer_can_be_limited(world: World) -> None:
    bounded = world.add("Bounded", grant_types=["token-exchange"], exchanges_for=[MCP])
    assert world.exchange(foreign(world), bounded, resource=OTHER).error == (400, "invalid_target")
    assert world.exchange(foreign(world), resource=OTHER).status == 200


# Policy


def test_TX_01_a_client_must_be_registered_for_it(harness: Harness) -> None:
    fields: dict[str, Any] = {"subject_token": "x", "subject_token_type": JWT}
    response = harness.token(grant_type=names.TOKEN_EXCHANGE, **fields)
    assert response.error == (400, "unauthorized_client")


def test_TX_01_a_public_client_that_is_registered_nevertheless_is_refused(
    harness: Harness,
) -> None:
    public = harness.add("Public", public=True, grant_types=["authorization_code"])
    assert harness.server.clients.find(public.client_id)
    urn = f"'\"authorization_code\"', '\"{names.TOKEN_EXCHANGE}\"'"
    harness.store.run(f"UPDATE clients SET options = replace(options, {urn})")
    fields: dict[str, Any] = {"subject_token": "x", "subject_token_type": JWT}
    response = harness.token(public, grant_type=names.TOKEN_EXCHANGE, **fields)
    assert response.error == (400, "unauthorized_client")
    assert harness.events[-1].details["reason"] == "public_client"


def test_TX_01_without_trusted_issuers_only_own_tokens_are_exchanged(harness: Harness) -> None:
    app = harness.add("App", grant_types=["authorization_code", "token-exchange"])
    fields: dict[str, Any] = {"subject_token_type": names.TYPE_ACCESS_TOKEN}
    own = harness.tokens(app)["access_token"]
    asked = fields | {"grant_type": names.TOKEN_EXCHANGE}
    assert harness.token(app, **asked, subject_token=own).status == 200
    response = harness.token(app, **asked, subject_token="a.b.c")
    assert response.error == (400, "invalid_request")
    assert harness.events[-1].details["reason"] == "no_trusted_issuers"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"public": True, "grant_types": ["token-exchange"]}, "grant_types="),
        ({"exchanges_for": ["https://api.example.com"]}, "exchanges_for="),
        ({"exchanges_for": ["api"], "grant_types": ["token-exchange"]}, "exchanges_for="),
        ({"exchanges_for": [MCP], "grant_types": ["token-exchange"]}, "exchanges_for=.*resources="),
    ],
)
def test_TX_01_a_registration_that_makes_no_sense_is_refused(
    harness: Harness, options: Any, named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        harness.add("App", **options)
