"""Revocation, introspection, metadata, keys, CORS (CONFORMANCE REV, INS, META, JWKS, CORS, SEC)."""

from __future__ import annotations

import json
import re
from typing import Any, get_args

import pytest

from bearerguard import ConfigurationError, Guard, Issuer, TokenError
from bearerguard.protocol.jose import jwk, jwt
from bearerguard.server import AccountError, ClientError, Revoked, SigningKeys
from bearerguard.server.administration import Administration
from bearerguard.server.settings import SigningAlgorithm
from tests.server.harness import ISSUER, SECRET, Harness, Make, basic, claims, header


def revoke(harness: Harness, token: str, client: Any = None, **fields: Any) -> Any:
    return harness.post("/oauth/revoke", harness.credentials(client) | {"token": token} | fields)


def test_REV_01_an_access_token_ends_and_its_refresh_token_does_not(harness: Harness) -> None:
    tokens = harness.tokens()
    assert revoke(harness, tokens["access_token"]).status == 200
    assert not harness.is_active(tokens["access_token"])
    assert harness.refresh(tokens["refresh_token"]).status == 200


def test_REV_01_a_refresh_token_ends_all_of_its_grant(harness: Harness) -> None:
    tokens = harness.tokens()
    newer = harness.refresh(tokens["refresh_token"]).json
    assert revoke(harness, newer["refresh_token"]).status == 200
    assert not harness.is_active(tokens["access_token"])
    assert not harness.is_active(newer["access_token"])
    assert harness.refresh(newer["refresh_token"]).error == (400, "invalid_grant")


def test_REV_01_a_clients_own_token_ends_jwt_and_opaque(make: Make) -> None:
    from bearerguard.server import Resource

    opaque = Resource("https://opaque.example.com", tokens="opaque")
    harness = make(resources=[ISSUER, opaque])
    for resource in (ISSUER, opaque.identifier):
        response = harness.token(grant_type="client_credentials", resource=resource)
        token = response.json["access_token"]
        assert harness.is_active(token)
        assert revoke(harness, token).status == 200
        assert revoke(harness, token).status == 200
        assert not harness.is_active(token)


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "something_else"])
def test_REV_01_a_wrong_hint_is_searched_all_the_same(harness: Harness, hint: str) -> None:
    tokens = harness.tokens()
    assert revoke(harness, tokens["access_token"], token_type_hint=hint).status == 200
    assert not harness.is_active(tokens["access_token"])
    assert revoke(harness, tokens["refresh_token"], token_type_hint=hint).status == 200
    assert harness.refresh(tokens["refresh_token"]).status == 400


@pytest.mark.parametrize("token", ["unknown", "a.b.c", "x" * 20_000, "é", "bgr_x"])
def test_REV_01_an_unknown_token_is_no_error(harness: Harness, token: str) -> None:
    response = revoke(harness, token)
    assert (response.status, response.response.body) == (200, b"")


def test_REV_01_another_clients_token_is_refused_and_lives_on(harness: Harness) -> None:
    other = harness.add("Other")
    tokens = harness.tokens()
    assert revoke(harness, tokens["access_token"], other).error == (400, "unauthorized_client")
    assert revoke(harness, tokens["refresh_token"], other).error == (400, "unauthorized_client")
    assert harness.is_active(tokens["access_token"])
    assert harness.refresh(tokens["refresh_token"]).status == 200


def test_REV_01_the_client_authenticates_and_a_public_one_names_itself(harness: Harness) -> None:
    tokens = harness.tokens(harness.phone)
    assert harness.post("/oauth/revoke", {"token": tokens["access_token"]}).status == 401
    assert revoke(harness, tokens["refresh_token"], harness.phone).status == 200
    assert harness.refresh(tokens["refresh_token"], harness.phone).status == 400
    assert harness.post("/oauth/revoke", harness.credentials()).error == (400, "invalid_request")


