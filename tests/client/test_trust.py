"""Which servers and responses the client accepts, and where its tokens go (CL-07)."""

from __future__ import annotations

import json
import secrets
import traceback
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from bearerguard import ConfigurationError
from bearerguard.client import (
    AuthorizationCode,
    BearerAuth,
    ClientCredentials,
    MemoryStorage,
    RefreshToken,
    TokenManager,
)
from bearerguard.errors import (
    BearerGuardError,
    DiscoveryError,
    LoginFailed,
    TokenRefused,
    TokenUnavailable,
)
from bearerguard.protocol import pkce
from bearerguard.runtime.messages import Response
from tests.client.callers import NAMES, caller
from tests.client.scripted_server import METADATA, manager


class Browser:
    """A person's browser and the place that it returns to: it brings `answer` back."""

    redirect_uri = "http://127.0.0.1/callback"

    def __init__(self, **answer):
        self.answer = answer
        self.asked = {}

    @contextmanager
    def receiver(self):
        self.state = secrets.token_urlsafe(32)
        self.given = {"state": self.state, **self.answer}
        yield self

    def open(self, url):
        self.url = url
        self.asked = dict(parse_qsl(urlsplit(url).query))

    def wait(self, timeout):
        assert timeout > 0
        return self.given


def login(server, browser, **options):
    source = AuthorizationCode(
        server.url,
        client_id="c",
        scopes="read",
        resources=server.url,
        open_browser=browser.open,
        receiver=browser.receiver,
        **options,
    )
    return TokenManager(source)


def test_CL_07_a_login_sends_pkce_by_s256_and_a_state_and_redeems_the_code(server):
    browser = Browser(code="the code", iss=server.url)
    server.metadata["authorization_endpoint"] += "?tenant=1"
    server.metadata["authorization_response_iss_parameter_supported"] = True
    assert login(server, browser).login().access_token == "t1"
    assert browser.url.startswith(f"{server.url}/authorize?tenant=1&")
    asked, redeemed = browser.asked, server.at("/token")[0].form
    assert asked["code_challenge_method"] == "S256"
    assert pkce.proves(redeemed["code_verifier"], asked["code_challenge"])
    assert asked["resource"] == redeemed["resource"] == server.url
    assert redeemed["code"] == "the code"
    assert redeemed["redirect_uri"] == asked["redirect_uri"] == browser.redirect_uri
    assert asked["state"] == browser.state


def test_a_login_where_no_browser_opens_ends_at_once_with_a_remedy(server):
    source = AuthorizationCode(server.url, client_id="c", open_browser=lambda _: False)
    with pytest.raises(LoginFailed, match=r"open_browser=.*DeviceCode"):
        TokenManager(source).login()
    assert not server.at("/token")


@pytest.mark.parametrize("methods", [None, [], ["plain"], "S256", "absent"])
def test_CL_07_a_server_that_does_not_say_that_it_does_pkce_is_refused(server, methods):
    server.metadata["code_challenge_methods_supported"] = methods
    if methods == "absent":
        del server.metadata["code_challenge_methods_supported"]
    browser = Browser(code="c")
    with pytest.raises(DiscoveryError, match="assume_pkce=True"):
        login(server, browser).login()
    assert not browser.asked


def test_CL_07_pkce_may_be_assumed_where_nothing_is_said_and_not_where_it_is_denied(server):
    del server.metadata["code_challenge_methods_supported"]
    assert login(server, Browser(code="c"), assume_pkce=True).login().access_token == "t1"
    server.metadata["code_challenge_methods_supported"] = ["plain"]
    with pytest.raises(DiscoveryError):
        login(server, Browser(code="c"), assume_pkce=True).login()


@pytest.mark.parametrize(
    ("answer", "advertised", "said"),
    [
        ({"code": "c", "state": "another"}, False, "state differs"),
        ({"code": "c", "state": ""}, False, "state differs"),
        ({"code": "c", "iss": "{url}/"}, False, "the response is from"),
        ({"code": "c", "iss": "https://evil.example"}, True, "the response is from"),
        ({"code": "c"}, True, "does not name its issuer"),
        ({"error": "access_denied"}, True, "does not name its issuer"),
        ({"error": "access_denied", "error_description": "no"}, False, "access_denied.*'no'"),
        ({"error": "access_denied"}, False, "without a reason"),
        ({}, False, "no code"),
        ({"code": ""}, False, "no code"),
    ],
)
def test_CL_07_an_answer_of_another_is_refused_and_nothing_is_redeemed(
    server, answer, advertised, said
):
    server.metadata["authorization_response_iss_parameter_supported"] = advertised
    answer = {name: value.format(url=server.url) for name, value in answer.items()}
    with pytest.raises(TokenRefused, match=said):
        login(server, Browser(**answer)).login()
    assert not server.at("/token")


