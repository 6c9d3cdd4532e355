"""Addresses made up to carry a code, or a user, somewhere else."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.server.harness import CALLBACK, ISSUER, Harness

HOST = "app.example.com"
ELSEWHERE = [
    *(f"https://{HOST}@evil.example/cb", f"https://{HOST}:443@evil.example/cb"),
    *(f"https://{HOST}.evil.example/cb", f"https://evil.example/{CALLBACK}"),
    *(f"https://evil.example\\@{HOST}/cb", f"https://{HOST}\\.evil.example/cb"),
    *(CALLBACK + "#@evil.example", CALLBACK + "#", CALLBACK + "?next=https://evil.example"),
    *(CALLBACK + "/../../evil", f"https://{HOST}/x/../cb", f"https://{HOST}//cb"),
    *(f"https://{HOST}/%63b", f"https://{HOST}/cb%2f..", CALLBACK + "%00", CALLBACK + "\r\nX: y"),
    *(CALLBACK + " ", " " + CALLBACK, CALLBACK + ";x", f"HTTPS://{HOST}/cb", f"//{HOST}/cb"),
    *(f"https://{HOST.upper()}/cb", f"https://{HOST}:443/cb", f"http://{HOST}/cb", "/cb", "cb"),
    *(
        "https://\u0430pp.example.com/cb",
        "https://app\u3002example.com/cb",
        f"https://{HOST}\u3002/cb",
    ),
    *("javascript:alert(1)//" + CALLBACK, "data:text/html,x", f"https://{HOST}./cb"),
    *(f"https://{HOST}:8443/cb", "null", "urn:ietf:wg:oauth:2.0:oob"),
]
NOT_LOOPBACK = [
    *("http://127.0.0.1:80@evil.example/cb", "http://127.0.0.1.evil.example/cb"),
    *("http://127.0.0.1:99999/cb", "http://127.0.0.1:/cb", "http://127.0.0.1:1:2/cb"),
    *("http://127.0.0.1:8080/cb/", "http://127.0.0.1:8080/cb?x", "http://127.0.0.1:8080/cb#x"),
    *("https://127.0.0.1:8080/cb", "http://127.1:8080/cb", "http://2130706433:8080/cb"),
    *("http://localhost:8080/cb", "http://[::1]:8080/cb", "http://0.0.0.0:8080/cb"),
    *(
        "http://127.0.0.1:\uff18\uff10\uff18\uff10/cb",
        "http://127.0.0.1:-1/cb",
        "http://127.0.0.2:8080/cb",
    ),
    *("http://127.0.0.1:8080\\@evil.example/cb", "http://127.0.0.1:8080/cb\n"),
]


@pytest.mark.parametrize("uri", ELSEWHERE)
def test_a_redirect_uri_that_only_resembles_the_registered_one_is_refused(
    harness: Harness, uri: str
) -> None:
    for user in (harness.user, None):
        harness.user = user
        response = harness.authorize(redirect_uri=uri)
        assert response.status == 400
        assert response.header("location") is None


@pytest.mark.parametrize("uri", NOT_LOOPBACK)
def test_the_loopback_rule_frees_the_port_and_nothing_else(harness: Harness, uri: str) -> None:
    response = harness.authorize(harness.phone, redirect_uri=uri)
    assert response.status == 400
    assert response.header("location") is None


def test_a_confidential_clients_port_is_not_free(harness: Harness) -> None:
    assert harness.authorize(redirect_uri="http://127.0.0.1:8080/cb").status == 400


@pytest.mark.parametrize("name", ["redirect_uri", "client_id"])
def test_a_second_address_or_client_leads_nowhere(harness: Harness, name: str) -> None:
    other = {"redirect_uri": "https://evil.example", "client_id": harness.phone.client_id}[name]
    known = {"redirect_uri": CALLBACK, "client_id": harness.app.client_id}[name]
    for values in ([known, other], [other, known], [known, known]):
        given: dict[str, Any] = {name: values}
        response = harness.authorize(**given)
        assert response.status == 400
        assert response.header("location") is None


@pytest.mark.parametrize(
    "name", ["scope", "state", "response_type", "code_challenge", "code_challenge_method"]
)
def test_a_parameter_given_twice_gets_no_code(harness: Harness, name: str) -> None:
    given: dict[str, Any] = {name: ["read", "write"]}
    response = harness.authorize(**given)
    assert response.sent["error"] == "invalid_request"


@pytest.mark.parametrize(
    "state",
    ["\r\nSet-Cookie: a=b", "&code=stolen&iss=https://evil.example", "#x", "é\u2028", "%0d"],
)
@pytest.mark.parametrize("scope", ["read", "unknown"])
def test_a_state_comes_back_as_it_was_and_adds_nothing(
    harness: Harness, state: str, scope: str
) -> None:
    response = harness.authorize(state=state, scope=scope)
    assert response.sent["state"] == state
    assert response.sent["iss"] == ISSUER, "the response names its server (RFC 9207)"
    assert response.location.startswith(f"{CALLBACK}?")
    assert response.location.isascii()
    assert response.location.isprintable()
    assert "#" not in response.location


def test_the_way_back_from_the_login_stays_on_this_server(harness: Harness) -> None:
    harness.user = None
    query = urlencode({"client_id": harness.app.client_id, "next": "https://evil.example"})
    response = harness.send("GET", f"//evil.example/oauth/authorize?{query}")
    assert response.location.startswith("https://app.example.com/login?next=")
    assert quote(f"{ISSUER}/oauth/authorize?", safe="") in response.location
