"""A grant that its user ends on the account page is soon refused by every worker; figures printed.

BEARERGUARD_STRESS=1 runs it in the size of `scripts/stress`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import httpx2

from bearerguard.protocol import pkce
from tests.faults.size import FULL
from tests.server.harness import CALLBACK, VERIFIER, hidden_fields
from tests.server.serving import Served, served

WORKERS = 4
ENDED = 50 if FULL else 5
COMMAND = (
    *("gunicorn", "tests.server.account_served:wsgi", "-b", "127.0.0.1:{port}"),
    *("--threads", "4", "--workers", str(WORKERS)),
)
PASSWORD = "correct horse battery"
# Requests at once, each on a connection of its own: they meet all workers sooner or later.
AT_ONCE = 8


class User:
    """A user with a browser, and an app that the user has allowed something."""

    def __init__(self, site: Served, browser: httpx2.Client) -> None:
        site.server.users.add("ada", PASSWORD)
        self.site, self.app, self.browser = site, site.add(), browser
        self._post("/oauth/login", username="ada", password=PASSWORD)

    def token(self) -> str:
        answer = self.browser.get(
            "/oauth/authorize",
            params={
                "client_id": self.app.client_id,
                "redirect_uri": CALLBACK,
                "response_type": "code",
                "scope": "read",
                "code_challenge": pkce.challenge(VERIFIER),
                "code_challenge_method": "S256",
            },
        )
        code = httpx2.URL(answer.headers["location"]).params["code"]
        token: str = self.site.redeem(self.app, code).json()["access_token"]
        return token

    def end_access(self) -> None:
        self._post("/oauth/account", end=self.app.client_id)

    def _post(self, path: str, **fields: str) -> None:
        fields |= hidden_fields(self.browser.get(path).text)
        assert self.browser.post(path, data=fields).status_code == 303


def test_GRANT_01_a_grant_ended_on_the_page_is_refused_on_four_workers_within_a_second(
    tmp_path: Path,
) -> None:
    delays: list[float] = []
    with served(tmp_path, COMMAND) as site, httpx2.Client(base_url=site.url, timeout=60) as browser:
        user = User(site, browser)
        for _ in range(ENDED):
            token = user.token()
            until_all_accept(site.url, token)
            user.end_access()
            ended = last = time.monotonic()
            while (asked := time.monotonic()) < last + 1:  # none has accepted it for a second
                if answer(site.url, token)[0] == 200:
                    last = asked
                assert last < ended + 20, "it never ended"
            delays.append(last - ended)
    print(
        f"\nended on the account page, refused by {WORKERS} workers ({ENDED} times):"
        f" median {median(delays) * 1000:.0f} ms, worst {max(delays) * 1000:.0f} ms"
    )
    assert median(delays) < 1


def answer(url: str, token: str) -> tuple[int, bytes]:
    """Ask the API on a new connection, which any worker may take."""
    with closing(HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
        connection.request("GET", "/api", headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        return response.status, response.read()


def until_all_accept(url: str, token: str) -> None:
    seen: set[bytes] = set()
    deadline = time.monotonic() + 60
    while len(seen) < WORKERS:
        assert time.monotonic() < deadline, "not all workers take connections"
        # Several at once, or else one worker that is awake takes them all.
        with ThreadPoolExecutor(AT_ONCE) as threads:
            answers = list(threads.map(lambda _: answer(url, token), range(AT_ONCE)))
        assert {status for status, _ in answers} == {200}
        seen |= {worker for _, worker in answers}
