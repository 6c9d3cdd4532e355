"""Personal access tokens (CONFORMANCE GRANT-01): made by a user, accepted by APIs, ended."""

from __future__ import annotations

import json
import re
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import argon2
import pytest
from starlette.applications import Starlette
from starlette.responses import Response as Answer
from starlette.routing import Route
from starlette.testclient import TestClient
from werkzeug.test import Client

from bearerguard import ClientCertificate, ConfigurationError, Guard, Request, TokenError
from bearerguard.protocol.dpop import token_digest
from bearerguard.server import (
    Lifetimes,
    MutualTls,
    NewPersonalToken,
    PeopleOptions,
    PersonalTokenError,
    PersonalTokens,
    Resource,
    User,
)
from bearerguard.server.pages.texts import TEXTS
from bearerguard.server.store.pruning import KINDS
from bearerguard.server.tokens import personal_token_format as formats
from tests.server.devices import Device
from tests.server.harness import FORM, ISSUER, SCOPES, SECRET, VERIFIER, Harness, Make, Reply
from tests.server.people.visitor import Page, Visitor, path
from tests.server.statements import recorded

ENGINES = pytest.mark.both_engines
DAY = 86_400.0
PAGE, API = "/oauth/account/tokens", "/oauth/account/api/tokens"
# As docs/personal-access-tokens.md has it.
TOKEN = re.compile(r"\bbgp_[0-9A-Za-z]{36}\b")
MANAGE = "tokens:manage"
ALL = {**SCOPES, MANAGE: "Manage your personal access tokens"}
PASSWORD = "correct horse battery"


@pytest.fixture
def harness(make: Make) -> Harness:
    return made(make)


def made(make: Make, **options: Any) -> Harness:
    given: dict[str, Any] = {
        "scopes": ALL,
        "personal_tokens": PersonalTokens(api_scope=MANAGE),
    }
    return make(**(given | options))


def add(harness: Harness, user_id: str = "ada", name: str = "CI", **given: Any) -> NewPersonalToken:
    return harness.server.personal_tokens.add(user_id, name, **({"scopes": ["read"]} | given))


def refused(guard: Guard, token: str) -> str:
    with pytest.raises(TokenError) as caught:
        guard.verify(token)
    return caught.value.reason.code


def guarded(harness: Harness, **options: Any) -> Guard:
    return Guard(harness.server.issuer(), clock=harness.clock, **options)


# The format


@pytest.mark.parametrize("prefix", ["bgp_", "acme1_"])
def test_a_token_has_the_format_that_scanners_are_told(make: Make, prefix: str) -> None:
    harness = made(make, personal_tokens=PersonalTokens(prefix=prefix))
    value = add(harness).value
    pattern = TOKEN.pattern.replace("bgp_", prefix)
    assert re.fullmatch(pattern, value)
    assert harness.is_active(value) is False, "the app does not introspect for this API"
    assert harness.server.introspect(value)["active"]


def test_the_checksum_is_the_crc_32_of_what_precedes_it_in_base_62() -> None:
    """Computed here as a scanner would, from the documentation alone."""
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    for _ in range(200):
        value = formats.make("bgp_")
        number = 0
        for each in value[-6:]:
            number = number * 62 + letters.index(each)
        assert number == zlib.crc32(value[:-6].encode())


def test_one_changed_character_is_refused_without_a_statement(harness: Harness) -> None:
    value = add(harness).value
    guard = guarded(harness)
    guard.verify(value)
    with recorded() as sent:
        for place in range(4, len(value)):
            other = "a" if value[place] != "a" else "b"
            wrong = value[:place] + other + value[place + 1 :]
            assert refused(guard, wrong) == "inactive"
        for garbage in ("bgp_", "bgp_" + "a" * 36, "bgp_" + "a" * 500, "abc", "x" * 40):
            assert refused(guard, garbage) == "inactive"
    assert [statement for statement, _ in sent if "tokens" in statement] == []


# What an API gets


@ENGINES
@pytest.mark.parametrize("tokens", ["jwt", "opaque"])
def test_GRANT_01_a_guard_in_this_process_accepts_it_until_it_is_ended(
    make: Make, tokens: Any
) -> None:
    harness = made(make, resources=[Resource(ISSUER, tokens=tokens)])
    new = add(harness, scopes=["write", "read"])
    guard = guarded(harness)
    principal = guard.verify(new.value)
    assert (principal.subject, principal.subject_kind) == ("ada", "user")
    assert principal.client_id is None
    assert principal.scopes == {"read", "write"}
    assert principal.token_id == new.token.id
    assert principal.expires_at == new.token.expires_at == harness.clock() + 30 * DAY
    assert harness.server.personal_tokens.end(new.token.id)
    assert refused(guard, new.value) == "revoked"
    assert refused(guarded(harness), new.value) in {"revoked", "inactive"}
    assert not harness.server.personal_tokens.end(new.token.id), "it has ended already"


@ENGINES
def test_what_another_process_ends_is_refused_by_a_guard_that_has_it_in_its_cache(
    harness: Harness,
) -> None:
    new = add(harness)
    guard = guarded(harness)
    assert guard.verify(new.value)
    other = harness.another(scopes=ALL)
    assert other.personal_tokens.end(new.token.id)
    other.close()
    began = time.monotonic()
    while passes(guard, new.value):  # it polls the log twice a second
        assert time.monotonic() < began + 5
        time.sleep(0.01)
    print(f"refused after {time.monotonic() - began:.2f} s")
    assert refused(guard, new.value) == "revoked"


