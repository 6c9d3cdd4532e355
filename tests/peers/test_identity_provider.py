"""An enterprise's identity provider, the certified oidc-provider, decides who may use an API.

A person logs in there once. Our client exchanges the ID token for an ID-JAG, presents it to our
server, and calls the API (MCP enterprise-managed authorization).
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from bearerguard import Guard
from bearerguard.asgi import BearerMiddleware
from bearerguard.client import BearerAuth, IdentityAssertion, JwtBearer, TokenManager
from bearerguard.errors import TokenRefused
from bearerguard.protocol import pkce
from bearerguard.server import AuthorizationServer, Registered, TrustedIssuer
from tests.peers.conftest import HERE
from tests.processes import program
from tests.uvicorn_thread import running

CALLBACK, VERIFIER = "http://127.0.0.1/callback", "v" * 43
SCOPES = {"read": "Read recordings", "write": "Change recordings"}


@dataclass
class Enterprise:
    """The running parties, and the agent as our server knows it."""

    idp: str
    url: str
    server: AuthorizationServer
    agent: Registered
    events: list[Any]

    def tokens(self, id_token: str, **options: Any) -> TokenManager:
        identity = IdentityAssertion(
            self.idp, client_id="chat", client_secret="chat-secret", subject_token=id_token
        )
        return TokenManager(
            JwtBearer(
                self.url,
                client_id=self.agent.client_id,
                client_secret=self.agent.client_secret,
                assertion=identity,
                **({"scopes": "read", "resources": self.url} | options),
            )
        )


def local_user(claims: Mapping[str, Any]) -> str | None:
    """Return the user of an ID-JAG; there is no account of bob."""
    return None if claims["email"].startswith("bob@") else f"local-{claims['sub']}"


async def api(scope: Any, receive: Any, send: Any) -> None:
    del receive
    principal = scope["user"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": principal.subject.encode()})


@pytest.fixture(scope="module")
def enterprise(tmp_path_factory: pytest.TempPathFactory) -> Generator[Enterprise]:
    if shutil.which("node") is None or not (HERE / "node_modules").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    environ = {"CLIENT_AT_SERVER": "agent"}
    with program(["node", "identity_provider.mjs"], cwd=HERE, environ=environ) as provider:
        idp = provider.wait_for_line(r"^READY (\S+)")
        yield from serving(idp, tmp_path_factory.mktemp("enterprise"))


def serving(idp: str, folder: Path) -> Generator[Enterprise]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, events = f"http://127.0.0.1:{port}", list[Any]()
    with AuthorizationServer(
        url,
        store=f"sqlite:///{folder}/auth.db",
        secret="a secret of the server only for tests",
        scopes=SCOPES,
        trusted_issuers=[TrustedIssuer(idp, subject=local_user)],
        on_event=events.append,
    ) as server:
        agent = server.clients.add(
            "Agent", client_id="agent", grant_types=["jwt-bearer"], scopes=list(SCOPES)
        )
        guard = Guard(server.issuer())
        with guard, running(server.asgi_app(BearerMiddleware(api, guard=guard)), port):
            yield Enterprise(idp, url, server, agent, events)


def logged_in(idp: str, name: str) -> str:
    """Log in to the identity provider by its pages, and return the ID token."""
    asked = {
        "client_id": "chat",
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid",
        "code_challenge": pkce.challenge(VERIFIER),
        "code_challenge_method": "S256",
    }
    with httpx2.Client(timeout=30) as browser:
        answer = browser.get(f"{idp}/auth", params=asked)
        while not answer.headers.get("location", "").startswith(CALLBACK):
            if answer.is_redirect:
                answer = browser.get(str(answer.url.join(answer.headers["location"])))
                continue
            action = re.search(r'action="([^"]+)"', answer.text)
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
            assert action is not None, answer.text
            assert prompt is not None, answer.text
            form = {"prompt": prompt[1]}
            if prompt[1] == "login":
                form |= {"login": name, "password": "any"}
            answer = browser.post(str(answer.url.join(action[1])), data=form)
        code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
        answer = browser.post(f"{idp}/token", data=fields, auth=("chat", "chat-secret"))
        token: str = answer.raise_for_status().json()["id_token"]
        return token


def test_JB_02_a_login_at_the_identity_provider_reaches_the_api(enterprise: Enterprise) -> None:
    tokens = enterprise.tokens(logged_in(enterprise.idp, "ada"))
    with httpx2.Client(auth=BearerAuth(tokens)) as client:
        answer = client.get(f"{enterprise.url}/recordings")
        assert (answer.status_code, answer.text) == (200, "local-ada")
        assert tokens.token().scopes == ("read",)
        # The ID token is exchanged again: each ID-JAG serves once.
        enterprise.server.revoke(tokens.token().access_token)
        assert client.get(f"{enterprise.url}/recordings").text == "local-ada"


def test_JB_02_whom_the_identity_provider_refuses_never_reaches_the_server(
    enterprise: Enterprise,
) -> None:
    with pytest.raises(TokenRefused, match="access_denied"):
        enterprise.tokens(logged_in(enterprise.idp, "eve")).token()


def test_JB_02_whom_the_server_does_not_know_gets_nothing(enterprise: Enterprise) -> None:
    with pytest.raises(TokenRefused, match="invalid_grant"):
        enterprise.tokens(logged_in(enterprise.idp, "bob")).token()
    refused = [each for each in enterprise.events if each.code == "request_refused"]
    assert refused[-1].details["reason"] == "unknown_subject"


def test_JB_01_an_id_token_is_no_assertion(enterprise: Enterprise) -> None:
    source = JwtBearer(
        enterprise.url,
        client_id=enterprise.agent.client_id,
        client_secret=enterprise.agent.client_secret,
        assertion=logged_in(enterprise.idp, "ada"),
    )
    with pytest.raises(TokenRefused, match="invalid_grant"):
        TokenManager(source).token()


def test_JB_02_scopes_beyond_the_id_jag_are_not_given(enterprise: Enterprise) -> None:
    tokens = enterprise.tokens(logged_in(enterprise.idp, "ada"), scopes="read delete")
    assert tokens.token().scopes == ("read",)
