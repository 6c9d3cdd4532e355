"""Client libraries that others wrote run every grant against the running server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from oauthlib.oauth2 import BackendApplicationClient, InvalidGrantError
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session as RequestsSession

from bearerguard import Guard, Issuer
from bearerguard.testing import SigningKey
from tests.server.harness import CALLBACK, VERIFIER
from tests.server.serving import Served, served

PEERS = Path(__file__).parents[1] / "peers"


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Served]:
    # These libraries ask for this where a server is http, even on loopback.
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    with served(tmp_path) as server:
        yield server


def visit(address: str) -> str:
    """Follow an authorization URL as a signed-in browser; return where it is sent."""
    response = requests.get(
        address, headers={"cookie": "user=ada"}, allow_redirects=False, timeout=30
    )
    assert response.status_code == 303, response.text
    location: str = response.headers["location"]
    return location


def check_with_guard(running: Served, token: str) -> None:
    """See that the API's guard takes the token, over HTTP."""
    with Guard(Issuer(running.url, audience=running.url, strict=True)) as guard:
        principal = guard.verify(token)
    assert {"read", "write"} >= principal.scopes


def test_requests_oauthlib_runs_the_code_flow_and_refreshes(running: Served) -> None:
    client = running.add()
    token_url = f"{running.url}/oauth/token"
    session = RequestsSession(
        client.client_id, redirect_uri=CALLBACK, scope=["read", "write"], pkce="S256"
    )
    address, state = session.authorization_url(f"{running.url}/oauth/authorize")
    location = visit(address)
    assert f"state={state}" in location
    tokens = session.fetch_token(
        token_url, client_secret=client.client_secret, authorization_response=location
    )
    check_with_guard(running, tokens["access_token"])
    refreshed = session.refresh_token(
        token_url, auth=HTTPBasicAuth(client.client_id, client.client_secret or "")
    )
    assert refreshed["refresh_token"] != tokens["refresh_token"]
    with pytest.raises(InvalidGrantError):
        session.fetch_token(
            token_url, client_secret=client.client_secret, authorization_response=location
        )
    session.close()


def test_requests_oauthlib_runs_client_credentials(running: Served) -> None:
    client = running.add()
    session = RequestsSession(client=BackendApplicationClient(client.client_id, scope=["read"]))
    tokens = session.fetch_token(
        f"{running.url}/oauth/token",
        client_id=client.client_id,
        client_secret=client.client_secret,
    )
    assert "refresh_token" not in tokens
    check_with_guard(running, tokens["access_token"])
    session.close()


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib_runs_every_grant(running: Served, method: str) -> None:
    client = running.add(auth_method=method)
    metadata = httpx2.get(f"{running.url}/.well-known/oauth-authorization-server").json()
    session = OAuth2Session(
        client.client_id,
        client.client_secret,
        token_endpoint_auth_method=method,
        revocation_endpoint_auth_method=method,
        scope="read write",
        redirect_uri=CALLBACK,
        code_challenge_method="S256",
    )
    address, _ = session.create_authorization_url(
        metadata["authorization_endpoint"], code_verifier=VERIFIER
    )
    tokens = session.fetch_token(
        metadata["token_endpoint"],
        authorization_response=visit(address),
        code_verifier=VERIFIER,
    )
    check_with_guard(running, tokens["access_token"])
    refreshed = session.refresh_token(metadata["token_endpoint"])
    assert refreshed["access_token"] != tokens["access_token"]
    known = session.introspect_token(
        metadata["introspection_endpoint"], token=refreshed["access_token"]
    )
    assert known.json()["active"] is True
    session.revoke_token(metadata["revocation_endpoint"], token=refreshed["refresh_token"])
    known = session.introspect_token(
        metadata["introspection_endpoint"], token=refreshed["access_token"]
    )
    assert known.json() == {"active": False}
    own = session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    assert "refresh_token" not in own
    session.close()


ODD_SECRET = "WiMwbPYlqiI+7pQ117wi%3p9R078d1mDe/WM3GZt="


