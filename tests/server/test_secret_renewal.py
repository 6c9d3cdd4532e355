"""Renewing the server's secret over a live database: what is stored stays valid."""

from __future__ import annotations

from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from bearerguard import ConfigurationError
from bearerguard.server import AuthorizationServer, Resource, SigningKeys
from bearerguard.server.administration import Administration
from bearerguard.server.clients.client import PRIVATE_KEY_JWT
from tests.server.harness import ISSUER, SECRET, Harness, Make, hidden_fields
from tests.server.stores import MakeStore

pytestmark = pytest.mark.both_engines

NEW = "a renewed secret of the server only for tests"
PASSWORD = "correct horse battery"


def renew(harness: Harness, *secrets: str) -> None:
    """Let the harness's server start again with these secrets, newest first."""
    harness.server.close()
    settings = harness.server.settings
    harness.server = AuthorizationServer(
        ISSUER,
        store=harness.store.url,
        secret=list(secrets),
        scopes=settings.scopes,
        resources=list(settings.resources),
        people=harness.people,
        clock=harness.clock,
        on_event=harness.events.append,
        signing=SigningKeys(algorithm="ES256"),
    )


def opaque(make: Make) -> Harness:
    return make(resources=[Resource(ISSUER, tokens="opaque")])


def test_what_the_old_secret_issued_stays_valid_under_both(make: Make) -> None:
    harness = opaque(make)
    tokens, unused = harness.tokens(), harness.tokens()["refresh_token"]
    retried = harness.tokens()["refresh_token"]
    successor = harness.refresh(retried).json["refresh_token"]
    code = harness.code()
    renew(harness, NEW, SECRET)
    assert harness.is_active(tokens["access_token"])
    assert harness.redeem(code).status == 200
    assert harness.redeem(code).error == (400, "invalid_grant")
    assert harness.refresh(unused).status == 200
    assert harness.refresh(retried).json["refresh_token"] == successor, "within the grace window"
    assert harness.refresh(successor).status == 200
    assert harness.server.revoke(tokens["refresh_token"])
    assert not harness.is_active(tokens["access_token"])


def test_an_opaque_token_and_a_refresh_token_of_the_old_secret_can_be_revoked(make: Make) -> None:
    harness = opaque(make)
    token, other = harness.tokens()["access_token"], harness.tokens()
    renew(harness, NEW, SECRET)
    assert harness.server.revoke(token)
    assert not harness.is_active(token)
    assert harness.server.introspect(other["access_token"])["active"]
    used = harness.refresh(other["refresh_token"]).json
    harness.clock.now += 11
    assert harness.refresh(other["refresh_token"]).error == (400, "invalid_grant")
    assert not harness.is_active(used["access_token"]), "a theft ends the family all the same"


def test_a_client_that_came_meanwhile_needs_the_old_secret_no_more(harness: Harness) -> None:
    late = harness.add("Late")
    renew(harness, NEW, SECRET)
    assert harness.token(grant_type="client_credentials").status == 200
    assert harness.token(grant_type="client_credentials").status == 200
    token = harness.tokens()["refresh_token"]
    renew(harness, NEW)
    assert harness.token(grant_type="client_credentials").status == 200
    assert harness.refresh(token).status == 200
    assert harness.token(late, grant_type="client_credentials").error == (401, "invalid_client")
    late_secret = harness.server.clients.rotate_secret(late.client_id)
    response = harness.token(late, grant_type="client_credentials", client_secret=late_secret)
    assert response.status == 200


def test_a_renewed_digest_ends_when_the_secret_would_have(harness: Harness) -> None:
    new = harness.server.clients.rotate_secret(harness.app.client_id, overlap=60)
    renew(harness, NEW, SECRET)
    assert harness.token(grant_type="client_credentials").status == 200
    harness.clock.now += 61
    assert harness.token(grant_type="client_credentials").error == (401, "invalid_client")
    assert harness.token(grant_type="client_credentials", client_secret=new).status == 200


def test_what_was_hashed_under_a_secret_that_is_gone_is_unknown_and_never_an_error(
    make: Make,
) -> None:
    harness = opaque(make)
    tokens, code = harness.tokens(), harness.code()
    renew(harness, NEW, SECRET)
    assert harness.token(grant_type="client_credentials").status == 200
    renew(harness, NEW)
    assert harness.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
    assert harness.redeem(code).error == (400, "invalid_grant")
    assert not harness.is_active(tokens["access_token"])
    assert not harness.server.revoke(tokens["access_token"])


