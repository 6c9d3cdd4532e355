"""The jwt-bearer grant over trusted issuers, and ID-JAGs (CONFORMANCE JB-01, JB-02)."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bearerguard import ConfigurationError, Fetch, Guard, Response, TokenError
from bearerguard.protocol import names
from bearerguard.server import ClientMetadataDocuments, Resource, TrustedIssuer
from bearerguard.testing import LocalIssuer, SigningKey
from tests.server.cross_application import IDP, MCP, OTHER, World
from tests.server.harness import ISSUER, Make, claims

STRANGER = SigningKey.generate("ES256", "key-1")
SHARED = SigningKey.shared("HS256", b"a secret that has at least 32 bytes")


@pytest.fixture
def world(make: Make) -> World:
    return World(make)


@pytest.mark.both_engines
def test_JB_01_an_assertion_gives_a_token_of_the_user_that_the_hook_names(world: World) -> None:
    response = world.present(world.assertion(), scope="read", resource=MCP)
    assert response.status == 200, response.json
    assert response.json["scope"] == "read"
    assert "refresh_token" not in response.json
    with Guard(world.harness.server.issuer(audience=MCP), clock=world.harness.clock) as guard:
        principal = guard.verify(response.json["access_token"])
        assert (principal.subject, principal.client_id) == ("user-of-ada", world.agent.client_id)
        assert principal.actor is None
        world.harness.server.revoke_user(user_id="user-of-ada")
        with pytest.raises(TokenError):
            guard.verify(response.json["access_token"])


def test_JB_01_the_hook_gets_claims_that_it_cannot_change(world: World) -> None:
    world.present(world.assertion(groups=["staff"]))
    (given,) = world.mapped
    assert (given["iss"], given["groups"]) == (IDP, ("staff",))
    with pytest.raises(TypeError):
        given["email"] = "eve@example.com"  # type: ignore[index]


@pytest.mark.both_engines
def test_JB_01_an_assertion_serves_once_whoever_presents_it(world: World) -> None:
    assertion = world.assertion()
    assert world.present(assertion).status == 200
    another = world.add("Another")
    with world.nothing_stored():
        assert world.present(assertion).error == (400, "invalid_grant")
        assert world.present(assertion, another).error == (400, "invalid_grant")
    assert [each.details["reason"] for each in world.harness.named("assertion_replayed")] == [
        "assertion_replayed"
    ] * 2


@pytest.mark.both_engines
def test_JB_01_of_many_that_present_it_at_once_one_gets_a_token(world: World) -> None:
    assertion = world.id_jag()
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: world.present(assertion), range(8)))
    assert sorted(reply.status for reply in replies) == [200] + [400] * 7
    assert world.stored()["grants"] == 1


ELSEWHERE = "https://elsewhere.example.com"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"aud": ELSEWHERE}, "wrong_assertion_audience"),
        ({"aud": [ISSUER, ELSEWHERE]}, "wrong_assertion_audience"),
        ({"aud": ISSUER + "/oauth/token"}, "wrong_assertion_audience"),
        ({"aud": None}, "wrong_assertion_audience"),
        ({"iss": ELSEWHERE}, "assertion_unknown_issuer"),
        ({"iss": None}, "assertion_unknown_issuer"),
        ({"expires_in": -60}, "assertion_expired"),
        ({"expires_in": 7200}, "assertion_lives_too_long"),
        ({"iat": 1_699_990_000}, "assertion_lives_too_long"),
        ({"iat": 1_700_001_000}, "assertion_not_yet_valid"),
        ({"nbf": 1_700_001_000}, "assertion_not_yet_valid"),
        ({"exp": None}, "assertion_missing_claim"),
        ({"jti": None}, "assertion_missing_claim"),
        ({"jti": ""}, "malformed_assertion_id"),
        ({"jti": "x" * 300}, "malformed_assertion_id"),
        ({"jti": 7}, "assertion_bad_claim"),
        ({"sub": None}, "assertion_missing_claim"),
        ({"cnf": {"jkt": "x"}}, "assertion_of_another_key"),
        ({"at_hash": "x"}, "assertion_id_token"),
        ({"token_use": "refresh"}, "assertion_wrong_type"),
        (
            {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
            "assertion_id_token",
        ),
        ({"email": "eve@example.com"}, "unknown_subject"),
        ({"client_id": "another"}, "assertion_of_another_client"),
        ({"scope": ["read"]}, "malformed_assertion_scope"),
        ({"resource": []}, "malformed_assertion_resource"),
        ({"resource": [7]}, "malformed_assertion_resource"),
        ({"key": STRANGER}, "assertion_bad_signature"),
        ({"key": SHARED}, "assertion_wrong_algorithm"),
        ({"header": {"alg": "none"}}, "assertion_wrong_algorithm"),
        ({"header": {"kid": "unknown"}}, "assertion_unknown_key"),
        ({"header": {"crit": ["exp"]}}, "assertion_critical_header"),
        ({"header": {"typ": "at+jwt"}}, "assertion_wrong_type"),
        ({"header": {"typ": "dpop+jwt"}}, "assertion_wrong_type"),
        ({"header": {"typ": names.CLIENT_AUTHENTICATION_JWT}}, "assertion_wrong_type"),
        ({"padding": "x" * 17_000}, "assertion_malformed_token"),
    ],
)
def test_JB_01_a_bad_assertion_is_refused_with_its_reason_and_leaves_nothing(
    world: World, changed: dict[str, Any], reason: str
) -> None:
    assertion = world.assertion(**changed)
    with world.nothing_stored():
        assert world.present(assertion).error == (400, "invalid_grant")
    assert world.reason == reason
    assert assertion not in repr(world.harness.events)


@pytest.mark.parametrize("assertion", ["a.b.c", "x", "é.é.é", "." * 200, "x" * 60_000])
def test_JB_01_what_is_no_assertion_is_refused(world: World, assertion: str) -> None:
    assert world.present(assertion).error == (400, "invalid_grant")
    assert world.reason == "assertion_malformed_token"


def test_JB_01_the_token_endpoint_is_an_audience_only_where_that_is_configured(
    make: Make,
) -> None:
    world = World(make, accept_endpoint_audiences=True)
    assert world.present(world.assertion(aud=ISSUER + "/oauth/token")).status == 200
    assert world.present(world.assertion(aud=ISSUER + "/oauth/revoke")).status == 400
    given = World(make, policy={"audience": "the-api"})
    assert given.present(given.assertion(aud="the-api")).status == 200
    assert given.present(given.assertion()).status == 400


def test_JB_01_an_issuer_limits_clients_and_scopes(make: Make) -> None:
    world = World(make, policy={"clients": ["friend"], "scopes": ["read"]})
    assert world.present(world.assertion()).error == (400, "invalid_grant")
    assert world.reason == "client_not_trusted_with_issuer"
    friend = world.add("Friend", client_id="friend")
    response = world.present(world.assertion(), friend, scope="read write")
    assert response.json["scope"] == "read"
    assert world.present(world.assertion(), friend, scope="write").error == (400, "invalid_scope")


def test_JB_01_a_client_must_be_registered_for_the_grant(world: World) -> None:
    response = world.present(world.assertion(), world.harness.app)
    assert response.error == (400, "unauthorized_client")


def test_JB_01_an_issuer_without_a_hook_names_no_users(world: World) -> None:
    assertion = world.assertion(issuer=world.platform)
    assert world.present(assertion).error == (400, "invalid_grant")
    assert world.reason == "issuer_names_no_users"


@pytest.mark.parametrize("answer", ["", "x" * 256, "nul\0"])
def test_JB_01_a_user_that_no_row_can_have_is_refused(make: Make, answer: str) -> None:
    world = World(make, policy={"subject": lambda _: answer})
    assert world.present(world.assertion()).error == (400, "invalid_grant")
    assert world.reason == "unusable_subject"


def test_JB_01_the_hook_cannot_name_a_client(make: Make) -> None:
    named: list[str] = []
    world = World(make, policy={"subject": lambda _: named[-1]})
    for client in (world.agent, world.harness.app):
        named.append(client.client_id)
        assert world.present(world.assertion()).error == (400, "invalid_grant")
        assert world.reason == "user_has_a_clients_id"
    assert world.stored()["assertions"] == 0


@pytest.mark.parametrize("hook", [lambda _: 7, lambda claims: claims["missing"]])
def test_JB_01_a_hook_that_fails_is_the_servers_fault(make: Make, hook: Any) -> None:
    world = World(make, policy={"subject": hook})
    with world.nothing_stored():
        assert world.present(world.assertion()).status == 503


def test_JB_01_a_disabled_user_gets_nothing_and_the_assertion_is_not_used_up(make: Make) -> None:
    found: list[str] = []
    world = World(make, policy={"subject": lambda _: found[0]})
    found.append(world.harness.server.users.add("mallory", password="correct horse").user_id)
    world.harness.server.disable_user("mallory")
    with world.nothing_stored():
        assert world.present(world.assertion()).error == (400, "invalid_grant")
    assert world.reason == "user_disabled"


def test_JB_01_an_issuer_that_is_down_is_503_with_a_time_to_retry(world: World) -> None:
    with world.idp.failing(outage=True):
        response = world.present(world.assertion())
    assert response.error == (503, "temporarily_unavailable")
    assert int(response.header("retry-after") or "") >= 1
    assert world.reason == "issuer_unavailable"


def test_JB_01_keys_are_discovered_and_fetched_once_however_many_present_assertions(
    world: World,
) -> None:
    assertions = [world.assertion() for _ in range(16)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(world.present, assertions))
    assert {reply.status for reply in replies} == {200}
    assert world.idp.hits["/jwks"] == 1


def test_JB_01_a_new_key_of_the_issuer_is_found(world: World) -> None:
    assert world.present(world.assertion()).status == 200
    world.idp.rotate()
    world.harness.clock.now += 120
    world.idp.clock.set(world.harness.clock())
    assert world.present(world.assertion()).status == 200


# ID-JAGs


@pytest.mark.both_engines
@pytest.mark.parametrize("tokens", ["jwt", "opaque"])
def test_JB_02_an_id_jag_gives_a_token_for_its_resource_and_scope(make: Make, tokens: Any) -> None:
    world = World(make, resources=[OTHER, Resource(MCP, tokens=tokens)])
    response = world.present(world.id_jag(scope="read delete"))
    assert response.status == 200, response.json
    assert response.json["scope"] == "read"
    found = world.harness.server.introspect(response.json["access_token"])
    assert (found["active"], found["aud"], found["sub"]) == (True, MCP, "user-of-ada")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"client_id": "another"}, "assertion_of_another_client"),
        ({"client_id": None}, "assertion_missing_claim"),
        ({"iat": None}, "assertion_missing_claim"),
        ({"jti": None}, "assertion_missing_claim"),
        ({"aud": MCP}, "wrong_assertion_audience"),
    ],
)
def test_JB_02_an_id_jag_that_lacks_something_is_refused(
    world: World, changed: dict[str, Any], reason: str
) -> None:
    with world.nothing_stored():
        assert world.present(world.id_jag(**changed)).error == (400, "invalid_grant")
    assert world.reason == reason


def test_JB_02_the_request_cannot_go_beyond_the_id_jag(world: World) -> None:
    with world.nothing_stored():
        response = world.present(world.id_jag(), resource=OTHER)
        assert response.error == (400, "invalid_target")
        response = world.present(world.id_jag(resource="https://unknown.example.com"))
        assert response.error == (400, "invalid_target")
        response = world.present(world.id_jag(scope="read"), scope="write")
        assert response.error == (400, "invalid_scope")
    both = world.present(world.id_jag(resource=[MCP, OTHER]), resource=OTHER)
    assert claims(both.json["access_token"])["aud"] == OTHER


def test_JB_02_a_public_client_may_present_what_is_bound_to_it(world: World) -> None:
    public = world.add("Public", public=True, grant_types=["jwt-bearer"])
    assert world.present(world.id_jag(client_id=public.client_id), public).status == 200
    unbound = world.assertion(header={"typ": names.AUTHORIZATION_GRANT_JWT})
    assert world.present(unbound, public).error == (400, "invalid_grant")
    assert world.reason == "assertion_not_bound_to_client"


class Web:
    """Publishes the metadata document of one client."""

    url = "https://client.example.com/agent.json"

    def __init__(self, **members: Any) -> None:
        usual = {
            "client_id": self.url,
            "redirect_uris": ["https://client.example.com/callback"],
            "grant_types": ["authorization_code", names.JWT_BEARER],
            "token_endpoint_auth_method": "none",
        }
        self.body = json.dumps(usual | members).encode()

    def fetch(self, request: Fetch) -> Response:
        assert request.url == self.url
        return Response(200, (("Content-Type", "application/json"),), self.body)

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


@pytest.mark.both_engines
def test_JB_02_a_client_with_a_metadata_document_presents_an_id_jag(make: Make) -> None:
    world = World(make, client_metadata=ClientMetadataDocuments(transport=Web()))
    fields = {"client_id": Web.url, "grant_type": names.JWT_BEARER}
    id_jag = world.id_jag(client_id=Web.url)
    response = world.harness.post("/oauth/token", fields | {"assertion": id_jag})
    assert response.status == 200, response.json
    found = world.harness.server.introspect(response.json["access_token"])
    assert (found["active"], found["client_id"]) == (True, Web.url)
    with world.nothing_stored():
        for unbound in (
            world.assertion(header={"typ": names.AUTHORIZATION_GRANT_JWT}),
            world.id_jag(),
        ):
            response = world.harness.post("/oauth/token", fields | {"assertion": unbound})
            assert response.error == (400, "invalid_grant")


def test_JB_02_the_document_must_name_the_grant(make: Make) -> None:
    web = Web(grant_types=["authorization_code"])
    world = World(make, client_metadata=ClientMetadataDocuments(transport=web))
    fields = {"client_id": Web.url, "grant_type": names.JWT_BEARER}
    id_jag = world.id_jag(client_id=Web.url)
    response = world.harness.post("/oauth/token", fields | {"assertion": id_jag})
    assert response.error == (400, "unauthorized_client")


def test_JB_02_metadata_say_that_id_jags_are_accepted(world: World, make: Make) -> None:
    path = "/.well-known/oauth-authorization-server"
    document = world.harness.send("GET", path).json
    assert document["authorization_grant_profiles_supported"] == [names.ID_JAG_PROFILE]
    assert names.JWT_BEARER in document["grant_types_supported"]
    plain = make().send("GET", path).json
    assert "authorization_grant_profiles_supported" not in plain
    assert names.JWT_BEARER not in plain["grant_types_supported"]


# Configuration


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"trusted_issuers": [IDP]}, "trusted_issuers="),
        ({"trusted_issuers": [TrustedIssuer(IDP), TrustedIssuer(IDP)]}, "given twice"),
        ({"trusted_issuers": [TrustedIssuer("http://idp.example.com")]}, "trusted_issuers=.*https"),
        ({"trusted_issuers": [TrustedIssuer(IDP, algorithms=["HS256"])]}, "algorithms="),
    ],
)
def test_unsafe_trust_is_refused_at_the_start(make: Make, options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make(**options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"subject": "sub"}, "subject="),
        ({"clients": "agent"}, "clients="),
        ({"scopes": [7]}, "scopes="),
        ({"audience": [""]}, "audience="),
        ({"max_lifetime": 0}, "max_lifetime="),
    ],
)
def test_an_option_of_another_type_is_refused(options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        TrustedIssuer(IDP, **options)


def test_closing_the_server_closes_the_transport_to_its_issuers(make: Make) -> None:
    closed = []

    class Transport:
        def fetch(self, request: Any) -> Any:
            raise NotImplementedError

        afetch = fetch

        def close(self) -> None:
            closed.append(True)

    issuer = LocalIssuer(IDP)
    harness = make(trusted_issuers=[TrustedIssuer(issuer.url)], transport=Transport())
    harness.server.close()
    assert closed