def passes(guard: Guard, token: str) -> bool:
    try:
        guard.verify(token)
    except TokenError:
        return False
    return True


def test_a_warm_request_asks_the_server_nothing(harness: Harness) -> None:
    new = add(harness)
    guard = guarded(harness)
    guard.verify(new.value)
    with recorded() as sent:
        for _ in range(100):
            guard.verify(new.value)
    assert [statement for statement, _ in sent if "FROM personal_tokens" in statement] == []


def test_by_introspection_the_api_that_it_is_for_learns_of_it_and_no_other(
    make: Make,
) -> None:
    apis = ["https://a.example.com", "https://b.example.com"]
    harness = made(make, resources=apis)
    new = add(harness, resource="https://B.example.com/")
    first, second = (
        harness.add(f"API {each}", introspects=[each], redirect_uris=[]) for each in apis
    )
    assert harness.introspect(new.value, first) == {"active": False}
    assert harness.introspect(new.value, second) == {
        "active": True,
        "token_type": "Bearer",
        "iss": ISSUER,
        "sub": "ada",
        "aud": "https://b.example.com",
        "iat": int(harness.clock()),
        "exp": int(harness.clock() + 30 * DAY),
        "jti": new.token.id,
        "scope": "read",
    }
    reported = harness.named("request_refused")[-1].details
    assert (reported["reason"], reported["client_id"]) == (
        "token_for_another_api",
        first.client_id,
    )


def test_it_expires_and_its_row_is_pruned(harness: Harness) -> None:
    new = add(harness, lifetime=DAY)
    add(harness, name="Later")
    guard = guarded(harness)
    guard.verify(new.value)
    harness.clock.now += DAY - 1
    assert harness.server.introspect(new.value)["active"]
    harness.clock.now += 1
    assert not harness.server.introspect(new.value)["active"]
    assert [each.name for each in harness.server.personal_tokens.list("ada")] == ["Later"]
    assert harness.store.count("personal_tokens") == 2
    assert "personal tokens" in KINDS
    harness.server.prune()
    assert harness.store.count("personal_tokens") == 1


def test_its_use_is_noted_to_the_day_and_once_a_day(harness: Harness) -> None:
    new = add(harness)

    def used() -> float | None:
        return harness.server.personal_tokens.list("ada")[0].last_used_at

    assert used() is None
    with recorded() as sent:
        for _ in range(3):
            assert harness.server.introspect(new.value)["active"]
    assert len([each for each, _ in sent if each.startswith("UPDATE")]) == 1
    assert used() == harness.clock() // DAY * DAY
    harness.clock.now += DAY
    assert harness.server.introspect(new.value)["active"]
    assert used() == harness.clock() // DAY * DAY


def test_a_scope_or_a_resource_that_the_server_no_longer_has_is_no_longer_granted(
    harness: Harness,
) -> None:
    new = add(harness, scopes=["read", "write"])
    without = harness.another(scopes={"read": "Read"}, personal_tokens=PersonalTokens())
    assert without.introspect(new.value)["scope"] == "read"
    without.close()
    moved = harness.another(
        scopes=ALL, personal_tokens=PersonalTokens(), resources=["https://other.example.com"]
    )
    assert moved.introspect(new.value) == {"active": False}
    moved.close()
    off = harness.another(scopes=ALL)
    assert off.introspect(new.value) == {"active": False}
    off.close()


