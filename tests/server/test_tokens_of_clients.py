"""Personal access tokens that a client makes by API: no more power than its own, and its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import argon2
import pytest

from bearerguard import ConfigurationError, Guard
from bearerguard.server import (
    Lifetimes,
    PeopleOptions,
    PersonalTokens,
    Registered,
    Registration,
    User,
)
from bearerguard.server.pages.texts import TEXTS
from tests.server.harness import ISSUER, Harness, Make, Reply, claims
from tests.server.people.visitor import Page, Visitor
from tests.server.test_personal_tokens import (
    ALL,
    API,
    DAY,
    ENGINES,
    MANAGE,
    PAGE,
    PASSWORD,
    TOKEN,
    add,
    ask,
    form,
    made,
    managing,
    passes,
    refused,
)

ACCOUNT = "/oauth/account"
REGISTER = "/oauth/register"
UPSTREAM = "https://up.example"


@pytest.fixture
def harness(make: Make) -> Harness:
    return made(make)


Guarded = Callable[[Harness], Guard]


@pytest.fixture
def guarded() -> Iterator[Guarded]:
    """What makes guards beside the server; their threads end with the test."""
    guards: list[Guard] = []

    def make(harness: Harness) -> Guard:
        guards.append(Guard(harness.server.issuer(), clock=harness.clock))
        return guards[-1]

    yield make
    for each in guards:
        each.close()


class Tool:
    """A client that manages the tokens of a user."""

    def __init__(
        self,
        harness: Harness,
        user: str = "ada",
        scope: str = f"{MANAGE} read",
        **options: Any,
    ) -> None:
        self.harness = harness
        self.user = user
        harness.user = User(user, user.title(), harness.clock() - 10)
        self.client: Registered = harness.add(
            "Backup tool", scopes=[MANAGE, "read", "write"], **options
        )
        self.code = harness.code(self.client, scope=scope)
        self.tokens: dict[str, Any] = harness.redeem(self.code, self.client).json

    @property
    def grant_id(self) -> str:
        grant_id: str = claims(self.tokens["access_token"])["sid"]
        return grant_id

    def ask(self, **content: Any) -> Reply:
        given = {"name": "Nightly", "scope": "read"} | content
        return ask(self.harness, self.tokens["access_token"], "POST", **given)

    def make(self, **content: Any) -> str:
        reply = self.ask(**content)
        assert reply.status == 201, reply.json
        token: str = reply.json["token"]
        return token


def press(harness: Harness, name: str, value: str) -> Page:
    """Press a button of the account page, and return what it says then."""
    visitor = Visitor(harness.server.handle)
    page = visitor.get(ACCOUNT)
    done = visitor.post(ACCOUNT, {"csrf": page.fields["csrf"], name: value})
    return visitor.follow(done)


# No more power than the client has


@pytest.mark.parametrize("scope", ["write", "read write"])
def test_a_token_has_no_scope_that_the_access_token_has_not(harness: Harness, scope: str) -> None:
    tool = Tool(harness)
    reply = tool.ask(scope=scope)
    assert reply.error == (400, "invalid_scope")
    assert harness.store.count("personal_tokens") == 0
    assert harness.server.introspect(tool.make(scope="read"))["scope"] == "read"


def test_a_token_is_for_no_api_that_the_client_has_not_been_allowed(make: Make) -> None:
    apis = [ISSUER, "https://a.example.com", "https://b.example.com"]
    harness = made(make, resources=apis)
    harness.user = User("ada", "Ada", harness.clock())
    client = harness.add("Backup tool", scopes=[MANAGE, "read"])
    code = harness.code(client, scope=f"{MANAGE} read", resource=apis[:2])
    token = harness.redeem(code, client, resource=ISSUER).json["access_token"]

    def asked(resource: str) -> Reply:
        return ask(harness, token, "POST", name="x", scope="read", resource=resource)

    assert asked(apis[2]).error == (400, "invalid_target")
    assert [asked(each).status for each in apis[:2]] == [201, 201]


@ENGINES
def test_a_scope_that_a_client_has_lost_is_in_none_of_the_tokens_that_it_made(
    harness: Harness,
) -> None:
    tool = Tool(harness, scope=f"{MANAGE} read write")
    value, by_hand = tool.make(scope="read write"), add(harness, scopes=["read", "write"]).value
    harness.server.clients.edit(tool.client.client_id, scopes=[MANAGE, "read"])
    assert harness.server.introspect(value)["scope"] == "read"
    assert harness.server.introspect(by_hand)["scope"] == "read write"
    harness.server.clients.edit(tool.client.client_id, scopes=[MANAGE, "read", "write"])
    assert harness.server.introspect(value)["scope"] == "read write"


A, B = "https://a.example.com", "https://b.example.com"


@pytest.mark.parametrize(
    ("apis", "audience"),
    [([A, B], [A]), ([ISSUER, A, B], [ISSUER, A])],
    ids=["the server is no API", "an API beside the server"],
)
def test_an_api_that_sees_an_access_token_gets_no_token_for_another_api_by_it(
    make: Make, apis: list[str], audience: list[str]
) -> None:
    harness = made(make, resources=apis)
    harness.user = User("ada", "Ada", harness.clock())
    client = harness.add("Backup tool", scopes=[MANAGE, "read"])
    code = harness.code(client, scope=f"{MANAGE} read", resource=apis)
    token = harness.redeem(code, client, resource=audience).json["access_token"]
    asked = {"name": "x", "scope": "read"}
    assert ask(harness, token, "POST", **asked, resource=B).error == (400, "invalid_target")
    for each in audience:
        assert ask(harness, token, "POST", **asked, resource=each).status == 201


def test_clients_that_nobody_registered_do_not_get_the_scope_of_the_api(make: Make) -> None:
    harness = made(make, registration=Registration())
    body = json.dumps({"redirect_uris": ["https://tool.example.com/cb"], "scope": MANAGE}).encode()
    reply = harness.send("POST", REGISTER, body, content_type="application/json")
    assert reply.status == 201
    assert sorted(reply.json["scope"].split()) == sorted(ALL.keys() - {MANAGE})
    client = harness.server.clients.get(reply.json["client_id"])
    registered = Registered(client, reply.json["client_secret"])
    asked = harness.authorize(registered, scope=MANAGE)
    assert asked.sent["error"] == "invalid_scope"
    assert harness.server.settings.scopes_of_strangers("client_metadata=", None) == client.scopes
    with pytest.raises(ConfigurationError, match=r"registration=: leave out 'tokens:manage'"):
        made(make, registration=Registration(scopes=["read", MANAGE]))


def test_the_consent_page_marks_the_scope_of_the_api_as_powerful(harness: Harness) -> None:
    client = harness.add("Tool", scopes=[MANAGE, "read"], require_consent=True)
    asked = Page(harness.authorize(client, scope=f"{MANAGE} read").response)
    assert asked.html.count('class="powerful"') == 1
    assert f"{ALL[MANAGE]} {TEXTS['consent.powerful']}" in " ".join(asked.text.split())


def test_AZ_08_making_one_by_api_needs_a_login_of_the_last_hour(harness: Harness) -> None:
    tool = Tool(harness)
    harness.clock.now += 3595
    tool.tokens = harness.refresh(tool.tokens["refresh_token"], tool.client).json
    old = tool.ask()
    assert old.error == (401, "insufficient_user_authentication")
    challenge = old.header("www-authenticate") or ""
    assert challenge.startswith("Bearer ")
    assert 'max_age="3600"' in challenge
    assert harness.store.count("personal_tokens") == 0
    made_by_hand = add(harness).token
    token = tool.tokens["access_token"]
    assert ask(harness, token).status == 200, "listing and ending need none"
    assert ask(harness, token, "DELETE", f"{API}/{made_by_hand.id}").status == 204
    harness.user = User("ada", "Ada", harness.clock())
    tool.tokens = harness.tokens(tool.client, scope=f"{MANAGE} read", max_age="3600")
    assert tool.ask().status == 201


def test_AZ_08_a_login_at_an_unknown_time_makes_none_by_api(harness: Harness) -> None:
    tool = Tool(harness)
    harness.user = User("ada", "Ada")
    tool.tokens = harness.tokens(tool.client, scope=f"{MANAGE} read")
    assert tool.ask().error == (401, "insufficient_user_authentication")


@pytest.mark.parametrize("lost", ["grant", "user"])
def test_access_that_ends_while_a_token_is_made_makes_none(
    make: Make, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    harness = made(make)
    tool = Tool(harness)
    checked = harness.server.personal_tokens._check_user

    def overtaken(user_id: object) -> None:
        checked(user_id)
        if lost == "grant":
            harness.server.revoke_grant(tool.grant_id)
        else:
            harness.store.run(
                "INSERT INTO users (user_id, login, name, created_at, disabled_at)"
                " VALUES ('ada', 'ada', 'Ada', 1, 2)"
            )

    monkeypatch.setattr(harness.server.personal_tokens, "_check_user", overtaken)
    assert tool.ask().error == (401, "invalid_token")
    assert harness.store.count("personal_tokens") == 0


# The end of the client's access


def by_replay(harness: Harness, tool: Tool) -> None:
    assert harness.redeem(tool.code, tool.client).status == 400


def by_client(harness: Harness, tool: Tool) -> None:
    form = harness.credentials(tool.client) | {"token": tool.tokens["refresh_token"]}
    assert harness.post("/oauth/revoke", form).status == 200


def by_upstream(harness: Harness, tool: Tool) -> None:
    harness.store.run(f"UPDATE grants SET upstream = '{UPSTREAM}'")
    assert harness.server._engine.revocations.login(
        UPSTREAM, user_id=tool.user, sid=None, reason="upstream_logout"
    )


ENDS: dict[str, Callable[[Harness, Tool], object]] = {
    "the app on the page": lambda h, tool: press(h, "end", tool.client.client_id),
    "one grant on the page": lambda h, tool: press(h, "end_one", tool.grant_id),
    "all apps on the page": lambda h, _: press(h, "end_all", "yes"),
    "the grant": lambda h, tool: h.server.access.revoke(tool.grant_id),
    "the grants of the user to the client": lambda h, tool: h.server.revoke_user(
        user_id=tool.user, client_id=tool.client.client_id
    ),
    "the grants to the client": lambda h, tool: h.server.access.revoke_client(
        tool.client.client_id
    ),
    "the client": lambda h, tool: h.server.clients.remove(tool.client.client_id),
    "a code that is replayed": by_replay,
    "the refresh token": by_client,
    "a logout elsewhere": by_upstream,
}


@ENGINES
@pytest.mark.parametrize("end", ENDS)
def test_GRANT_01_what_ends_a_clients_access_ends_the_tokens_that_it_made_and_no_other(
    harness: Harness, guarded: Guarded, end: str
) -> None:
    tool, other = Tool(harness), Tool(harness)
    value, of_other, by_hand = tool.make(), other.make(), add(harness).value
    guard = guarded(harness)
    assert guard.verify(value).client_id == tool.client.client_id
    assert guard.verify(value).subject_kind == "user"
    assert passes(guard, of_other)
    assert passes(guard, by_hand)
    assert harness.server.introspect(value)["client_id"] == tool.client.client_id
    ENDS[end](harness, tool)
    assert refused(guard, value) == "revoked"
    assert not harness.server.introspect(value)["active"]
    assert refused(guarded(harness), value) in {"inactive", "revoked"}
    is_for_all = end in {"all apps on the page", "a logout elsewhere"}
    assert passes(guard, of_other) is not is_for_all
    assert guard.verify(by_hand)
    assert harness.server.introspect(by_hand)["active"]


def test_the_tokens_of_a_client_end_though_its_grant_has_expired_long_ago(
    harness: Harness, guarded: Guarded
) -> None:
    tool = Tool(harness)
    value, by_hand = tool.make(expires_in=300 * DAY), add(harness, lifetime=300 * DAY).value
    harness.clock.now += 200 * DAY
    harness.server.prune()
    guard = guarded(harness)
    guard.verify(value)
    press(harness, "end_all", "yes")
    assert refused(guard, value) == "revoked"
    assert guard.verify(by_hand)


def by_unlink(harness: Harness, tool: Tool) -> None:
    assert harness.server._engine.revocations.login(
        UPSTREAM, user_id=tool.user, sid=None, reason="identity_unlinked"
    )


def by_session_elsewhere(harness: Harness, _tool: Tool) -> None:
    assert harness.server._engine.revocations.login(
        UPSTREAM, user_id=None, sid="session-1", reason="upstream_logout"
    )


@ENGINES
@pytest.mark.parametrize(
    "end",
    [
        by_replay,
        by_unlink,
        by_session_elsewhere,
        lambda harness, tool: harness.server.access.revoke(tool.grant_id),
    ],
    ids=["a code that is replayed", "an unlink", "a logout elsewhere", "the grant"],
)
def test_GRANT_01_what_ends_an_expired_grant_ends_the_tokens_that_were_made_by_it(
    make: Make, guarded: Guarded, end: Callable[[Harness, Tool], object]
) -> None:
    """Without a refresh token, a grant expires with its access token."""
    harness = made(make, lifetimes=Lifetimes(access_token=300))
    tool = Tool(harness, grant_types=["authorization_code"])
    harness.store.run(f"UPDATE grants SET upstream = '{UPSTREAM}', upstream_sid = 'session-1'")
    value, by_hand = tool.make(expires_in=300 * DAY), add(harness, lifetime=300 * DAY).value
    harness.clock.now += 600
    harness.server.prune()
    assert harness.server.introspect(tool.tokens["access_token"]) == {"active": False}
    guard = guarded(harness)
    guard.verify(value)
    end(harness, tool)
    assert refused(guard, value) == "revoked"
    assert not harness.server.introspect(value)["active"]
    assert guard.verify(by_hand)
    harness.server.prune()
    assert harness.store.count("grants") == 0


@ENGINES
def test_an_expired_grant_is_kept_as_long_as_the_tokens_that_were_made_by_it(
    harness: Harness,
) -> None:
    tool = Tool(harness, grant_types=["authorization_code"])
    tool.make(expires_in=300 * DAY)
    last = tool.make(expires_in=301 * DAY)
    harness.clock.now += 300 * DAY
    harness.server.prune()
    assert harness.store.count("personal_tokens") == 1
    assert harness.store.count("grants") == 1
    assert harness.server.introspect(last)["active"]
    harness.clock.now += DAY
    harness.server.prune()
    assert harness.store.count("personal_tokens") == 0
    assert harness.store.count("grants") == 0


@ENGINES
def test_pruning_ends_what_was_made_by_a_grant_whose_revocation_was_cut_short(
    harness: Harness,
) -> None:
    """Those of a client are revoked in slices, and its tokens after them."""
    tool, by_hand = Tool(harness), add(harness).value
    value = tool.make()
    harness.store.run("UPDATE grants SET revoked_at = 1")
    harness.server.prune()
    assert not harness.server.introspect(value)["active"]
    assert harness.server.introspect(by_hand)["active"]
    assert harness.store.count("grants") == 0


def test_the_tokens_of_a_client_that_is_being_removed_are_refused(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may end before the rows are removed."""
    tool = Tool(harness)
    value = tool.make()
    monkeypatch.setattr(harness.server.clients, "_finish_removals", lambda: None)
    harness.server.clients.remove(tool.client.client_id)
    assert harness.store.count("personal_tokens") == 1
    assert not harness.server.introspect(value)["active"]
    harness.server.prune()
    assert harness.store.count("personal_tokens") == 0


