"""`bearerguard serve`: run in a process of its own, behind trusted proxies."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from pathlib import Path

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from typer.testing import CliRunner

from bearerguard.cli import app
from tests.processes import free_port, program
from tests.redis_server import RedisServer

CLAIMED = "203.0.113.9"
SECRET = {"BEARERGUARD_SERVER_SECRET": "a secret of this test's own that is long enough"}


@pytest.mark.parametrize(
    ("arguments", "environ", "seen"),
    [
        ([], {}, "127.0.0.1"),
        ([], {"FORWARDED_ALLOW_IPS": "*"}, "127.0.0.1"),
        (["--trusted-proxy", "192.0.2.1"], {"FORWARDED_ALLOW_IPS": "*"}, "127.0.0.1"),
        (["--trusted-proxy", "127.0.0.1"], {}, CLAIMED),
        (["--trusted-proxy", "::ffff:127.0.0.1"], {}, CLAIMED),
        ([], {"BEARERGUARD_SERVER_TRUSTED_PROXIES": "192.0.2.1 127.0.0.0/8"}, CLAIMED),
    ],
)
def test_only_a_named_proxy_is_believed_about_who_is_behind_it(
    tmp_path: Path, arguments: list[str], environ: dict[str, str], seen: str
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        **SECRET,
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{tmp_path}/auth.db",
    }
    program_file = Path(sys.executable).with_name("bearerguard")
    command = [str(program_file), "serve", "--port", str(port), *arguments]
    with (
        program(command, cwd=tmp_path, environ=variables | environ) as running,
        httpx2.Client(base_url=url, timeout=60) as browser,
    ):
        running.wait_for_port(port)
        fields = _form(browser.get("/oauth/login").text)
        response = browser.post(
            "/oauth/login",
            data=fields | {"username": "nobody", "password": "wrong one"},
            headers={"X-Forwarded-For": CLAIMED},
        )
        assert response.status_code == 403, response.text
        details = running.wait_for_line(r"login_failed (\{.*\})")
    assert json.loads(details)["address"] == seen


@pytest.mark.parametrize("proxy", ["*", "0.0.0.0/0", "::/0", "proxy.example.com", "10.0.0.1/8", ""])
def test_a_proxy_that_is_no_address_or_is_everybody_is_refused(tmp_path: Path, proxy: str) -> None:
    result = CliRunner().invoke(
        app,
        [
            *("serve", "--issuer", "http://127.0.0.1:1", "--trusted-proxy", proxy),
            *("--store", f"sqlite:///{tmp_path}/auth.db"),
        ],
    )
    assert result.exit_code != 0
    assert "--trusted-proxy" in result.stderr
    assert "10.0.0.0/24" in result.stderr
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_unknown_scopes_and_the_audience_of_assertions_are_options_and_variables(
    tmp_path: Path,
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        **SECRET,
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{tmp_path}/auth.db",
        "BEARERGUARD_SERVER_UNKNOWN_SCOPES": "refuse",
        "BEARERGUARD_SERVER_HEALTH_PATH": "none",
    }
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "k"}
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [public]}))
    program_file = str(Path(sys.executable).with_name("bearerguard"))
    add = ["client", "add", "Robot", "--id", "robot", "--scope", "read", "--jwks", "jwks.json"]
    with program([program_file, *add], cwd=tmp_path, environ=variables) as adding:
        adding.wait_for_line(r"(robot)")
    command = [program_file, "serve", "--port", str(port), "--accept-endpoint-audiences"]
    now = int(time.time())
    claims = {"iss": "robot", "sub": "robot", "aud": url + "/oauth/token", "exp": now + 60}

    def fields(scope: str, number: str) -> dict[str, str]:
        assertion = jwt.encode(claims | {"jti": number}, key, "ES256", {"kid": "k"})
        return {
            "grant_type": "client_credentials",
            "scope": scope,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
        }

    with (
        program(command, cwd=tmp_path, environ=variables) as running,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        running.wait_for_port(port)
        good = client.post("/oauth/token", data=fields("read offline_access", "1"))
        assert (good.status_code, good.json().get("scope")) == (200, "read"), good.text
        refused = client.post("/oauth/token", data=fields("read admin", "2"))
        assert refused.json()["error"] == "invalid_scope"
        details = json.loads(running.wait_for_line(r"request_refused (\{.*\})"))
        assert client.get("/health").status_code == 404
    assert (details["scope"], details["client_id"]) == ("admin", "robot")


@pytest.mark.parametrize("scope", ["read", "read=", "=See your recordings"])
def test_a_scope_without_its_words_is_refused(tmp_path: Path, scope: str) -> None:
    result = CliRunner().invoke(
        app,
        [
            *("serve", "--issuer", "http://127.0.0.1:1", "--scope", scope),
            *("--store", f"sqlite:///{tmp_path}/auth.db"),
        ],
    )
    assert result.exit_code != 0
    assert "--scope" in result.stderr


def test_an_address_that_cannot_be_listened_on_is_named(tmp_path: Path) -> None:
    own = ("serve", "--issuer", "http://127.0.0.1:1", "--store", f"sqlite:///{tmp_path}/auth.db")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for place in (("--port", str(port)), ("--host", "192.0.2.1")):
            result = CliRunner().invoke(app, [*own, *place], env=SECRET)
            assert result.exit_code == 2, result.output
            assert "--host, --port: " in result.stderr
            assert "choose" in result.stderr


def test_plain_http_beyond_this_machine_must_be_asked_for(tmp_path: Path) -> None:
    store = ("--store", f"sqlite:///{tmp_path}/auth.db")
    own = ("serve", "--issuer", "http://auth.internal.example", *store)
    refused = CliRunner().invoke(app, own, env=SECRET)
    assert refused.exit_code == 2
    assert "bearerguard: --issuer: " in refused.stderr
    assert "or pass --insecure-allow-http on a network" in refused.stderr
    assert "insecure_allow_http" not in refused.stderr
    port = free_port()
    program_file = Path(sys.executable).with_name("bearerguard")
    command = [str(program_file), *own, "--port", str(port), "--insecure-allow-http"]
    with program(command, cwd=tmp_path, environ=SECRET) as running:
        running.wait_for_port(port)
        url = f"http://127.0.0.1:{port}/.well-known/oauth-authorization-server"
        assert httpx2.get(url, timeout=60).json()["issuer"] == "http://auth.internal.example"


def _form(html: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', html))


@pytest.mark.parametrize("chosen", ["text", "json"])
def test_lines_have_a_time_and_probes_find_the_health(tmp_path: Path, chosen: str) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        **SECRET,
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{tmp_path}/auth.db",
        "BEARERGUARD_SERVER_HEALTH_PATH": "/state",
    }
    program_file = str(Path(sys.executable).with_name("bearerguard"))
    command = [program_file, "serve", "--port", str(port), "--log-format", chosen]
    with (
        program(command, cwd=tmp_path, environ=variables) as running,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        running.wait_for_port(port)
        response = client.get("/state")
        assert (response.status_code, response.json()["ready"]) == (200, True)
        assert client.get("/state/live").json() == {"live": True}
        assert client.get("/health").status_code == 404
        (tmp_path / "auth.db").rename(tmp_path / "elsewhere.db")
        time.sleep(1.1)  # the state is a second old at most
        assert client.get("/state").status_code == 503
        running.wait_for_line("(store_lost)")
        lines = running.output.splitlines()
    assert len(lines) > 3
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    loggers = set()
    for line in lines:
        if chosen == "json":
            fields = json.loads(line)
            assert re.fullmatch(moment, fields["time"])
            loggers.add(fields["logger"])
        else:
            found = re.fullmatch(rf"{moment} [A-Z]+ ([\w.]+) .+", line)
            assert found, line
            loggers.add(found[1])
    assert loggers >= {"bearerguard.server", "uvicorn.error"}


def test_a_health_path_that_is_an_endpoint_is_refused(tmp_path: Path) -> None:
    own = ("serve", "--issuer", "http://127.0.0.1:1", "--store", f"sqlite:///{tmp_path}/auth.db")
    result = CliRunner().invoke(app, [*own, "--health-path", "/oauth/token"], env=SECRET)
    assert result.exit_code == 2
    assert "--health-path: /oauth/token is another endpoint" in result.stderr


def test_two_processes_count_login_attempts_in_the_redis_that_is_named(
    redis: RedisServer, tmp_path: Path
) -> None:
    ports = free_port(), free_port()
    variables = {
        **SECRET,
        "BEARERGUARD_SERVER_ISSUER": f"http://127.0.0.1:{ports[0]}",
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{tmp_path}/auth.db",
        "BEARERGUARD_SERVER_THROTTLE_STORE": redis.url,
        "BEARERGUARD_SERVER_TRUSTED_PROXIES": "127.0.0.1",
    }
    program_file = str(Path(sys.executable).with_name("bearerguard"))

    def attempt(port: int) -> int:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as browser:
            fields = _form(browser.get("/oauth/login").text)
            return browser.post(
                "/oauth/login",
                data=fields | {"username": "nobody", "password": "wrong one"},
                headers={"X-Forwarded-For": CLAIMED},
            ).status_code

    one, two = ([program_file, "serve", "--port", str(port)] for port in ports)
    with program(one, cwd=tmp_path, environ=variables) as first:
        first.wait_for_port(ports[0])
        with program(two, cwd=tmp_path, environ=variables) as second:
            second.wait_for_port(ports[1])
            assert [attempt(port) for port in ports * 6] == [403] * 10 + [429] * 2
            second.wait_for_line(r"(login_throttled) ")
    with redis.client() as client:
        assert len(client.keys("{bearerguard}:limit:*")) == 3


def test_a_url_that_is_none_of_redis_is_named_by_its_option(tmp_path: Path) -> None:
    own = ("serve", "--issuer", "http://127.0.0.1:1", "--store", f"sqlite:///{tmp_path}/auth.db")
    result = CliRunner().invoke(app, [*own, "--throttle", "http://:p4ssword@x"], env=SECRET)
    assert result.exit_code == 2
    assert "--throttle: pass a URL such as redis://" in result.stderr
    assert "p4ssword" not in result.output
