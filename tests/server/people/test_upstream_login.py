"""Signing in elsewhere: the whole login, whom it lets in, and what the tokens say of it."""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from bearerguard import Fetch, Response
from bearerguard.errors import AccountError, ConfigurationError
from bearerguard.server import (
    Admission,
    GitHubLogin,
    PeopleOptions,
    PersonalTokens,
    UpstreamIdentity,
    UpstreamLogin,
)
from bearerguard.server.upstream.options import domain_of
from tests.server.harness import ISSUER, Make, claims
from tests.server.people.elsewhere import (
    CLIENT,
    IDP,
    PASSWORD,
    PASSWORD_ACR,
    SECRET,
    World,
    answer,
    sent,
)
from tests.server.people.visitor import Page, path


@pytest.fixture
def world(make: Make) -> World:
    return World(make)


@pytest.mark.both_engines
def test_a_login_elsewhere_ends_in_tokens(world: World) -> None:
    visitor = world.visitor()
    found = world.claims(visitor)
    account = world.server.users.all()[0]
    assert found["sub"] == account.user_id
    assert (account.name, account.login) == ("Ada Lovelace", account.user_id)
    asked = world.idp.requests[0]
    assert asked["redirect_uri"] == f"{ISSUER}/oauth/login/callback/example"
    assert asked["scope"] == "openid profile email"
    assert asked["code_challenge_method"] == "S256"
    assert "prompt" not in asked
    assert world.idp.forms[0]["authorization"].startswith("Basic ")
    [event] = world.harness.named("login_succeeded")
    assert event.details["upstream"] == "example"
    # Another browser of the same user: the same account, with today's name.
    world.idp.user["name"] = "Ada King"
    assert world.claims(world.visitor())["sub"] == account.user_id
    assert [each.name for each in world.server.users.all()] == ["Ada King"]


def test_the_login_page_offers_each_upstream_beside_the_password(world: World) -> None:
    page = world.visitor().get("/oauth/login")
    assert "Continue with Example" in page.text
    assert "Continue with Other" in page.text
    assert 'name="password"' in page.html
    # Chromium applies it to the redirect to the upstream.
    assert "form-action" not in page.policy


def test_without_passwords_a_single_upstream_is_reached_at_once(make: Make) -> None:
    login = UpstreamLogin(IDP, client_id=CLIENT, client_secret=SECRET, domains=["example.com"])
    world = World(make, upstreams=[login], password_login=False)
    visitor = world.visitor()
    page = visitor.follow(visitor.get(world.harness.link()))
    assert page.status == 303
    done = visitor.get(world.idp.authorize(page.header("Location") or ""))
    assert "code" in sent(visitor.follow(done))
    refused = world.visitor().post("/oauth/login", {"username": "ada", "password": PASSWORD})
    assert refused.status == 404


@pytest.mark.parametrize("password_login", [False, True])
def test_the_forms_of_the_pages_lead_on_if_the_login_is_elsewhere_alone(
    make: Make, *, password_login: bool
) -> None:
    login = UpstreamLogin(IDP, client_id=CLIENT, client_secret=SECRET, domains=["example.com"])
    world = World(make, upstreams=[login], password_login=password_login)
    ours = world.server.users.add("ada", PASSWORD)
    world.server.users.link("ada", issuer=IDP, subject="00u1")
    visitor = world.visitor()
    page = visitor.get("/oauth/login")
    key = login.key
    location = world.chosen(visitor, key) if password_login else page.header("Location") or ""
    assert visitor.get(world.idp.authorize(location)).status == 303
    assert world.server.users.all() == [world.server.users.get(ours.login)]
    for place in ("/oauth/account", "/oauth/account/password", "/oauth/device"):
        page = visitor.get(place)
        assert page.status == 200
        # Chromium applies it to the redirects after a form.
        assert ("form-action" in page.policy) == password_login, place


