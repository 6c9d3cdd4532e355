"""`bearerguard serve`: run in a process of its own, behind trusted proxies."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from typer.testing import CliRunner

from bearerguard.cli import app
from bearerguard.client.dpop import Proofs, new_key
from tests.certificates import AUTHORITY, CLIENT, OTHER
from tests.processes import free_port, program
from tests.redis_server import RedisServer
from tests.server.harness import claims as jwt_claims

CLAIMED = "203.0.113.9"
SECRET = {
    "BEARERGUARD_SERVER_SECRET": "a secret of this test's own that is long enough",
    "BEARERGUARD_SERVER_ALGORITHM": "ES256",  # such keys are made faster than RSA keys
}


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


def test_ADP_01_proofs_and_nonces_are_options_and_variables(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        **SECRET,
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{tmp_path}/auth.db",
        "BEARERGUARD_SERVER_DPOP": "required",
    }
    program_file = str(Path(sys.executable).with_name("bearerguard"))
    add = ["client", "add", "Robot", "--id", "robot", "--scope", "read", "--dpop-bound"]
    # No log keeps what it prints: the client's secret.
    added = subprocess.run(
        [program_file, *add, "--json"],
        cwd=tmp_path,
        env={**os.environ, **variables},
        capture_output=True,
        timeout=60,
        check=True,
    )
    secret = json.loads(added.stdout)["client_secret"]
    command = [program_file, "serve", "--port", str(port), "--dpop-nonces"]
    form = {"grant_type": "client_credentials", "client_id": "robot", "client_secret": secret}
    proofs = Proofs(new_key())

    def ask() -> httpx2.Response:
        proof = proofs.proof("POST", f"{url}/oauth/token")
        return client.post("/oauth/token", data=form, headers={"DPoP": proof})

    with (
        program(command, cwd=tmp_path, environ=variables) as running,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        running.wait_for_port(port)
        metadata = client.get("/.well-known/oauth-authorization-server").json()
        assert "ES256" in metadata["dpop_signing_alg_values_supported"]
        missing = client.post("/oauth/token", data=form)
        assert missing.json()["error"] == "invalid_dpop_proof"
        demanded = ask()
        assert demanded.json()["error"] == "use_dpop_nonce"
        assert proofs.note(url, demanded.headers["dpop-nonce"])
        assert ask().json()["token_type"] == "DPoP"


def test_MTLS_01_certificates_from_a_proxy_are_options_and_variables(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    authority, _ = AUTHORITY.write(tmp_path, "authority")
    variables = {
        **SECRET,
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{tmp_path}/auth.db",
        "BEARERGUARD_SERVER_MUTUAL_TLS_AUTHORITIES": authority,
        "BEARERGUARD_SERVER_MUTUAL_TLS_URL": "https://mtls.example.com",
    }
    program_file = str(Path(sys.executable).with_name("bearerguard"))
    add = [
        *("client", "add", "Robot", "--id", "robot", "--scope", "read", "--certificate-bound"),
        *("--auth-method", "tls_client_auth"),
        *("--certificate-name", "san_dns=client-1.example.com"),
    ]
    with program([program_file, *add], cwd=tmp_path, environ=variables) as adding:
        adding.wait_for_line(r"(robot)")
    command = [
        *(program_file, "serve", "--port", str(port), "--mutual-tls", "nginx"),
        *("--trusted-proxy", "127.0.0.1"),
    ]
    form = {"grant_type": "client_credentials", "client_id": "robot"}
    with (
        program(command, cwd=tmp_path, environ=variables) as running,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        running.wait_for_port(port)
        metadata = client.get("/.well-known/oauth-authorization-server").json()
        assert metadata["tls_client_certificate_bound_access_tokens"] is True
        assert "tls_client_auth" in metadata["token_endpoint_auth_methods_supported"]
        aliases = metadata["mtls_endpoint_aliases"]
        assert aliases["token_endpoint"] == "https://mtls.example.com/oauth/token"
        assert client.post("/oauth/token", data=form).status_code == 401
        for identity, status in ((OTHER, 401), (CLIENT, 200)):
            headers = {"ssl-client-cert": identity.escaped}
            answer = client.post("/oauth/token", data=form, headers=headers)
            assert answer.status_code == status, answer.text
    cnf = jwt_claims(answer.json()["access_token"])["cnf"]
    assert cnf == {"x5t#S256": CLIENT.thumbprint}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--mutual-tls", "nginx"], "--trusted-proxy"),
        (["--mutual-tls", "tls"], "--mutual-tls: a proxy provides TLS"),
        (["--mutual-tls", "apache"], "nginx, envoy, traefik, alb, rfc9440"),
        (["--mutual-tls-url", "https://mtls.example.com"], "add --mutual-tls"),
        (["--mutual-tls-authorities", "authority.pem"], "add --mutual-tls"),
        (
            ["--mutual-tls", "nginx", "--mutual-tls-authorities", "none.pem"],
            "--mutual-tls-authorities: 'none.pem': No such file or directory",
        ),
        (
            ["--mutual-tls", "nginx", "--mutual-tls-url", "http://mtls.example.com"],
            "is no base URL: pass an https URL",
        ),
    ],
)
def test_MTLS_01_options_that_take_no_certificate_are_refused(
    tmp_path: Path, options: list[str], named: str
) -> None:
    result = CliRunner().invoke(
        app,
        [
            *("serve", "--issuer", "http://127.0.0.1:1", *options),
            *("--store", f"sqlite:///{tmp_path}/auth.db"),
        ],
        env=SECRET,
    )
    assert result.exit_code == 2
    assert named in " ".join(result.stderr.split())
    assert "MutualTls(" not in result.stderr


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


def registering(tmp_path: Path, *options: str, **variables: str) -> Any:
    """Start `serve` with options that it refuses; return what it printed."""
    return CliRunner().invoke(
        app,
        [
            *("serve", "--issuer", "http://127.0.0.1:1", "--store", f"sqlite:///{tmp_path}/a.db"),
            *options,
        ],
        env={**SECRET, **variables},
    )


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (["--registration"], {}, "--registration: name the scopes"),
        (["--client-metadata"], {}, "--client-metadata: name the scopes"),
        (
            ["--scope", "read=See", "--client-metadata-host", "https://a.example"],
            {},
            "--client-metadata-host: pass a list of hosts",
        ),
        (
            ["--scope", "read=See", "--registration"],
            {"BEARERGUARD_SERVER_REGISTRATION_TOKEN": "short"},
            "BEARERGUARD_SERVER_REGISTRATION_TOKEN: pass a token",
        ),
        (
            ["--scope", "read=See"],
            {"BEARERGUARD_SERVER_REGISTRATION_TOKEN": "a" * 40},
            "add --registration",
        ),
    ],
)
def test_DCR_01_options_for_strangers_that_cannot_be_meant_are_refused(
    tmp_path: Path, options: list[str], variables: dict[str, str], words: str
) -> None:
    result = registering(tmp_path, *options, **variables)
    assert result.exit_code == 2
    assert words in result.stderr


def test_DCR_01_clients_register_themselves_at_a_served_server_and_are_listed_as_such(
    tmp_path: Path,
) -> None:
    port, token = free_port(), "an-initial-access-token-of-many-letters"
    url = f"http://127.0.0.1:{port}"
    variables = {
        **SECRET,
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{tmp_path}/auth.db",
        "BEARERGUARD_SERVER_SCOPES": "read=See your recordings",
        "BEARERGUARD_SERVER_REGISTRATION": "true",
        "BEARERGUARD_SERVER_REGISTRATION_TOKEN": f"{token}, another-{token}",
        "BEARERGUARD_SERVER_CLIENT_METADATA_HOSTS": "client.example.com *.example.org",
    }
    program_file = str(Path(sys.executable).with_name("bearerguard"))
    command = [program_file, "serve", "--port", str(port)]
    with (
        program(command, cwd=tmp_path, environ=variables) as running,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        running.wait_for_port(port)
        document = client.get("/.well-known/oauth-authorization-server").json()
        assert document["registration_endpoint"] == f"{url}/oauth/register"
        assert document["client_id_metadata_document_supported"] is True
        content = {"client_name": "Agent", "redirect_uris": ["http://127.0.0.1/cb"]}
        assert client.post("/oauth/register", json=content).status_code == 401
        bearer = {"Authorization": f"Bearer {token}"}
        registered = client.post("/oauth/register", json=content, headers=bearer)
        assert registered.status_code == 201, registered.text
        refused = client.get("/oauth/authorize?client_id=https://other.example.com/m")
        assert refused.status_code == 400
        details = json.loads(running.wait_for_line(r"request_refused (\{.*document_not.*\})"))
        assert details["reason"] == "document_not_allowed"
    listed = CliRunner().invoke(app, ["client", "list", "--json"], env=variables)
    (found,) = json.loads(listed.stdout)
    assert (found["client_id"], found["registered_by"]) == (
        registered.json()["client_id"],
        "request",
    )


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
