"""A login whose request is pushed to the server (PAR-01, RFC 9126), with our own server too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from bearerguard.client import AuthorizationCode, TokenManager
from bearerguard.errors import ConfigurationError, DiscoveryError, TokenRefused, TokenUnavailable
from bearerguard.testing import SigningKey
from tests.client.scripted_server import ScriptedServer
from tests.client.test_against_our_server import jwk
from tests.client.test_dpop_against_our_server import LOOPBACK, WORLDS, taken
from tests.server.harness import hidden_fields
from tests.server.serving import Served, served

KEY = SigningKey.generate("ES256", "k1")
PUSHED = "urn:ietf:params:oauth:request_uri:x"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    folder = tmp_path_factory.mktemp("server")
    with served(folder, DPOP_NONCES="1", REQUIRE_PAR="1") as each:
        yield each


def browser(running: Served, seen: list[str]) -> Callable[[str], object]:
    """Return a browser whose user is signed in and allows everything."""

    def visit(url: str) -> None:
        seen.append(url)
        answer = httpx2.get(url, headers={"cookie": "user=ada"})
        if answer.status_code == 200:
            cookie = answer.headers["set-cookie"].partition(";")[0]
            answer = httpx2.post(
                f"{running.url}/oauth/consent",
                data={**hidden_fields(answer.text), "decision": "allow"},
                headers={"cookie": f"user=ada; {cookie}"},
            )
        assert answer.status_code == 303, answer.text
        # The client answers it when it waits, which it does after this.
        threading.Thread(target=httpx2.get, args=(answer.headers["location"],)).start()

    return visit


# What a client is registered with, and what it is given; the last names where its secret is.
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "public": ({"public": True}, {}),
    "basic": ({}, {"auth_method": "client_secret_basic"}),
    "post": ({}, {"auth_method": "client_secret_post"}),
    "key": (
        {"jwks": {"keys": [jwk(KEY, private=False)]}},
        {"private_key": jwk(KEY, private=True)},
    ),
}


@pytest.mark.parametrize("dpop", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_PAR_01_each_kind_of_client_pushes_where_the_server_demands_it(
    running: Served, kind: str, dpop: bool
) -> None:
    registered, given = KINDS[kind]
    client = running.add(kind, redirect_uris=[LOOPBACK], **registered)
    if client.client_secret is not None:
        given = given | {"client_secret": client.client_secret}
    seen: list[str] = []
    source = AuthorizationCode(
        running.url,
        client_id=client.client_id,
        dpop=dpop,
        scopes="read write",
        open_browser=browser(running, seen),
        **given,
    )
    token = TokenManager(source).login()
    assert token.scopes == ("read", "write")
    assert token.token_type == ("DPoP" if dpop else "Bearer")
    (link,) = seen
    assert parse_qs(urlsplit(link).query).keys() == {"client_id", "request_uri"}


@WORLDS
def test_PAR_01_a_client_may_push_without_being_asked_to(tmp_path: Path, name: str) -> None:
    with served(tmp_path) as free:
        phone = free.add("Phone", public=True, redirect_uris=[LOOPBACK])
        for push in (False, True):
            seen: list[str] = []
            source = AuthorizationCode(
                free.url, client_id=phone.client_id, push=push, open_browser=browser(free, seen)
            )
            assert taken(name, TokenManager(source), "login").access_token
            assert ("request_uri" in seen[0]) is push


def test_PAR_01_who_must_push_and_does_not_is_told_so(tmp_path: Path) -> None:
    with served(tmp_path) as free:
        careful = free.add(
            "Careful", redirect_uris=[LOOPBACK], require_pushed_authorization_requests=True
        )
        given: dict[str, Any] = {
            "client_id": careful.client_id,
            "client_secret": careful.client_secret,
            "open_browser": browser(free, []),
        }
        with pytest.raises(TokenRefused, match="must push its authorization requests"):
            TokenManager(AuthorizationCode(free.url, **given)).login()
        assert TokenManager(AuthorizationCode(free.url, **given, push=True)).login().access_token


def test_PAR_01_a_request_that_the_server_refuses_opens_no_browser(running: Served) -> None:
    phone = running.add("Phone", public=True, redirect_uris=["https://app.example.com/cb"])
    seen: list[str] = []
    source = AuthorizationCode(running.url, client_id=phone.client_id, open_browser=seen.append)
    with pytest.raises(TokenRefused, match="the client did not register it") as refused:
        TokenManager(source).login()
    assert refused.value.error == "invalid_request"
    assert seen == []


def scripted(server: ScriptedServer, **options: Any) -> TokenManager:
    source = AuthorizationCode(server.url, client_id="c", open_browser=_never, **options)
    return TokenManager(source)


def _never(url: str) -> None:
    raise AssertionError(url)


def test_PAR_01_a_server_without_the_endpoint_is_named(server: ScriptedServer) -> None:
    with pytest.raises(DiscoveryError, match="pushed_authorization_request_endpoint"):
        scripted(server, push=True).login()


def test_PAR_01_an_endpoint_without_tls_gets_nothing(server: ScriptedServer) -> None:
    server.metadata["pushed_authorization_request_endpoint"] = "http://id.example.com/par"
    with pytest.raises(DiscoveryError, match="pushed_authorization_request_endpoint"):
        scripted(server, push=True).login()


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        ((201, [], {"expires_in": 60}), TokenRefused, "no request_uri"),
        ((201, [], {"request_uri": 7}), TokenRefused, "no request_uri"),
        ((201, [], {"request_uri": ""}), TokenRefused, "no request_uri"),
        ((201, [], b"<html>"), TokenRefused, "unusable"),
        ((400, [], {"error": "invalid_scope"}), TokenRefused, "invalid_scope"),
        ((401, [], {"error": "invalid_client"}), TokenRefused, "invalid_client"),
        ((405, [], b""), TokenRefused, "405"),
        ((503, [("Retry-After", "7")], b""), TokenUnavailable, "503"),
        ((429, [("Retry-After", "7")], {"error": "x"}), TokenUnavailable, "429"),
    ],
)
def test_PAR_01_an_unusable_response_ends_the_login_and_says_why(
    server: ScriptedServer, answer: Any, error: type[Exception], said: str
) -> None:
    server.metadata |= {
        "pushed_authorization_request_endpoint": f"{server.url}/par",
        "require_pushed_authorization_requests": True,
    }
    server.answers["/par"] = lambda _: answer
    with pytest.raises(error, match=said):
        scripted(server).login()


def test_PAR_01_a_public_client_names_itself_once(server: ScriptedServer) -> None:
    server.metadata["pushed_authorization_request_endpoint"] = f"{server.url}/par"
    server.answers["/par"] = lambda _: (400, [], {"error": "invalid_request"})
    with pytest.raises(TokenRefused):
        scripted(server, push=True).login()
    (asked,) = server.at("/par")
    assert asked.body.count(b"client_id=") == 1
    assert asked.form["code_challenge_method"] == "S256"
    assert "code_verifier" not in asked.form


def test_PAR_01_push_is_true_or_false() -> None:
    with pytest.raises(ConfigurationError, match="push=: pass True or False"):
        AuthorizationCode("https://id.example.com", client_id="c", push="yes")  # type: ignore[arg-type]
