"""What real servers demand and send besides the RFCs: CL-09, CL-10."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bearerguard import ConfigurationError
from bearerguard.client import (
    AuthorizationCode,
    ClientCredentials,
    DeviceCode,
    MemoryStorage,
    RefreshToken,
    TokenManager,
)
from bearerguard.errors import LoginFailed, LoginRequired, TokenRefused

FURTHER = {"audience": "https://api.example.com", "access_type": "offline"}
INTERACTIVE = [
    "interaction_required",
    "login_required",
    "consent_required",
    "account_selection_required",
    "mfa_required",
]


def browse(seen: list[dict[str, str]], **answer: str) -> Callable[[str], None]:
    """Be a browser that brings an answer back at once."""

    def visit(url: str) -> None:
        query = dict(parse_qsl(urlsplit(url).query))
        seen.append(query)
        params = {"state": query["state"], **answer}
        back = partial(httpx2.get, query["redirect_uri"], params=params)
        threading.Thread(target=back, daemon=True).start()

    return visit


def test_CL_10_client_credentials_send_further_parameters(server):
    source = ClientCredentials(server.url, client_id="c", client_secret="s", parameters=FURTHER)
    TokenManager(source).token()
    assert FURTHER.items() <= server.at("/token")[0].form.items()


def test_CL_10_refreshes_send_further_parameters(server):
    source = RefreshToken(server.url, client_id="c", refresh_token="r", parameters=FURTHER)
    TokenManager(source).token()
    assert FURTHER.items() <= server.at("/token")[0].form.items()


def test_CL_10_a_login_sends_them_where_they_belong(server):
    server.answers["/token"] = lambda _: (200, [], server.granted(refresh_token="r"))
    seen: list[Any] = []
    source = AuthorizationCode(
        server.url,
        client_id="c",
        parameters={**FURTHER, "prompt": "consent"},
        token_parameters={"tenant": "t"},
        open_browser=browse(seen, code="c"),
    )
    tokens = TokenManager(source)
    tokens.login()
    tokens.renew(tokens.lease())
    assert {**FURTHER, "prompt": "consent"}.items() <= seen[0].items()
    for asked in server.at("/token"):
        assert asked.form["tenant"] == "t"
        assert FURTHER.keys().isdisjoint(asked.form)  # Google refuses what it does not know there
    assert server.at("/token")[1].form["grant_type"] == "refresh_token"


def test_CL_10_a_login_by_device_sends_further_parameters(server):
    server.answers["/device"] = lambda _: (
        201,
        [],
        {
            "device_code": "d",
            "user_code": "u",
            "verification_url": "https://id.example/device",
            "verification_uri": None,
            "expires_in": 60,
            "interval": 1,
        },
    )
    shown: list[Any] = []
    source = DeviceCode(server.url, client_id="c", parameters=FURTHER, prompt=shown.append)
    TokenManager(source).login()
    assert FURTHER.items() <= server.at("/device")[0].form.items()
    assert shown[0].verification_uri == "https://id.example/device"


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("scope", "scopes="),
        ("resource", "resources="),
        ("client_id", "client_id="),
        ("client_secret", "client_secret="),
        ("client_assertion", "private_key="),
        ("refresh_token", "RefreshToken"),
        ("redirect_uri", "redirect_uri="),
        ("dpop_jkt", "dpop="),
        ("grant_type", "sends it itself"),
        ("state", "sends it itself"),
        ("code_challenge", "sends it itself"),
    ],
)
def test_CL_10_what_a_grant_sends_itself_is_refused_with_the_option(name, remedy):
    makes: Any = (ClientCredentials, AuthorizationCode, DeviceCode)
    for make in makes:
        with pytest.raises(ConfigurationError, match=rf"parameters=: {name}.*{remedy}"):
            make("https://id.example", client_id="c", parameters={name: "x"})


@pytest.mark.parametrize(
    "given", ["audience=x", {"audience": 7}, {"": "x"}, {"x": ""}, {"x": "\udcff"}, 7]
)
def test_CL_10_what_is_no_parameters_is_refused(given):
    with pytest.raises(ConfigurationError, match="parameters=: pass a dict"):
        ClientCredentials("https://id.example", client_id="c", parameters=given)


def test_tokens_for_other_parameters_are_kept_apart(server):
    storage = MemoryStorage()
    for audience in ("a", "b"):
        source = ClientCredentials(
            server.url, client_id="c", client_secret="s", parameters={"audience": audience}
        )
        TokenManager(source, storage=storage).token()
    assert [asked.form["audience"] for asked in server.at("/token")] == ["a", "b"]


@pytest.mark.parametrize("error", INTERACTIVE)
@pytest.mark.parametrize("status", [200, 400])
def test_CL_09_a_server_that_wants_a_person_wants_a_login(server, error, status):
    server.answers["/token"] = lambda _: (status, [], {"error": error})
    source = RefreshToken(server.url, client_id="c", refresh_token="r")
    with pytest.raises(LoginRequired) as raised:
        TokenManager(source).token()
    assert raised.value.error == error


@pytest.mark.parametrize("error", INTERACTIVE)
def test_CL_09_so_does_one_that_says_it_to_the_browser(server, error):
    source = AuthorizationCode(server.url, client_id="c", open_browser=browse([], error=error))
    with pytest.raises(LoginRequired) as raised:
        TokenManager(source).login()
    assert raised.value.error == error


@pytest.mark.parametrize("error", ["invalid_grant", "bad_refresh_token", "invalid_refresh_token"])
@pytest.mark.parametrize("status", [200, 400])
def test_CL_09_a_refresh_token_that_is_over_is_never_sent_again(server, error, status):
    server.answers["/token"] = lambda _: (status, [], {"error": error})
    tokens = TokenManager(RefreshToken(server.url, client_id="c", refresh_token="r"))
    for _ in range(3):
        with pytest.raises(LoginRequired):
            tokens.token()
    assert len(server.at("/token")) == 1


def test_CL_09_a_client_that_acts_for_itself_is_not_refused_at_each_request(server, time):
    server.answers["/token"] = lambda _: (400, [], {"error": "interaction_required"})
    source = ClientCredentials(server.url, client_id="c", client_secret="s")
    tokens = TokenManager(source, **time.options)
    for _ in range(3):
        with pytest.raises(LoginRequired) as raised:
            tokens.token()
        assert raised.value.error == "interaction_required"
    assert len(server.at("/token")) == 1


def test_CL_09_a_device_login_at_a_server_with_names_of_its_own(server):
    server.answers["/device"] = lambda _: (
        201,
        [],
        {
            "device_code": "d",
            "user_code": "AB-CD",
            "expires_in": 60,
            "interval": None,
            "verification_url": "https://id.example/device",
            "verification_url_complete": "https://id.example/device?c=1",
        },
    )
    shown: list[Any] = []

    def prompt(given: Any) -> None:
        shown.append(given)
        raise LoginFailed("it was shown")

    with pytest.raises(LoginFailed):
        TokenManager(DeviceCode(server.url, client_id="tv", prompt=prompt)).login()
    assert shown[0].verification_uri == "https://id.example/device"
    assert shown[0].verification_uri_complete == "https://id.example/device?c=1"
    assert shown[0].interval == 5


def test_CL_09_a_token_type_is_assumed_only_where_that_was_asked_for(server):
    server.answers["/token"] = lambda _: (200, [], {"access_token": "t", "expires_in": 60})
    given: Any = {"client_id": "c", "client_secret": "s"}
    with pytest.raises(TokenRefused, match='assume_token_type="Bearer"'):
        TokenManager(ClientCredentials(server.url, **given)).token()
    source = ClientCredentials(server.url, **given, assume_token_type="Bearer")
    assert TokenManager(source).lease().header == "Bearer t"
    with pytest.raises(ConfigurationError, match="assume_token_type=: pass"):
        ClientCredentials(server.url, **given, assume_token_type="mac")


@pytest.mark.parametrize("name", ["bot", "jwt-bearer", "User Access Token"])
def test_CL_08_a_bearer_token_of_another_name_is_used_only_where_that_name_was_given(server, name):
    server.answers["/token"] = lambda _: (200, [], {"access_token": "t", "token_type": name})
    given: Any = {"client_id": "c", "client_secret": "s"}
    others: list[dict[str, Any]] = [{}, {"bearer_type": "o"}, {"assume_token_type": "Bearer"}]
    for options in others:
        with pytest.raises(TokenRefused, match=rf"it is not used.*bearer_type='{name}'"):
            TokenManager(ClientCredentials(server.url, **given, **options)).token()
    source = ClientCredentials(server.url, **given, bearer_type=name.upper())
    assert TokenManager(source).lease().header == "Bearer t"
    with pytest.raises(TokenRefused, match=r"not DPoP: it is not used$"):
        TokenManager(ClientCredentials(server.url, **given, bearer_type=name, dpop=True)).token()
    server.answers["/token"] = lambda _: (200, [], {"access_token": "t", "token_type": "Bearer"})
    assert TokenManager(source).lease().header == "Bearer t"


@pytest.mark.parametrize("name", ["DPoP", "dpop", "PoP", "mac", "N_A"])
def test_CL_08_no_option_makes_a_bearer_token_of_one_that_needs_a_key(server, name):
    server.answers["/token"] = lambda _: (200, [], {"access_token": "t", "token_type": name})
    given: Any = {"client_id": "c", "client_secret": "s"}
    with pytest.raises(TokenRefused, match=r"it is not used$"):
        TokenManager(ClientCredentials(server.url, **given)).token()
    with pytest.raises(ConfigurationError, match="bearer_type=: pass"):
        ClientCredentials(server.url, **given, bearer_type=name)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\n", "\u00e9", 7])
def test_CL_08_no_other_thing_is_the_name_of_a_type(name):
    given: Any = {"client_id": "c", "client_secret": "s", "bearer_type": name}
    with pytest.raises(ConfigurationError, match="bearer_type=: pass"):
        ClientCredentials("https://id.example", **given)


@pytest.mark.parametrize("status", [200, 204])
def test_CL_09_a_revocation_is_done_with_any_success(server, status):
    server.answers["/revoke"] = lambda _: (status, [], b"")
    tokens = TokenManager(ClientCredentials(server.url, client_id="c", client_secret="s"))
    tokens.token()
    assert tokens.logout() is True


def test_an_assertion_has_the_audience_that_the_server_wants(server):
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for given, wanted in ((None, server.url), (f"{server.url}/token", f"{server.url}/token")):
        source = ClientCredentials(
            server.url, client_id="c", private_key=pem, assertion_audience=given
        )
        TokenManager(source).token()
        assertion = server.at("/token")[-1].form["client_assertion"]
        options: Any = {"verify_signature": False, "verify_aud": False}
        assert jwt.decode(assertion, options=options)["aud"] == wanted
    with pytest.raises(ConfigurationError, match="assertion_audience=: it goes with private_key="):
        ClientCredentials(server.url, client_id="c", client_secret="s", assertion_audience="x")
    with pytest.raises(ConfigurationError, match="assertion_audience=: pass the audience"):
        ClientCredentials(server.url, client_id="c", private_key=pem, assertion_audience="")


class Scheme:
    """What brings an app its own scheme: an operating system does that."""

    redirect_uri = "cursor://anysphere.cursor-mcp/oauth/callback"
    state = "a state that nobody can guess"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait(self, timeout):
        if timeout <= 0:
            raise LoginFailed("too late")
        return {"code": "c", "state": self.state}


def test_an_app_with_a_scheme_of_its_own_receives_by_itself(server):
    seen: list[Any] = []
    source = AuthorizationCode(server.url, client_id="c", receiver=Scheme, open_browser=seen.append)
    TokenManager(source).login()
    assert dict(parse_qsl(urlsplit(seen[0]).query))["redirect_uri"] == Scheme.redirect_uri
    assert server.at("/token")[0].form["redirect_uri"] == Scheme.redirect_uri