def test_revoking_by_call_reaches_users_grants_and_listeners(harness: Harness) -> None:
    notified: list[Revoked] = []
    harness.server.on_revocation(notified.append)
    first, second, third = (harness.tokens() for _ in range(3))
    assert harness.server.revoke(first["access_token"])
    assert not harness.server.revoke(first["access_token"])
    grant = claims(second["access_token"])["sid"]
    assert harness.server.revoke_grant(grant)
    assert not harness.server.revoke_grant(grant)
    pending = harness.code()
    assert harness.server.revoke_user(user_id="ada") == 2
    assert harness.redeem(pending).error == (400, "invalid_grant")
    assert not any(harness.is_active(each["access_token"]) for each in (first, second, third))
    harness.server.clients.remove(harness.phone.client_id)
    assert [each.kind for each in notified] == ["jti", "sid", "sid", "sid", "sub", "client_id"]
    assert notified[1].value == grant


def test_a_user_is_revoked_by_either_login_or_id(make: Make) -> None:
    harness = make(people=None)
    account = harness.server.users.add("ada", "a password of some length")
    with Administration(harness.store.url, secret=SECRET) as beside:
        for server in (harness.server, beside):
            notified: list[Revoked] = []
            server._engine.revocations.listen(notified.append)
            assert server.revoke_user(login="Ada") == 0
            assert server.revoke_user(user_id=account.user_id) == 0
            assert [each.value for each in notified] == [account.user_id] * 2
            with pytest.raises(AccountError, match="no user"):
                server.revoke_user(login=account.user_id)
            with pytest.raises(ClientError, match="no client"):
                server.revoke_user(login="ada", client_id="nobody")
            both = {"login": "ada", "user_id": "ada"}
            for names in ({}, both):
                with pytest.raises(ConfigurationError, match=r"login= or by user_id="):
                    server.revoke_user(**names)
            with pytest.raises(TypeError):
                server.revoke_user("ada")  # type: ignore[call-arg]
            assert len(notified) == 2


def test_a_disabled_user_has_no_tokens_left(make: Make) -> None:
    harness = make(people=None)
    account = harness.server.users.add("ada", "a password of some length")
    listened: list[Revoked] = []
    harness.server.on_revocation(listened.append)
    assert harness.server.disable_user("ada").disabled
    assert [(each.kind, each.value) for each in listened] == [("sub", account.user_id)]


def test_a_removed_clients_tokens_are_inactive(harness: Harness) -> None:
    client = harness.add("Brief")
    own = harness.token(client, grant_type="client_credentials").json["access_token"]
    of_user = harness.tokens(client)["access_token"]
    harness.server.clients.remove(client.client_id)
    assert not harness.server.introspect(own)["active"]
    assert not harness.server.introspect(of_user)["active"]


def test_INS_01_the_caller_authenticates_with_credentials(harness: Harness) -> None:
    token = harness.tokens(harness.phone)["access_token"]
    assert harness.post("/oauth/introspect", {"token": token}).status == 401
    fields = {"token": token, "client_id": harness.phone.client_id}
    assert harness.post("/oauth/introspect", fields).error == (401, "invalid_client")
    response = harness.post(
        "/oauth/introspect",
        {"token": token},
        authorization=basic(harness.app.client_id, "wrong"),
    )
    assert response.status == 401


def test_INS_01_an_active_token_is_described(harness: Harness) -> None:
    token = harness.tokens()["access_token"]
    known = harness.introspect(token)
    assert known == {"active": True, "token_type": "Bearer", **claims(token)}


def test_INS_01_unknown_expired_refresh_and_others_tokens_are_inactive_and_nothing_more(
    harness: Harness,
) -> None:
    other = harness.add("Other")
    tokens = harness.tokens()
    inactive = [
        harness.introspect("unknown"),
        harness.introspect("a.b.c"),
        harness.introspect(tokens["refresh_token"]),
        harness.introspect(tokens["access_token"], other),
        harness.introspect(tokens["access_token"][:-4] + "AAAA"),
    ]
    harness.clock.now += 3600
    inactive.append(harness.introspect(tokens["access_token"]))
    assert inactive == [{"active": False}] * 6


def test_INS_01_an_api_may_introspect_tokens_for_its_resources(make: Make) -> None:
    a, b = "https://a.example.com", "https://b.example.com"
    harness = make(resources=[a, b])
    api = harness.add("API", introspects=[a], redirect_uris=[])
    for resource, active in ((a, True), (b, False)):
        response = harness.token(grant_type="client_credentials", resource=resource)
        assert harness.introspect(response.json["access_token"], api)["active"] is active