def test_without_passwords_two_upstreams_are_a_choice(make: Make) -> None:
    page = World(make, password_login=False).visitor().get("/oauth/login")
    assert (page.status, 'name="password"' in page.html) == (200, False)


def test_who_signs_out_of_the_consent_page_may_choose_another_account(make: Make) -> None:
    login = UpstreamLogin(IDP, client_id=CLIENT, client_secret=SECRET, domains=["example.com"])
    world = World(make, upstreams=[login], password_login=False)
    client = world.server.clients.add("Asks", redirect_uris=["https://a.example/cb"])
    visitor = world.visitor()
    page = visitor.follow(visitor.get(world.harness.link(client, scope=None)))
    consent = visitor.follow(visitor.get(world.idp.authorize(page.header("Location") or "")))
    assert "Use another account" in consent.text
    switched = visitor.follow(
        visitor.submit(consent, next(b for b in consent.buttons if "logout" in consent.buttons[b]))
    )
    assert switched.status == 303
    world.idp.authorize(switched.header("Location") or "")
    assert world.idp.requests[-1]["prompt"] == "select_account"


class Switched:
    """A user who has chosen "Use another account" on the consent page of a request."""

    def __init__(self, make: Make, demand: dict[str, str], *, pushed: bool = False) -> None:
        login = UpstreamLogin(
            IDP,
            client_id=CLIENT,
            client_secret=SECRET,
            domains=["example.com"],
            acr_values=["mfa"],
        )
        self.world = World(make, upstreams=[login], password_login=False)
        self.harness = harness = self.world.harness
        self.client = self.world.server.clients.add("Asks", redirect_uris=["https://a.example/cb"])
        self.visitor = self.world.visitor()
        link = harness.link(self.client, scope=None, **demand)
        if pushed:
            form = dict(parse_qsl(urlsplit(link).query)) | harness.credentials(self.client)
            request_uri = harness.post("/oauth/par", form).json["request_uri"]
            short = {"client_id": self.client.client_id, "request_uri": request_uri}
            link = f"/oauth/authorize?{urlencode(short)}"
        page = self.visitor.follow(self.visitor.get(link))
        consent = self.came_back(page, auth_time=int(harness.clock()), acr="mfa")
        button = next(each for each in consent.buttons if "logout" in consent.buttons[each])
        self.login = self.visitor.follow(self.visitor.submit(consent, button))

    def came_back(self, page: Page, **said: Any) -> Page:
        """Log in elsewhere, and return what the request gets then."""
        self.world.idp.changed |= said
        url = self.world.idp.authorize(page.header("Location") or "")
        return self.visitor.follow(self.visitor.get(url))


@pytest.mark.parametrize("pushed", [False, True])
@pytest.mark.parametrize(
    ("demand", "passed_on"),
    [
        ({"prompt": "login"}, {"prompt": "login select_account", "max_age": "0"}),
        ({"max_age": "60"}, {"prompt": "select_account", "max_age": "60"}),
        ({"acr_values": "mfa"}, {"prompt": "select_account", "acr_values": "mfa"}),
        ({"prompt": "select_account"}, {"prompt": "select_account"}),
        ({"prompt": "consent"}, {"prompt": "select_account"}),
    ],
)
def test_AZ_08_another_account_logs_in_once_as_the_request_demands(
    make: Make, demand: dict[str, str], passed_on: dict[str, str], *, pushed: bool
) -> None:
    switched = Switched(make, demand, pushed=pushed)
    world, harness = switched.world, switched.harness
    harness.clock.now += 120
    world.idp.user["sub"], at = "00u2", int(harness.clock())
    consent = switched.came_back(switched.login, auth_time=at)
    asked = world.idp.requests[-1]
    names = ("prompt", "max_age", "acr_values")
    assert {name: asked[name] for name in names if name in asked} == passed_on
    assert "Use another account" in consent.text
    allowed = switched.visitor.submit(consent, ("decision", "allow"))
    tokens = harness.redeem(sent(allowed)["code"], switched.client).json
    assert claims(tokens["access_token"])["auth_time"] == at
    assert len(world.server.users.all()) == 2


