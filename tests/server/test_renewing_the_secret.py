"""Renewing the server's secret over a live database: what stands stays good, as long as it says."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from bearerguard import ConfigurationError
from bearerguard.server import AuthorizationServer, Resource
from bearerguard.server.administration import Administration
from bearerguard.server.clients.client import PRIVATE_KEY_JWT
from tests.server.stage import ISSUER, SECRET, Make, Stage, hidden_fields

NEW = "a renewed secret of the server only for tests"
PASSWORD = "correct horse battery"


def renew(stage: Stage, *secrets: str) -> None:
    """Let the stage's server start again with these secrets, newest first."""
    stage.server.close()
    settings = stage.server.settings
    stage.server = AuthorizationServer(
        ISSUER,
        store=f"sqlite:///{stage.folder}/auth.db",
        secret=list(secrets),
        scopes=settings.scopes,
        resources=list(settings.resources),
        people=stage.people,
        clock=stage.clock,
        on_event=stage.events.append,
        algorithm="ES256",
    )


def opaque(make: Make) -> Stage:
    return make(resources=[Resource(ISSUER, tokens="opaque")])


def test_what_was_given_under_the_old_secret_stays_good_under_both(make: Make) -> None:
    stage = opaque(make)
    tokens, unused = stage.tokens(), stage.tokens()["refresh_token"]
    retried = stage.tokens()["refresh_token"]
    successor = stage.refresh(retried).json["refresh_token"]
    code = stage.code()
    renew(stage, NEW, SECRET)
    assert stage.is_active(tokens["access_token"])
    assert stage.redeem(code).status == 200
    assert stage.redeem(code).error == (400, "invalid_grant")
    assert stage.refresh(unused).status == 200
    assert stage.refresh(retried).json["refresh_token"] == successor, "within the grace window"
    assert stage.refresh(successor).status == 200
    assert stage.server.revoke(tokens["refresh_token"])
    assert not stage.is_active(tokens["access_token"])


def test_an_opaque_token_and_a_refresh_token_of_the_old_secret_can_be_revoked(make: Make) -> None:
    stage = opaque(make)
    token, other = stage.tokens()["access_token"], stage.tokens()
    renew(stage, NEW, SECRET)
    assert stage.server.revoke(token)
    assert not stage.is_active(token)
    assert stage.server.introspect(other["access_token"])["active"]
    used = stage.refresh(other["refresh_token"]).json
    stage.clock.now += 11
    assert stage.refresh(other["refresh_token"]).error == (400, "invalid_grant")
    assert not stage.is_active(used["access_token"]), "a theft ends the family all the same"


def test_a_client_that_came_meanwhile_needs_the_old_secret_no_more(stage: Stage) -> None:
    late = stage.add("Late")
    renew(stage, NEW, SECRET)
    assert stage.token(grant_type="client_credentials").status == 200
    assert stage.token(grant_type="client_credentials").status == 200
    token = stage.tokens()["refresh_token"]
    renew(stage, NEW)
    assert stage.token(grant_type="client_credentials").status == 200
    assert stage.refresh(token).status == 200
    assert stage.token(late, grant_type="client_credentials").error == (401, "invalid_client")
    late_secret = stage.server.clients.rotate_secret(late.client_id)
    answer = stage.token(late, grant_type="client_credentials", client_secret=late_secret)
    assert answer.status == 200


def test_a_renewed_digest_ends_when_the_secret_would_have(stage: Stage) -> None:
    new = stage.server.clients.rotate_secret(stage.app.client_id, overlap=60)
    renew(stage, NEW, SECRET)
    assert stage.token(grant_type="client_credentials").status == 200
    stage.clock.now += 61
    assert stage.token(grant_type="client_credentials").error == (401, "invalid_client")
    assert stage.token(grant_type="client_credentials", client_secret=new).status == 200


def test_what_was_hashed_under_a_secret_that_is_gone_is_unknown_and_never_an_error(
    make: Make,
) -> None:
    stage = opaque(make)
    tokens, code = stage.tokens(), stage.code()
    renew(stage, NEW, SECRET)
    assert stage.token(grant_type="client_credentials").status == 200
    renew(stage, NEW)
    assert stage.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
    assert stage.redeem(code).error == (400, "invalid_grant")
    assert not stage.is_active(tokens["access_token"])
    assert not stage.server.revoke(tokens["access_token"])