def test_what_is_stored_is_a_digest_and_nothing_logs_or_shows_the_value(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    new = add(harness)
    harness.server.introspect(new.value)
    harness.server.personal_tokens.end(new.token.id)
    random = new.value[4:34]
    assert random not in repr(new)
    assert random not in str(harness.store.run("SELECT * FROM personal_tokens"))
    assert random not in caplog.text
    assert random not in "".join(map(repr, harness.events))
    assert [each.code for each in harness.events if each.code.startswith("personal")] == [
        "personal_token_added",
        "personal_token_ended",
    ]


def test_it_stays_valid_when_the_servers_secret_is_renewed_and_the_old_one_goes(
    harness: Harness,
) -> None:
    new = add(harness)
    newest = "a newer secret of the server for tests"
    options: dict[str, Any] = {"scopes": ALL, "personal_tokens": PersonalTokens()}
    both = harness.another(secret=[newest, SECRET], **options)
    assert both.introspect(new.value)["active"]
    both.close()
    later = harness.another(secret=newest, **options)
    assert later.introspect(new.value)["active"]
    later.close()


@pytest.mark.sqlite_only
def test_a_store_that_refuses_to_write_refuses_no_token(harness: Harness) -> None:
    new = add(harness)
    harness.store.run(
        "CREATE TRIGGER no_update BEFORE UPDATE ON personal_tokens"
        " BEGIN SELECT RAISE(ABORT, 'is_full'); END"
    )
    assert harness.server.introspect(new.value)["active"]
    assert harness.named("store_unavailable")


# Whoever has more power than the user


@ENGINES
def test_a_user_who_is_disabled_has_no_tokens_and_none_again_when_enabled(make: Make) -> None:
    harness = made(make, people=None)
    account = harness.server.users.add("grace", PASSWORD)
    new = add(harness, account.user_id)
    guard = guarded(harness)
    guard.verify(new.value)
    harness.server.disable_user("grace")
    assert refused(guard, new.value) == "revoked"
    assert not harness.server.introspect(new.value)["active"]
    with pytest.raises(PersonalTokenError, match="disabled"):
        add(harness, account.user_id)
    harness.server.users.enable("grace")
    assert not harness.server.introspect(new.value)["active"]
    assert harness.server.personal_tokens.list(account.user_id) == []


def test_who_may_no_longer_act_gets_no_token_and_is_not_called_disabled(harness: Harness) -> None:
    with pytest.raises(PersonalTokenError, match="may no longer act") as caught:
        harness.server.personal_tokens.add_once(
            "ada",
            "CI",
            scopes=["read"],
            lifetime=None,
            resource=None,
            once=None,
            may_act=lambda _connection, _user_id: False,
        )
    assert caught.value.reason == "ended"
    assert harness.server.personal_tokens.list("ada") == []


def test_a_user_disabled_by_a_version_that_knows_no_personal_tokens_has_none_either(
    make: Make,
) -> None:
    harness = made(make, people=None)
    new = add(harness, harness.server.users.add("grace", PASSWORD).user_id)
    harness.store.run("UPDATE users SET disabled_at = 1")
    assert not harness.server.introspect(new.value)["active"]


def test_a_new_password_keeps_the_tokens(make: Make) -> None:
    harness = made(make, people=None)
    new = add(harness, harness.server.users.add("grace", PASSWORD).user_id)
    harness.server.users.set_password("grace", "another good one")
    assert harness.server.introspect(new.value)["active"]


def test_revoking_a_user_ends_the_tokens_and_revoking_for_one_client_does_not(
    harness: Harness,
) -> None:
    new, of_another = add(harness), add(harness, "eve")
    guard = guarded(harness)
    guard.verify(new.value)
    assert harness.server.revoke_user(user_id="ada", client_id=harness.app.client_id) == 0
    assert guard.verify(new.value)
    assert harness.server.revoke_user(user_id="ada") == 1
    assert refused(guard, new.value) == "revoked"
    assert guard.verify(of_another.value)


def test_an_operator_revokes_it_by_its_value(harness: Harness) -> None:
    new = add(harness)
    assert harness.server.revoke(new.value)
    assert not harness.server.introspect(new.value)["active"]
    assert not harness.server.revoke(new.value)


def test_no_client_revokes_it_and_no_client_exchanges_it(harness: Harness) -> None:
    new = add(harness)
    form = harness.credentials() | {"token": new.value}
    assert harness.post("/oauth/revoke", form).error == (400, "unauthorized_client")
    exchanger = harness.add("Exchanger", grant_types=["token-exchange"], redirect_uris=[])
    answer = harness.token(
        exchanger,
        grant_type="urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token=new.value,
        subject_token_type="urn:ietf:params:oauth:token-type:access_token",
    )
    assert answer.status == 400
    assert harness.server.introspect(new.value)["active"]


# Making one


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "\u202e\u2066"}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"scopes": []}, "scope"),
        ({"scopes": ["admin"]}, "scope"),
        ({"scopes": [MANAGE]}, "scope"),
        ({"lifetime": 0}, "lifetime"),
        ({"lifetime": -1}, "lifetime"),
        ({"lifetime": 59}, "lifetime"),
        ({"lifetime": 366 * DAY}, "lifetime"),
        ({"lifetime": float("nan")}, "lifetime"),
        ({"lifetime": True}, "lifetime"),
        ({"lifetime": "1"}, "lifetime"),
        ({"resource": "https://other.example.com"}, "resource"),
        ({"user_id": ""}, "user"),
        ({"user_id": "x" * 256}, "user"),
    ],
)
def test_a_token_that_would_not_be_right_is_not_made(
    harness: Harness, given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(PersonalTokenError) as caught:
        add(harness, **given)
    assert caught.value.reason == reason
    assert harness.store.count("personal_tokens") == 0


def test_a_client_has_no_personal_token_and_a_user_with_one_is_no_client(
    harness: Harness,
) -> None:
    """RFC 9700 §4.15: a client's own tokens have its id as their subject."""
    with pytest.raises(PersonalTokenError, match="client's id"):
        add(harness, harness.app.client_id)
    add(harness, "someone")
    with pytest.raises(ValueError, match="user's id"):
        harness.add("Someone", client_id="someone")


@ENGINES
def test_a_user_has_so_many_tokens_at_most(make: Make) -> None:
    harness = made(make, personal_tokens=PersonalTokens(per_user=3))
    first = [add(harness, lifetime=DAY) for _ in range(3)]
    with pytest.raises(PersonalTokenError, match="3 tokens already"):
        add(harness)
    assert add(harness, "eve")
    harness.server.personal_tokens.end(first[0].token.id)
    assert add(harness)
    harness.clock.now += DAY
    assert add(harness), "expired ones do not count"


@pytest.mark.parametrize(
    ("options", "server", "message"),
    [
        ({"prefix": "bgp"}, {}, "PersonalTokens(prefix=)"),
        ({"prefix": "BGP_"}, {}, "PersonalTokens(prefix=)"),
        ({"prefix": "7ab_"}, {}, "a letter first"),
        ({"scopes": "read"}, {}, "PersonalTokens(scopes=)"),
        ({"scopes": []}, {}, "name one"),
        ({"scopes": ["admin"]}, {}, "the server has no scope 'admin'"),
        ({"scopes": ["read", MANAGE], "api_scope": MANAGE}, {}, "leave out 'tokens:manage'"),
        ({"api_scope": "a b"}, {}, "PersonalTokens(api_scope=)"),
        ({"api_scope": "admin"}, {}, "the server has no scope 'admin'"),
        ({"lifetime": 0}, {}, "PersonalTokens(lifetime=)"),
        ({"lifetime": 59}, {}, "pass 60 seconds at least"),
        ({"lifetime": 2 * DAY, "max_lifetime": DAY}, {}, "not be longer than max_lifetime="),
        ({"max_lifetime": 400 * DAY}, {}, "from a day to a year"),
        ({"per_user": 0}, {}, "PersonalTokens(per_user=)"),
        ({"max_login_age": "1h"}, {}, "PersonalTokens(max_login_age=)"),
        ({}, {"scopes": None}, "AuthorizationServer(scopes=), or PersonalTokens(scopes=)"),
        ({}, {"dpop": "required"}, 'pass dpop="allowed"'),
    ],
)
def test_options_that_cannot_be_meant_are_refused_at_the_start(
    make: Make, options: dict[str, Any], server: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        made(make, **({"personal_tokens": PersonalTokens(**options)} | server))
    assert message in str(caught.value)


def test_without_the_option_there_is_neither_page_nor_api_and_none_is_made(make: Make) -> None:
    harness = make()
    for url in (PAGE, API, f"{API}/x"):
        assert harness.send("GET", url).status == 404
        assert harness.server._engine.served_path("", url) is None
    with pytest.raises(ConfigurationError, match="personal_tokens=PersonalTokens"):
        harness.server.personal_tokens.add("ada", "x", scopes=["read"])
    with pytest.raises(ConfigurationError, match="personal_tokens=: pass PersonalTokens"):
        make(personal_tokens=True)


# The API


def over_http(harness: Harness, kind: str) -> Callable[..., int]:
    """Return what sends a request to an app behind the server, and returns the status."""
    if kind == "asgi":
        route = Route("/{rest:path}", lambda _: Answer(status_code=299), methods=["DELETE"])
        client = TestClient(harness.server.asgi_app(Starlette(routes=[route])), ISSUER)
    else:

        def own(_: Any, start_response: Any) -> list[bytes]:
            start_response("299 Own", [])
            return []

        werkzeug = Client(harness.server.wsgi_app(own))

    def send(method: str, url: str, token: str, body: bytes = b"") -> int:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        if kind == "asgi":
            return client.request(method, url, headers=headers, content=body).status_code
        return werkzeug.open(url, ISSUER, method=method, headers=headers, data=body).status_code

    return send


def managing(harness: Harness, user: str = "ada", **fields: Any) -> str:
    """Return an access token with which a client manages the tokens of a user."""
    harness.user = User(user, user.title(), harness.clock() - 10)
    client = harness.add(f"CLI of {user}", scopes=[MANAGE, "read", "write"])
    fields = {"scope": f"{MANAGE} read write", **fields}
    token: str = harness.tokens(client, **fields)["access_token"]
    return token


def ask(harness: Harness, token: str, method: str = "GET", url: str = API, **content: Any) -> Reply:
    body = json.dumps(content).encode() if content else b""
    return harness.send(
        method, url, body, authorization=f"Bearer {token}", content_type="application/json"
    )


@ENGINES
def test_GRANT_01_by_api_a_user_makes_lists_and_ends_tokens(harness: Harness) -> None:
    token = managing(harness)
    new = ask(harness, token, "POST", name="Backup", scope="read write", expires_in=3 * DAY)
    assert new.status == 201
    assert new.header("cache-control") == "no-store"
    value = new.json.pop("token")
    assert TOKEN.fullmatch(value)
    listed = ask(harness, token).json["tokens"]
    assert listed == [{name: each for name, each in new.json.items() if name != "token"}]
    assert listed[0] == {
        "id": listed[0]["id"],
        "name": "Backup",
        "client_id": listed[0]["client_id"],
        "scope": "read write",
        "resource": ISSUER,
        "created_at": int(harness.clock()),
        "expires_at": int(harness.clock() + 3 * DAY),
        "last_used_at": None,
    }
    guard = guarded(harness)
    assert guard.verify(value).scopes == {"read", "write"}
    assert ask(harness, token, "DELETE", f"{API}/{listed[0]['id']}").status == 204
    assert refused(guard, value) == "revoked"
    assert ask(harness, token).json == {"tokens": []}
    assert ask(harness, token, "DELETE", f"{API}/{listed[0]['id']}").status == 404


def test_the_tokens_of_another_user_are_out_of_reach(harness: Harness) -> None:
    new = add(harness, "eve")
    token = managing(harness, "ada")
    assert ask(harness, token).json == {"tokens": []}
    assert ask(harness, token, "DELETE", f"{API}/{new.token.id}").error == (404, "not_found")
    for url in (f"{API}/", f"{API}/{new.token.id}/x", f"{API}/%00", f"{API}/../tokens"):
        assert ask(harness, token, "DELETE", url).status == 404, url
    assert harness.server.introspect(new.value)["active"]


def test_a_personal_token_makes_and_ends_none(harness: Harness) -> None:
    new = add(harness)
    for method, url in (("GET", API), ("POST", API), ("DELETE", f"{API}/{new.token.id}")):
        response = ask(harness, new.value, method, url, name="x", scope="read")
        assert response.error == (401, "invalid_token")
    assert harness.server.introspect(new.value)["active"]


def unfit(harness: Harness) -> Iterator[tuple[str, dict[str, str], int, str | None]]:
    """Yield requests by what is wrong with their credentials, the status and the error."""
    yield "none", {}, 401, None
    yield "another scheme", {"authorization": "Basic eDp5"}, 401, None
    yield "malformed", {"authorization": "Bearer a b"}, 400, None
    yield "garbage", {"authorization": "Bearer abc"}, 401, "invalid_token"
    own = harness.add("Robot", scopes=[MANAGE], redirect_uris=[])
    its_own = harness.token(own, grant_type="client_credentials").json["access_token"]
    yield "a client's own", {"authorization": f"Bearer {its_own}"}, 401, "invalid_token"
    without = harness.tokens()["access_token"]
    yield "without the scope", {"authorization": f"Bearer {without}"}, 403, "insufficient_scope"
    revoked = managing(harness, "bob")
    harness.server.revoke(revoked)
    yield "revoked", {"authorization": f"Bearer {revoked}"}, 401, "invalid_token"
    wrong_scheme = managing(harness, "carl")
    yield "by DPoP", {"authorization": f"DPoP {wrong_scheme}"}, 401, "invalid_token"


def test_whoever_may_not_is_told_why_in_a_challenge(harness: Harness) -> None:
    seen = 0
    for what, headers, status, error in unfit(harness):
        for method, url in (("GET", API), ("POST", API), ("DELETE", f"{API}/x")):
            response = harness.send(method, url, b"{}", **headers)
            assert response.status == status, what
            challenge = response.header("www-authenticate")
            if status == 400:
                assert challenge is None
                continue
            assert challenge is not None
            assert challenge.startswith('Bearer realm="oauth"')
            assert (f'error="{error}"' in challenge) is (error is not None), what
            assert (f'scope="{MANAGE}"' in challenge) is (status == 403)
            seen += 1
    assert seen == 21
    assert harness.store.count("personal_tokens") == 0


def test_an_access_token_for_another_api_is_refused_where_the_server_is_an_api_itself(
    make: Make,
) -> None:
    harness = made(make, resources=["https://a.example.com", ISSUER])
    for_another = managing(harness, "ada")
    assert ask(harness, for_another).error == (401, "invalid_token")
    assert ask(harness, managing(harness, "eve", resource=ISSUER)).status == 200


def test_the_access_token_of_a_disabled_user_is_refused(make: Make) -> None:
    harness = made(make)
    token = managing(harness)
    harness.store.run(
        "INSERT INTO users (user_id, login, name, created_at, disabled_at)"
        " VALUES ('ada', 'ada', 'Ada', 1, 2)"
    )
    assert ask(harness, token).error == (401, "invalid_token")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"name": "x"}, "invalid_scope"),
        ({"name": "x", "scope": "admin"}, "invalid_scope"),
        ({"name": "x", "scope": ["read"]}, "invalid_scope"),
        ({"name": "", "scope": "read"}, "invalid_request"),
        ({"name": 1, "scope": "read"}, "invalid_request"),
        ({"name": "x", "scope": "read", "expires_in": "1"}, "invalid_request"),
        ({"name": "x", "scope": "read", "expires_in": 10**12}, "invalid_request"),
        ({"name": "x", "scope": "read", "expires_in": 59}, "invalid_request"),
        ({"name": "x", "scope": "read", "resource": 1}, "invalid_request"),
        ({"name": "x", "scope": "read", "resource": "https://x.example"}, "invalid_target"),
    ],
)
def test_a_malformed_request_for_a_token_is_refused(
    harness: Harness, content: dict[str, Any], error: str
) -> None:
    assert ask(harness, managing(harness), "POST", **content).error == (400, error)
    assert harness.store.count("personal_tokens") == 0