@pytest.mark.parametrize(
    ("demand", "error"),
    [
        ({"prompt": "login"}, "login_required"),
        ({"max_age": "60"}, "login_required"),
        ({"acr_values": "mfa"}, "unmet_authentication_requirements"),
    ],
)
def test_AZ_08_another_account_whose_login_is_old_or_weak_is_not_enough(
    make: Make, demand: dict[str, str], error: str
) -> None:
    switched = Switched(make, demand)
    switched.harness.clock.now += 120
    switched.world.idp.user["sub"], at = "00u2", int(switched.harness.clock()) - 180
    page = switched.came_back(switched.login, auth_time=at, acr="pin")
    assert sent(page)["error"] == error


def test_a_provider_that_offers_no_choice_of_accounts_is_asked_for_a_login(make: Make) -> None:
    switched = Switched(make, {"max_age": "60"})
    world, harness, visitor = switched.world, switched.harness, switched.visitor
    harness.clock.now += 120
    world.idp.parameters = {"code": None, "error": "invalid_request"}
    again = visitor.get(world.idp.authorize(switched.login.header("Location") or ""))
    assert world.idp.requests[-1]["prompt"] == "select_account"
    world.idp.parameters = {}
    world.idp.user["sub"] = "00u2"
    consent = switched.came_back(again, auth_time=int(harness.clock()))
    assert world.idp.requests[-1]["prompt"] == "login"
    assert "Use another account" in consent.text
    assert len(world.server.users.all()) == 2


def test_a_provider_that_refuses_a_login_too_is_a_page(make: Make) -> None:
    switched = Switched(make, {})
    switched.world.idp.parameters = {"code": None, "error": "invalid_request"}
    again = switched.visitor.get(
        switched.world.idp.authorize(switched.login.header("Location") or "")
    )
    url = switched.world.idp.authorize(again.header("Location") or "")
    assert switched.visitor.get(url).status == 400
    assert switched.world.reasons() == ["upstream_error"]


# Whom it lets in


@pytest.mark.parametrize(
    ("email", "verified"),
    [
        ("ada@elsewhere.com", True),
        ("ada@sub.example.com", True),
        ("ada@example.com.evil.com", True),
        ("ada@example.com", False),
        ("ada@example.com", "true"),
        ("ada@example.com", None),
        ("ada@\uff45xample.com", True),
        ("ada@exampl\u212a.com", True),
        ("ada@example.com.", True),
        ("example.com", True),
        ("@example.com", True),
        ("", True),
        (None, True),
        (["ada@example.com"], True),
    ],
)
def test_only_a_verified_address_in_the_domain_lets_in(
    world: World, email: Any, verified: Any
) -> None:
    world.idp.user |= {"email": email, "email_verified": verified}
    page = world.sign_in(world.visitor())
    assert page.status == 403
    assert "may not sign in here" in page.text
    assert world.reasons("upstream_login_refused") == ["not_admitted"]
    assert world.server.users.all() == []


@pytest.mark.parametrize("email", ["ada@Example.COM", '"a@b"@example.com'])
def test_the_domain_of_an_address_is_compared_without_case(world: World, email: str) -> None:
    world.idp.user["email"] = email
    assert world.sign_in(world.visitor()).status == 303


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("a@straße.example", "xn--strae-oqa.example"),
        ("a@bücher.example", "xn--bcher-kva.example"),
        ("a@xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("a@BÜCHER.example", None),
        ("a@bu\u0308cher.example", None),
        ("a@exa mple.com", None),
    ],
)
def test_international_domains_are_compared_as_they_are_registered(
    address: str, domain: str | None
) -> None:
    assert domain_of(address) == domain
    # `strasse.example` belongs to somebody else.
    assert domain_of("a@straße.example") != domain_of("a@strasse.example")


