"""Pushed authorization requests (PAR-01) with clients and a server that others wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bearerguard.client import AuthorizationCode, TokenManager
from bearerguard.errors import TokenRefused
from tests.peers.conftest import HERE, OidcProvider, oidc_provider
from tests.peers.test_client import NATIVE, PUBLIC, Browser, claims
from tests.server.harness import CALLBACK
from tests.server.serving import served
from tests.server.test_client_libraries import ALGORITHMS, KINDS, oauth4webapi


@pytest.mark.parametrize("kind", KINDS)
def test_PAR_01_oauth4webapi_pushes_its_requests(tmp_path: Path, kind: str) -> None:
    with served(tmp_path, REQUIRE_PAR="1") as running:
        assert oauth4webapi(running, kind, PUSH="1")[:4] == ["discovery", "push", "code", "refresh"]


@pytest.mark.parametrize(("kind", "algorithm"), [*zip(KINDS, ALGORITHMS, strict=True)])
def test_PAR_01_ADP_01_oauth4webapi_pushes_with_proofs_where_nonces_are_demanded(
    tmp_path: Path, kind: str, algorithm: str
) -> None:
    with served(tmp_path, REQUIRE_PAR="1", DPOP_NONCES="1") as running:
        steps = oauth4webapi(running, kind, PUSH="1", DPOP=algorithm)
    assert steps[:4] == ["discovery", "push", "code", "refresh"]


def test_PAR_01_openid_client_pushes_its_requests(tmp_path: Path) -> None:
    if shutil.which("node") is None or not (HERE / "node_modules" / "openid-client").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    with served(tmp_path, REQUIRE_PAR="1") as running:
        web = running.add("Web")
        phone = running.add("Phone", public=True, require_consent=False)
        variables = {
            "ISSUER": running.url,
            "WEB": web.client_id,
            "WEB_SECRET": web.client_secret or "",
            "PHONE": phone.client_id,
            "REDIRECT_URI": CALLBACK,
        }
        done = subprocess.run(
            ["node", "pushed.mjs"],
            cwd=HERE,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr + running.program.output
    expected = {
        "link": ["client_id", "request_uri"],
        "again": 400,
        "scope": "read write",
        "unregistered": "400 invalid_request",
    }
    assert json.loads(done.stdout) == {
        "web": expected | {"type": "bearer"},
        "phone": expected | {"type": "dpop", "stolen": "400 invalid_grant"},
    }


@pytest.fixture(scope="module")
def provider() -> Generator[OidcProvider]:
    with oidc_provider(CLIENT_JWK=json.dumps(PUBLIC), REQUIRE_PAR="1") as running:
        yield running


class Watched(Browser):
    """A browser whose first link is noted."""

    link = ""

    def open(self, address: str) -> None:
        self.link = address
        super().open(address)


CLIENTS: dict[str, dict[str, Any]] = {
    "public": NATIVE,
    "confidential, Basic": NATIVE | {"client_id": "secretive", "client_secret": "secretive-secret"},
}


@pytest.mark.parametrize("dpop", [False, True])
@pytest.mark.parametrize("kind", CLIENTS)
def test_PAR_01_our_client_pushes_where_the_server_demands_it(
    provider: OidcProvider, kind: str, dpop: bool
) -> None:
    browser = Watched()
    source = AuthorizationCode(provider.url, **CLIENTS[kind], dpop=dpop, open_browser=browser.open)
    manager = TokenManager(source)
    token = manager.login()
    browser.join()
    assert parse_qs(urlsplit(browser.link).query).keys() == {"client_id", "request_uri"}
    assert token.scopes == ("read", "write")
    assert ("cnf" in claims(token.access_token)) is dpop
    renewed = manager.renew(manager.lease()).token
    assert claims(renewed.access_token)["sub"] == "ada"


def test_PAR_01_our_client_says_why_another_server_refuses_what_it_pushes(
    provider: OidcProvider,
) -> None:
    links: list[str] = []
    source = AuthorizationCode(
        provider.url,
        client_id="secretive",
        client_secret="wrong",
        scopes="read",
        open_browser=links.append,
    )
    with pytest.raises(TokenRefused) as refused:
        TokenManager(source).login()
    assert refused.value.error == "invalid_client"
    assert links == [], "no browser is opened"