@pytest.mark.parametrize(
    ("body", "kind"),
    [(b"", "application/json"), (b"[]", "application/json"), (b"name=x&scope=read", "text/plain")],
)
def test_a_body_that_is_no_json_object_is_refused(harness: Harness, body: bytes, kind: str) -> None:
    token = managing(harness)
    response = harness.send("POST", API, body, authorization=f"Bearer {token}", content_type=kind)
    assert response.error == (400, "invalid_request")
    wrong = [("PUT", API), ("GET", f"{API}/x"), ("DELETE", API)]
    assert [ask(harness, token, *each).status for each in wrong] == [405, 405, 405]


def test_a_token_that_is_bound_to_a_key_needs_a_proof_for_each_request(harness: Harness) -> None:
    device = Device()
    client = harness.add("Bound", scopes=[MANAGE])
    code = harness.code(client, scope=MANAGE)
    token = harness.redeem(code, client, proof=device.proof(harness)).json["access_token"]

    def sent(proof: str | None, scheme: str = "DPoP") -> Reply:
        headers = {"authorization": f"{scheme} {token}"} | ({"dpop": proof} if proof else {})
        return harness.send("GET", API, b"", **headers)

    fitting: dict[str, Any] = {"htm": "GET", "htu": ISSUER + API, "ath": token_digest(token)}
    once = device.proof(harness, **fitting)
    assert sent(once).status == 200
    assert sent(once).error == (401, "invalid_dpop_proof"), "it was used"
    assert sent(None).error == (401, "invalid_dpop_proof")
    for wrong in ({"ath": None}, {"htu": ISSUER + "/oauth/token"}, {"htm": "POST"}):
        assert sent(device.proof(harness, **(fitting | wrong))).error == (401, "invalid_dpop_proof")
    thief = sent(Device().proof(harness, **fitting))
    assert thief.error == (401, "invalid_token")
    assert (thief.header("www-authenticate") or "").startswith("DPoP ")
    assert sent(device.proof(harness, **fitting), "Bearer").error == (401, "invalid_token")