def test_groups_and_the_function_decide_at_each_login(make: Make) -> None:
    seen: list[UpstreamIdentity] = []

    def admit(identity: UpstreamIdentity) -> Admission | None:
        seen.append(identity)
        return Admission(login="Ada", name="Countess") if identity.claims["level"] > 3 else None

    world = World(make, login={"domains": (), "groups": ["staff"], "admit": admit})
    world.idp.user |= {"groups": ["staff", "all"], "level": 5}
    visitor = world.visitor()
    tokens = world.harness.redeem(world.code(visitor)).json
    [account] = world.server.users.all()
    assert (account.login, account.name) == ("ada", "Countess")
    assert seen[0].groups == {"staff", "all"}
    assert "00u1" not in repr(seen[0])
    with pytest.raises(TypeError):
        seen[0].claims["level"] = 9  # type: ignore[index]
    # Who has left the group is refused, and keeps nothing.
    world.idp.user["groups"] = ["all"]
    assert world.sign_in(world.visitor()).status == 403
    assert not world.harness.is_active(tokens["access_token"])
    assert world.harness.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
    assert visitor.get("/oauth/login").title.startswith("Sign in"), "the session has ended"


@pytest.mark.parametrize("returned", [True, "ada", {}])
def test_a_function_that_returns_something_else_lets_nobody_in(make: Make, returned: Any) -> None:
    world = World(make, login={"admit": lambda _: returned})
    assert world.sign_in(world.visitor()).status == 503
    assert world.server.users.all() == []


def test_a_function_that_raises_lets_nobody_in(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def admit(identity: UpstreamIdentity) -> Admission:
        raise LookupError("the directory is down")

    world = World(make, login={"admit": admit})
    page = world.sign_in(world.visitor())
    assert page.status == 503
    assert world.reasons() == ["admit_raised"]
    assert "the directory is down" in caplog.text
    assert "directory" not in page.html


@pytest.mark.both_engines
def test_an_account_is_never_found_by_an_address_or_a_login_name(make: Make) -> None:
    world = World(make, login={"admit": lambda _: Admission(login="ada@example.com")})
    ours = world.server.users.add("ada@example.com", PASSWORD)
    found = world.claims(world.visitor())
    assert found["sub"] != ours.user_id
    logins = sorted(each.login for each in world.server.users.all())
    assert logins == ["ada@example.com", found["sub"]]


@pytest.mark.both_engines
def test_an_operator_links_an_account(world: World) -> None:
    users = world.server.users
    ours = users.add("ada", PASSWORD)
    users.link("ADA", issuer=IDP, subject="00u1")
    users.link("ada", issuer=IDP, subject="00u1")  # again: nothing changes
    assert world.claims(world.visitor())["sub"] == ours.user_id
    users.add("eve", PASSWORD)
    with pytest.raises(AccountError, match="another user"):
        users.link("eve", issuer=IDP, subject="00u1")
    with pytest.raises(AccountError, match="subject"):
        users.link("eve", issuer=IDP, subject="")
    with pytest.raises(AccountError, match="no user"):
        users.link("bob", issuer=IDP, subject="x")
    assert users.unlink("ada", issuer=IDP) == 1
    assert users.unlink("ada", issuer=IDP) == 0
    assert world.claims(world.visitor())["sub"] != ours.user_id


def test_the_same_subject_elsewhere_is_another_user(world: World) -> None:
    first = world.claims(world.visitor())["sub"]
    visitor = world.visitor()
    location = world.chosen(visitor, "other", at=world.harness.link())
    page = visitor.follow(visitor.get(world.other.authorize(location)))
    tokens = world.harness.redeem(sent(page)["code"]).json
    assert claims(tokens["access_token"])["sub"] != first


def test_a_disabled_user_stays_out(world: World) -> None:
    world.sign_in(world.visitor())
    [account] = world.server.users.all()
    world.server.disable_user(account.login)
    assert world.sign_in(world.visitor()).status == 403
    assert world.reasons("upstream_login_refused") == ["user_disabled"]


@pytest.mark.both_engines
def test_first_logins_at_the_same_time_make_one_account(world: World) -> None:
    visitors = [world.visitor() for _ in range(4)]
    links = [world.idp.authorize(world.chosen(each)) for each in visitors]
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda v=v, link=link: statuses.append(v.get(link).status))
        for v, link in zip(visitors, links, strict=True)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert statuses == [303] * 4
    assert len(world.server.users.all()) == 1


