"""A popup at our login answers the page that opened it, on another origin, in Chromium (AZ-10)."""

from __future__ import annotations

import itertools
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
from websockets.sync.client import connect

from bearerguard.runtime.messages import Request, Response
from bearerguard.server import AuthorizationServer, PeopleOptions, User
from bearerguard.testing.loopback import serving
from tests.chromium import _ask, _page, _until

CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
OPENER = "<!doctype html><title>app</title><button>Sign in</button><p></p><script>%s</script>"
SCRIPT = """
addEventListener('message', (event) => {
  document.querySelector('p').textContent = 'came back with ' + event.data;
});
document.querySelector('button').addEventListener('click', () => open(%r, 'login'));
"""
# As Swagger UI and oidc-client-ts do: the callback hands its address over and closes itself.
CALLBACK = (
    "<!doctype html><script>opener.postMessage("
    "new URLSearchParams(location.search).has('code') ? 'a code' : location.search, '*');"
    "close();</script>"
)
PRESS = "(b => b ? (b.click(), 'pressed') : '')(document.querySelector(%r))"


def html(text: str) -> Response:
    return Response(200, (("Content-Type", "text/html"),), text.encode())


def test_AZ_10_the_opener_of_a_popup_gets_the_answer(tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    parts: dict[str, Any] = {}

    def app(request: Request) -> Response:
        return html(CALLBACK if "/cb" in request.url else OPENER % (SCRIPT % parts["link"]))

    def auth(request: Request) -> Response:
        answer: Response = parts["server"].handle(request)
        return answer

    with serving(app) as app_url, serving(auth) as url:
        parts["server"] = server = AuthorizationServer(
            url,
            store=f"sqlite:///{tmp_path}/auth.db",
            secret=secrets.token_bytes(32),
            people=PeopleOptions(
                current_user=lambda _: User("ada", "Ada"), login_url=f"{url}/login"
            ),
        )
        client = server.clients.add("App", public=True, redirect_uris=[f"{app_url}/cb"])
        asked = {"response_type": "code", "client_id": client.client_id, "state": "s"}
        asked |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
        parts["link"] = f"{url}/oauth/authorize?{urlencode(asked)}"
        _sign_in_by_popup(chromium, app_url, tmp_path / "profile")


def _sign_in_by_popup(chromium: str, url: str, profile: Path) -> None:
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    process = subprocess.Popen(
        [
            *(chromium, *options, "--disable-popup-blocking"),
            *("--remote-debugging-port=0", f"--user-data-dir={profile}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(_page(profile), origin=None, max_size=None) as page:
            steps = itertools.count(1)
            _ask(page, next(steps), "Page.navigate", url=url)
            _until(page, steps, PRESS % "button", "pressed")
            with connect(_popup(profile), origin=None, max_size=None) as popup:
                _until(popup, itertools.count(1), PRESS % "button[value=allow]", "pressed")
            _until(page, steps, "document.querySelector('p').textContent", "a code")
    finally:
        process.terminate()
        process.wait(20)


def _popup(profile: Path) -> str:
    """Return the address by which the popup is driven."""
    port = (profile / "DevToolsActivePort").read_text().split()[0]
    deadline = time.monotonic() + 60
    while True:
        for each in httpx2.get(f"http://127.0.0.1:{port}/json/list").json():
            if each["type"] == "page" and "/oauth/authorize" in each["url"]:
                address: str = each["webSocketDebuggerUrl"]
                return address
        assert time.monotonic() < deadline, "no popup came"
        time.sleep(0.05)
