"""Back-channel logout: who signs out elsewhere is signed out here, and the tokens end."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from bearerguard import Guard
from bearerguard.errors import TokenError
from tests.server.harness import Make, Reply
from tests.server.people.elsewhere import PASSWORD, World
from tests.server.people.visitor import Visitor
from tests.server.test_device_code import PAGE as DEVICE
from tests.server.test_device_code import Screen

EVENT = "http://schemas.openid.net/event/backchannel-logout"


@pytest.fixture
def world(make: Make) -> World:
    return World(make)


def log_out(world: World, key: str = "example", **changed: Any) -> Reply:
    # `token` gives each a `jti` of its own.
    token = world.idp.logout_token(**changed)
    return world.harness.post(f"/oauth/backchannel_logout/{key}", {"logout_token": token})


def is_signed_in(visitor: Visitor) -> bool:
    return visitor.get("/oauth/account").status == 200


def signed_in(world: World, session: str | None = None) -> tuple[Visitor, dict[str, Any]]:
    world.idp.changed["sid"] = session
    visitor = world.visitor()
    return visitor, world.harness.redeem(world.code(visitor)).json


def allow(world: World, visitor: Visitor, screen: Screen) -> None:
    world.sign_in(visitor)
    consent = visitor.submit(visitor.get(f"{DEVICE}?user_code={screen.user_code}"))
    assert visitor.submit(consent, ("decision", "allow")).status == 200


@pytest.mark.both_engines
def test_a_logout_token_with_a_session_ends_that_one(world: World) -> None:
    (here, tokens), (there, others) = signed_in(world, "s1"), signed_in(world, "s2")
    guard = Guard(world.server.issuer(), clock=world.harness.clock)
    guard.verify(tokens["access_token"])
    reply = log_out(world, sid="s1")
    assert (reply.status, reply.response.body) == (200, b"")
    assert reply.header("Cache-Control") == "no-store"
    assert (is_signed_in(here), is_signed_in(there)) == (False, True)
    assert not world.harness.is_active(tokens["access_token"])
    assert world.harness.is_active(others["access_token"])
    with pytest.raises(TokenError):
        guard.verify(tokens["access_token"])
    assert world.harness.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
    assert "access_token" in world.harness.refresh(others["refresh_token"]).json
    [event] = world.harness.named("upstream_logout")
    assert event.details["upstream"] == "example"
    guard.close()


@pytest.mark.both_engines
def test_a_logout_token_without_a_session_ends_all_of_the_user(world: World) -> None:
    first, second = signed_in(world, "s1"), signed_in(world)
    world.idp.user["sub"] = "00u2"
    other, _ = signed_in(world, "s3")
    assert log_out(world, sub="00u1").status == 200
    for visitor, tokens in (first, second):
        assert not is_signed_in(visitor)
        assert not world.harness.is_active(tokens["access_token"])
    assert is_signed_in(other)


@pytest.mark.both_engines
def test_a_logout_token_without_a_subject_ends_the_session(world: World) -> None:
    (visitor, tokens), (other, _) = signed_in(world, "s1"), signed_in(world, "s2")
    assert log_out(world, sub=None, sid="s1").status == 200
    assert (is_signed_in(visitor), is_signed_in(other)) == (False, True)
    assert not world.harness.is_active(tokens["access_token"])


def test_a_grant_ends_though_its_session_here_has_ended_before(world: World) -> None:
    visitor, tokens = signed_in(world, "s1")
    page = visitor.get("/oauth/logout")
    assert visitor.submit(page).status == 303
    assert world.harness.is_active(tokens["access_token"])
    assert log_out(world, sub=None, sid="s1").status == 200
    assert not world.harness.is_active(tokens["access_token"])


def test_a_code_that_is_not_redeemed_ends_too(world: World) -> None:
    world.idp.changed["sid"] = "s1"
    code = world.code(world.visitor())
    assert log_out(world, sid="s1").status == 200
    assert world.harness.redeem(code).error == (400, "invalid_grant")


@pytest.mark.both_engines
def test_a_logout_token_without_a_subject_ends_a_code_that_is_all_that_is_left(
    world: World,
) -> None:
    world.idp.changed["sid"] = "s1"
    visitor = world.visitor()
    code = world.code(visitor)
    visitor.submit(visitor.get("/oauth/logout"))
    assert log_out(world, sub=None, sid="s1").status == 200
    assert world.harness.redeem(code).error == (400, "invalid_grant")


@pytest.mark.both_engines
def test_a_logout_token_without_a_subject_ends_what_a_device_was_allowed(world: World) -> None:
    world.idp.changed["sid"] = "s1"
    visitor, screen = world.visitor(), Screen(world.harness)
    allow(world, visitor, screen)
    visitor.submit(visitor.get("/oauth/logout"))
    assert log_out(world, sub=None, sid="s1").status == 200
    assert screen.poll().error == (400, "expired_token")


def test_a_login_by_password_of_the_same_user_stays(world: World) -> None:
    world.server.users.add("ada", PASSWORD)
    world.server.users.link("ada", issuer=world.idp.url, subject="00u1")
    elsewhere, _ = signed_in(world, "s1")
    here = world.visitor()
    page = here.get("/oauth/login")
    form = {"csrf": page.fields["csrf"], "request": ""}
    assert here.post("/oauth/login", form | {"username": "ada", "password": PASSWORD}).status == 303
    assert log_out(world, sub="00u1").status == 200
    assert (is_signed_in(elsewhere), is_signed_in(here)) == (False, True)


def test_who_is_not_known_here_is_logged_out_already(world: World) -> None:
    assert log_out(world, sub="nobody").status == 200
    assert log_out(world, sub=None, sid="none").status == 200


@pytest.mark.both_engines
def test_a_logout_token_counts_once(world: World) -> None:
    token = world.idp.logout_token(jti=uuid.uuid4().hex)
    post = "/oauth/backchannel_logout/example"
    assert world.harness.post(post, {"logout_token": token}).status == 200
    world.harness.clock.now += 1  # a login in the second of a logout is ended by it
    visitor, _ = signed_in(world)
    assert world.harness.post(post, {"logout_token": token}).error == (400, "invalid_request")
    assert is_signed_in(visitor)
    assert world.reasons("upstream_logout_failed") == ["used_logout_token"]


@pytest.mark.both_engines
def test_a_logout_token_counts_once_however_late_it_expires(world: World) -> None:
    now = int(world.harness.clock())
    token = world.idp.logout_token(jti=uuid.uuid4().hex, exp=now + 30 * 86_400)
    post = "/oauth/backchannel_logout/example"
    assert world.harness.post(post, {"logout_token": token}).status == 200
    world.harness.clock.now += 29 * 86_400
    world.server.prune()
    assert world.harness.post(post, {"logout_token": token}).error == (400, "invalid_request")
    assert world.reasons("upstream_logout_failed") == ["used_logout_token"]


UNUSABLE = ["\0", "s\0", "s" * 256, ""]


@pytest.mark.both_engines
@pytest.mark.parametrize("sid", UNUSABLE)
def test_a_logout_token_whose_session_no_login_can_have_is_refused(world: World, sid: str) -> None:
    visitor, _ = signed_in(world, "s" * 255)
    assert log_out(world, sub=None, sid=sid).error == (400, "invalid_request")
    assert world.harness.named("store_unavailable") == []
    assert is_signed_in(visitor)
    assert log_out(world, sub=None, sid="s" * 255).status == 200
    assert not is_signed_in(visitor)


@pytest.mark.both_engines
@pytest.mark.parametrize("sid", [*UNUSABLE, 7])
def test_a_login_whose_session_no_logout_token_can_name_is_refused(world: World, sid: Any) -> None:
    world.idp.changed["sid"] = sid
    assert world.sign_in(world.visitor()).status == 400
    assert world.reasons() == ["unusable_session"]
    assert world.harness.store.count("sessions") == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "another"},
        {"iss": "https://other.example.com"},
        {"nonce": "x"},
        {"events": None},
        {"events": {}},
        {"events": {EVENT: []}},
        {"sub": None, "sid": None},
        {"jti": None},
        {"exp": 1_699_999_000},
        {"iat": 1_700_001_000},
        {"sid": 7},
    ],
)
def test_a_token_that_is_no_logout_token_ends_nothing(
    world: World, changed: dict[str, Any]
) -> None:
    visitor, _ = signed_in(world, "s1")
    reply = log_out(world, **changed)
    assert reply.error == (400, "invalid_request")
    assert reply.header("Cache-Control") == "no-store"
    assert is_signed_in(visitor)
    [event] = world.harness.named("upstream_logout_failed")
    assert "00u1" not in str(event)


def test_an_id_token_is_no_logout_token(world: World) -> None:
    visitor, _ = signed_in(world)
    token = world.idp.id_token({"nonce": "x"})
    post = "/oauth/backchannel_logout/example"
    assert world.harness.post(post, {"logout_token": token}).status == 400
    assert is_signed_in(visitor)


def test_a_logout_token_of_one_upstream_ends_nothing_at_another(world: World) -> None:
    visitor, _ = signed_in(world)
    assert log_out(world, "other").status == 400
    assert is_signed_in(visitor)


def test_other_requests_are_refused(world: World) -> None:
    post = "/oauth/backchannel_logout/example"
    assert world.harness.send("GET", post).status == 405
    assert world.harness.post(post, {}).error == (400, "invalid_request")
    twice = [("logout_token", "x"), ("logout_token", "y")]
    assert world.harness.post(post, twice).error == (400, "invalid_request")
    assert world.harness.post("/oauth/backchannel_logout/none", {}).status == 404


def test_while_the_keys_cannot_be_fetched_the_upstream_may_try_again(world: World) -> None:
    visitor, _ = signed_in(world)
    world.idp.local.rotate(keep=False)
    world.harness.clock.now += 60
    with world.idp.local.failing(outage=True):
        reply = log_out(world)
    assert (reply.error, reply.header("Retry-After")) == ((503, "temporarily_unavailable"), "5")
    assert is_signed_in(visitor)


def test_a_session_that_the_id_token_did_not_name_ends_with_its_user(world: World) -> None:
    visitor, tokens = signed_in(world)
    assert log_out(world, sub="00u1", sid="s1").status == 200
    assert not is_signed_in(visitor)
    assert not world.harness.is_active(tokens["access_token"])


def test_what_began_elsewhere_ends_when_the_account_is_unlinked(world: World) -> None:
    visitor, tokens = signed_in(world, "s1")
    [account] = world.server.users.all()
    assert world.server.users.unlink(account.login, issuer=world.idp.url) == 1
    (ended,) = world.harness.named("sessions_ended")
    assert ended.details["user_id"] == account.user_id
    assert (ended.details["sessions"], ended.details["reason"]) == (1, "identity_unlinked")
    assert world.reasons("grant_revoked") == ["identity_unlinked"]
    assert not is_signed_in(visitor)
    assert not world.harness.is_active(tokens["access_token"])
    assert world.harness.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