def test_claims_that_the_id_token_lacks_come_from_userinfo(world: World) -> None:
    world.idp.changed |= {"name": None, "email": None, "email_verified": None}
    world.idp.userinfo = {"name": "Ada", "email": "ada@example.com", "email_verified": True}
    assert world.sign_in(world.visitor()).status == 303
    assert [each.name for each in world.server.users.all()] == ["Ada"]


def test_userinfo_of_another_subject_is_refused(world: World) -> None:
    world.idp.changed |= {"email": None}
    world.idp.userinfo = {"sub": "00u2", "email": "ada@example.com", "email_verified": True}
    assert world.sign_in(world.visitor()).status == 400
    assert world.reasons() == ["userinfo_subject"]


def test_userinfo_does_not_verify_the_address_of_the_id_token(world: World) -> None:
    world.idp.changed |= {"name": None, "email_verified": None}
    world.idp.userinfo = {"name": "A", "email": "a@b.example", "email_verified": True}
    assert world.sign_in(world.visitor()).status == 403


# Step-up (AZ-08)


def test_AZ_08_a_password_is_named_by_acr_and_amr(world: World) -> None:
    world.server.users.add("ada", PASSWORD)
    visitor = world.visitor()
    page = visitor.follow(visitor.get(world.harness.link()))
    form = {"csrf": page.fields["csrf"], "request": page.fields["request"]}
    done = visitor.post("/oauth/login", form | {"username": "ada", "password": PASSWORD})
    tokens = world.harness.redeem(sent(visitor.follow(done))["code"]).json
    found = claims(tokens["access_token"])
    assert (found["acr"], found["amr"]) == (PASSWORD_ACR, ["pwd"])
    assert world.harness.introspect(tokens["access_token"])["amr"] == ["pwd"]
    renewed = world.harness.refresh(tokens["refresh_token"]).json["access_token"]
    assert claims(renewed)["amr"] == ["pwd"]


@pytest.mark.both_engines
def test_AZ_08_tokens_say_how_and_when_the_user_was_authenticated_elsewhere(make: Make) -> None:
    world = World(make, login={"acr_values": {"urn:theirs:mfa": "mfa"}})
    at = int(world.harness.clock()) - 120
    world.idp.changed |= {"acr": "urn:theirs:mfa", "amr": ["pwd", "otp"], "auth_time": at}
    tokens = world.harness.redeem(world.code(world.visitor(), acr_values="mfa")).json
    assert world.idp.requests[-1]["acr_values"] == "urn:theirs:mfa"
    for found in (
        claims(tokens["access_token"]),
        claims(world.harness.refresh(tokens["refresh_token"]).json["access_token"]),
        world.harness.introspect(tokens["access_token"]),
    ):
        assert (found["acr"], found["amr"], found["auth_time"]) == ("mfa", ["pwd", "otp"], at)
    metadata = world.harness.send("GET", "/.well-known/oauth-authorization-server").json
    assert metadata["acr_values_supported"] == [PASSWORD_ACR, "mfa"]


@pytest.mark.parametrize(
    ("acr", "expected"), [("other", None), (None, None), (7, None), ("mfa", None)]
)
def test_AZ_08_contexts_that_are_not_mapped_are_unknown(
    make: Make, acr: Any, expected: str | None
) -> None:
    world = World(make, login={"acr_values": {"urn:theirs:mfa": "mfa"}})
    world.idp.changed |= {"acr": acr}
    assert world.claims(world.visitor()).get("acr") == expected