@pytest.mark.parametrize("issuer", ["{url}/", "https://evil.example", None, 7])
def test_CL_07_metadata_of_another_issuer_is_refused(server, time, issuer):
    server.metadata["issuer"] = issuer.format(url=server.url) if isinstance(issuer, str) else issuer
    with pytest.raises(DiscoveryError, match=r"its issuer is|names no issuer"):
        manager(server, time).token()
    assert not server.at("/token")


class Remote:
    """A transport to an issuer elsewhere; notes where requests go."""

    def __init__(self, **endpoints):
        self.metadata = {"issuer": "https://id.example", **endpoints}
        self.asked = []

    def fetch(self, request):
        self.asked.append(request.url)
        return Response(200, (), json.dumps(self.metadata).encode())

    async def afetch(self, request):
        return self.fetch(request)


@pytest.mark.parametrize(
    "endpoint",
    ["http://127.0.0.1:6379/x", "http://[::1]:9/", "https://localhost/t", "https://127.1/t"],
)
def test_a_remote_issuers_metadata_sends_no_secret_to_this_machine(endpoint):
    remote = Remote(token_endpoint=endpoint)
    source = ClientCredentials("https://id.example", client_id="robot", client_secret="its-secret")
    with pytest.raises(DiscoveryError, match="token_endpoint, which leads to this machine"):
        TokenManager(source, transport=remote).token()
    assert endpoint not in remote.asked


@pytest.mark.parametrize("endpoint", [None, 7, "http://id.example/token", "token", "ftp://h/"])
def test_CL_07_an_endpoint_that_is_missing_or_plain_http_is_not_asked(server, time, endpoint):
    server.metadata["token_endpoint"] = endpoint
    with pytest.raises(DiscoveryError, match="token_endpoint"):
        manager(server, time).token()


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".example"])
def test_CL_07_an_endpoint_at_a_name_that_cannot_be_is_not_reached(server, time, host):
    server.metadata["token_endpoint"] = f"https://{host}/token"
    with pytest.raises(TokenUnavailable, match=r"Unicode\w*Error"):
        manager(server, time).token()


def test_CL_07_openid_metadata_is_found_where_there_is_no_other(server, time):
    document = server.metadata
    server.answers[METADATA] = lambda _: (404, [], b"")
    server.answers["/.well-known/openid-configuration"] = lambda _: (200, [], document)
    assert manager(server, time).token().access_token == "t1"


@pytest.mark.parametrize(("status", "error"), [(503, TokenUnavailable), (404, DiscoveryError)])
def test_CL_07_metadata_that_cannot_be_had_is_no_token(server, time, status, error):
    for path in (METADATA, "/.well-known/openid-configuration"):
        server.answers[path] = lambda _: (status, [], b"")
    tokens = manager(server, time)
    with pytest.raises(error, match=str(status)):
        tokens.token()
    server.answers.clear()
    time.pass_by(2)
    assert tokens.token().access_token == "t1"


@pytest.mark.parametrize("name", NAMES)
def test_CL_07_a_redirect_to_another_origin_carries_no_token(server, other, time, name):
    server.answers["/away"] = lambda _: (302, [("Location", f"{other.url}/api")], b"")
    with caller(name, manager(server, time)) as call:
        assert call("GET", f"{server.url}/away").status_code == 401
        assert call("GET", f"{server.url}/api").text == "t1"
    assert server.at("/away")[0].token == "t1"
    assert [each.headers.get("authorization") for each in other.at("/api")] == [None]
    assert len(server.at("/token")) == 1


