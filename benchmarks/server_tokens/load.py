"""The load generator: some kept connections, each of which waits for a response and sends again.

One thread, one epoll, prebuilt requests, and no more parsing than a response needs: some 30 µs for
each request, which the part prints as its share. What is sent, and whether a response is right, is
up to an `Exchange`.
"""

from __future__ import annotations

import gc
import re
import select
import socket
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

# Without a response for this long, a window fails.
_SILENT_SECONDS = 30.0
_CHUNK = 65536
_END = b"\r\n\r\n"
_LOCATION = re.compile(rb"\r\nlocation: *([^\r]*)", re.IGNORECASE)


class LoadError(Exception):
    """A server closed a connection, was silent, or did not respond as it should."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response."""

    status: int
    head: bytes = field(repr=False)
    body: bytes = field(repr=False)

    def location(self) -> str:
        """Return where a redirection leads."""
        found = _LOCATION.search(self.head)
        return found[1].decode("latin-1") if found else ""


def checked_status(reply: Reply) -> None:
    """Raise `LoadError` unless a response is 200."""
    if reply.status != HTTPStatus.OK:
        # What is refused has no token in it.
        raise LoadError(f"status {reply.status}: {reply.body[:300]!r}")


class Exchange(Protocol):
    """What one connection sends and expects."""

    def request(self) -> bytes | None:
        """Return the next request, or None if there are no more."""
        ...

    def response(self, reply: Reply) -> None:
        """Check the response to the last request; raises `LoadError`."""
        ...


@dataclass(frozen=True)
class Window:
    """One window: its length, the latency of each response in it, and the generator's own cost.

    `responses` counts those after its end as well.
    """

    seconds: float
    latencies: array[float]
    responses: int
    generator_seconds: float

    @property
    def rate(self) -> float:
        """Responses per second."""
        return len(self.latencies) / self.seconds


class _Connection:
    def __init__(self, port: int, exchange: Exchange) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_SILENT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.exchange = exchange
        self.sent_at = 0.0
        self._received = b""

    def send(self) -> bool:
        """Send the next request; False if there is none."""
        request = self.exchange.request()
        if request is None:
            return False
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)
        return True

    def receive(self) -> Reply | None:
        """Return a response when the last octet of it is here."""
        chunk = self.socket.recv(_CHUNK)
        if not chunk:
            raise LoadError("the server closed a kept connection")
        self._received += chunk
        head, separator, body = self._received.partition(_END)
        if not separator or not _is_whole(head.lower(), body):
            return None
        self._received = b""
        return Reply(int(head[9:12]), head + _END, body)


def run(port: int, exchanges: Sequence[Exchange], seconds: float) -> Window:
    """Load a server by one connection for each exchange.

    The window ends after `seconds`, or when an exchange has no more requests. Requests that are
    then under way are completed, and checked, but not counted.

    Raises:
        LoadError: a response was wrong or did not come.
    """
    connections: dict[int, _Connection] = {}
    poll = select.epoll()
    gc.collect()
    gc.disable()
    try:
        for exchange in exchanges:
            connection = _Connection(port, exchange)
            connections[connection.socket.fileno()] = connection
            poll.register(connection.socket, select.EPOLLIN)
        return _measure(connections, poll, seconds)
    finally:
        gc.enable()
        poll.close()
        for each in connections.values():
            each.socket.close()


def _measure(connections: dict[int, _Connection], poll: select.epoll, seconds: float) -> Window:
    latencies = array("d")
    clock, processor = time.perf_counter, time.process_time
    processor_begin, begin = processor(), clock()
    deadline = begin + seconds
    under_way = sum(each.send() for each in connections.values())
    if not under_way:
        raise LoadError("nothing to send")
    end, responses = 0.0, 0
    while under_way:
        ready = poll.poll(_SILENT_SECONDS)
        if not ready:
            raise LoadError(f"no response in {_SILENT_SECONDS:.0f} s")
        for descriptor, _ in ready:
            connection = connections[descriptor]
            reply = connection.receive()
            if reply is None:
                continue
            now = clock()
            under_way -= 1
            responses += 1
            connection.exchange.response(reply)
            if not end:
                latencies.append(now - connection.sent_at)
                if now < deadline and connection.send():
                    under_way += 1
                else:
                    end = now
    return Window(end - begin, latencies, responses, processor() - processor_begin)


def _is_whole(head: bytes, body: bytes) -> bool:
    _, found, value = head.partition(b"\r\ncontent-length:")
    if found:
        return len(body) >= int(value.partition(b"\r\n")[0])
    if b"\r\ntransfer-encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    raise LoadError("a response without a length")
