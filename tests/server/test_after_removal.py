"""After users, clients, scopes or resources are removed, nothing issued before brings them back."""

from __future__ import annotations

from typing import Any

from bearerguard.protocol import pkce
from bearerguard.server import PeopleOptions, Revoked
from bearerguard.server.grants.authorization_code import Approval
from tests.server.harness import CALLBACK, ISSUER, VERIFIER, Harness, Make

A, B = "https://a.example.com", "https://b.example.com"


def test_a_user_disabled_as_an_account_has_no_tokens_left_either(make: Make) -> None:
    harness = make(people=PeopleOptions())
    ada = harness.server.users.add("ada", "correct horse battery")
    tokens = harness.redeem(code_of(harness, ada.user_id)).json
    assert harness.is_active(tokens["access_token"])
    revoked: list[Revoked] = []
    harness.server.on_revocation(revoked.append)
    harness.server.users.disable("ada")
    assert [each.kind for each in revoked] == ["sid", "sub"], "guards are notified"
    assert harness.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
    assert not harness.is_active(tokens["access_token"])


def test_a_code_that_a_disabled_user_still_got_is_not_redeemed(make: Make) -> None:
    harness = make(people=PeopleOptions())
    ada = harness.server.users.add("ada", "correct horse battery")
    harness.server.users.disable("ada")
    # The user was found signed in just before, and the code is written just after.
    code = code_of(harness, ada.user_id)
    assert harness.redeem(code).error == (400, "invalid_grant")
    harness.server.users.enable("ada")
    assert harness.redeem(code_of(harness, ada.user_id)).status == 200


def test_a_client_with_an_id_that_was_used_before_does_not_revive_its_tokens(
    harness: Harness,
) -> None:
    def registered() -> Any:
        return harness.add("Robot", client_id="robot", redirect_uris=())

    token = harness.token(registered(), grant_type="client_credentials").json["access_token"]
    assert harness.server.introspect(token)["active"]
    harness.server.clients.remove("robot")
    harness.clock.now += 1.5
    again = registered()
    assert not harness.server.introspect(token)["active"]
    fresh = harness.token(again, grant_type="client_credentials").json["access_token"]
    assert harness.server.introspect(fresh)["active"]


def test_what_was_granted_for_a_resource_that_is_gone_is_refused_not_a_failure(
    make: Make,
) -> None:
    before = make(resources=[A])
    code = before.code()
    refresh = before.tokens()["refresh_token"]
    after = make(resources=[B], store=before.store)
    after.app = before.app
    assert after.redeem(code).error == (400, "invalid_target")
    assert after.refresh(refresh).error == (400, "invalid_target")


def test_consent_that_is_remembered_is_not_taken_for_another_resource(make: Make) -> None:
    harness = make(resources=[A, B])
    app = harness.add("Careful", require_consent=True)
    assert "code" in harness.consent(harness.authorize(app), remember="yes").sent
    assert "code" in harness.authorize(app).sent
    assert "code" in harness.authorize(app, resource=A).sent
    for other in (B, [A, B]):
        page = harness.authorize(app, resource=other)
        assert page.status == 200
        assert B in page.response.body.decode()
        assert "code" in harness.consent(page).sent
        assert harness.authorize(app, resource=other).status == 200, "asked again"
    assert "code" in harness.consent(harness.authorize(app, resource=B), remember="yes").sent
    for known in (B, [A, B], A):
        assert "code" in harness.authorize(app, resource=known).sent


def test_a_query_with_raw_control_characters_leads_nowhere(harness: Harness) -> None:
    harness.user = None
    query = f"client_id={harness.app.client_id}&redirect_uri={CALLBACK}&response_type=code"
    for odd in ("\x01", "\x0b", "\x7f", "\x85", "é"):
        response = harness.send("GET", f"/oauth/authorize?{query}&state={odd}")
        assert response.status == 400
        assert response.header("location") is None


def code_of(harness: Harness, user_id: str) -> str:
    """Return a code as the authorization endpoint issues one."""
    return harness.server._engine.codes.issue(
        harness.app.client,
        Approval(
            user_id=user_id,
            auth_time=None,
            acr=None,
            redirect_uri=CALLBACK,
            challenge=pkce.challenge(VERIFIER),
            scopes=("read",),
            resources=(ISSUER,),
        ),
        lambda _: None,
    )
