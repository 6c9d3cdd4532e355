"""DPoP at the authorization server (CONFORMANCE ADP-01, RFC 9449): what a key is needed for."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest

from bearerguard import ConfigurationError, Guard, Request, TokenError
from bearerguard.errors import Refusal
from bearerguard.protocol.dpop import ALGORITHMS, MAX_AGE, token_digest
from bearerguard.server import Lifetimes, Registered, Registration, Resource, TokenResponse
from bearerguard.testing import SigningKey
from tests.server.devices import Device
from tests.server.harness import CALLBACK, ISSUER, SECRET, Harness, Make, Reply, claims
from tests.server.statements import recorded
from tests.server.test_assertions import KEY, TYPE, assertion
from tests.server.test_extension_grants import BADGE, BadgeGrant, ask, badged

ENGINES = pytest.mark.both_engines
DEVICE, THIEF = Device(), Device()
BOUND = {"jkt": DEVICE.thumbprint}
INVALID = (400, "invalid_dpop_proof")
GRANT = (400, "invalid_grant")


def own(harness: Harness, proof: str | None = None, client: Registered | None = None) -> Reply:
    return harness.token(client, proof, grant_type="client_credentials")


def reason(harness: Harness) -> Any:
    """Why the last request was refused."""
    return [each for each in harness.events if "reason" in each.details][-1].details["reason"]


def bound_tokens(harness: Harness, client: Registered, device: Device = DEVICE) -> dict[str, Any]:
    response = harness.redeem(harness.code(client), client, proof=device.proof(harness))
    assert response.status == 200, response.json
    return response.json


# Access tokens


@ENGINES
@pytest.mark.parametrize("tokens", ["jwt", "opaque"])
def test_ADP_01_a_proof_binds_the_access_token_to_its_key(make: Make, tokens: Any) -> None:
    harness = make(resources=[Resource(ISSUER, tokens=tokens)])
    for response in (
        own(harness, DEVICE.proof(harness)),
        harness.redeem(harness.code(), proof=DEVICE.proof(harness)),
        harness.refresh(harness.tokens()["refresh_token"], proof=DEVICE.proof(harness)),
    ):
        assert (response.status, response.json["token_type"]) == (200, "DPoP")
        token = response.json["access_token"]
        found = harness.server.introspect(token)
        assert (found["active"], found["token_type"], found["cnf"]) == (True, "DPoP", BOUND)
        if tokens == "jwt":
            assert claims(token)["cnf"] == BOUND
        assert harness.server.revoke(token)
        assert not harness.is_active(token)


def test_ADP_01_without_a_proof_the_token_is_a_bearer_token(harness: Harness) -> None:
    response = own(harness)
    assert response.json["token_type"] == "Bearer"
    assert "cnf" not in claims(response.json["access_token"])
    found = harness.introspect(response.json["access_token"])
    assert found["token_type"] == "Bearer"
    assert "cnf" not in found


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA", "ES512", "RS256", "PS256"])
def test_ADP_01_keys_of_each_kind_are_accepted_and_metadata_lists_their_algorithms(
    harness: Harness, algorithm: str
) -> None:
    device = Device(algorithm)
    response = own(harness, device.proof(harness))
    assert claims(response.json["access_token"])["cnf"] == {"jkt": device.thumbprint}
    metadata = harness.send("GET", "/.well-known/oauth-authorization-server").json
    assert metadata["dpop_signing_alg_values_supported"] == list(ALGORITHMS)
    assert algorithm in metadata["dpop_signing_alg_values_supported"]


# Proofs that are not to be accepted, by what is wrong with them: in their header, in their claims.
HEADS: dict[str, dict[str, Any]] = {
    "no type": {"typ": None},
    "the type of an access token": {"typ": "at+jwt"},
    "no algorithm": {"alg": None},
    "the algorithm none": {"alg": "none"},
    "a symmetric algorithm": {"alg": "HS256"},
    "an algorithm of another key": {"alg": "RS256"},
    "no key": {"jwk": None},
    "a kid in place of a key": {"jwk": None, "kid": "device"},
    "a private key": {"jwk": {**DEVICE.jwk, "d": "AQ"}},
    "a shared secret": {"jwk": {"kty": "oct", "k": "c2VjcmV0"}},
    "a thief's key": {"jwk": THIEF.jwk},
    "a critical extension": {"crit": ["exp"], "exp": 1},
}
CLAIMS: dict[str, dict[str, Any]] = {
    "no jti": {"jti": None},
    "an empty jti": {"jti": ""},
    "a jti that is no text": {"jti": 7},
    "a jti without bounds": {"jti": "x" * 2000},
    "no method": {"htm": None},
    "another method": {"htm": "GET"},
    "a method in small letters": {"htm": "post"},
    "no target": {"htu": None},
    "another server": {"htu": "https://evil.example.com/oauth/token"},
    "the API": {"htu": ISSUER + "/recordings"},
    "another endpoint": {"htu": ISSUER + "/oauth/revoke"},
    "plain http": {"htu": "http://api.example.com/oauth/token"},
    "no time": {"iat": None},
    "a time that is no number": {"iat": "now"},
    "the past": {"iat": 1_700_000_000 - int(MAX_AGE)},
    "the future": {"iat": 1_700_000_001 + int(MAX_AGE)},
    "a nonce that is no text": {"nonce": 7},
}


@pytest.mark.parametrize("name", [*HEADS, *CLAIMS])
def test_ADP_01_a_proof_that_is_not_valid_is_refused_and_gets_no_token(
    harness: Harness, name: str
) -> None:
    head, changed = HEADS.get(name), CLAIMS.get(name, {})
    response = own(harness, DEVICE.proof(harness, head, **changed))
    assert response.error == INVALID
    assert response.header("cache-control") == "no-store"
    assert response.header("dpop-nonce") is None
    assert harness.store.count("assertions") == 0


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "a.b.c.d", "é.é.é", "x" * 20_000, ", , "])
def test_ADP_01_what_is_no_proof_is_refused(harness: Harness, text: str) -> None:
    assert own(harness, text).error == INVALID


def test_ADP_01_an_access_token_and_a_proof_by_another_key_are_no_proof(harness: Harness) -> None:
    token = own(harness).json["access_token"]
    assert own(harness, token).error == INVALID
    assert own(harness, DEVICE.proof(harness, key=THIEF.key)).error == INVALID
    secret = SigningKey.shared("HS256", b"a secret that has at least 32 bytes")
    assert own(harness, DEVICE.proof(harness, {"alg": "HS256"}, key=secret)).error == INVALID
    altered = DEVICE.proof(harness)[:-4] + "AAAA"
    assert own(harness, altered).error == INVALID


def test_ADP_01_two_proofs_are_refused(harness: Harness) -> None:
    body = {**harness.credentials(), "grant_type": "client_credentials"}
    pair = [("dpop", DEVICE.proof(harness)), ("dpop", DEVICE.proof(harness))]
    form = ("content-type", "application/x-www-form-urlencoded")
    request = Request("POST", "/oauth/token", [form, *pair], urlencode(body).encode())
    assert Reply(harness.server.handle(request)).error == INVALID


def test_ADP_01_the_target_is_the_issuers_whatever_the_host_says(make: Make) -> None:
    harness = make(issuer="https://id.example.com:8443/tenant")
    url = "https://id.example.com:8443/tenant/oauth/token"
    body = (
        b"grant_type=client_credentials&"
        + "&".join(f"{name}={value}" for name, value in harness.credentials().items()).encode()
    )

    def ask(target: str) -> Reply:
        return harness.send(
            "POST",
            "/oauth/token",
            body,
            content_type="application/x-www-form-urlencoded",
            host="evil.example.com",
            x_forwarded_host="evil.example.com",
            dpop=DEVICE.proof(harness, htu=target),
        )

    assert ask(url).status == 200
    assert ask("https://ID.example.com:8443/tenant/x/../oauth/%74oken?q=1#f").status == 200
    assert ask("https://evil.example.com/tenant/oauth/token").error == INVALID
    assert ask("https://id.example.com/tenant/oauth/token").error == INVALID


def test_ADP_01_the_log_says_what_is_wrong_and_holds_no_proof(harness: Harness) -> None:
    proof = DEVICE.proof(harness, htu="https://evil.example.com/")
    assert own(harness, proof).error == INVALID
    (event,) = [each for each in harness.events if "reason" in each.details]
    assert event.details["reason"] == "wrong_proof_target"
    assert event.details["client_id"] == harness.app.client_id
    assert "evil.example.com" in str(event.details["detail"])
    assert not any(part in repr(harness.events) for part in proof.split("."))


# Replay


@ENGINES
def test_ADP_01_a_proof_serves_once_in_every_process(harness: Harness) -> None:
    proof = DEVICE.proof(harness)
    assert own(harness, proof).status == 200
    assert own(harness, proof).error == INVALID
    assert reason(harness) == "replayed_proof"
    elsewhere = harness.another()
    try:
        harness.server, here = elsewhere, harness.server
        assert own(harness, proof).error == INVALID
    finally:
        harness.server = here
        elsewhere.close()
    assert own(harness, DEVICE.proof(harness)).status == 200


@ENGINES
def test_ADP_01_of_50_concurrent_requests_with_one_proof_one_succeeds(harness: Harness) -> None:
    proof = DEVICE.proof(harness)
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda _: own(harness, proof).error, range(50)))
    assert Counter(replies) == {(200, None): 1, INVALID: 49}


@ENGINES
def test_ADP_01_of_50_concurrent_redemptions_with_one_proof_one_succeeds(harness: Harness) -> None:
    proof = DEVICE.proof(harness)
    codes = [harness.code() for _ in range(50)]
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda code: harness.redeem(code, proof=proof).error, codes))
    assert Counter(replies) == {(200, None): 1, INVALID: 49}
    assert harness.store.count("grants") == 1


@ENGINES
def test_ADP_01_what_is_stored_of_a_proof_is_a_digest_that_is_pruned(harness: Harness) -> None:
    proof = DEVICE.proof(harness, jti="a-very-special-identifier")
    assert own(harness, proof).status == 200
    ((digest, until),) = harness.store.run("SELECT digest, expires_at FROM assertions")
    assert len(digest) == 64
    assert until == harness.clock() + MAX_AGE + 600
    stored = b"".join(harness.store.contents().values())
    assert b"a-very-special-identifier" not in stored
    assert proof.encode() not in stored
    harness.clock.now += MAX_AGE
    assert own(harness, proof).error == INVALID
    assert reason(harness) == "untimely_proof"
    harness.server.prune()
    assert harness.store.count("assertions") == 1
    harness.clock.now += 601
    harness.server.prune()
    assert harness.store.count("assertions") == 0


@ENGINES
def test_ADP_01_a_forged_proof_uses_up_nothing_and_neither_does_an_unknown_client(
    harness: Harness,
) -> None:
    text = DEVICE.proof(harness, jti="mine")
    assert own(harness, DEVICE.proof(harness, jti="mine", key=THIEF.key)).error == INVALID
    assert own(harness, THIEF.proof(harness, jti="mine")).status == 200
    wrong = harness.token(
        proof=text, grant_type="client_credentials", client_secret="not the secret of the client"
    )
    assert wrong.error == (401, "invalid_client")
    assert own(harness, text).status == 200


def test_ADP_01_a_proof_stays_used_while_the_secret_of_the_server_is_renewed(make: Make) -> None:
    harness = make()
    proof = DEVICE.proof(harness)
    assert own(harness, proof).status == 200
    renewed = harness.another(secret=["a newer secret of at least 32 characters", SECRET])
    harness.server.close()
    harness.server = renewed
    assert own(harness, proof).error == INVALID


@ENGINES
def test_ADP_01_while_proofs_cannot_be_recorded_no_token_is_issued(harness: Harness) -> None:
    with harness.store.full("assertions"):
        assert own(harness, DEVICE.proof(harness)).status == 503
        assert own(harness).status == 200
    assert own(harness, DEVICE.proof(harness)).status == 200


def test_ADP_01_a_request_without_a_proof_sends_no_statement_more(harness: Harness) -> None:
    own(harness)
    with recorded() as without:
        own(harness)
    with recorded() as bound:
        own(harness, DEVICE.proof(harness))
    assert not [sql for sql, _ in without if "assertions" in sql]
    assert len([sql for sql, _ in bound if "assertions" in sql]) == 1


# Nonces


def nonce_of(reply: Reply) -> str:
    found = [value for name, value in reply.response.headers if name == "DPoP-Nonce"]
    assert len(found) == 1
    return found[0]


def test_ADP_01_a_nonce_is_demanded_given_and_accepted_by_every_process(make: Make) -> None:
    harness = make(dpop_nonces=True)
    demanded = own(harness, DEVICE.proof(harness))
    assert demanded.error == (400, "use_dpop_nonce")
    assert demanded.header("cache-control") == "no-store"
    nonce = nonce_of(demanded)
    harness.server.close()
    harness.server = harness.another(dpop_nonces=True)
    assert own(harness, DEVICE.proof(harness, nonce=nonce)).status == 200
    assert own(harness, THIEF.proof(harness, nonce=nonce)).status == 200
    assert own(harness).json["token_type"] == "Bearer"


def test_ADP_01_a_nonce_ends_and_is_renewed_before_by_a_good_response(make: Make) -> None:
    harness = make(dpop_nonces=True)
    nonce = nonce_of(own(harness, DEVICE.proof(harness)))
    fresh = own(harness, DEVICE.proof(harness, nonce=nonce))
    assert fresh.header("dpop-nonce") is None
    harness.clock.now += 200
    renewed = own(harness, DEVICE.proof(harness, nonce=nonce))
    assert renewed.status == 200
    following = nonce_of(renewed)
    harness.clock.now += 101
    assert own(harness, DEVICE.proof(harness, nonce=nonce)).error == (400, "use_dpop_nonce")
    assert own(harness, DEVICE.proof(harness, nonce=following)).status == 200


@pytest.mark.parametrize("nonce", ["", "x", "é", "A" * 30, "a b", "x" * 1000])
def test_ADP_01_a_nonce_of_somebody_else_is_no_nonce(make: Make, nonce: str) -> None:
    harness = make(dpop_nonces=True)
    response = own(harness, DEVICE.proof(harness, nonce=nonce))
    assert response.error == (400, "use_dpop_nonce")
    nonce_of(response)


def test_ADP_01_a_demand_for_a_nonce_uses_up_no_client_assertion(make: Make) -> None:
    harness = make(dpop_nonces=True)
    robot = harness.add("Robot", jwks={"keys": [KEY.jwk()]}, redirect_uris=[])
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": TYPE,
        "client_assertion": assertion(harness, robot),
    }
    demanded = harness.post("/oauth/token", fields, dpop=DEVICE.proof(harness))
    assert demanded.error == (400, "use_dpop_nonce")
    proof = DEVICE.proof(harness, nonce=nonce_of(demanded))
    assert harness.post("/oauth/token", fields, dpop=proof).json["token_type"] == "DPoP"


# Who needs a proof


@pytest.mark.parametrize("server_wide", [True, False])
def test_ADP_01_where_a_proof_is_required_nothing_is_issued_without_one(
    make: Make, *, server_wide: bool
) -> None:
    harness = make(dpop="required" if server_wide else "allowed")
    options = {} if server_wide else {"dpop_bound_access_tokens": True}
    app = harness.add("Bound", **options)
    assert own(harness, None, app).error == INVALID
    assert reason(harness) == "missing_dpop_proof"
    code = harness.code(app)
    assert harness.redeem(code, app).error == INVALID
    tokens = harness.redeem(code, app, proof=DEVICE.proof(harness)).json
    assert harness.refresh(tokens["refresh_token"], app).error == INVALID
    again = harness.refresh(tokens["refresh_token"], app, proof=DEVICE.proof(harness))
    assert again.json["token_type"] == "DPoP"
    if not server_wide:
        assert own(harness).json["token_type"] == "Bearer"


def test_ADP_01_a_grant_of_an_operators_own_binds_too_and_cannot_leave_it_out(make: Make) -> None:
    class Careless(BadgeGrant):
        def handle(self, client: Any, parameters: Any) -> TokenResponse:
            issued = super().handle(client, parameters)
            return TokenResponse(access_token="x", expires_in=1, scopes=issued.scopes)

    harness = badged(make())
    bound = ask(harness, proof=DEVICE.proof(harness)).json
    assert (bound["token_type"], claims(bound["access_token"])["cnf"]) == ("DPoP", BOUND)
    strict = make(dpop="required")
    strict.server.grants.register(Careless(strict.server.tokens))
    strict.app = strict.add("Badge reader", grant_types=[BADGE])
    assert ask(strict, proof=DEVICE.proof(strict)).status == 503


def test_ADP_01_a_server_without_dpop_reads_no_proof(make: Make) -> None:
    harness = make(dpop="off")
    for proof in ("no proof", DEVICE.proof(harness)):
        response = own(harness, proof)
        assert response.json["token_type"] == "Bearer"
        assert "cnf" not in claims(response.json["access_token"])
    metadata = harness.send("GET", "/.well-known/oauth-authorization-server").json
    assert "dpop_signing_alg_values_supported" not in metadata
    code = harness.code(dpop_jkt=DEVICE.thumbprint)
    assert harness.redeem(code).status == 200
    with pytest.raises(ConfigurationError, match=r"dpop_bound_access_tokens=.*dpop="):
        harness.add("Bound", dpop_bound_access_tokens=True)


def test_ADP_01_a_client_that_needs_a_proof_gets_nothing_once_the_server_reads_none(
    make: Make,
) -> None:
    harness = make()
    app = harness.add("Bound", dpop_bound_access_tokens=True)
    harness.server.close()
    harness.server = harness.another(dpop="off")
    assert own(harness, DEVICE.proof(harness), app).error == INVALID


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"dpop": "on"}, "dpop=: choose"),
        ({"dpop": None}, "dpop=: choose"),
        ({"dpop_nonces": "yes"}, "dpop_nonces=: pass True or False"),
        ({"dpop": "off", "dpop_nonces": True}, 'dpop_nonces=: with dpop="off"'),
    ],
)
def test_ADP_01_an_option_that_is_wrong_is_named(
    make: Make, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        make(**options)


def test_ADP_01_a_client_registers_itself_as_one_that_needs_a_proof(make: Make) -> None:
    harness = make(registration=Registration())

    def register(member: Any) -> Reply:
        content = {
            "redirect_uris": [CALLBACK],
            "token_endpoint_auth_method": "none",
            "dpop_bound_access_tokens": member,
        }
        body = json.dumps(content).encode()
        return harness.send("POST", "/oauth/register", body, content_type="application/json")

    registered = register(member=True).json
    assert registered["dpop_bound_access_tokens"] is True
    client = Registered(harness.server.clients.get(registered["client_id"]), None)
    assert client.client.dpop_bound_access_tokens
    code = harness.code(client)
    assert harness.redeem(code, client).error == INVALID
    assert harness.redeem(code, client, proof=DEVICE.proof(harness)).status == 200
    assert register("yes").error == (400, "invalid_client_metadata")
    assert "dpop_bound_access_tokens" not in register(member=False).json


# Codes


@ENGINES
def test_ADP_01_a_code_with_a_key_is_redeemed_by_that_key_alone(harness: Harness) -> None:
    code = harness.code(harness.phone, dpop_jkt=DEVICE.thumbprint)
    assert harness.redeem(code, harness.phone).error == GRANT
    assert reason(harness) == "missing_dpop_proof"
    stolen = harness.redeem(code, harness.phone, proof=THIEF.proof(harness))
    assert (stolen.error, reason(harness)) == (GRANT, "wrong_key")
    tokens = harness.redeem(code, harness.phone, proof=DEVICE.proof(harness))
    assert tokens.json["token_type"] == "DPoP"
    # Whoever has the code without the key cannot end its tokens either.
    assert harness.redeem(code, harness.phone, proof=THIEF.proof(harness)).error == GRANT
    assert harness.server.introspect(tokens.json["access_token"])["active"]
    assert harness.redeem(code, harness.phone, proof=DEVICE.proof(harness)).error == GRANT
    assert not harness.server.introspect(tokens.json["access_token"])["active"]


@pytest.mark.parametrize("sent", ["x", "x" * 42, "x" * 44, "x" * 42 + "+", "x" * 42 + "="])
def test_ADP_01_a_dpop_jkt_that_is_no_thumbprint_is_refused(harness: Harness, sent: str) -> None:
    assert harness.authorize(dpop_jkt=sent).sent["error"] == "invalid_request"
    assert reason(harness) == "malformed_dpop_jkt"


def test_ADP_01_the_key_of_a_code_survives_the_consent_page(harness: Harness) -> None:
    page = harness.authorize(harness.phone, dpop_jkt=DEVICE.thumbprint)
    assert page.status == 200
    code = harness.consent(page).sent["code"]
    assert harness.redeem(code, harness.phone, proof=THIEF.proof(harness)).error == GRANT


# Refresh tokens


@ENGINES
def test_ADP_01_the_refresh_token_of_a_public_client_is_bound_to_its_key(harness: Harness) -> None:
    phone = harness.phone
    token = bound_tokens(harness, phone)["refresh_token"]
    assert harness.refresh(token, phone).error == GRANT
    assert reason(harness) == "missing_dpop_proof"
    assert harness.refresh(token, phone, proof=THIEF.proof(harness)).error == GRANT
    assert reason(harness) == "wrong_key"
    assert not harness.named("refresh_token_reused")
    response = harness.refresh(token, phone, proof=DEVICE.proof(harness))
    assert (response.status, response.json["token_type"]) == (200, "DPoP")
    assert claims(response.json["access_token"])["cnf"] == BOUND
    following = response.json["refresh_token"]
    assert harness.refresh(following, phone, proof=THIEF.proof(harness)).error == GRANT
    assert harness.refresh(following, phone, proof=DEVICE.proof(harness)).status == 200


@ENGINES
def test_ADP_01_a_used_refresh_token_without_its_key_ends_nothing(make: Make) -> None:
    harness = make(lifetimes=Lifetimes(refresh_grace=0))
    phone = harness.phone
    tokens = [bound_tokens(harness, phone)["refresh_token"]]
    for _ in range(3):
        response = harness.refresh(tokens[-1], phone, proof=DEVICE.proof(harness))
        tokens.append(response.json["refresh_token"])
    for spent in tokens[:-1]:
        assert harness.refresh(spent, phone).error == GRANT
        assert harness.refresh(spent, phone, proof=THIEF.proof(harness)).error == GRANT
    assert not harness.named("refresh_token_reused")
    assert harness.refresh(tokens[-1], phone, proof=DEVICE.proof(harness)).status == 200
    assert harness.refresh(tokens[0], phone, proof=DEVICE.proof(harness)).error == GRANT
    assert len(harness.named("refresh_token_reused")) == 1


@ENGINES
def test_RT_02_a_lost_refresh_is_repeated_by_the_same_key_alone(harness: Harness) -> None:
    phone = harness.phone
    token = bound_tokens(harness, phone)["refresh_token"]
    first = harness.refresh(token, phone, proof=DEVICE.proof(harness)).json
    assert harness.refresh(token, phone).error == GRANT
    assert harness.refresh(token, phone, proof=THIEF.proof(harness)).error == GRANT
    again = harness.refresh(token, phone, proof=DEVICE.proof(harness)).json
    assert again["refresh_token"] == first["refresh_token"]
    assert claims(again["access_token"])["cnf"] == BOUND
    assert not harness.named("refresh_token_reused")


@ENGINES
def test_ADP_01_the_refresh_token_of_a_confidential_client_is_bound_to_no_key(
    harness: Harness,
) -> None:
    token = bound_tokens(harness, harness.app)["refresh_token"]
    other = Device()
    second = harness.refresh(token, proof=other.proof(harness)).json
    assert claims(second["access_token"])["cnf"] == {"jkt": other.thumbprint}
    third = harness.refresh(second["refresh_token"]).json
    assert (third["token_type"], "cnf" in claims(third["access_token"])) == ("Bearer", False)


@ENGINES
def test_ADP_01_a_public_clients_refresh_token_is_bound_by_the_first_proof(
    harness: Harness,
) -> None:
    phone = harness.phone
    first = harness.tokens(phone)["refresh_token"]
    second = harness.refresh(first, phone).json
    assert second["token_type"] == "Bearer"
    third = harness.refresh(second["refresh_token"], phone, proof=DEVICE.proof(harness)).json
    assert third["token_type"] == "DPoP"
    again = harness.refresh(second["refresh_token"], phone, proof=DEVICE.proof(harness)).json
    assert again["refresh_token"] == third["refresh_token"]
    for proof in (None, THIEF.proof(harness)):
        assert harness.refresh(third["refresh_token"], phone, proof=proof).error == GRANT
    assert not harness.named("refresh_token_reused")
    proof = DEVICE.proof(harness)
    assert harness.refresh(third["refresh_token"], phone, proof=proof).status == 200


@ENGINES
@pytest.mark.parametrize("seconds", [1, 60])
@pytest.mark.parametrize("pruned", [False, True])
def test_RT_01_a_thief_who_binds_a_stolen_bearer_token_to_a_key_is_found_out(
    make: Make, seconds: int, *, pruned: bool
) -> None:
    harness = make()
    phone = harness.phone
    stolen = harness.tokens(phone)["refresh_token"]
    bound = harness.refresh(stolen, phone, proof=THIEF.proof(harness)).json
    if pruned:
        following = harness.refresh(bound["refresh_token"], phone, proof=THIEF.proof(harness))
        bound = following.json
        harness.server.prune()
    harness.clock.now += seconds
    assert harness.refresh(stolen, phone).error == GRANT
    assert len(harness.named("refresh_token_reused")) == 1
    assert not harness.server.introspect(bound["access_token"])["active"]
    proof = THIEF.proof(harness)
    assert harness.refresh(bound["refresh_token"], phone, proof=proof).error == GRANT


@ENGINES
def test_RT_01_concurrent_refreshes_of_a_bearer_token_with_two_keys_end_its_family(
    harness: Harness,
) -> None:
    phone = harness.phone
    token = harness.tokens(phone)["refresh_token"]
    devices = [DEVICE, THIEF] * 10
    with ThreadPoolExecutor(20) as pool:
        replies = list(
            pool.map(lambda each: harness.refresh(token, phone, proof=each.proof(harness)), devices)
        )
    good = [each.json for each in replies if each.status == 200]
    assert len({claims(each["access_token"])["cnf"]["jkt"] for each in good}) == 1
    assert len({each["refresh_token"] for each in good}) == 1
    assert all(each.error == GRANT for each in replies if each.status != 200)
    assert len(harness.named("refresh_token_reused")) == 1
    assert not harness.server.introspect(good[0]["access_token"])["active"]


# CORS


def test_CORS_01_a_registered_page_may_send_a_proof_and_read_the_nonce(make: Make) -> None:
    harness = make(dpop_nonces=True)
    origin = "https://page.example.com"
    page = harness.add("Page", public=True, redirect_uris=[CALLBACK], origins=[origin])
    preflight = harness.send(
        "OPTIONS",
        "/oauth/token",
        origin=origin,
        access_control_request_method="POST",
        access_control_request_headers="content-type,dpop",
    )
    allowed = (preflight.header("access-control-allow-headers") or "").lower()
    assert "dpop" in allowed.replace(" ", "").split(",")
    fields = {"client_id": page.client_id, "grant_type": "authorization_code", "code": "x"}
    demanded = harness.post("/oauth/token", fields, dpop=DEVICE.proof(harness), origin=origin)
    assert demanded.error == (400, "use_dpop_nonce")
    assert demanded.header("access-control-allow-origin") == origin
    assert "DPoP-Nonce" in (demanded.header("access-control-expose-headers") or "")
    nonce_of(demanded)


# The guard in the server's process


@pytest.mark.parametrize("tokens", ["jwt", "opaque"])
def test_ADP_01_a_guard_in_the_process_accepts_a_bound_token_with_its_key_alone(
    make: Make, tokens: Any
) -> None:
    harness = make(dpop="required", resources=[Resource(ISSUER, tokens=tokens)])
    token = own(harness, DEVICE.proof(harness)).json["access_token"]
    url = f"{ISSUER}/recordings"

    def request(device: Device) -> Request:
        ath = token_digest(token)
        proof = device.proof(harness, htm="GET", htu=url, ath=ath)
        return Request("GET", url, {"Authorization": f"DPoP {token}", "DPoP": proof})

    with Guard(
        harness.server.issuer(), dpop="allowed", public_url=ISSUER, clock=harness.clock
    ) as guard:
        assert guard.verify(token, request=request(DEVICE)).client_id == harness.app.client_id
        with pytest.raises(Refusal):
            guard.verify(token, request=request(THIEF))
        with pytest.raises(TokenError, match="sender_constrained"):
            guard.verify(token)
        assert harness.server.revoke(token)
        with pytest.raises(TokenError, match=r"revoked|inactive"):
            guard.verify(token, request=request(DEVICE))


def test_a_guard_that_would_refuse_every_token_of_its_server_is_not_made(make: Make) -> None:
    harness = make(dpop="required")
    with pytest.raises(ConfigurationError, match=r'Guard\(dpop=\).*dpop="allowed"'):
        Guard(harness.server.issuer())
