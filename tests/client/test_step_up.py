"""What an API demands beyond a token is asked for when the caller says so, and within bounds."""

from __future__ import annotations

import anyio
import pytest

from bearerguard.client import (
    AuthorizationCode,
    MemoryStorage,
    RefreshToken,
    StaticToken,
    TokenManager,
)
from bearerguard.errors import (
    ConfigurationError,
    InsufficientScope,
    LoginRequired,
    StepUpRequired,
    StorageError,
    TokenRefused,
)
from tests.client.callers import caller
from tests.client.scripted_server import manager
from tests.client.test_trust import Browser

WAYS = ["sync", "asyncio", "trio"]


def stepped(tokens, demanded, way):
    if way == "sync":
        return tokens.step_up(demanded)
    return anyio.run(tokens.astep_up, demanded, backend=way)


def logged_in(server, browser, storage=None, **options):
    source = AuthorizationCode(
        server.url,
        client_id="c",
        scopes="read",
        resources=server.url,
        open_browser=browser.open,
        receiver=browser.receiver,
        **options,
    )
    return TokenManager(source, storage=storage)


@pytest.mark.parametrize("way", WAYS)
def test_CL_03_more_scope_is_asked_for_together_with_what_was(server, time, way):
    tokens = manager(server, time)
    assert tokens.token().scopes == ("read",)
    assert stepped(tokens, InsufficientScope(("write", "read")), way).scopes == ("read", "write")
    assert tokens.token().access_token == "t2"
    tokens.renew(tokens.lease())
    assert [each.form["scope"] for each in server.at("/token")] == [
        "read",
        "read write",
        "read write",
    ]


@pytest.mark.parametrize("way", WAYS)
def test_CL_03_a_person_is_asked_for_more_scope_or_for_a_stronger_login(server, way):
    browser = Browser(code="c")
    tokens = logged_in(server, browser)
    tokens.login()
    stepped(tokens, InsufficientScope(("write",)), way)
    assert browser.asked["scope"] == "read write"
    assert "max_age" not in browser.asked
    stepped(tokens, StepUpRequired(("gold", "silver"), 5), way)
    assert browser.asked["scope"] == "read write"
    assert (browser.asked["acr_values"], browser.asked["max_age"]) == ("gold silver", "5")
    tokens.login()
    assert "acr_values" not in browser.asked, "a stronger login was for one occasion"
    assert browser.asked["scope"] == "read write"


@pytest.mark.parametrize("way", WAYS)
def test_CL_03_a_demand_that_is_met_already_is_raised_and_nothing_is_asked(server, time, way):
    tokens = manager(server, time)
    tokens.token()
    for scope in (("read",), ()):
        with pytest.raises(InsufficientScope):
            stepped(tokens, InsufficientScope(scope), way)
    assert len(server.at("/token")) == 1


@pytest.mark.parametrize("source", ["static", "refresh", "credentials"])
def test_CL_03_what_nobody_can_give_is_demanded_again(server, time, source):
    tokens = {
        "static": lambda: TokenManager(StaticToken("a")),
        "refresh": lambda: TokenManager(RefreshToken(server.url, client_id="c", refresh_token="r")),
        "credentials": lambda: manager(server, time),
    }[source]()
    with pytest.raises(StepUpRequired):
        tokens.step_up(StepUpRequired(("gold",)))
    assert not server.at("/token")
    if source != "credentials":
        with pytest.raises(InsufficientScope):
            tokens.step_up(InsufficientScope(("write",)))
    with pytest.raises(ConfigurationError, match="has no login"):
        tokens.login()


def test_CL_03_an_api_that_demands_ever_more_reaches_a_bound(server, time):
    tokens = manager(server, time)
    tokens.token()
    for number in range(99):
        tokens.step_up(InsufficientScope((f"s{number}",)))
    with pytest.raises(ConfigurationError, match="more than 100 scopes"):
        tokens.step_up(InsufficientScope(("one more",)))
    assert len(server.at("/token")) == 100


def test_CL_03_another_managers_wider_token_is_used_without_asking(server, time):
    storage = MemoryStorage()
    one, two = manager(server, time, storage), manager(server, time, storage)
    assert one.token() == two.token()
    wider = one.step_up(InsufficientScope(("write",)))
    assert two.step_up(InsufficientScope(("write",))) == wider
    assert two.token() == wider
    assert len(server.at("/token")) == 2


def test_CL_03_a_step_up_that_is_refused_changes_nothing(server, time):
    tokens = manager(server, time)
    tokens.token()
    server.answers["/token"] = lambda _: (400, [], {"error": "invalid_scope"})
    with pytest.raises(TokenRefused, match="invalid_scope"):
        tokens.step_up(InsufficientScope(("admin",)))
    assert tokens.token().access_token == "t1"
    del server.answers["/token"]
    tokens.renew(tokens.lease())
    assert server.at("/token")[-1].form["scope"] == "read"


def test_CL_03_a_step_up_waits_for_whoever_holds_the_lock_of_the_storage(server, time):
    storage = MemoryStorage(lock_timeout=0.1)
    tokens = manager(server, time, storage)
    tokens.token()
    with storage.locked(tokens.key), pytest.raises(StorageError, match="another thread holds"):
        tokens.step_up(InsufficientScope(("write",)))
    assert len(server.at("/token")) == 1


def test_CL_03_the_api_is_satisfied_after_a_step_up(server, time):
    challenge = ("WWW-Authenticate", 'Bearer error="insufficient_scope", scope="write"')
    server.answers["/api"] = lambda asked: (
        (200, [], b"written") if asked.token == "t2" else (403, [challenge], b"")
    )
    tokens = manager(server, time)
    with caller("httpx2", tokens) as call:
        with pytest.raises(InsufficientScope) as demanded:
            call("PUT", f"{server.url}/api")
        tokens.step_up(demanded.value)
        assert call("PUT", f"{server.url}/api").text == "written"


def test_a_login_replaces_what_cannot_be_read(server):
    storage = MemoryStorage()
    tokens = logged_in(server, Browser(code="c"), storage)
    storage.swap(tokens.key, None, b"of a newer version")
    with pytest.raises(StorageError, match="log in again"):
        tokens.token()
    assert tokens.login().access_token == "t1"
    assert tokens.token().access_token == "t1"


def test_a_login_asks_nobody_when_the_storage_fails_its_probe(server):
    class Forgetful(MemoryStorage):
        def load(self, key):
            return None

    browser = Browser(code="c")
    with pytest.raises(StorageError, match="choose another storage"):
        logged_in(server, browser, Forgetful()).login()
    assert not browser.asked


def test_a_login_keeps_the_key_that_tokens_are_bound_to(server):
    server.answers["/token"] = lambda _: (
        200,
        [],
        server.granted(token_type="DPoP", refresh_token="r"),
    )
    tokens = logged_in(server, Browser(code="c"), dpop=True)
    with pytest.raises(LoginRequired):
        tokens.token()
    first = tokens.login()
    second = tokens.renew(tokens.lease()).token
    assert first.dpop_key == second.dpop_key == tokens.login().dpop_key
    for each in server.at("/token"):
        each.proof()