def test_an_access_token_that_is_bound_to_a_key_makes_no_token_that_is_not(
    harness: Harness,
) -> None:
    device = Device()
    harness.user = User("ada", "Ada", harness.clock())
    client = harness.add("Bound", scopes=[MANAGE, "read"])
    code = harness.code(client, scope=f"{MANAGE} read")
    token = harness.redeem(code, client, proof=device.proof(harness)).json["access_token"]
    new = add(harness)

    def sent(method: str, url: str) -> Reply:
        body = json.dumps({"name": "x", "scope": "read"}).encode()
        fitting: dict[str, Any] = {"htm": method, "htu": ISSUER + url, "ath": token_digest(token)}
        headers = {"authorization": f"DPoP {token}", "dpop": device.proof(harness, **fitting)}
        return harness.send(method, url, body, content_type="application/json", **headers)

    refused = sent("POST", API)
    assert refused.error == (403, "unauthorized_client")
    assert "bound to a key" in refused.json["error_description"]
    assert harness.named("request_refused")[-1].details["reason"] == "personal_token_unbound"
    assert harness.store.count("personal_tokens") == 1
    assert sent("DELETE", f"{API}/{new.token.id}").status == 204


def test_where_proofs_need_a_nonce_the_api_gives_one(make: Make) -> None:
    harness = made(make, dpop_nonces=True)
    device, client = Device(), harness.add("Bound", scopes=[MANAGE])
    code = harness.code(client, scope=MANAGE)
    nonce = harness.redeem(code, client, proof=device.proof(harness)).header("dpop-nonce")
    token = harness.redeem(code, client, proof=device.proof(harness, nonce=nonce)).json[
        "access_token"
    ]
    fitting: dict[str, Any] = {"htm": "GET", "htu": ISSUER + API, "ath": token_digest(token)}

    def sent(**more: Any) -> Reply:
        proof = device.proof(harness, **(fitting | more))
        return harness.send("GET", API, b"", authorization=f"DPoP {token}", dpop=proof)

    asked = sent()
    assert asked.error == (401, "use_dpop_nonce")
    assert sent(nonce=asked.header("dpop-nonce")).status == 200