def test_a_client_that_nobody_uses_is_kept_while_there_is_a_token_that_it_made(
    make: Make,
) -> None:
    harness = made(make, registration=Registration(unused_lifetime=DAY))
    tool = Tool(harness)
    value = tool.make(expires_in=300 * DAY)
    harness.store.run(
        "INSERT INTO registrations (client_id, registered_by, expires_at)"
        f" VALUES ('{tool.client.client_id}', 'request', 1)"
    )
    harness.clock.now += 200 * DAY
    harness.server.prune()
    harness.server.prune()
    assert harness.server.introspect(value)["active"]


def test_the_page_of_tokens_says_which_app_made_one(harness: Harness) -> None:
    Tool(harness).make()
    page = Visitor(harness.server.handle).get(PAGE)
    assert "Made by" in page.text
    assert "Backup tool" in page.text
    (event,) = harness.named("personal_token_added")
    assert event.details["client_id"]


# Ending all


def test_GRANT_01_ending_all_apps_keeps_the_tokens_that_were_made_by_hand_and_says_so(
    harness: Harness, guarded: Guarded
) -> None:
    by_hand, made_by_tool = add(harness).value, Tool(harness).make()
    guard = guarded(harness)
    assert passes(guard, by_hand)
    assert passes(guard, made_by_tool)
    page = Visitor(harness.server.handle).get(ACCOUNT)
    assert TEXTS["account.end.all.tokens"] in page.text
    after = press(harness, "end_all", "yes")
    assert TEXTS["account.done.all_but_tokens"] in after.text
    assert guard.verify(by_hand)
    assert refused(guard, made_by_tool) == "revoked"
    (event,) = harness.named("personal_token_ended")
    assert event.details["reason"] == "asked"