def test_the_signing_keys_are_sealed_anew_at_the_start(stage: Stage) -> None:
    waiting = stage.server.keys.rotate()
    token = stage.tokens()["access_token"]
    renew(stage, NEW, SECRET)
    assert stage.named("keys_sealed_anew")[0].details == {"keys": 2}
    assert stage.is_active(token)
    renew(stage, NEW)
    assert len(stage.named("keys_sealed_anew")) == 1
    assert stage.is_active(token)
    stage.clock.now += 601
    signed = stage.tokens()["access_token"]
    assert pyjwt.get_unverified_header(signed)["kid"] == waiting
    with pytest.raises(ConfigurationError, match="another secret"):
        renew(stage, SECRET)


def test_a_key_that_signs_no_more_may_be_of_a_secret_that_is_gone(stage: Stage) -> None:
    token = stage.token(grant_type="client_credentials").json["access_token"]
    (old,) = stage.server.keys.all()
    renew(stage, NEW, SECRET)
    assert stage.is_active(token)
    stage.server.keys.rotate(immediately=True)
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        restored = "UPDATE signing_keys SET sealed_private = ? WHERE kid = ?"
        database.execute(restored, (old.sealed, old.kid))
        database.commit()
    renew(stage, NEW)
    assert stage.is_active(token), "it is verified with what is public"
    assert stage.token(grant_type="client_credentials").status == 200


def test_a_used_assertion_stays_used(stage: Stage) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    client = stage.add("Signer", auth_method=PRIVATE_KEY_JWT, jwks={"keys": [jwk | {"kid": "k"}]})
    now = int(stage.clock.now)
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
    assert stage.post("/oauth/token", fields).status == 200
    renew(stage, NEW, SECRET)
    assert stage.post("/oauth/token", fields).error == (401, "invalid_client")


def test_who_is_signed_in_stays_so_and_a_form_on_the_screen_can_be_sent(make: Make) -> None:
    stage = make(people=None)
    stage.people = None
    stage.server.users.add("ada", PASSWORD)
    link = stage.authorize(stage.phone).location
    page = stage.send("GET", link)
    form_cookie = (page.header("set-cookie") or "").partition(";")[0]
    renew(stage, NEW, SECRET)
    fields = hidden_fields(page.response.body.decode())
    signed_in = stage.post(
        "/oauth/login", {**fields, "username": "ada", "password": PASSWORD}, cookie=form_cookie
    )
    assert signed_in.status == 303, signed_in.response.body
    session = (signed_in.header("set-cookie") or "").partition(";")[0]
    assert session.startswith(("bearerguard_session", "__Host-bearerguard_session"))
    for secrets in ((NEW, SECRET), ("x" * 40, NEW), ("x" * 40,)):
        renew(stage, *secrets)
        answer = stage.send("GET", signed_in.location, cookie=session)
        # The last no longer knows the secret under which the session was begun.
        assert answer.status == (200 if len(secrets) == 2 else 303)


def test_the_command_line_and_the_environment_know_both(stage: Stage) -> None:
    store = f"sqlite:///{stage.folder}/auth.db"
    token = stage.tokens()["refresh_token"]
    environ = {"BEARERGUARD_SERVER_SECRET": f"{NEW}, {SECRET}"}
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        assert database.execute("SELECT count(*) FROM refresh_tokens").fetchone() == (1,)
    with Administration(store, secret=[NEW, SECRET], clock=stage.clock) as administration:
        assert administration.revoke_token(token)
        kid = administration.keys.rotate(immediately=True)
    renew(stage, NEW, SECRET)
    assert pyjwt.get_unverified_header(stage.tokens()["access_token"])["kid"] == kid
    other = make_store(stage)
    AuthorizationServer(ISSUER, store=other, secret=SECRET).close()
    AuthorizationServer(ISSUER, store=other, environ=environ).close()
    AuthorizationServer(ISSUER, store=other, secret=NEW).close()


def make_store(stage: Stage) -> str:
    return f"sqlite:///{stage.folder}/other.db"


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        (f"{NEW},short", "the 2nd"),
        (f"{NEW},", "the 2nd"),
        (f",{NEW}", "the 1st"),
        (",".join(f"{NEW}{each}" for each in range(5)), "4 at most"),
    ],
)
def test_a_malformed_list_is_named(stage: Stage, variable: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match="BEARERGUARD_SERVER_SECRET") as refusal:
        AuthorizationServer(
            ISSUER,
            store=make_store(stage),
            environ={"BEARERGUARD_SERVER_SECRET": variable},
        )
    assert said in str(refusal.value)
    assert NEW not in str(refusal.value)


@pytest.mark.parametrize("secret", [[], [NEW, "short"], [NEW] * 5, [NEW, 7], 7])
def test_a_malformed_secret_is_named(stage: Stage, secret: Any) -> None:
    with pytest.raises(ConfigurationError, match="secret="):
        AuthorizationServer(ISSUER, store=make_store(stage), secret=secret)
