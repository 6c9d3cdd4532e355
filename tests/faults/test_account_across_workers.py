"""A grant that its user ends on the account page is soon refused by every worker; figures printed.

BEARERGUARD_STRESS=1 runs it in the size of `scripts/stress`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

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

    def __init__(self, site: Served) -> None:
        site.server.users.add("ada", PASSWORD)
        self.site, self.app = site, site.add()
        self.browser = httpx2.Client(base_url=site.url, timeout=60)
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
    with served(tmp_path, COMMAND) as site, ThreadPoolExecutor(AT_ONCE) as threads:
        user = User(site)
        for _ in range(ENDED):
            headers = {"Authorization": f"Bearer {user.token()}"}

            def ask(headers: dict[str, str] = headers) -> httpx2.Response:
                return httpx2.get(f"{site.url}/api", headers=headers, timeout=60)

            every = workers_that(lambda ask=ask: _all(threads, ask))  # type: ignore[misc]
            assert len(every) == WORKERS
            user.end_access()
            ended = time.monotonic()
            last = ended
            while time.monotonic() < last + 1:  # no worker has accepted it for a second
                if any(answer.status_code == 200 for answer in _all(threads, ask)):
                    last = time.monotonic()
                assert last < ended + 20, "it never ended"
            delays.append(last - ended)
    print(
        f"\nended on the account page, refused by {WORKERS} workers ({ENDED} times):"
        f" median {median(delays) * 1000:.0f} ms, worst {max(delays) * 1000:.0f} ms"
    )
    assert median(delays) < 1


def _all(threads: ThreadPoolExecutor, ask: Callable[[], httpx2.Response]) -> list[httpx2.Response]:
    return [each.result() for each in [threads.submit(ask) for _ in range(AT_ONCE)]]


def workers_that(ask: Callable[[], list[httpx2.Response]]) -> set[str]:
    """Ask until all workers have accepted the token; return their names."""
    seen: set[str] = set()
    deadline = time.monotonic() + 60
    while len(seen) < WORKERS and time.monotonic() < deadline:
        for answer in ask():
            assert answer.status_code == 200, answer.text
            seen.add(answer.text)
    return seen