def test_a_token_that_is_bound_to_a_certificate_needs_it(make: Make) -> None:
    harness = made(make, mutual_tls=MutualTls("tls"))
    client = harness.add("Bound", scopes=[MANAGE], tls_client_certificate_bound_access_tokens=True)
    own, foreign = (ClientCertificate(letter * 43) for letter in "ab")
    form = harness.credentials(client) | {
        "grant_type": "authorization_code",
        "code": harness.code(client, scope=MANAGE),
        "redirect_uri": client.client.redirect_uris[0],
        "code_verifier": VERIFIER,
    }
    redeeming = Request(
        "POST", "/oauth/token", {"content-type": FORM}, urlencode(form).encode(), certificate=own
    )
    token = json.loads(harness.server.handle(redeeming).body)["access_token"]
    for certificate, status, to_make_one in (
        (own, 200, 403),
        (foreign, 401, 401),
        (None, 401, 401),
    ):
        headers = {"authorization": f"Bearer {token}"}
        request = Request("GET", API, headers, certificate=certificate)
        assert harness.server.handle(request).status == status
        making = Request("POST", API, headers, certificate=certificate)
        assert harness.server.handle(making).status == to_make_one


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_both_hosts_serve_the_paths_below_the_api_and_leave_others_to_the_app(
    make: Make, kind: str
) -> None:
    harness = made(make)
    token = managing(harness)
    new = add(harness)
    url = f"{API}/{new.token.id}"
    send = over_http(harness, kind)
    assert send("DELETE", f"{API}/{new.token.id}/x", token) == 299, "the app's own"
    assert send("DELETE", f"{API}/", token) == 299
    assert send("DELETE", url, "") == 401
    assert send("DELETE", url, token) == 204
    assert send("DELETE", url, token) == 404
    assert send("POST", url, token, b"x" * 100_000) == 413


# The page


