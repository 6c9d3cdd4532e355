"""The soak: a real server and a guarded API under mixed load, and what they hold meanwhile.

python -m tests.faults.soak MINUTES

Prints a line for each part of the time: requests, resident memory, file descriptors and threads of
both programs. At the end it prints a verdict, and exits with 1 unless memory and descriptors are
flat and each response was as expected.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from bearerguard.protocol import pkce
from bearerguard.server import Registered
from tests.faults.soak_apps import JWT, OPAQUE, make_server
from tests.processes import Program, free_port, program
from tests.server.harness import CALLBACK, SECRET, VERIFIER
from tests.server.serving import ROOT
from tests.server.stores import sqlite_store

_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_PARTS = 12
# Growth is measured in the second half: a server keeps opaque tokens and revocations for 630 s, and
# caches have their size by then.
_SETTLED = _PARTS // 2
# Growth that is none: the allocator's and SQLite's pages, a kept connection more or less.
_MEMORY_SHARE, _MEMORY_MB, _FILES = 0.05, 4.0, 8


@dataclass(frozen=True)
class Held:
    """What a process holds: resident memory in MB, open files, threads."""

    memory: float
    files: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Held:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return cls(
            pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208 - names alone
            len(os.listdir(f"/proc/{pid}/task")),  # noqa: PTH208
        )


@dataclass
class Report:
    """What the soak saw: the series of each program, and the responses."""

    series: dict[str, list[Held]] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)

    def growths(self) -> list[str]:
        """Return what has grown between the middle and the end."""
        found = []
        for name, series in self.series.items():
            settled = series[_SETTLED:]
            half = len(settled) // 2
            begin, end = settled[:half], settled[half:]
            memory, later = (median(each.memory for each in some) for some in (begin, end))
            if later - memory > max(_MEMORY_MB, memory * _MEMORY_SHARE):
                found.append(f"{name}: memory from {memory:.1f} to {later:.1f} MB")
            files, later_files = (max(each.files for each in some) for some in (begin, end))
            if later_files - files > _FILES:
                found.append(f"{name}: open files from {files} to {later_files}")
            threads, later_threads = (max(each.threads for each in some) for some in (begin, end))
            if later_threads - threads > _FILES:
                found.append(f"{name}: threads from {threads} to {later_threads}")
        return found


class Connection:
    """One kept connection, of one thread."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        return self._sent("GET", path, None, headers)

    def post(self, path: str, **fields: str | None) -> tuple[int, Mapping[str, str]]:
        answer = self._sent("POST", path, urlencode(fields), _FORM)
        return answer.status, json.loads(self.body or b"{}")

    def _sent(
        self, method: str, path: str, body: str | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        try:
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
        except (ConnectionError, http.client.RemoteDisconnected):
            # uvicorn closed a connection that had idled.
            self._connection.close()
            self._connection.request(method, path, body, headers)
            answer = self._connection.getresponse()
        self.body = answer.read()
        return answer

    def close(self) -> None:
        self._connection.close()


class Load:
    """One kind of request, repeated until it is stopped; each kind has connections of its own."""

    def __init__(self, server: str, api: str, client: Registered) -> None:
        self.server = Connection(server)
        self.api = Connection(api)
        self.client = client
        self._warm = ("", 0.0)

    def own_token(self, resource: str) -> str:
        status, content = self.server.post(
            "/oauth/token",
            grant_type="client_credentials",
            client_id=self.client.client_id,
            client_secret=self.client.client_secret,
            scope="read",
            resource=resource,
        )
        assert status == 200, (status, content.get("error"))
        return content["access_token"]

    def call(self, token: str) -> int:
        return self.api.get("/recordings", Authorization=f"Bearer {token}").status

    def warm(self) -> int:
        """Send a token that the guard knows."""
        token, made = self._warm
        if time.monotonic() - made > 10:
            self._warm = token, _ = self.own_token(JWT), time.monotonic()
        return self.call(token)

    def cold(self) -> int:
        """Send a token that is new."""
        return self.call(self.own_token(JWT))

    def forged(self) -> int:
        """Send a token whose signature is wrong, and which no cache must keep for long."""
        head, payload, _ = self.own_token(JWT).split(".")
        return self.call(f"{head}.{payload}.{'A' * 86}")

    def opaque(self) -> int:
        """Send an opaque token twice: it is introspected once."""
        token = self.own_token(OPAQUE)
        return max(self.call(token), self.call(token))

    def revoked(self) -> int:
        """Revoke an opaque token that the guard has not seen."""
        token = self.own_token(OPAQUE)
        status, _ = self.server.post(
            "/oauth/revoke",
            token=token,
            client_id=self.client.client_id,
            client_secret=self.client.client_secret,
        )
        assert status == 200, status
        return self.call(token)

    def login(self) -> str:
        """Return a first refresh token."""
        answer = self.server.get(
            "/oauth/authorize?"
            + urlencode(
                {
                    "client_id": self.client.client_id,
                    "redirect_uri": CALLBACK,
                    "response_type": "code",
                    "scope": "read write",
                    "code_challenge": pkce.challenge(VERIFIER),
                    "code_challenge_method": "S256",
                    "resource": JWT,
                }
            ),
            Cookie=f"user=user-{time.monotonic_ns() % 50}",
        )
        assert answer.status == 303, answer.status
        location = answer.getheader("location") or ""
        return self._refresh_token(
            grant_type="authorization_code",
            code=parse_qs(urlsplit(location).query)["code"][0],
            redirect_uri=CALLBACK,
            code_verifier=VERIFIER,
        )[0]

    def refreshing(self) -> Generator[int]:
        """Refresh, and call with the new token; log in anew seldom: codes are kept for an hour."""
        while True:
            refresh = self.login()
            for _ in range(1000):
                refresh, access = self._refresh_token(
                    grant_type="refresh_token", refresh_token=refresh
                )
                yield self.call(access)

    def _refresh_token(self, **fields: str) -> tuple[str, str]:
        status, content = self.server.post(
            "/oauth/token",
            client_id=self.client.client_id,
            client_secret=self.client.client_secret,
            **fields,
        )
        assert status == 200, (status, content.get("error"))
        return content["refresh_token"], content["access_token"]


class Kind(NamedTuple):
    """A kind of load: what sends it, the status that it must get, and how many times a second."""

    prepare: Callable[[Load], Callable[[], int]]
    expected: int
    pace: float


# Two cores serve several times as many requests: what is looked for is growth, not the limit.
KINDS: Mapping[str, Kind] = {
    "warm": Kind(lambda load: load.warm, 200, 40),
    "cold": Kind(lambda load: load.cold, 200, 30),
    "forged": Kind(lambda load: load.forged, 401, 20),
    "opaque": Kind(lambda load: load.opaque, 200, 5),
    "revoked": Kind(lambda load: load.revoked, 401, 2),
    "refresh": Kind(lambda load: load.refreshing().__next__, 200, 20),
}


@contextmanager
def _running(folder: Path) -> Generator[tuple[Program, str, Program, str, Registered]]:
    """Start both programs."""
    port, api_port = free_port(), free_port()
    url, api_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{api_port}"
    store = sqlite_store(folder)
    with make_server(url, store.url, secret=SECRET) as made:
        client = made.clients.add(
            "Soak",
            redirect_uris=[CALLBACK],
            scopes=["read", "write"],
            require_consent=False,
        )
        api = made.clients.add("API", introspects=[OPAQUE], redirect_uris=[])
    environ = {
        "ISSUER": url,
        "STORE": store.url,
        "BEARERGUARD_SERVER_SECRET": SECRET,
        "API_ID": api.client_id,
        "API_SECRET": api.client_secret or "",
        "PYTHONPATH": str(ROOT),
    }

    def command(app: str, port: int) -> list[str]:
        app = f"tests.faults.soak_apps:{app}"
        options = ["--no-access-log", "--port", str(port), "--lifespan", "off"]
        return [sys.executable, "-m", "uvicorn", app, *options]

    with (
        program(command("server", port), cwd=ROOT, environ=environ) as server,
        program(command("api", api_port), cwd=ROOT, environ=environ) as guarded,
    ):
        server.wait_for_port(port)
        guarded.wait_for_port(api_port)
        yield server, url, guarded, api_url, client


def soak(seconds: float) -> Report:
    """Load both programs for some seconds; print the series while it grows."""
    report, over = Report(), threading.Event()
    with tempfile.TemporaryDirectory() as folder, _running(Path(folder)) as running:
        server, url, api, api_url, client = running

        def repeat(kind: str) -> None:
            prepare, expected, pace = KINDS[kind]
            load = Load(url, api_url, client)
            once, due = prepare(load), time.monotonic()
            while not over.is_set():
                try:
                    status: object = once()
                except Exception as error:
                    status = f"{type(error).__name__}: {error}"
                    once = prepare(load)
                report.outcomes[kind] += 1
                if status != expected:
                    report.problems[f"{kind}: {status}"] += 1
                due = max(due + 1 / pace, time.monotonic() - 1)
                over.wait(max(0.0, due - time.monotonic()))
            load.server.close()
            load.api.close()

        threads = [threading.Thread(target=repeat, args=(kind,)) for kind in KINDS]
        for thread in threads:
            thread.start()
        try:
            began = time.monotonic()
            for part in range(1, _PARTS + 1):
                over.wait(max(0.0, began + seconds * part / _PARTS - time.monotonic()))
                for name, each in (("server", server), ("api", api)):
                    held = Held.of(each.pid)
                    report.series.setdefault(name, []).append(held)
                print(_line(time.monotonic() - began, report), flush=True)
        finally:
            over.set()
            for thread in threads:
                thread.join(60)
    return report


def _line(seconds: float, report: Report) -> str:
    held = "; ".join(
        f"{name} {series[-1].memory:.1f} MB, {series[-1].files} files, {series[-1].threads} threads"
        for name, series in report.series.items()
    )
    return f"{seconds:6.0f} s: {report.outcomes.total()} requests; {held}"


def verdict(report: Report) -> str:
    """Return what is wrong, an empty text for nothing."""
    return "; ".join(
        [*report.growths(), *(f"{count} times {each}" for each, count in report.problems.items())]
    )


def main(minutes: str = "60") -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends both programs too
    report = soak(float(minutes) * 60)
    print("requests: " + ", ".join(f"{kind} {n}" for kind, n in sorted(report.outcomes.items())))
    wrong = verdict(report)
    print(f"verdict: {wrong or 'flat: memory, open files and threads; each response as expected'}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