def test_authlib_sends_a_secret_in_basic_as_it_is_and_is_understood(running: Served) -> None:
    client = running.add(client_secret=ODD_SECRET, redirect_uris=[])
    session = OAuth2Session(client.client_id, client.client_secret, scope="read offline_access")
    tokens = session.fetch_token(f"{running.url}/oauth/token", grant_type="client_credentials")
    assert tokens["scope"] == "read"
    check_with_guard(running, tokens["access_token"])
    session.close()


def test_curl_sends_a_secret_and_a_form_as_they_are_and_is_understood(
    running: Served, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    client = running.add(client_secret=ODD_SECRET, redirect_uris=[])
    form = tmp_path / "form"
    form.write_text(f"grant_type=client_credentials&resource={running.url.upper()}/&scope=read\n")
    command = ["curl", "-sS", "-u", f"{client.client_id}:{ODD_SECRET}", "--data-binary", f"@{form}"]
    done = subprocess.run(
        [*command, f"{running.url}/oauth/token"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    tokens = json.loads(done.stdout)
    assert tokens.get("scope") == "read", tokens
    check_with_guard(running, tokens["access_token"])


def test_authlib_proves_itself_by_a_signed_assertion(running: Served) -> None:
    from joserfc.jwk import RSAKey

    key = RSAKey.generate_key(2048, {"use": "sig", "kid": "robot"})
    public: Any = key.as_dict(private=False)
    client = running.add(jwks={"keys": [public]}, redirect_uris=[])
    session = OAuth2Session(
        client.client_id,
        key.as_pem(private=True).decode(),
        token_endpoint_auth_method="private_key_jwt",
        scope="read",
    )
    session.register_client_auth_method(
        PrivateKeyJWT(running.url, headers={"alg": "RS256", "kid": "robot"})
    )
    tokens = session.fetch_token(f"{running.url}/oauth/token", grant_type="client_credentials")
    check_with_guard(running, tokens["access_token"])
    session.close()


KINDS = ["confidential", "public", "private_key_jwt"]
ALGORITHMS = ["ES256", "Ed25519", "PS256"]


@pytest.mark.parametrize("kind", KINDS)
def test_oauth4webapi_runs_every_grant(running: Served, kind: str) -> None:
    steps = oauth4webapi(running, kind)
    expected = ["discovery", "code", "refresh"]
    expected += [] if kind == "public" else ["introspection", "client_credentials"]
    assert steps == [*expected, "revocation", "refused"]


@pytest.mark.parametrize(("kind", "algorithm"), [*zip(KINDS, ALGORITHMS, strict=True)])
def test_ADP_01_oauth4webapi_binds_its_tokens_where_nonces_are_demanded(
    tmp_path: Path, kind: str, algorithm: str
) -> None:
    with served(tmp_path, DPOP_NONCES="1") as running:
        steps = oauth4webapi(running, kind, DPOP=algorithm)
    expected = ["discovery", "code", "refresh"]
    if kind == "public":
        expected += ["refused without the key"]
    else:
        expected += ["introspection", "client_credentials"]
    assert steps == [*expected, "revocation", "refused"]


def oauth4webapi(running: Served, kind: str, **environ: str) -> Any:
    """Run the grants of a kind of client; return the steps that it took."""
    if shutil.which("node") is None or not (PEERS / "node_modules" / "oauth4webapi").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    key = SigningKey.generate("ES256", "robot")
    options: dict[str, dict[str, Any]] = {
        "confidential": {},
        "public": {"public": True},
        "private_key_jwt": {"jwks": {"keys": [key.jwk()]}},
    }
    client = running.add(**options[kind])
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    variables = {
        "ISSUER": running.url,
        "KIND": kind,
        "CLIENT_ID": client.client_id,
        "CLIENT_SECRET": client.client_secret or "",
        "PRIVATE_KEY": pem.decode(),
        "REDIRECT_URI": CALLBACK,
        **environ,
    }
    done = subprocess.run(
        ["node", "oauth4webapi.mjs"],
        cwd=PEERS,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