@pytest.fixture
def signed_in(make: Make) -> tuple[Harness, Visitor]:
    harness = made(make, people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    harness.server.users.add("grace", PASSWORD, name="Grace")
    visitor = Visitor(harness.server.handle)
    back = visitor.submit(visitor.follow(visitor.get(PAGE)), username="grace", password=PASSWORD)
    assert path(back) == PAGE
    assert visitor.follow(back).status == 200
    return harness, visitor


def form(page: Page, **changes: str) -> dict[str, str]:
    usual = {"csrf": page.fields["csrf"], "name": "CI", "days": "7", "scope read": "yes"}
    return {name: value for name, value in (usual | changes).items() if value}


def text(key: str, **values: Any) -> str:
    return TEXTS[key].format(**values)


@ENGINES
def test_GRANT_01_a_user_makes_a_token_sees_it_once_and_ends_it(
    signed_in: tuple[Harness, Visitor],
) -> None:
    harness, visitor = signed_in
    page = visitor.get(PAGE)
    assert text("tokens.none") in page.text
    sent = form(page)
    made_page = visitor.post(PAGE, sent)
    assert made_page.status == 200
    assert made_page.header("Cache-Control") == "no-store"
    (value,) = set(TOKEN.findall(made_page.html))
    assert text("tokens.made.text") in made_page.text
    assert not any("bgp_" in each for each in visitor.set_cookies)
    found = harness.server.introspect(value)
    assert (found["active"], found["scope"]) == (True, "read")
    assert found["exp"] == found["iat"] + 7 * DAY

    reloaded = visitor.post(PAGE, sent)
    assert reloaded.status == 400
    assert "This form was sent before" in reloaded.text
    assert not TOKEN.search(reloaded.html)
    listed = visitor.get(PAGE)
    assert not TOKEN.search(listed.html)
    assert "CI" in listed.text
    assert "Read your recordings" in listed.text
    assert harness.store.count("personal_tokens") == 1

    token_id = harness.server.personal_tokens.list(found["sub"])[0].id
    ended = visitor.post(PAGE, {"csrf": listed.fields["csrf"], "end": token_id})
    assert (ended.status, path(ended)) == (303, PAGE)
    assert not harness.server.introspect(value)["active"]
    assert text("tokens.none") in visitor.follow(ended).text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"name": ""}, "name"),
        ({"scope read": ""}, "scope"),
        ({"scope read": "", "scope admin": "yes"}, "scope"),
        ({"scope read": "", f"scope {MANAGE}": "yes"}, "scope"),
        ({"days": "366"}, "lifetime"),
        ({"days": "0"}, "lifetime"),
        ({"days": "-1"}, "lifetime"),
        ({"days": "x"}, "lifetime"),
        ({"days": "²"}, "lifetime"),
        ({"days": "99999999999"}, "lifetime"),
        ({"for": "https://x.example"}, "resource"),
    ],
)
def test_a_form_with_a_mistake_is_shown_again_with_what_was_typed(
    signed_in: tuple[Harness, Visitor], changes: dict[str, str], problem: str
) -> None:
    harness, visitor = signed_in
    page = visitor.post(PAGE, form(visitor.get(PAGE), **({"name": "<b>x"} | changes)))
    assert page.status == 400
    assert text(f"tokens.problem.{problem}", max=365) in page.text
    if "name" not in changes:
        assert page.fields["name"] == "<b>x"
    # The text is of the field that has the mistake, and of no other.
    described = re.findall(
        r'<(?:input id|div role)="(\w+)"[^>]* aria-describedby="problem"', page.html
    )
    fields = {"name": ["name"], "lifetime": ["days"], "scope": ["group"], "resource": []}
    assert described == fields[problem]
    body = page.html.partition("<body")[2]
    assert body.count('aria-invalid="true"') == (problem in {"name", "lifetime"})
    assert "<b>" not in page.html
    assert harness.store.count("personal_tokens") == 0


def test_too_many_tokens_are_explained(make: Make) -> None:
    harness = made(make, personal_tokens=PersonalTokens(per_user=1))
    visitor = Visitor(harness.server.handle)
    harness.user = User("ada", "Ada", harness.clock())
    assert visitor.post(PAGE, form(visitor.get(PAGE))).status == 200
    page = visitor.post(PAGE, form(visitor.get(PAGE)))
    assert text("tokens.problem.too_many", count=1) in page.text


def test_a_form_from_elsewhere_makes_and_ends_nothing(
    signed_in: tuple[Harness, Visitor],
) -> None:
    harness, visitor = signed_in
    sub = harness.server.users.get("grace").user_id
    token = add(harness, sub).token
    page = visitor.get(PAGE)
    for changes in ({"csrf": ""}, {"csrf": "x"}):
        for fields in (form(page, **changes), {"end": token.id, **changes}):
            refused = visitor.post(PAGE, fields)
            assert refused.status == 400
            assert text("account.problem") in refused.text
            assert text("login.stale") in refused.text
            assert harness.events[-1].details["reason"] == "unusable_form"
    assert refused.fields["name"] == "", "what another site sent is not shown"
    stranger = Visitor(harness.server.handle)
    assert path(stranger.post(PAGE, form(page))) == "/oauth/login"
    foreign = visitor.post(PAGE, form(page), Sec_Fetch_Site="cross-site")
    assert foreign.status == 400
    assert [each.id for each in harness.server.personal_tokens.list(sub)] == [token.id]
    assert visitor.send("PUT", PAGE).status == 405


def test_a_form_that_has_expired_is_shown_again(make: Make) -> None:
    harness = made(make)
    harness = made(make)
    visitor = Visitor(harness.server.handle)
    harness.user = User("ada", "Ada", harness.clock())
    page = visitor.get(PAGE)
    harness.clock.now += 7201
    harness.user = User("ada", "Ada", harness.clock())
    expired = visitor.post(PAGE, form(page))
    assert (expired.status, harness.store.count("personal_tokens")) == (400, 0)
    assert text("login.stale") in expired.text
    assert visitor.post(PAGE, form(expired)).status == 200


def test_a_user_who_is_signed_in_no_more_comes_back_to_the_page(
    signed_in: tuple[Harness, Visitor],
) -> None:
    harness, visitor = signed_in
    page = visitor.get(PAGE)
    harness.clock.now += 13 * 3600
    login = visitor.follow(visitor.post(PAGE, form(page)))
    back = visitor.submit(login, username="grace", password=PASSWORD)
    assert path(back) == PAGE
    assert harness.store.count("personal_tokens") == 0