def test_INS_01_the_response_is_signed_on_request(harness: Harness) -> None:
    token = harness.token(grant_type="client_credentials").json["access_token"]
    response = harness.post(
        "/oauth/introspect",
        harness.credentials() | {"token": token},
        accept="application/token-introspection+jwt, application/json;q=0.5",
    )
    assert response.header("content-type") == "application/token-introspection+jwt"
    text = response.response.body.decode()
    assert header(text)["typ"] == "token-introspection+jwt"
    signed = claims(text)
    assert (signed["iss"], signed["aud"]) == (ISSUER, harness.app.client_id)
    assert signed["iat"] == int(harness.clock())
    assert signed["token_introspection"]["active"] is True
    keys, _ = jwk.parse_jwks(harness.server.keys.jwks())
    parsed = jwt.parse(response.response.body)
    assert keys.keys[0].verifies(
        jwt.parse_header(parsed.header).algorithm, parsed.signing_input, parsed.signature
    )
    guard = Guard(Issuer(ISSUER, audience=harness.app.client_id, keys=harness.server.keys.jwks()))
    with pytest.raises(TokenError):
        guard.verify(text)
    assert harness.introspect(text) == {"active": False}


@pytest.mark.parametrize(
    ("issuer", "paths"),
    [
        (
            "https://api.example.com",
            {"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"},
        ),
        (
            "https://api.example.com/tenant/one",
            {
                "/.well-known/oauth-authorization-server/tenant/one",
                "/.well-known/openid-configuration/tenant/one",
                "/tenant/one/.well-known/openid-configuration",
            },
        ),
    ],
)
def test_META_01_the_metadata_is_at_its_well_known_places_and_names_the_issuer(
    make: Make, issuer: str, paths: set[str]
) -> None:
    harness = make(issuer=issuer)
    assert {path for path in harness.server.paths if "well-known" in path} == paths
    for path in paths:
        response = harness.send("GET", path)
        assert response.status == 200
        content = response.json
        assert content["issuer"] == issuer
        assert content["token_endpoint"] == issuer + "/oauth/token"
        assert [] not in content.values()
        assert content["code_challenge_methods_supported"] == ["S256"]
        assert content["authorization_response_iss_parameter_supported"] is True
        assert "private_key_jwt" in content["token_endpoint_auth_methods_supported"]
        assert "ES256" in content["token_endpoint_auth_signing_alg_values_supported"]
        assert "none" not in content["introspection_endpoint_auth_methods_supported"]
        assert harness.send("HEAD", path).response.body == b""
        assert harness.send("POST", path).status == 405


def test_META_01_every_address_in_the_metadata_is_served(harness: Harness) -> None:
    content = harness.send("GET", "/.well-known/oauth-authorization-server").json
    addresses = [value for name, value in content.items() if name.endswith(("_endpoint", "_uri"))]
    assert len(addresses) == 7
    assert {address.removeprefix(ISSUER) for address in addresses} <= harness.server.paths


def test_META_01_openid_clients_find_what_their_specification_requires(make: Make) -> None:
    harness = make(issuer=ISSUER + "/tenant")
    required = {
        "issuer",
        "authorization_endpoint",
        "token_endpoint",
        "jwks_uri",
        "response_types_supported",
        "subject_types_supported",
        "id_token_signing_alg_values_supported",
    }
    plain = harness.send("GET", "/.well-known/oauth-authorization-server/tenant").json
    for path in harness.server.paths:
        if path.endswith("openid-configuration") or "openid-configuration/" in path:
            content = harness.send("GET", path).json
            assert required <= content.keys()
            assert content["subject_types_supported"] == ["public"]
            assert content["id_token_signing_alg_values_supported"] == ["ES256", "RS256"]
            assert plain.items() <= content.items()
    assert "subject_types_supported" not in plain


def test_META_01_signed_responses_are_announced_with_the_algorithms_of_the_keys_in_use(
    make: Make,
) -> None:
    def announced() -> Any:
        content = harness.send("GET", "/.well-known/oauth-authorization-server").json
        return content["introspection_signing_alg_values_supported"]

    harness = make()
    assert announced() == ["ES256"]
    harness.server = harness.another(
        signing=SigningKeys(algorithm="EdDSA")
    )  # its key waits until it is known
    assert announced() == ["ES256", "EdDSA"]
    harness.clock.now += 3600
    assert announced() == ["EdDSA"]
    harness.clock.now += 60
    harness.store.rename("signing_keys", "gone")
    assert announced() == ["EdDSA"], "metadata needs no store"


