"""`bearerguard login URL` of an API: nothing but its URL is known."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from bearerguard.cli import output
from tests.cli.test_logging_in import Machine
from tests.client.scripted_server import RESOURCE, ScriptedServer, other, server

__all__ = ["other", "server"]


@pytest.fixture
def api(server: ScriptedServer, other: ScriptedServer) -> ScriptedServer:
    server.metadata["registration_endpoint"] = f"{server.url}/register"
    server.answers["/register"] = lambda _: (201, [], {"client_id": "registered"})
    about = {"resource": f"{other.url}/api", "authorization_servers": [server.url]}
    other.answers[f"{RESOURCE}/api"] = lambda _: (200, [], about)
    other.good = server.good
    return other


@pytest.fixture
def machine(api: ScriptedServer, tmp_path: Path) -> Machine:
    return Machine(f"{api.url}/api", "", tmp_path / "home")


def log_in(machine: Machine, *options: str) -> str:
    """Log in, with a browser that consents at once; return what was printed."""
    process = machine.start("login", machine.url, *options)
    assert process.stderr is not None
    for line in process.stderr:
        found = re.search(r"https?://\S+/authorize\?\S+", line)
        if found:
            asked = dict(parse_qsl(urlsplit(found[0]).query))
            answer = urlencode({"code": "c", "state": asked["state"]})
            url = f"{asked['redirect_uri']}?{answer}"
            threading.Thread(target=urllib.request.urlopen, args=(url,)).start()
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
    return out + err


def test_a_login_needs_nothing_but_the_url_of_the_api(
    server: ScriptedServer, machine: Machine
) -> None:
    assert f"Logged in to {server.url}" in log_in(machine)
    out, _ = machine.run("call", machine.url)
    assert out == "t1"
    (registered,) = server.at("/register")
    assert json.loads(registered.body)["client_name"] == "bearerguard (command line)"
    status = json.loads(machine.run("status", "--json")[0])
    (login,) = status["logins"]
    assert (login["issuer"], login["resource"]) == (server.url, [machine.url])
    out, _ = machine.run("token", "--issuer", machine.url)
    assert out == "t1\n"
    machine.run("logout")
    machine.run("token", code=output.LOGIN_NEEDED)


def test_what_the_api_demands_besides_is_one_command_away(
    api: ScriptedServer, machine: Machine
) -> None:
    log_in(machine, "--scope", "read")
    challenge = 'Bearer error="insufficient_scope", scope="write"'
    api.answers["/api"] = lambda _: (403, [("WWW-Authenticate", challenge)], b"")
    _, err = machine.run("call", machine.url, code=output.LOGIN_NEEDED)
    assert f"bearerguard login {machine.url} --scope 'read write'" in err


def test_options_of_a_known_server_need_its_client_id(machine: Machine) -> None:
    for option in (["--device"], ["--resource", "https://a.example.com"], ["--assume-pkce"]):
        _, err = machine.run("login", machine.url, *option, code=2)
        assert f"{option[0]}: pass --client-id" in err
