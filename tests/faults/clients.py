"""Many clients at once, each with a connection of its own, over plain http.client."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from bearerguard.server import Registered

_HEADERS = {"Content-Type": "application/x-www-form-urlencoded"}
_TIMEOUT = 60


@dataclass(frozen=True)
class Got:
    status: int
    content: Mapping[str, Any]
    retry_after: str | None = None

    @property
    def error(self) -> Any:
        return self.content.get("error")


class Herd:
    """Sends token requests from `width` threads, all at the same moment."""

    def __init__(self, url: str, width: int) -> None:
        self._address = urlsplit(url).netloc
        self._width = width
        self._mine = threading.local()
        self._pool = ThreadPoolExecutor(width)
        self._start = threading.Barrier(width)
        self._opened: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        for connection in self._opened:
            connection.close()

    def all_at_once(self, client: Registered, fields: Mapping[str, str]) -> list[Got]:
        form = token_form(client, fields)
        sending = [self._pool.submit(self._together, form) for _ in range(self._width)]
        return [each.result() for each in sending]

    def _together(self, form: str) -> Got:
        self._start.wait(_TIMEOUT)
        connection = getattr(self._mine, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT)
            self._mine.connection = connection
            self._opened.append(connection)
        try:
            return post(connection, form)
        except (ConnectionError, http.client.HTTPException):
            # A server may close a connection that has idled; nothing was answered then.
            connection.close()
            return post(connection, form)


def token_form(client: Registered, fields: Mapping[str, str]) -> str:
    credentials = {"client_id": client.client_id, "client_secret": client.client_secret or ""}
    return urlencode({**credentials, **fields})


def post(connection: http.client.HTTPConnection, form: str) -> Got:
    connection.request("POST", "/oauth/token", form, _HEADERS)
    answer = connection.getresponse()
    return Got(answer.status, json.loads(answer.read()), answer.getheader("retry-after"))