def test_the_signing_keys_are_resealed_at_the_start(harness: Harness) -> None:
    waiting = harness.server.keys.rotate()
    token = harness.tokens()["access_token"]
    renew(harness, NEW, SECRET)
    assert harness.named("keys_resealed")[0].details == {"keys": 2, "by": "upkeep"}
    assert harness.is_active(token)
    renew(harness, NEW)
    assert len(harness.named("keys_resealed")) == 1
    assert harness.is_active(token)
    harness.clock.now += 601
    signed = harness.tokens()["access_token"]
    assert pyjwt.get_unverified_header(signed)["kid"] == waiting
    with pytest.raises(ConfigurationError, match="another secret"):
        renew(harness, SECRET)


def test_a_key_that_signs_no_more_may_be_of_a_secret_that_is_gone(harness: Harness) -> None:
    token = harness.token(grant_type="client_credentials").json["access_token"]
    (old,) = harness.server.keys.all()
    renew(harness, NEW, SECRET)
    assert harness.is_active(token)
    harness.server.keys.rotate(immediately=True)
    restored = "UPDATE signing_keys SET sealed_private = :sealed WHERE kid = :kid"
    harness.store.run(restored, {"sealed": old.sealed, "kid": old.kid})
    renew(harness, NEW)
    assert harness.is_active(token), "it is verified with what is public"
    assert harness.token(grant_type="client_credentials").status == 200


def test_a_used_assertion_stays_used(harness: Harness) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    client = harness.add("Signer", auth_method=PRIVATE_KEY_JWT, jwks={"keys": [jwk | {"kid": "k"}]})
    now = int(harness.clock.now)
    content = {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": ISSUER,
        "jti": "once",
        "iat": now,
        "exp": now + 60,
    }
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": pyjwt.encode(content, private, "ES256", headers={"kid": "k"}),
    }
    assert harness.post("/oauth/token", fields).status == 200
    renew(harness, NEW, SECRET)
    assert harness.post("/oauth/token", fields).error == (401, "invalid_client")


def test_who_is_signed_in_stays_so_and_a_form_on_the_screen_can_be_sent(make: Make) -> None:
    harness = make(people=None)
    harness.people = None
    harness.server.users.add("ada", PASSWORD)
    link = harness.authorize(harness.phone).location
    page = harness.send("GET", link)
    form_cookie = (page.header("set-cookie") or "").partition(";")[0]
    renew(harness, NEW, SECRET)
    fields = hidden_fields(page.response.body.decode())
    signed_in = harness.post(
        "/oauth/login", {**fields, "username": "ada", "password": PASSWORD}, cookie=form_cookie
    )
    assert signed_in.status == 303, signed_in.response.body
    session = (signed_in.header("set-cookie") or "").partition(";")[0]
    assert session.startswith(("bearerguard_session", "__Host-bearerguard_session"))
    for secrets in ((NEW, SECRET), ("x" * 40, NEW), ("x" * 40,)):
        renew(harness, *secrets)
        response = harness.send("GET", signed_in.location, cookie=session)
        # The last no longer knows the secret under which the session was begun.
        assert response.status == (200 if len(secrets) == 2 else 303)


def test_the_command_line_and_the_environment_know_both(
    harness: Harness, make_store: MakeStore
) -> None:
    token = harness.tokens()["refresh_token"]
    environ = {"BEARERGUARD_SERVER_SECRET": f"{NEW}, {SECRET}"}
    assert harness.store.count("refresh_tokens") == 1
    secrets = [NEW, SECRET]
    with Administration(harness.store.url, secret=secrets, clock=harness.clock) as administration:
        assert administration.revoke(token)
        kid = administration.keys.rotate(immediately=True)
    renew(harness, NEW, SECRET)
    assert pyjwt.get_unverified_header(harness.tokens()["access_token"])["kid"] == kid
    (harness.folder / "other").mkdir()
    other = make_store(harness.folder / "other").url
    AuthorizationServer(ISSUER, store=other, secret=SECRET).close()
    AuthorizationServer(ISSUER, store=other, environ=environ).close()
    AuthorizationServer(ISSUER, store=other, secret=NEW).close()


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        (f"{NEW},short", "the 2nd"),
        (f"{NEW},", "the 2nd"),
        (f",{NEW}", "the 1st"),
        (",".join(f"{NEW}{each}" for each in range(5)), "4 at most"),
    ],
)
def test_a_malformed_list_is_named(harness: Harness, variable: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match="BEARERGUARD_SERVER_SECRET") as refusal:
        AuthorizationServer(
            ISSUER,
            store=harness.store.url,
            environ={"BEARERGUARD_SERVER_SECRET": variable},
        )
    assert said in str(refusal.value)
    assert NEW not in str(refusal.value)


@pytest.mark.parametrize("secret", [[], [NEW, "short"], [NEW] * 5, [NEW, 7], 7])
def test_a_malformed_secret_is_named(harness: Harness, secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret="):
        AuthorizationServer(ISSUER, store=harness.store.url, secret=secret)