@pytest.mark.parametrize("amr", ["pwd", ["pwd", 7], ["x"] * 21, [""], None, {}])
def test_AZ_08_malformed_methods_are_left_out(world: World, amr: Any) -> None:
    world.idp.changed |= {"amr": amr}
    assert "amr" not in world.claims(world.visitor())


def test_AZ_08_a_weaker_login_elsewhere_is_an_error_for_the_client(make: Make) -> None:
    world = World(make, login={"acr_values": ["mfa", "pin"]})
    world.idp.changed |= {"acr": "pin"}
    visitor = world.visitor()
    page = visitor.follow(world.sign_in(visitor, at=world.harness.link(acr_values="mfa")))
    assert sent(page)["error"] == "unmet_authentication_requirements"


@pytest.mark.parametrize(
    ("demand", "passed_on"),
    [
        ({"prompt": "login"}, {"prompt": "login", "max_age": "0"}),
        ({"prompt": "login", "max_age": "60"}, {"prompt": "login", "max_age": "0"}),
        ({"max_age": "60"}, {"max_age": "60"}),
        ({"max_age": "0"}, {"max_age": "0"}),
        ({"prompt": "select_account"}, {"prompt": "select_account"}),
    ],
)
def test_AZ_08_what_a_request_demands_is_passed_on(
    world: World, demand: dict[str, Any], passed_on: dict[str, str]
) -> None:
    visitor = world.visitor()
    world.idp.changed |= {"auth_time": int(world.harness.clock())}
    page = visitor.follow(world.sign_in(visitor, at=world.harness.link(**demand)))
    assert "code" in sent(page)
    asked = world.idp.requests[-1]
    assert {name: asked[name] for name in ("prompt", "max_age") if name in asked} == passed_on


@pytest.mark.parametrize("demand", [{"prompt": "login"}, {"max_age": "60"}])
@pytest.mark.parametrize("age", [600, None])
def test_AZ_08_an_old_login_elsewhere_does_not_satisfy_the_request(
    world: World, demand: dict[str, Any], age: int | None
) -> None:
    """Without `auth_time`, nobody knows how old it is."""
    at = None if age is None else int(world.harness.clock()) - age
    world.idp.changed |= {"auth_time": at}
    visitor = world.visitor()
    page = visitor.follow(world.sign_in(visitor, at=world.harness.link(**demand)))
    assert sent(page)["error"] == "login_required"
    # The user is signed in nevertheless, for requests that demand less.
    assert "code" in sent(visitor.get(world.harness.link()))


def test_AZ_08_max_age_is_satisfied_by_a_login_elsewhere_that_is_recent(world: World) -> None:
    at = int(world.harness.clock()) - 40
    world.idp.changed |= {"auth_time": at}
    assert world.claims(world.visitor(), max_age="60")["auth_time"] == at


@pytest.mark.parametrize(
    ("behind", "leeway", "ok"),
    [(25, 30, True), (35, 30, True), (120, 30, False), (120, 120, True), (25, 0, False)],
)
def test_AZ_08_a_clock_there_that_is_behind_is_allowed_for_within_the_leeway(
    make: Make, behind: int, leeway: float, *, ok: bool
) -> None:
    world = World(make, login={"leeway": leeway})
    now = int(world.harness.clock())
    there = now - behind
    world.idp.changed |= {"iat": there, "exp": there + 600, "auth_time": there}
    visitor = world.visitor()
    at = world.harness.link(prompt="login")
    answered = sent(visitor.follow(world.sign_in(visitor, at=at)))
    assert ("code" in answered) == ok
    if ok:
        found = claims(world.harness.redeem(answered["code"]).json["access_token"])
        assert found["auth_time"] == there + min(behind, leeway)
    else:
        assert answered["error"] == "login_required"


