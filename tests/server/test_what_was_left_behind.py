"""Nothing that was taken away comes back: users, clients, resources, and what was asked for."""

from __future__ import annotations

from typing import Any

from bearerguard.protocol import pkce
from bearerguard.server import PeopleOptions, Revoked
from bearerguard.server.grants.authorization_code import Allowed
from tests.server.stage import CALLBACK, ISSUER, VERIFIER, Make, Stage

A, B = "https://a.example.com", "https://b.example.com"


def test_a_user_disabled_as_an_account_has_no_tokens_left_either(make: Make) -> None:
    stage = make(people=PeopleOptions())
    ada = stage.server.users.add("ada", "correct horse battery")
    tokens = stage.redeem(code_of(stage, ada.user_id)).json
    assert stage.is_active(tokens["access_token"])
    heard: list[Revoked] = []
    stage.server.on_revocation(heard.append)
    stage.server.users.disable("ada")
    assert [each.kind for each in heard] == ["sid", "sub"], "guards are told"
    assert stage.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
    assert not stage.is_active(tokens["access_token"])


def test_a_code_that_a_disabled_user_still_got_is_not_redeemed(make: Make) -> None:
    stage = make(people=PeopleOptions())
    ada = stage.server.users.add("ada", "correct horse battery")
    stage.server.users.disable("ada")
    # The user was found signed in just before, and the code is written just after.
    code = code_of(stage, ada.user_id)
    assert stage.redeem(code).error == (400, "invalid_grant")
    stage.server.users.enable("ada")
    assert stage.redeem(code_of(stage, ada.user_id)).status == 200


def test_a_client_with_an_id_that_was_used_before_does_not_revive_its_tokens(
    stage: Stage,
) -> None:
    def registered() -> Any:
        return stage.add("Robot", client_id="robot", redirect_uris=())

    token = stage.token(registered(), grant_type="client_credentials").json["access_token"]
    assert stage.server.introspect(token)["active"]
    stage.server.clients.remove("robot")
    stage.clock.now += 1.5
    again = registered()
    assert not stage.server.introspect(token)["active"]
    fresh = stage.token(again, grant_type="client_credentials").json["access_token"]
    assert stage.server.introspect(fresh)["active"]


def test_what_was_granted_for_a_resource_that_is_gone_is_refused_not_a_failure(
    make: Make,
) -> None:
    before = make(resources=[A])
    code = before.code()
    refresh = before.tokens()["refresh_token"]
    after = make(resources=[B], store=f"sqlite:///{before.folder}/auth.db")
    after.app = before.app
    assert after.redeem(code).error == (400, "invalid_target")
    assert after.refresh(refresh).error == (400, "invalid_target")


def test_consent_that_is_remembered_is_not_taken_for_another_resource(make: Make) -> None:
    stage = make(resources=[A, B])
    app = stage.add("Careful", require_consent=True)
    assert "code" in stage.consent(stage.authorize(app), remember="yes").sent
    assert "code" in stage.authorize(app).sent
    assert "code" in stage.authorize(app, resource=A).sent
    for other in (B, [A, B]):
        page = stage.authorize(app, resource=other)
        assert page.status == 200
        assert B in page.response.body.decode()
        assert "code" in stage.consent(page).sent
        assert stage.authorize(app, resource=other).status == 200, "asked again"
    assert "code" in stage.consent(stage.authorize(app, resource=B), remember="yes").sent
    for known in (B, [A, B], A):
        assert "code" in stage.authorize(app, resource=known).sent


def test_a_query_with_raw_control_characters_leads_nowhere(stage: Stage) -> None:
    stage.user = None
    query = f"client_id={stage.app.client_id}&redirect_uri={CALLBACK}&response_type=code"
    for odd in ("\x01", "\x0b", "\x7f", "\x85", "é"):
        answer = stage.send("GET", f"/oauth/authorize?{query}&state={odd}")
        assert answer.status == 400
        assert answer.header("location") is None


def code_of(stage: Stage, user_id: str) -> str:
    """Return a code as the authorization endpoint issues one."""
    return stage.server._engine.codes.issue(
        stage.app.client,
        Allowed(
            user_id=user_id,
            auth_time=None,
            redirect_uri=CALLBACK,
            challenge=pkce.challenge(VERIFIER),
            scopes=("read",),
            resources=(ISSUER,),
        ),
    )