def test_an_apps_own_login_may_be_elsewhere_and_the_policy_lets_the_form_lead_there(
    harness: Harness,
) -> None:
    harness.user = User("ada", "Ada", harness.clock())
    assert "form-action" not in Visitor(harness.server.handle).get(PAGE).policy


def test_a_user_ends_no_token_of_another(signed_in: tuple[Harness, Visitor]) -> None:
    harness, visitor = signed_in
    new = add(harness, "eve")
    page = visitor.get(PAGE)
    assert new.token.id not in page.html
    visitor.post(PAGE, {"csrf": page.fields["csrf"], "end": new.token.id})
    assert harness.server.introspect(new.value)["active"]


def test_AZ_08_making_one_needs_a_login_of_the_last_hour(
    signed_in: tuple[Harness, Visitor],
) -> None:
    harness, visitor = signed_in
    fresh = visitor.get(PAGE)
    harness.clock.now += 3601
    old = visitor.get(PAGE)
    assert text("tokens.old") in old.text
    assert "days" not in old.fields
    refused = visitor.post(PAGE, form(fresh))
    assert (refused.status, harness.store.count("personal_tokens")) == (403, 0)
    assert text("tokens.problem.old") in refused.text
    login = visitor.follow(visitor.get(f"{PAGE}?sign_in=again"))
    assert "asks you to sign in again" in login.text
    back = visitor.submit(login, username="grace", password=PASSWORD)
    assert path(back) == PAGE
    assert visitor.post(PAGE, form(visitor.follow(back))).status == 200


def test_AZ_08_an_apps_own_login_says_when_it_was_and_is_asked_for_a_newer_one(
    harness: Harness,
) -> None:
    visitor = Visitor(harness.server.handle)
    harness.user = None
    asked = visitor.get(PAGE).header("Location") or ""
    assert asked == (
        "https://app.example.com/login?next=https%3A%2F%2Fapi.example.com%2Foauth%2Faccount%2Ftokens"
    )
    harness.user = User("ada", "Ada", harness.clock())
    fresh = visitor.get(PAGE)
    for auth_time in (None, harness.clock() - 3601, harness.clock() + 10_000):
        harness.user = User("ada", "Ada", auth_time)
        expected = "tokens.unknown" if auth_time is None else "tokens.old"
        assert text(expected) in visitor.get(PAGE).text
        assert visitor.post(PAGE, form(fresh)).status == 403
        again = visitor.get(f"{PAGE}?sign_in=again")
        assert (again.header("Location") or "").endswith("&prompt=login")
    harness.user = User("ada", "Ada", harness.clock())
    assert visitor.post(PAGE, form(visitor.get(PAGE))).status == 200


def test_the_page_is_protected_like_any_other_and_shows_names_as_text(
    signed_in: tuple[Harness, Visitor],
) -> None:
    harness, visitor = signed_in
    sub = harness.server.users.get("grace").user_id
    add(harness, sub, name="<script>alert(1)</script> שלום")
    page = visitor.get(PAGE)
    assert "<script>" not in page.html
    assert page.policy["default-src"] == "'none'"
    assert page.policy["form-action"] == "'self'"
    assert page.header("Cache-Control") == "no-store"
    assert page.header("X-Frame-Options") == "DENY"


def test_with_several_apis_the_user_chooses_which_the_token_is_for(make: Make) -> None:
    harness = made(make, resources=["https://a.example.com", "https://b.example.com"])
    harness.user = User("ada", "Ada", harness.clock())
    visitor = Visitor(harness.server.handle)
    page = visitor.get(PAGE)
    made_page = visitor.post(PAGE, form(page, **{"for": "https://b.example.com"}))
    (value,) = set(TOKEN.findall(made_page.html))
    assert harness.server.introspect(value)["aud"] == "https://b.example.com"
    assert "For https://b.example.com" in visitor.get(PAGE).text


def test_a_server_below_a_path_has_its_page_and_its_api_there(make: Make) -> None:
    harness = made(make, issuer=f"{ISSUER}/tenant")
    harness.user = User("ada", "Ada", harness.clock())
    visitor = Visitor(harness.server.handle)
    page = visitor.get(f"/tenant{PAGE}")
    assert page.action == f"/tenant{PAGE}"
    assert visitor.post(page.action, form(page)).status == 200
    token = managing(harness)
    (listed,) = ask(harness, token).json["tokens"]
    assert ask(harness, token, "DELETE", f"{API}/{listed['id']}").status == 204


def test_a_request_to_the_api_that_is_signed_for_another_host_reaches_it_all_the_same(
    harness: Harness,
) -> None:
    """Paths decide, as for every endpoint."""
    response = harness.server.handle(Request("GET", "https://other.example" + API))
    assert response.status == 401


def test_a_guards_own_revocation_of_a_long_lived_token_is_kept_for_its_life(
    make: Make,
) -> None:
    harness = made(make, lifetimes=Lifetimes(access_token=60))
    new = add(harness, lifetime=300 * DAY)
    guard = guarded(harness)
    guard.verify(new.value)
    guard.revoke(token_id=new.token.id, issuer=ISSUER)
    assert refused(guard, new.value) == "revoked"
    harness.clock.now += 100 * DAY
    harness.server.prune()
    later = guarded(harness)
    assert refused(later, new.value) == "revoked"