@pytest.mark.parametrize(("ahead", "age", "ok"), [(200, 90, False), (200, 30, True)])
def test_AZ_08_a_clock_there_that_is_ahead_makes_no_login_recent(
    world: World, ahead: int, age: int, *, ok: bool
) -> None:
    there = int(world.harness.clock()) + ahead
    world.idp.changed |= {"iat": there, "exp": there + 600, "auth_time": there - age}
    visitor = world.visitor()
    page = visitor.follow(world.sign_in(visitor, at=world.harness.link(max_age="60")))
    assert ("code" in sent(page)) == ok


@pytest.mark.parametrize("wait", [0, 3, 25])
def test_AZ_08_the_same_login_there_is_no_new_one_whenever_its_token_is_made(
    world: World, wait: int
) -> None:
    """The provider disregards `prompt=login`: its user does not log in a second time.

    It makes the ID token with the code, which comes `wait` seconds later.
    """
    visitor, clock = world.visitor(), world.harness.clock
    world.idp.changed |= {"auth_time": int(clock())}
    assert "code" in sent(visitor.follow(world.sign_in(visitor, at=world.harness.link())))
    clock.now += 3
    back = world.idp.authorize(world.chosen(visitor, at=world.harness.link(prompt="login")))
    world.idp.changed |= {"iat": int(clock())}
    clock.now += wait
    assert sent(visitor.follow(visitor.get(back)))["error"] == "login_required"


@pytest.mark.parametrize("off", [-5, 5])
def test_AZ_08_a_login_there_has_one_time_though_the_clock_there_is_a_little_off(
    world: World, off: int
) -> None:
    at = int(world.harness.clock()) - 40
    for each in range(off, 0, 1 if off < 0 else -1):
        world.idp.changed |= {"auth_time": at, "iat": int(world.harness.clock()) + each}
        assert world.claims(world.visitor())["auth_time"] == at


@pytest.mark.parametrize("slow", ["/token", "/jwks", "/userinfo"])
@pytest.mark.parametrize("fraction", [0, 0.9])
def test_AZ_08_a_slow_response_makes_no_login_recent(
    world: World, monkeypatch: pytest.MonkeyPatch, slow: str, fraction: float
) -> None:
    clock, fetch, fetched = world.harness.clock, world.idp.fetch, []
    clock.now += fraction
    at = int(clock()) - 45
    world.idp.changed |= {"auth_time": at, "email": None, "email_verified": None}
    world.idp.userinfo = {"email": "ada@example.com", "email_verified": True}

    def fetching(request: Fetch) -> Response:
        response = fetch(request)
        path = urlsplit(request.url).path
        fetched.append(path)
        clock.now += 25 if path == slow else 0
        return response

    monkeypatch.setattr(world.idp, "fetch", fetching)
    assert world.claims(world.visitor())["auth_time"] == at
    assert slow in fetched


def test_AZ_08_an_apps_own_login_says_its_methods(make: Make) -> None:
    from bearerguard.server import User

    harness = make()
    harness.user = User("ada", "Ada", 1_699_999_000.0, "mfa", ("pwd", "otp"))
    tokens = harness.tokens()
    assert claims(tokens["access_token"])["amr"] == ["pwd", "otp"]
    harness.user = User("ada", "Ada", amr=["pwd"])  # type: ignore[arg-type]
    assert harness.authorize().status == 503


