"""Back-channel logout by a certified issuer: a user logs in, calls two workers, and logs out."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Self
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from tests.peers.conftest import HERE, OidcProvider, bearer, oidc_provider
from tests.processes import START_SECONDS, free_port, program
from tests.redis_server import RedisServer

CALLBACK = "http://127.0.0.1/callback"
WEB = ("web", "web-secret")
APP = "tests.peers.logout_app"
COMMANDS: dict[str, Callable[[int], list[str]]] = {
    "uvicorn": lambda port: ["uvicorn", "--port", str(port), f"{APP}:asgi_app"],
    "waitress": lambda port: ["waitress", f"--listen=127.0.0.1:{port}", f"{APP}:wsgi_app"],
}


class Browser:
    """A user's browser, with the issuer's cookies in it."""

    def __init__(self, issuer: OidcProvider) -> None:
        self._issuer = issuer
        self._client = httpx2.Client(base_url=issuer.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def log_in(self, name: str) -> dict[str, str]:
        """Go through the login and the consent; return what the token endpoint answers."""
        verifier = secrets.token_urlsafe(48)
        digest = hashlib.sha256(verifier.encode()).digest()
        asked = {
            "client_id": "web",
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "scope": "openid read",
            "resource": "urn:api:ES256",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        answer = self._follow(self._client.get("/auth", params=asked))
        while not answer.headers.get("location", "").startswith(CALLBACK):
            fields = dict(re.findall(r'name="(prompt)" value="(\w+)"', answer.text))
            action = re.search(r'action="([^"]+)"', answer.text)
            assert action is not None, answer.text
            filled = {**fields, "login": name, "password": "any"}
            answer = self._follow(self._client.post(action[1], data=filled))
        code = parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]
        redeemed = httpx2.post(
            f"{self._issuer.url}/token",
            auth=WEB,
            data={
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": CALLBACK,
                "code_verifier": verifier,
                "resource": "urn:api:ES256",
            },
        )
        found: dict[str, str] = redeemed.raise_for_status().json()
        return found

    def log_out(self, id_token: str) -> None:
        page = self._client.get("/session/end", params={"id_token_hint": id_token})
        secret = re.search(r'name="xsrf" value="(\w+)"', page.text)
        assert secret is not None, page.text
        form = {"xsrf": secret[1], "logout": "yes"}
        self._client.post("/session/end/confirm", data=form)

    def _follow(self, answer: httpx2.Response) -> httpx2.Response:
        while answer.is_redirect and not answer.headers["location"].startswith(CALLBACK):
            answer = self._client.get(answer.headers["location"])
        return answer


@pytest.mark.parametrize("receiver", ["uvicorn", "waitress"])
@pytest.mark.parametrize("with_sid", [True, False], ids=["by session", "by subject"])
def test_who_logs_out_at_the_issuer_is_refused_by_every_worker(
    receiver: str, *, with_sid: bool, redis: RedisServer
) -> None:
    ports = {server: free_port() for server in COMMANDS}
    with ExitStack() as stack:
        issuer = stack.enter_context(
            oidc_provider(
                BACKCHANNEL_LOGOUT_URI=f"http://127.0.0.1:{ports[receiver]}/logout",
                BACKCHANNEL_LOGOUT_SID=str(int(with_sid)),
            )
        )
        for server, command in COMMANDS.items():
            running = stack.enter_context(
                program(
                    [sys.executable, "-m", *command(ports[server])],
                    cwd=HERE.parent.parent,
                    environ={"ISSUER": issuer.url, "REDIS": redis.url},
                )
            )
            running.wait_for_port(ports[server])

        def status(server: str, token: str) -> int:
            url = f"http://127.0.0.1:{ports[server]}/"
            return httpx2.get(url, headers=bearer(token)).status_code

        ada, other, eve, later = (stack.enter_context(Browser(issuer)) for _ in range(4))
        tokens = [browser.log_in("ada") for browser in (ada, other)]
        eves = eve.log_in("eve")["access_token"]
        mine, elsewhere = (each["access_token"] for each in tokens)
        for server in COMMANDS:
            for token in (mine, elsewhere, eves):
                assert status(server, token) == 200
        ada.log_out(tokens[0]["id_token"])
        assert issuer.logouts == ["success"]
        assert status(receiver, mine) == 401
        deadline = time.monotonic() + START_SECONDS
        for server in COMMANDS:
            while status(server, mine) != 401:
                assert time.monotonic() < deadline
            # A session that ended spares the user's others; a subject's end ends them all.
            assert status(server, elsewhere) == (200 if with_sid else 401)
            assert status(server, eves) == 200
        time.sleep(1)  # dates in tokens are whole seconds: what that of the logout had is revoked
        again = later.log_in("ada")["access_token"]
        assert [status(server, again) for server in COMMANDS] == [200, 200]
