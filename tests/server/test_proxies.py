"""Trusted proxies: by which address a login is throttled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import argon2
import pytest
from starlette.testclient import TestClient
from werkzeug.test import Client

from bearerguard import ConfigurationError
from bearerguard.protocol.http.proxies import Proxies
from bearerguard.server import PeopleOptions
from tests.server.harness import ISSUER, Make, hidden_fields

PROXIES = ["10.0.0.0/24", "2001:db8::1"]
TRIED = {"username": "ada", "password": "wrong one"}


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("10.0.0.7", [], "10.0.0.7"),
        ("10.0.0.7", [b"198.51.100.9"], "198.51.100.9"),
        ("10.0.0.7", [b"1.2.3.4, 198.51.100.9"], "198.51.100.9"),
        ("10.0.0.7", [b"1.2.3.4", b"198.51.100.9,\t10.0.0.8"], "198.51.100.9"),
        ("10.0.0.7", [b"10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        ("10.0.0.7", [b"198.51.100.9:4711"], "198.51.100.9"),
        ("10.0.0.7", [b"[2001:db8::9]:4711"], "2001:db8::9"),
        ("10.0.0.7", [b"[2001:db8::9]"], "2001:db8::9"),
        ("10.0.0.7", [b"::ffff:198.51.100.9"], "198.51.100.9"),
        ("::ffff:10.0.0.7", [b"198.51.100.9"], "198.51.100.9"),
        ("2001:db8::1", [b"2001:db8:1::7"], "2001:db8:1::7"),
        ("10.0.0.7", [b"198.51.100.9, unknown"], "10.0.0.7"),
        ("10.0.0.7", [b"198.51.100.9, \xff, 10.0.0.8"], "10.0.0.8"),
        ("10.0.0.7", [b""], "10.0.0.7"),
        ("10.0.0.7", [b"x" * 60_000 + b"," * 5000 + b"198.51.100.9"], "198.51.100.9"),
        ("10.0.0.7", [b"1.2.3.4," + b"10.0.0.8," * 60 + b"10.0.0.8"], "10.0.0.8"),
        ("10.0.1.7", [b"198.51.100.9"], "10.0.1.7"),
        ("", [b"198.51.100.9"], ""),
        ("unix:", [b"198.51.100.9"], "unix:"),
    ],
)
def test_A6_the_address_is_the_last_that_no_proxy_of_ours_has(
    peer: str, lines: Sequence[bytes], client: str
) -> None:
    assert Proxies(PROXIES).client(peer, lines) == client


@pytest.mark.parametrize("trusted", ["::ffff:10.0.0.7", "::ffff:10.0.0.0/120"])
@pytest.mark.parametrize("peer", ["10.0.0.7", "::ffff:10.0.0.7"])
def test_A6_a_proxy_may_be_named_as_a_server_on_ipv6_sees_it(trusted: str, peer: str) -> None:
    assert Proxies([trusted]).client(peer, [b"198.51.100.9"]) == "198.51.100.9"
    assert Proxies([trusted]).client("10.0.1.7", [b"198.51.100.9"]) == "10.0.1.7"


@pytest.mark.parametrize("peer", ["", "unix:", "unix:/run/app.sock"])
def test_A6_a_proxy_that_comes_by_a_unix_socket_is_trusted_by_name(peer: str) -> None:
    assert Proxies(["unix"]).client(peer, [b"198.51.100.9"]) == "198.51.100.9"
    assert Proxies(["unix"]).client("10.0.0.7", [b"198.51.100.9"]) == "10.0.0.7"


@pytest.mark.parametrize(
    "trusted",
    [
        "10.0.0.1",
        *([each] for each in ("proxy.internal", "0.0.0.0/0", "::/0", "::ffff:0:0/96")),
        *([each] for each in ("10.0.0.1/24", "*", 7)),
    ],
)
def test_A6_a_trusted_proxy_must_be_an_address_or_a_proper_network(
    make: Make, trusted: Any
) -> None:
    server = make().server
    for host in (server.asgi_app, server.wsgi_app):
        with pytest.raises(ConfigurationError, match="trusted_proxies="):
            host(trusted_proxies=trusted)


def test_A6_behind_a_trusted_proxy_a_login_comes_from_the_address_that_it_saw(make: Make) -> None:
    harness = make(people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    trusted = ["10.0.0.7"]
    login = f"{ISSUER}/oauth/login"
    wsgi = Client(harness.server.wsgi_app(trusted_proxies=trusted))
    asgi = TestClient(harness.server.asgi_app(trusted_proxies=trusted), client=("10.0.0.7", 1))
    form = hidden_fields(wsgi.get(login).get_data(as_text=True))
    wsgi.post(
        login,
        data=form | TRIED,
        environ_base={"REMOTE_ADDR": "10.0.0.7"},
        headers={"X-Forwarded-For": "1.2.3.4, 198.51.100.9"},
    )
    form = hidden_fields(asgi.get(login).text)
    asgi.post(login, data=form | TRIED, headers={"X-Forwarded-For": "1.2.3.4, 198.51.100.10"})
    addresses = [event.details["address"] for event in harness.named("login_failed")]
    assert addresses == ["198.51.100.9", "198.51.100.10"]