def test_without_personal_tokens_the_page_says_nothing_of_them(make: Make) -> None:
    harness = make()
    harness.tokens()
    assert TEXTS["account.end.all.tokens"] not in Visitor(harness.server.handle).get(ACCOUNT).text
    assert TEXTS["account.done.all"] in press(harness, "end_all", "yes").text


def test_a_new_password_keeps_the_tokens_and_the_page_says_so(make: Make) -> None:
    harness = made(make, people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    account = harness.server.users.add("grace", PASSWORD, name="Grace")
    new = add(harness, account.user_id)
    visitor = Visitor(harness.server.handle)
    visitor.sign_in("grace", PASSWORD)
    page = visitor.get(f"{ACCOUNT}/password")
    better = "another good password"
    after = visitor.follow(visitor.submit(page, current=PASSWORD, new=better, repeated=better))
    assert TEXTS["account.done.password_but_tokens"] in after.text
    assert harness.server.introspect(new.value)["active"]


def test_a_deleted_user_leaves_no_token_of_either_kind(make: Make, guarded: Guarded) -> None:
    harness = made(make)
    account = harness.server.users.add("grace", PASSWORD, name="Grace")
    values = [add(harness, account.user_id).value, Tool(harness, account.user_id).make()]
    guard = guarded(harness)
    assert all(passes(guard, each) for each in values)
    harness.server.delete_user("grace")
    assert [refused(guard, each) for each in values] == ["revoked", "revoked"]
    assert harness.store.count("personal_tokens") == 0


# What a guard keeps


def kept(guard: Guard) -> list[float]:
    """Return until when the guard keeps its revocations."""
    found = guard._revocations
    assert found is not None
    return [each.expires_at for each in found.shared.current.entries.values()]


@pytest.mark.parametrize("what", ["token", "grant", "user", "client", "personal token"])
def test_a_guard_beside_the_server_keeps_no_revocation_longer_than_the_server_does(
    harness: Harness, guarded: Guarded, what: str
) -> None:
    """Though personal tokens live for a year, which the guard must take into account."""
    tool = Tool(harness)
    new = add(harness, lifetime=300 * DAY)
    guard = guarded(harness)
    guard.verify(new.value)
    {
        "token": lambda: harness.server.revoke(tool.tokens["access_token"]),
        "grant": lambda: harness.server.revoke_grant(tool.grant_id),
        "user": lambda: harness.server.revoke_user(user_id="ada"),
        "client": lambda: harness.server.access.revoke_client(tool.client.client_id),
        "personal token": lambda: harness.server.personal_tokens.end(new.token.id),
    }[what]()
    stored = harness.store.run("SELECT max(expires_at) FROM revocations")[0][0]
    assert set(kept(guard)) == {stored}
    assert stored < harness.clock() + 2 * DAY


# How many are made


def test_a_client_that_makes_too_many_tokens_has_to_wait_and_the_user_has_not(
    harness: Harness,
) -> None:
    tool = Tool(harness)
    replies = [tool.ask() for _ in range(21)]
    assert {each.status for each in replies[:20]} == {201}
    late = replies[20]
    assert late.error == (429, "temporarily_unavailable")
    assert late.header("retry-after") == "60"
    assert harness.named("request_refused")[-1].details["reason"] == "too_many_personal_tokens"
    assert Tool(harness).ask().status == 201, "another client"
    visitor = Visitor(harness.server.handle)
    assert visitor.post(PAGE, form(visitor.get(PAGE))).status == 200
    harness.clock.now += 60
    assert tool.ask().status == 201


def test_a_user_who_makes_too_many_tokens_has_to_wait(harness: Harness) -> None:
    harness.user = User("ada", "Ada", harness.clock())
    visitor = Visitor(harness.server.handle)
    pages = [visitor.post(PAGE, form(visitor.get(PAGE))) for _ in range(21)]
    assert {each.status for each in pages[:20]} == {200}
    late = pages[20]
    assert late.status == 429
    assert late.header("Retry-After") == "60"
    assert "You have made too many tokens. Try again in 1 minute." in late.text
    assert not TOKEN.search(late.html)
    assert late.fields["name"] == "CI", "what was typed stays"
    assert harness.store.count("personal_tokens") == 20
    assert harness.named("request_refused")[-1].details["reason"] == "too_many_personal_tokens"
    harness.clock.now += 60
    assert visitor.post(PAGE, form(visitor.get(PAGE))).status == 200


def test_by_api_too_many_tokens_of_one_user_are_explained(make: Make) -> None:
    harness = made(make, personal_tokens=PersonalTokens(api_scope=MANAGE, per_user=1))
    token = managing(harness)
    assert ask(harness, token, "POST", name="x", scope="read").status == 201
    reply = ask(harness, token, "POST", name="x", scope="read")
    assert reply.error == (400, "invalid_request")
    assert "1 tokens already: end one first" in reply.json["error_description"]
