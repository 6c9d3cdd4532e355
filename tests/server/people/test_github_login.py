"""Signing in at GitHub, over real HTTP to a local server that responds as GitHub documents."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import argon2
import pytest

from bearerguard.server import GitHubLogin, PeopleOptions
from tests.server.harness import ISSUER, Harness, Make, hidden_fields
from tests.server.people.elsewhere import sent
from tests.server.people.github import GitHub, serving
from tests.server.people.visitor import Page, Visitor


class World:
    """A server whose users sign in at GitHub."""

    def __init__(self, make: Make, github: GitHub, **options: Any) -> None:
        self.github = github
        given: dict[str, Any] = {"domains": ["example.com"]} | options
        login = GitHubLogin(
            client_id=given.pop("client_id", "Iv1.x"),
            client_secret="its secret",
            base_url=github.url,
            **given,
        )
        people = PeopleOptions(upstreams=[login], password_parameters=argon2.profiles.CHEAPEST)
        self.harness: Harness = make(people=people)

    def sign_in(self, **fields: Any) -> tuple[Visitor, Page]:
        visitor = Visitor(self.harness.server.handle, url=ISSUER)
        page = visitor.follow(visitor.get(self.harness.link(**fields)))
        begun = visitor.post("/oauth/login/upstream/github", hidden_fields(page.html))
        return visitor, visitor.get(self.github.authorize(begun.header("Location") or ""))

    def reason(self, code: str = "upstream_login_failed") -> Any:
        return self.harness.named(code)[-1].details["reason"]


@pytest.fixture
def github() -> Generator[GitHub]:
    found = GitHub()
    with serving(found):
        yield found


def test_a_user_signs_in_and_is_known_by_the_number(make: Make, github: GitHub) -> None:
    world = World(make, github)
    visitor, page = world.sign_in()
    code = sent(visitor.follow(page))["code"]
    assert "access_token" in world.harness.redeem(code).json
    users = world.harness.server.users
    [account] = users.all()
    assert account.name == "The Octocat"
    assert github.scopes == "read:user user:email"
    # Who renames the account remains; who takes the old name is somebody else.
    github.user = {"id": 583231, "login": "renamed", "name": None}
    assert world.sign_in()[1].status == 303
    assert [each.name for each in users.all()] == ["renamed"]
    github.user = {"id": 2, "login": "octocat", "name": None}
    assert world.sign_in()[1].status == 303
    assert len(users.all()) == 2
    store = world.harness.store
    assert sorted(store.run("SELECT issuer, subject FROM identities")) == [
        (github.url, "2"),
        (github.url, "583231"),
    ]


@pytest.mark.parametrize(
    "emails",
    [
        [{"email": "a@example.com", "verified": False, "primary": True}],
        [{"email": "a@example.com", "verified": True, "primary": False}],
        [{"email": "a@evil.example", "verified": True, "primary": True}],
        [{"email": None, "verified": True, "primary": True}, "x"],
        [],
        {},
    ],
)
def test_only_the_primary_address_counts_if_it_is_verified(
    make: Make, github: GitHub, emails: Any
) -> None:
    world = World(make, github)
    github.emails = emails
    assert world.sign_in()[1].status == 403
    assert world.reason("upstream_login_refused") == "not_admitted"


@pytest.mark.parametrize(
    ("memberships", "status"),
    [({"acme": "active"}, 303), ({"acme": "pending"}, 403), ({"other": "active"}, 403), ({}, 403)],
)
def test_active_members_of_an_organization_are_admitted(
    make: Make, github: GitHub, memberships: dict[str, str], status: int
) -> None:
    world = World(make, github, domains=(), organizations=["Acme", "beta"])
    github.memberships = memberships
    assert world.sign_in()[1].status == status
    assert github.scopes == "read:user user:email read:org"


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_failing_api_is_an_outage(make: Make, github: GitHub, status: int) -> None:
    world = World(make, github)
    github.status = status
    page = world.sign_in()[1]
    assert page.status == 503
    assert "GitHub cannot be reached" in page.text
    assert world.reason() == "status"


@pytest.mark.parametrize("user", [{}, [], {"id": "583231"}, {"id": True}, {"id": None}])
def test_a_user_without_a_number_is_nobody(make: Make, github: GitHub, user: Any) -> None:
    world = World(make, github)
    github.user = user
    assert world.sign_in()[1].status == 503
    assert world.harness.server.users.all() == []


def test_a_wrong_secret_and_a_wrong_code_are_told_apart(make: Make, github: GitHub) -> None:
    world = World(make, github, client_id="another")
    assert world.sign_in()[1].status == 503
    assert world.reason() == "incorrect_client_credentials"
    world = World(make, github)
    github._redeemed({"client_id": "Iv1.x", "client_secret": "its secret", "code": "x"})
    visitor = Visitor(world.harness.server.handle, url=ISSUER)
    form = hidden_fields(visitor.get("/oauth/login").html)
    begun = visitor.post("/oauth/login/upstream/github", form)
    url = github.authorize(begun.header("Location") or "")
    assert visitor.get(url.replace("code=", "code=x")).status == 400
    assert world.reason() == "bad_verification_code"


def test_a_server_that_is_gone_is_an_outage(make: Make) -> None:
    found = GitHub()
    with serving(found):
        world = World(make, found)
    assert world.sign_in()[1].status == 503
    assert world.reason() == "refused"


@pytest.mark.parametrize("demand", [{"prompt": "login"}, {"max_age": "60"}])
def test_AZ_08_a_recent_login_cannot_be_had_there(
    make: Make, github: GitHub, demand: dict[str, str]
) -> None:
    """GitHub does not say when its user was authenticated."""
    visitor, page = World(make, github).sign_in(**demand)
    assert sent(visitor.follow(page))["error"] == "login_required"


def test_there_are_no_logout_tokens(make: Make, github: GitHub) -> None:
    world = World(make, github)
    reply = world.harness.post("/oauth/backchannel_logout/github", {"logout_token": "x"})
    assert reply.error == (400, "invalid_request")
