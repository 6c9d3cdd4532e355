"""A session outlives what goes wrong: at the authorization server, and where it is kept (CL-05)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from threading import Event
from typing import Any

import pytest

from bearerguard import ConfigurationError
from bearerguard.client import (
    AuthorizationCode,
    ClientCredentials,
    DeviceCode,
    MemoryStorage,
    RefreshToken,
    TokenManager,
)
from bearerguard.client.token import Token
from bearerguard.errors import LoginRequired, StorageError, TokenRefused, TokenUnavailable
from bearerguard.transports.http import HttpTransport
from tests.client.scripted_server import manager, settle


class Disk(MemoryStorage):
    """A storage that cannot save, or read, when a test says so."""

    full = False
    broken = False

    def load(self, key):
        if self.broken:
            raise StorageError("the disk cannot be read: mend it")
        return super().load(key)

    def swap(self, key, expected, value):
        if self.full:
            raise StorageError("the disk is full: free some of it")
        return super().swap(key, expected, value)


def session(server, time, storage=None, *, first="r0", **options):
    source = RefreshToken(
        server.url,
        client_id="c",
        refresh_token=first,
        resources=server.url,
        clock=time.clock,
        **options,
    )
    return TokenManager(
        source,
        storage=storage,
        transport=HttpTransport(timeout=0.5),
        **time.options,
    )


def rotating(server):
    """Give a new refresh token each time, and take the last one only."""
    last = ["r0"]

    def endpoint(asked):
        if asked.form["refresh_token"] != last[0]:
            return 400, [], {"error": "invalid_grant"}
        last[0] = f"r{len(server.at('/token'))}"
        return 200, [], server.granted(refresh_token=last[0])

    server.answers["/token"] = endpoint
    return endpoint


def hung(server):
    return lambda _: (Event().wait(1), (200, [], server.granted()))[1]


TROUBLES = {
    "500": lambda _: (500, [], b"<html>"),
    "503": lambda _: (503, [("Retry-After", "2")], b""),
    "429": lambda _: (429, [], {"error": "slow_down"}),
    "passing": lambda _: (400, [], {"error": "temporarily_unavailable"}),
    "redirect": lambda _: (307, [("Location", "/elsewhere")], b""),
}


@pytest.mark.parametrize("trouble", [*TROUBLES, "timeout"])
def test_CL_05_a_server_in_trouble_costs_no_session_and_the_token_serves_to_its_end(
    server, time, trouble
):
    grant = rotating(server)
    tokens = session(server, time)
    assert tokens.token().refresh_token == "r1"
    server.answers["/token"] = hung(server) if trouble == "timeout" else TROUBLES[trouble]
    time.pass_by(3550)
    assert tokens.token().access_token == "t1"
    settle()
    assert tokens.token().access_token == "t1"
    time.pass_by(60)
    for _ in range(3):
        with pytest.raises((TokenUnavailable, TokenRefused)):
            tokens.token()
    assert len(server.at("/token")) == 3
    server.answers["/token"] = grant
    time.pass_by(61)
    assert tokens.token().refresh_token == "r4"
    assert server.at("/token")[-1].form["refresh_token"] == "r1"


def test_CL_05_a_server_in_trouble_is_left_alone_longer_each_time(server, time):
    server.answers["/token"] = TROUBLES["500"]
    tokens = session(server, time)
    tried: list[float] = []
    for _ in range(300):
        with pytest.raises(TokenUnavailable):
            tokens.token()
        if len(server.at("/token")) > len(tried):
            tried.append(time.monotonic)
        time.pass_by(0.5)
    waited = [round(after - before) for before, after in pairwise(tried)]
    assert waited == [1, 2, 4, 8, 16, 32, 60]


def test_CL_05_a_failure_that_is_raised_often_does_not_grow(server, time):
    server.answers["/token"] = TROUBLES["500"]
    tokens = session(server, time)
    lengths: list[int] = []
    for _ in range(20):
        with pytest.raises(TokenUnavailable) as raised:
            tokens.token()
        lengths.append(len(raised.traceback))
    assert len(server.at("/token")) == 1
    assert lengths[-1] == lengths[1]


def test_CL_05_a_refused_refresh_token_is_over_and_is_sent_once(server, time):
    rotating(server)
    storage = MemoryStorage()
    tokens = session(server, time, storage)
    tokens.token()
    server.answers["/token"] = lambda _: (400, [], {"error": "invalid_grant"})
    time.pass_by(3550)
    for _ in range(5):
        assert tokens.token().access_token == "t1"
        settle()
    time.pass_by(60)
    for _ in range(5):
        with pytest.raises(LoginRequired, match="login"):
            tokens.token()
    assert len(server.at("/token")) == 2
    for each in (tokens, session(server, time, storage)):
        with pytest.raises(LoginRequired):
            each.token()
    assert len(server.at("/token")) == 2
    assert b"r1" not in (storage.load(tokens.key) or b"r1")


def test_CL_05_a_first_refresh_token_that_is_refused_is_not_sent_again(server, time):
    rotating(server)
    tokens = session(server, time, first="stolen")
    for _ in range(4):
        with pytest.raises(LoginRequired):
            tokens.token()
    assert len(server.at("/token")) == 1


def test_CL_05_a_refresh_token_that_is_not_replaced_is_kept(server, time):
    server.answers["/token"] = lambda _: (200, [], server.granted(scope="read"))
    tokens = session(server, time)
    for _ in range(3):
        tokens.renew(tokens.lease()) if server.at("/token") else tokens.token()
    assert [each.form["refresh_token"] for each in server.at("/token")] == ["r0"] * 3
    assert tokens.token().scopes == ("read",)


def test_CL_05_other_refusals_keep_the_refresh_token(server, time):
    grant = rotating(server)
    tokens = session(server, time)
    tokens.token()
    server.answers["/token"] = lambda _: (401, [], {"error": "invalid_client"})
    with pytest.raises(TokenRefused, match="invalid_client"):
        tokens.renew(tokens.lease())
    server.answers["/token"] = grant
    time.pass_by(2)
    assert tokens.renew(tokens.lease()).token.refresh_token == "r3"


def test_CL_05_a_token_that_cannot_be_saved_is_an_error_and_is_not_lost(server, time):
    rotating(server)
    disk = Disk()
    tokens = session(server, time, disk)
    tokens.token()
    disk.full = True
    for _ in range(3):
        with pytest.raises(StorageError, match="free some"):
            tokens.renew(tokens.lease())
        time.pass_by(61)
    assert len(server.at("/token")) == 2, "what came is kept first, before another is asked for"
    disk.full = False
    assert tokens.renew(tokens.lease()).token.access_token == "t2"
    assert tokens.renew(tokens.lease()).token.refresh_token == "r3"
    assert [each.form["refresh_token"] for each in server.at("/token")] == ["r0", "r1", "r2"]


def test_CL_05_a_token_that_could_not_be_saved_gives_way_to_another_process(server, time):
    rotating(server)
    disk = Disk()
    tokens = session(server, time, disk)
    tokens.token()
    disk.full = True
    with pytest.raises(StorageError):
        tokens.renew(tokens.lease())
    disk.full = False
    luckier = Token("of another", refresh_token="r9")
    assert disk.swap(tokens.key, disk.load(tokens.key), luckier.to_bytes())
    time.pass_by(2)
    assert tokens.renew(tokens.lease()).token == luckier


def test_CL_05_a_storage_that_cannot_be_read_is_an_error_and_nothing_is_asked(server, time):
    rotating(server)
    disk = Disk()
    disk.broken = True
    with pytest.raises(StorageError, match="mend it"):
        session(server, time, disk).token()
    assert not server.at("/token")


def test_CL_05_what_is_changed_in_spite_of_the_lock_is_an_error(server, time):
    class Careless(MemoryStorage):
        def swap(self, key, expected, value):
            return False

    rotating(server)
    with pytest.raises(StorageError, match="changed the stored token in spite of the lock"):
        session(server, time, Careless()).token()


def test_CL_02_a_newer_token_in_the_storage_is_used_without_asking(server, time):
    rotating(server)
    storage = MemoryStorage()
    one, two = session(server, time, storage), session(server, time, storage)
    refused = one.lease()
    assert two.lease().token == refused.token
    renewed = one.renew(refused)
    assert two.renew(refused).token == renewed.token
    assert one.renew(refused) == renewed
    assert len(server.at("/token")) == 2


def test_CL_05_logging_out_forgets_and_revokes(server, time):
    rotating(server)
    storage = MemoryStorage()
    tokens = session(server, time, storage)
    tokens.token()
    server.answers["/revoke"] = lambda _: (200, [], b"")
    assert tokens.logout()
    assert server.at("/revoke")[0].form["token"] == "r1"
    assert not storage.keys()
    assert not tokens.logout()
    other = manager(server, time)
    del server.answers["/token"]
    other.token()
    server.answers["/revoke"] = lambda _: (400, [], b"")
    assert not other.logout()
    assert server.at("/revoke")[1].form["token_type_hint"] == "access_token"


def test_what_cannot_be_read_is_an_error_until_it_is_removed_or_replaced(server, time):
    storage = MemoryStorage()
    tokens = manager(server, time, storage)
    storage.swap(tokens.key, None, b"{")
    with pytest.raises(StorageError, match="log in again"):
        tokens.token()
    assert not tokens.logout()
    time.pass_by(2)
    assert tokens.token().access_token == "t1"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"issuer": None}, "issuer"),
        ({"issuer": "https://id.example/#x"}, "no https URL"),
        ({"client_id": ""}, "client_id="),
        ({"client_id": 7}, "client_id="),
        ({"client_secret": ""}, "client_secret="),
        ({"client_secret": "s", "private_key": {"kty": "RSA"}}, "private_key="),
        ({"private_key": "no key"}, "private_key="),
        ({"auth_method": "client_secret_basic"}, "does not fit"),
        ({"client_secret": "s", "auth_method": "none"}, "does not fit"),
        ({"scopes": 7}, "scopes="),
        ({"scopes": ["a", 7]}, "scopes="),
        ({"resources": {"a": 1}}, "resources="),
    ],
)
def test_options_that_are_missing_or_unsafe_are_named(options, said):
    with pytest.raises(ConfigurationError, match=said):
        ClientCredentials(**{"issuer": "https://id.example", "client_id": "c"} | options)


SOURCES: list[Callable[..., object]] = [
    ClientCredentials,
    AuthorizationCode,
    DeviceCode,
    partial(RefreshToken, refresh_token="r"),
]


@pytest.mark.parametrize("make", SOURCES)
@pytest.mark.parametrize(
    ("misspelt", "meant"), [("resource", "resources"), ("client_secrets", "client_secret")]
)
def test_a_misspelt_option_is_refused_with_the_one_that_is_meant(make, misspelt, meant):
    with pytest.raises(ConfigurationError, match=f"^{misspelt}=: .*: {meant}= is meant$"):
        make("https://id.example", client_id="c", **{misspelt: "x"})


@pytest.mark.parametrize("make", SOURCES[:3])
def test_scope_is_refused_because_scopes_is_meant(make):
    with pytest.raises(ConfigurationError, match=r"^scope=: .*: scopes= is meant$"):
        make("https://id.example", client_id="c", scope="read")


def test_an_option_of_the_grant_itself_is_suggested_too():
    make: Any = AuthorizationCode
    with pytest.raises(ConfigurationError, match=r"redirect_url=: .*: redirect_uri= is meant"):
        make("https://id.example", client_id="c", redirect_url="http://localhost/")


@pytest.mark.parametrize("option", ["scope", "scopes", "audience"])
def test_an_option_that_a_refresh_token_does_not_have_is_refused(option):
    make: Any = RefreshToken
    with pytest.raises(ConfigurationError, match=f"^{option}=: there is no such option$"):
        make("https://id.example", client_id="c", refresh_token="r", **{option: "read"})


def test_other_options_that_are_unfit_are_named(server, time):
    with pytest.raises(ConfigurationError, match="refresh_token="):
        session(server, time, first="")
    odd: Any = object()
    with pytest.raises(ConfigurationError, match="source: pass a token source"):
        TokenManager(odd)
    with pytest.raises(ConfigurationError, match=r"transport=.*fetch"):
        TokenManager(manager(server, time).source, transport=odd)


@pytest.mark.parametrize(
    ("supported", "way"),
    [
        (None, "basic"),
        (["client_secret_post"], "post"),
        (["client_secret_post", "client_secret_basic"], "basic"),
        (["tls_client_auth"], "basic"),
    ],
)
def test_a_secret_is_shown_in_the_way_that_the_server_names(server, time, supported, way):
    server.metadata["token_endpoint_auth_methods_supported"] = supported
    manager(server, time).token()
    asked = server.at("/token")[0]
    assert ("client_secret" in asked.form) == (way == "post")
    assert ("authorization" in asked.headers) == (way == "basic")


def test_a_server_without_metadata_is_asked_at_its_token_endpoint(server, time):
    source = ClientCredentials(
        None,
        token_endpoint=f"{server.url}/token",
        client_id="c",
        client_secret="s",
        auth_method="client_secret_post",
    )
    assert TokenManager(source).token().access_token == "t1"
    assert server.at("/token")[0].form["client_secret"] == "s"
    assert len(server.asked) == 1
    assert repr(source) == f"ClientCredentials('{server.url}/token')"