# Configuration


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"domains": ()}, "admit=.*domains= or groups="),
        ({"domains": ["example"]}, "domains="),
        ({"domains": "example.com"}, "domains="),
        ({"groups": "staff"}, "groups="),
        ({"admit": "everybody"}, "admit="),
        ({"scopes": ["profile"]}, "openid"),
        ({"key": "Ex ample"}, "key="),
        ({"name": "…"}, "key="),
        ({"name": "x" * 61}, "name="),
        ({"client_secret": ""}, "client_secret="),
        ({"client_auth": "none"}, "client_auth="),
        ({"leeway": 301}, "leeway="),
        ({"acr_values": "mfa"}, "acr_values="),
        ({"acr_values": ["a b"]}, "acr_values="),
    ],
)
def test_an_unsafe_option_is_refused_with_its_name(options: dict[str, Any], match: str) -> None:
    usual: dict[str, Any] = {"client_id": CLIENT, "client_secret": SECRET}
    with pytest.raises(ConfigurationError, match=match):
        UpstreamLogin(IDP, **(usual | {"domains": ["example.com"]} | options))


@pytest.mark.parametrize("url", ["http://idp.example.com", "idp.example.com", f"{IDP}?x", 7])
def test_the_issuer_must_be_an_https_url(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="issuer"):
        UpstreamLogin(url, client_id=CLIENT, client_secret=SECRET, domains=["example.com"])


def test_options_that_contradict_each_other_are_refused() -> None:
    login = UpstreamLogin(IDP, client_id=CLIENT, client_secret=SECRET, domains=["example.com"])
    with pytest.raises(ConfigurationError, match="key="):
        PeopleOptions(upstreams=[login, login])
    with pytest.raises(ConfigurationError, match="current_user="):
        PeopleOptions(upstreams=[login], current_user=lambda _: None, login_url="https://a/")
    with pytest.raises(ConfigurationError, match="password_login="):
        PeopleOptions(password_login=False)
    with pytest.raises(ConfigurationError, match="upstreams="):
        PeopleOptions(upstreams=[IDP])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="organizations="):
        GitHubLogin(client_id="x", client_secret="y")
    assert SECRET not in repr(login)


def test_the_secret_is_sent_in_the_form_where_the_provider_wants_that(world: World) -> None:
    world.idp.published |= {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    assert world.sign_in(world.visitor()).status == 303
    assert world.idp.forms[0]["client_secret"] == SECRET


def test_who_cancels_elsewhere_gets_a_page_with_a_way_back(world: World) -> None:
    world.idp.parameters = {"code": None, "error": "access_denied"}
    visitor = world.visitor()
    page = world.sign_in(visitor, at=world.harness.link())
    assert (page.status, "You did not sign in at Example" in page.text) == (403, True)
    world.idp.parameters = {}
    back = page.html.partition('secondary" href="')[2].partition('"')[0]
    done = visitor.get(world.idp.authorize(world.chosen(visitor, at=back)))
    assert path(done) == "/oauth/authorize"
    assert "code" in sent(visitor.follow(done))


def test_an_error_elsewhere_is_no_500(world: World) -> None:
    world.idp.answer = answer({"error": "invalid_client"}, 401)
    page = world.sign_in(world.visitor())
    assert (page.status, page.header("Retry-After")) == (503, "5")
    assert world.reasons() == ["invalid_client"]
    assert "invalid_client" not in page.html


def test_AZ_08_a_login_of_unknown_age_is_not_a_recent_one(world: World) -> None:
    visitor = world.visitor()
    world.sign_in(visitor)
    world.harness.clock.now += 20
    asked = visitor.get(world.harness.link(max_age="60"))
    assert (asked.header("Location") or "").startswith("/oauth/login?"), "it must be done anew"


def test_who_may_not_sign_in_any_more_keeps_no_personal_token(make: Make) -> None:
    world = World(make, server={"personal_tokens": PersonalTokens()})
    visitor = world.visitor()
    world.sign_in(visitor)
    [account] = world.server.users.all()
    made = world.server.personal_tokens.add(account.user_id, "Backup", scopes=["read"])
    assert world.server.introspect(made.value)["active"]
    world.idp.user["email"] = "ada@elsewhere.example"
    assert world.sign_in(world.visitor()).status == 403
    assert world.server.introspect(made.value) == {"active": False}
