"""Clients that redeem codes and refresh without pause while their server stops.

They speak HTTP over plain sockets, so that a response that is cut off is told from a connection
that was refused, and a connection that was closed while it idled from one that was closed while a
request was on its way.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import parse_qs, urlencode, urlsplit

from bearerguard import Request
from bearerguard.protocol import pkce
from bearerguard.server import AuthorizationServer, Registered
from tests.faults.clients import token_form
from tests.server.harness import CALLBACK, VERIFIER

_TIMEOUT = 30


@dataclass
class Outcomes:
    """What clients saw from the moment of the signal on."""

    responses: int = 0
    # Requests that were sent whole and got no whole response, by connection: kept or new.
    lost: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    refused: int = 0

    def __iadd__(self, other: Outcomes) -> Self:
        self.responses += other.responses
        self.lost += other.lost
        self.problems += other.problems
        self.refused += other.refused
        return self


class _NoResponseError(Exception):
    pass


class Client(threading.Thread):
    """Redeems its codes, then refreshes, until connections are refused; `pause` is in seconds.

    With `leaves`, it opens no connection after one that was closed with its response since the
    signal: so do clients behind a load balancer that has noticed that readiness is 503.
    """

    def __init__(
        self,
        url: str,
        client: Registered,
        codes: Sequence[str],
        *,
        keeps: bool,
        pause: float,
        leaves: bool,
    ) -> None:
        super().__init__(daemon=True)
        address = urlsplit(url)
        self._address = (str(address.hostname), int(address.port or 0))
        self._client = client
        self._codes = list(codes)
        self._token = ""
        self._keeps = keeps
        self._pause = pause
        self._leaves = leaves
        self._connection: socket.socket | None = None
        self.stopping = threading.Event()
        self.seen = Outcomes()
        self.before = 0

    def run(self) -> None:
        deadline = time.monotonic() + _TIMEOUT
        try:
            while time.monotonic() < deadline and self._send_one():
                time.sleep(self._pause)
        finally:
            self._close()

    def _send_one(self) -> bool:
        """Send one request; whether there may be more."""
        fields = self._fields()
        is_kept = self._is_kept()
        try:
            connection = self._connection or socket.create_connection(self._address, _TIMEOUT)
        except (ConnectionRefusedError, ConnectionResetError):  # while it connects: nothing is sent
            self.seen.refused += 1
            return not self.stopping.is_set()
        self._connection = connection
        try:
            status, body, is_open = self._exchange(connection, token_form(self._client, fields))
        except (OSError, _NoResponseError) as error:
            kind = "kept" if is_kept else "new"
            self.seen.lost[f"{kind} connection: {type(error).__name__}"] += 1
            self._close()
            return True
        if not is_open:
            self._close()
        if status == 503:
            return True
        if status != 200:
            self.seen.problems.append(f"{status} {body!r}")
            return False
        self._token = json.loads(body)["refresh_token"]
        if self.stopping.is_set():
            self.seen.responses += 1
        else:
            self.before += 1
        return is_open or not (self._leaves and self.stopping.is_set())

    def _fields(self) -> dict[str, str]:
        if not self._codes:
            return {"grant_type": "refresh_token", "refresh_token": self._token}
        return {
            "grant_type": "authorization_code",
            "code": self._codes.pop(),
            "redirect_uri": CALLBACK,
            "code_verifier": VERIFIER,
        }

    def _is_kept(self) -> bool:
        """Whether there is a connection that the server has not closed, as clients look."""
        connection = self._connection
        if connection is None:
            return False
        if select.select([connection], [], [], 0)[0]:
            self._close()
            return False
        return True

    def _exchange(self, connection: socket.socket, form: str) -> tuple[int, bytes, bool]:
        keeping = "keep-alive" if self._keeps else "close"
        head = (
            f"POST /oauth/token HTTP/1.1\r\nHost: {self._address[0]}:{self._address[1]}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(form)}\r\nConnection: {keeping}\r\n\r\n"
        )
        connection.sendall(head.encode() + form.encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += _more(connection)
        top, _, body = received.partition(b"\r\n\r\n")
        line, *lines = top.decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip()
            for name, _, value in (each.partition(":") for each in lines)
        }
        while len(body) < int(fields["content-length"]):
            body += _more(connection)
        is_open = self._keeps and fields.get("connection", "").lower() != "close"
        return int(line.split()[1]), body, is_open

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise _NoResponseError
    return data


def codes(server: AuthorizationServer, client: Registered, count: int, user: str) -> list[str]:
    """Return codes that the server has issued, asked for in this process."""
    query = urlencode(
        {
            "client_id": client.client_id,
            "redirect_uri": CALLBACK,
            "response_type": "code",
            "scope": "read write",
            "code_challenge": pkce.challenge(VERIFIER),
            "code_challenge_method": "S256",
        }
    )
    request = Request("GET", f"/oauth/authorize?{query}", {"cookie": f"user={user}"}, b"")
    found = []
    for _ in range(count):
        response = server.handle(request)
        assert response.status == 303, response.body
        found.append(parse_qs(urlsplit(response.header("location") or "").query)["code"][0])
    return found