@pytest.mark.parametrize("name", NAMES)
def test_CL_07_a_redirect_within_the_origin_keeps_the_token_and_may_renew_it(server, time, name):
    server.answers["/here"] = lambda _: (302, [("Location", "/api")], b"")
    with caller(name, manager(server, time)) as call:
        assert call("GET", f"{server.url}/here").text == "t1"
        server.revoke()
        assert call("GET", f"{server.url}/here").text == "t2"


@pytest.mark.parametrize("name", NAMES)
def test_CL_07_a_redirect_from_one_bound_origin_to_another_carries_no_token(
    server, other, time, name
):
    server.answers["/away"] = lambda _: (302, [("Location", f"{other.url}/api")], b"")
    with caller(name, manager(server, time), origins=[server.url, other.url]) as call:
        assert call("GET", f"{server.url}/away").status_code == 401
    assert [each.headers.get("authorization") for each in other.at("/api")] == [None]
    assert len(server.at("/token")) == 1, "no token was refused"


@pytest.mark.parametrize("name", NAMES)
def test_CL_07_a_request_to_another_origin_is_an_error_and_is_not_sent(server, other, time, name):
    with caller(name, manager(server, time)) as call:
        for url in (other.url, server.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(ConfigurationError, match="origins="):
                call("GET", f"{url}/api")
    assert not other.asked
    assert not server.asked


@pytest.mark.parametrize("name", NAMES)
def test_CL_07_several_origins_may_be_bound(server, other, time, name):
    with caller(name, manager(server, time), origins=[server.url, f"{other.url}/v1"]) as call:
        call("GET", f"{server.url}/api")
        call("GET", f"{other.url}/api")
    assert [each.at("/api")[0].token for each in (server, other)] == ["t1", "t1"]


@pytest.mark.parametrize(
    ("origins", "said"),
    [
        ((), "pass where tokens may go"),
        (None, "pass where tokens may go"),
        ("http://api.example.com", "no https URL"),
        (["https://api.example.com", 7], "pass a URL"),
    ],
)
def test_CL_07_origins_must_be_known_and_safe(server, time, origins, said):
    tokens = manager(server, time, resources=())
    with (
        pytest.raises(ConfigurationError, match=said),
        caller("httpx2", tokens, origins=origins),
    ):
        pass


def test_CL_07_plain_http_is_allowed_by_an_unsafe_name_only(server, time):
    options: Any = {"origins": "http://api.test:80/", "insecure_allow_http": True}
    assert repr(BearerAuth(manager(server, time), **options)) == "BearerAuth(http://api.test)"
    with pytest.raises(ConfigurationError, match="issuer"):
        ClientCredentials("http://id.test", client_id="c")
    ClientCredentials("http://id.test", client_id="c", insecure_allow_http=True)


def test_CL_07_no_repr_shows_a_token(server, time):
    storage = MemoryStorage()
    tokens = manager(server, time, storage)
    server.answers["/token"] = lambda _: (200, [], server.granted(access_token="very-secret"))
    lease = tokens.lease()
    for each in (tokens, lease, lease.token, storage, tokens.source):
        assert "very-secret" not in repr(each)
        assert "client_secret" not in repr(each)


@pytest.mark.parametrize(
    "answer",
    [
        (400, [], {"error": "invalid_grant"}),
        (503, [], b"hush"),
        (200, [], {"access_token": "hush", "token_type": "mac"}),
        (200, [], {"access_token": "hush \n", "token_type": "Bearer"}),
        (200, [], b'{"access_token": "hush", "access_token": "hush"}'),
        (200, [], b'{"access_token": "hush"'),
        (200, [("Content-Encoding", "gzip")], b"hush"),
    ],
)
def test_CL_07_no_error_and_none_behind_it_shows_a_secret(server, answer):
    server.answers["/token"] = lambda _: answer
    secret = "hush"
    source = RefreshToken(server.url, client_id="c", client_secret=secret, refresh_token=secret)
    tokens = TokenManager(source)
    with pytest.raises(BearerGuardError) as raised:
        tokens.token()
    error: BaseException | None = raised.value
    while error is not None:
        assert "hush" not in "".join(traceback.format_exception(error)) + repr(error)
        error = error.__context__


def test_CL_07_only_a_token_manager_is_bound():
    odd: Any = "token"
    with (
        pytest.raises(ConfigurationError, match="pass a TokenManager, not str"),
        caller("requests", odd),
    ):
        pass