def test_META_01_without_described_scopes_there_is_no_empty_array(make: Make) -> None:
    harness = make(scopes=None)
    content = harness.send("GET", "/.well-known/oauth-authorization-server").json
    assert "scopes_supported" not in content


@pytest.mark.parametrize("algorithm", get_args(SigningAlgorithm))
def test_JWKS_05_only_public_members_are_published(make: Make, algorithm: Any) -> None:
    response = make(signing=SigningKeys(algorithm=algorithm)).send("GET", "/oauth/jwks")
    assert response.status == 200
    (key,) = response.json["keys"]
    assert not {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} & set(key)
    assert (key["use"], key["alg"]) == ("sig", algorithm)


def test_JWKS_05_a_key_is_published_before_it_signs_and_until_its_tokens_expire(
    harness: Harness,
) -> None:
    def signing() -> str:
        token = harness.token(grant_type="client_credentials").json["access_token"]
        kid: str = header(token)["kid"]
        return kid

    def published() -> list[str]:
        return [key["kid"] for key in harness.send("GET", "/oauth/jwks").json["keys"]]

    old = signing()
    max_age = re.search(
        r"max-age=(\d+)", harness.send("GET", "/oauth/jwks").header("cache-control") or ""
    )
    assert max_age is not None
    new = harness.server.keys.rotate()
    assert harness.server.keys.rotate() == new, "a key that waits for its turn is enough"
    assert (signing(), published()) == (old, [old, new])
    harness.clock.now += int(max_age[1]) * 2 - 1
    assert signing() == old
    last = harness.token(grant_type="client_credentials").json["access_token"]
    harness.clock.now += 1
    assert signing() == new
    harness.clock.now += 3598
    assert harness.is_active(last)
    assert published() == [old, new]
    harness.clock.now += int(max_age[1]) * 2 + 3
    assert published() == [new]
    harness.server.prune()
    assert [key.kid for key in harness.server.keys.all()] == [new]


def test_JWKS_05_keys_are_rotated_at_the_end_of_their_lifetime(make: Make) -> None:
    harness = make(signing=SigningKeys(algorithm="ES256", lifetime=86_400))
    old = harness.server.keys.all()[0].kid
    harness.clock.now += 86_400 - 590
    harness.token(grant_type="client_credentials")
    harness.server._engine.upkeep.wait()
    keys = [key.kid for key in harness.server.keys.all()]
    assert len(keys) == 2
    harness.clock.now += 601
    token = harness.token(grant_type="client_credentials").json["access_token"]
    assert header(token)["kid"] != old
    assert len(harness.named("key_made")) == 2


def test_JWKS_05_a_compromised_key_is_replaced_at_once(harness: Harness) -> None:
    new = harness.server.keys.rotate(immediately=True)
    token = harness.token(grant_type="client_credentials").json["access_token"]
    assert header(token)["kid"] == new
    assert harness.is_active(token)


