"""Redirect URIs that a server has registered letter by letter (RFC 8252 §7)."""

from __future__ import annotations

import socket
import threading
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from bearerguard.client import AuthorizationCode, TokenManager
from bearerguard.client.login.loopback import LoopbackReceiver
from bearerguard.client.login.receivers import PastedRedirect, receiver
from bearerguard.errors import ConfigurationError, LoginFailed
from tests.processes import free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("path", ["/callback", "/", "", "/a/b?x=1"])
def test_a_login_uses_the_registered_uri(server, host, path):
    address = f"http://{host}:{free_port()}{path}"
    sent = []

    def browse(url):
        query = parse_qs(urlsplit(url).query)
        sent.append(query["redirect_uri"][0])
        joined = "&" if "?" in address else "?"
        answer = f"{address}{joined}code=c&state={query['state'][0]}"
        sent.append(httpx2.get(answer, trust_env=False).status_code)

    def visit(url):
        threads.append(threading.Thread(target=browse, args=(url,)))
        threads[0].start()

    threads: list[threading.Thread] = []
    source = AuthorizationCode(server.url, client_id="c", redirect_uri=address, open_browser=visit)
    assert TokenManager(source).login().access_token
    threads[0].join()
    assert sent == [address, 200]
    assert server.at("/token")[0].form["redirect_uri"] == address


def test_localhost_is_listened_to_at_both_addresses_of_this_machine():
    with LoopbackReceiver(host="localhost") as made:
        port = urlsplit(made.redirect_uri).port
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as tried:
                try:
                    tried.bind((address, 0))
                except OSError:
                    continue  # a machine without IPv6
                with socket.socket(family) as client:
                    client.connect((address, port))


@pytest.mark.parametrize("address", ["cursor://host/callback", "com.example.app:/back"])
def test_a_uri_of_the_apps_own_scheme_is_pasted(server, address, monkeypatch):
    states = []

    def browse(url):
        query = parse_qs(urlsplit(url).query)
        assert query["redirect_uri"] == [address]
        states.append(query["state"][0])

    class Terminal:
        def readline(self):
            return f"{address}?code=c&state={states[0]}\n"

    monkeypatch.setattr("sys.stdin", Terminal())
    source = AuthorizationCode(server.url, client_id="c", redirect_uri=address, open_browser=browse)
    assert TokenManager(source).login().access_token
    assert server.at("/token")[0].form["redirect_uri"] == address


@pytest.mark.parametrize(
    "pasted",
    [
        "",
        "cursor://else/callback?code=c",
        "cursor://host/callback",
        "cursor://host/callback?code=c&code=d",
        "cursor://host/callback?code=c&error=e",
        "cursor://host/callback?" + "a&" * 60,
        "code=c",
    ],
)
def test_what_is_pasted_by_mistake_is_no_answer(pasted):
    with receiver("cursor://host/callback", lambda: pasted) as made:
        assert "cursor://host" in repr(made)
        with pytest.raises(LoginFailed, match="no answer at cursor"):
            made.wait(1)


def test_a_terminal_that_is_closed_brings_no_answer():
    def closed():
        raise EOFError

    with pytest.raises(LoginFailed):
        PastedRedirect("cursor://host/callback", closed).wait(1)


@pytest.mark.parametrize(
    "given",
    [
        7,
        "",
        "callback",
        "//host/callback",
        "http://app.example.com/callback",
        "http://localhost.example.com/callback",
        "http://localhost:0/callback",
        "http://localhost:99999/callback",
        "http://user@localhost:8765/callback",
        "http://localhost:8765/callback#x",
        "https:///callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "cursor://host/a b",
        "cursor://host/\u00e9",
        "cursor://host/\n",
    ],
)
def test_a_uri_that_no_app_may_have_is_refused(given):
    with pytest.raises(ConfigurationError, match="redirect_uri="):
        AuthorizationCode("https://id.example", client_id="c", redirect_uri=given)


def test_a_receiver_and_a_uri_are_one_too_many():
    with pytest.raises(ConfigurationError, match="pass one of them"):
        AuthorizationCode(
            "https://id.example",
            client_id="c",
            redirect_uri="cursor://host/callback",
            receiver=LoopbackReceiver,
        )


def test_a_receiver_listens_on_this_machine_only():
    with pytest.raises(ConfigurationError, match="this machine"):
        LoopbackReceiver(host="0.0.0.0")
