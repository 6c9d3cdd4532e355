"""Clients that use what a server gave them until they are stopped, whatever happens to it.

Each repeats a request that got no response, or a 503, and stops at anything else that it does not
expect.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode, urlsplit

from bearerguard.protocol import pkce
from bearerguard.server import Registered
from tests.faults.clients import Got, post, token_form
from tests.server.harness import CALLBACK, VERIFIER
from tests.server.serving import Served
from tests.server.stores import Store

PATIENCE = 60


class Session(threading.Thread):
    """A client with a session of its own; `problem` is what it did not expect."""

    def __init__(self, running: Served, client: Registered, user: str) -> None:
        super().__init__(daemon=True)
        self.running, self.client, self.user = running, client, user
        self.address = urlsplit(running.url).netloc
        self.secrets: list[str] = []
        self.done = 0
        self.outcomes: Counter[str] = Counter()
        self.problem = ""
        self.ending = threading.Event()

    @property
    def retries(self) -> int:
        return sum(count for outcome, count in self.outcomes.items() if outcome != "200")

    def run(self) -> None:
        while not (self.ending.is_set() or self.problem):
            self.act()

    def act(self) -> None:
        raise NotImplementedError

    def send(self, fields: dict[str, str]) -> Got | None:
        """Send a token request until there is a response other than 503."""
        form = token_form(self.client, fields)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
            try:
                got = post(connection, form)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self._again(type(error).__name__)
                continue
            finally:
                connection.close()
            if got.status != 503:
                self.outcomes[str(got.status)] += 1
                return got
            if not (got.retry_after and got.error == "temporarily_unavailable"):
                self.problem = f"503 {got}"
                return None
            self._again("503")
        self.problem = f"no response in {PATIENCE} s, but {dict(self.outcomes)}"
        return None

    def _again(self, outcome: str) -> None:
        self.outcomes[outcome] += 1
        time.sleep(0.02)


class Refresher(Session):
    """Refreshes, over and over: it must never be refused."""

    def __init__(self, running: Served, client: Registered, user: str) -> None:
        super().__init__(running, client, user)
        tokens = running.redeem(client, running.code(client, user)).json()
        self._token = tokens["refresh_token"]
        self.secrets.append(self._token)

    def act(self) -> None:
        got = self.send({"grant_type": "refresh_token", "refresh_token": self._token})
        if got is None:
            return
        if got.status != 200:
            self.problem = f"{got.status} {got.error}"
            return
        self._token = got.content["refresh_token"]
        self.secrets += [self._token, got.content["access_token"]]
        self.done += 1


class Redeemer(Session):
    """Asks for codes and redeems each twice: it must never succeed twice."""

    def act(self) -> None:
        code = self._code()
        if code is None:
            return
        self.secrets.append(code)
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }
        first, second = self.send(fields), self.send(fields)
        if first is None or second is None:
            return
        # The first may be refused: it may have succeeded before a response that was lost.
        errors = [each.error for each in (first, second) if each.status != 200]
        if set(errors) != {"invalid_grant"} or second.status == 200:
            self.problem = f"{first.status} {first.error}, {second.status} {second.error}"
        self.done += 1

    def _code(self) -> str | None:
        asked = {
            "client_id": self.client.client_id,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "read write",
            "code_challenge": pkce.challenge(VERIFIER),
            "code_challenge_method": "S256",
        }
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        try:
            headers = {"Cookie": f"user={self.user}"}
            connection.request("GET", f"/oauth/authorize?{urlencode(asked)}", headers=headers)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            self._again(type(error).__name__)
            return None
        finally:
            connection.close()
        sent = parse_qs(urlsplit(response.getheader("location") or "").query)
        if response.status == 303 and "code" in sent:
            return sent["code"][0]
        if response.status == 303 and sent.get("error") == ["temporarily_unavailable"]:
            self._again("temporarily_unavailable")
        elif response.status == 503 and response.getheader("retry-after"):
            self._again("503")
        else:
            self.problem = f"authorize: {response.status} {sent.get('error')}"
        return None


@contextmanager
def busy(sessions: Sequence[Session]) -> Generator[None]:
    """Let them work while the block lasts; afterwards each ends what it has begun."""
    for each in sessions:
        each.start()
    try:
        yield
    finally:
        for each in sessions:
            each.ending.set()
        for each in sessions:
            each.join(2 * PATIENCE)


def problems(sessions: Sequence[Session]) -> list[str]:
    return [each.problem for each in sessions if each.problem]


def outcomes(sessions: Sequence[Session]) -> dict[str, int]:
    return dict(sum((each.outcomes for each in sessions), Counter[str]()))


def forked(store: Store) -> tuple[int, int]:
    """Return how many families have not one token to use, and successors have two parents."""
    families = store.run(
        "SELECT count(*) FROM (SELECT grant_id FROM refresh_tokens"
        " WHERE grant_id IN (SELECT grant_id FROM grants WHERE revoked_at IS NULL)"
        " GROUP BY grant_id HAVING count(*) - count(used_at) != 1) AS family"
    )
    twice = store.run("SELECT count(successor) - count(DISTINCT successor) FROM refresh_tokens")
    return families[0][0], twice[0][0]