def test_CORS_01_metadata_and_jwks_are_for_every_page(harness: Harness) -> None:
    for path in ("/oauth/jwks", "/.well-known/oauth-authorization-server"):
        response = harness.send("GET", path, origin="https://anybody.example")
        assert response.header("access-control-allow-origin") == "*"
        assert response.header("access-control-allow-credentials") is None
        preflight = harness.send(
            "OPTIONS", path, origin="https://a.example", access_control_request_method="GET"
        )
        assert preflight.status == 204
        assert preflight.header("access-control-allow-origin") == "*"


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/revoke"])
def test_CORS_01_token_and_revocation_are_for_the_pages_of_registered_origins(
    harness: Harness, path: str
) -> None:
    page = "https://spa.example.com"
    harness.add("SPA", public=True, origins=[page])
    good = harness.post(path, {"token": "x"}, origin=page)
    assert good.header("access-control-allow-origin") == page
    assert good.header("access-control-allow-credentials") is None
    assert good.header("vary") == "Origin"
    assert "WWW-Authenticate" in (good.header("access-control-expose-headers") or "")
    for origin in ("https://other.example.com", "null", page + ".evil.example"):
        bad = harness.post(path, {"token": "x"}, origin=origin)
        assert bad.header("access-control-allow-origin") is None
        assert bad.header("vary") == "Origin"
    asked: Any = {"access_control_request_method": "POST"}
    preflight = harness.send("OPTIONS", path, origin=page, **asked)
    assert (preflight.status, preflight.header("access-control-allow-origin")) == (204, page)
    assert preflight.header("access-control-allow-methods") == "POST"
    refused = harness.send("OPTIONS", path, origin="https://other.example.com", **asked)
    assert refused.header("access-control-allow-origin") is None


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (None, "Authorization, Content-Type, DPoP"),
        ("", "Authorization, Content-Type, DPoP"),
        ("x-requested-with", "x-requested-with"),
        ("authorization,mcp-protocol-version, traceparent", None),
        ("a,b,,a ,\tb", "a, b"),
        ("a b,c:d,e\x00f,é,g", "g"),
        ("x" * 129 + ",y", "y"),
        ("a," * 3000, "Authorization, Content-Type, DPoP"),
        (",".join(f"h{n}" for n in range(100)), ", ".join(f"h{n}" for n in range(64))),
    ],
)
@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/.well-known/oauth-authorization-server", "GET"),
        ("/.well-known/openid-configuration", "GET"),
        ("/oauth/jwks", "GET"),
        ("/oauth/token", "POST"),
        ("/oauth/revoke", "POST"),
    ],
)
def test_CORS_01_a_page_may_send_the_headers_that_it_asks_for(
    harness: Harness, path: str, method: str, asked: str | None, allowed: str | None
) -> None:
    page = "https://spa.example.com"
    harness.add("SPA", public=True, origins=[page])
    lines: dict[str, Any] = {"origin": page, "access_control_request_method": method}
    if asked is not None:
        lines["access_control_request_headers"] = asked
    preflight = harness.send("OPTIONS", path, **lines)
    listed = preflight.header("access-control-allow-headers")
    assert listed == (allowed or "authorization, mcp-protocol-version, traceparent")
    assert "Access-Control-Request-Headers" in (preflight.header("vary") or "")
    refused = harness.send("OPTIONS", path, **(lines | {"origin": "https://other.example.com"}))
    if method == "POST":
        assert refused.header("access-control-allow-headers") is None


@pytest.mark.parametrize("path", ["/oauth/authorize", "/oauth/introspect", "/oauth/consent"])
def test_CORS_01_the_other_endpoints_are_for_no_page(harness: Harness, path: str) -> None:
    page = "https://spa.example.com"
    harness.add("SPA", public=True, origins=[page])
    for method in ("GET", "POST", "OPTIONS"):
        response = harness.send(method, path, origin=page, access_control_request_method="POST")
        assert response.header("access-control-allow-origin") is None


def test_SEC_01_an_old_secret_is_valid_for_a_day_beside_the_new_one(harness: Harness) -> None:
    new = harness.server.clients.rotate_secret(harness.app.client_id)

    def works(secret: str | None) -> bool:
        response = harness.token(grant_type="client_credentials", client_secret=secret)
        return response.status == 200

    assert works(new)
    assert works(harness.app.client_secret)
    harness.clock.now += 86_399
    assert works(harness.app.client_secret)
    harness.clock.now += 1
    assert not works(harness.app.client_secret)
    assert works(new)


def test_SEC_01_without_an_overlap_the_old_secret_ends_at_once(harness: Harness) -> None:
    new = harness.server.clients.rotate_secret(harness.app.client_id, overlap=0)
    assert harness.token(grant_type="client_credentials").status == 401
    assert harness.token(grant_type="client_credentials", client_secret=new).status == 200


def test_nothing_else_is_served(harness: Harness) -> None:
    for path in ("/", "/oauth", "/oauth/token/", "/OAUTH/TOKEN", "/oauth/jwks.json"):
        assert harness.send("GET", path).status == 404
    assert json.loads(harness.send("GET", "/x").response.body) == {"error": "not_found"}
