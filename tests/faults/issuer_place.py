"""An issuer at one port of this machine, which fails there in every way that a network knows."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from bearerguard import Request, Response
from bearerguard.testing import LocalIssuer
from tests.processes import free_port

Answer = Callable[[socket.socket, Request], None]
# A connection that the kernel refuses or drops shows within this time.
_SECONDS = 0.05


class Place:
    """Serves a `LocalIssuer` at a port, over TLS if there is a certificate.

    Attributes:
        answer: what is sent instead of the issuer's responses, None while it is healthy.
        certificate: a PEM file, or None for plain HTTP.
        asked: how many requests arrived.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.port = free_port()
        self.answer: Answer | None = None
        self.certificate = certificate
        self.asked = 0
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.issuer = LocalIssuer(self.url, algorithm="ES256")
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def answering(self, answer: Answer) -> Generator[None]:
        self.answer = answer
        try:
            yield
        finally:
            self.answer = None

    @contextmanager
    def refusing(self) -> Generator[None]:
        self.close()
        try:
            yield
        finally:
            self.open()

    @contextmanager
    def black_holed(self) -> Generator[None]:
        """Let the kernel drop each SYN: who listens accepts nothing, and its queue is full."""
        self.close()
        waiting: list[socket.socket] = []
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen(0)
            for _ in range(64):
                each = socket.socket()
                each.settimeout(_SECONDS)
                waiting.append(each)
                if each.connect_ex(("127.0.0.1", self.port)) != 0:
                    break
            else:
                raise AssertionError("the kernel still accepts connections")
            try:
                yield
            finally:
                for each in waiting:
                    each.close()
        self.open()

    @contextmanager
    def with_certificate(self, certificate: Path | None) -> Generator[None]:
        """Show another certificate, or speak no TLS at all."""
        before, self.certificate = self.certificate, certificate
        try:
            yield
        finally:
            self.certificate = before

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection, suppress(OSError):  # the client gave up, as it should
            if self.certificate is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self.certificate)
                connection = context.wrap_socket(connection, server_side=True)
            request = _read(connection)
            self.asked += 1
            (self.answer or self.respond)(connection, request)
            connection.close()

    def respond(self, connection: socket.socket, request: Request) -> None:
        """Respond as the issuer does."""
        connection.sendall(_octets(self.issuer.handle(request)))


def _read(connection: socket.socket) -> Request:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _some(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = line.split(" ")
    fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    while len(body) < int(fields.get("content-length", "0")):
        body += _some(connection)
    return Request(method, path, fields, body)


def _some(connection: socket.socket) -> bytes:
    octets = connection.recv(65_536)
    if not octets:
        raise ConnectionError
    return octets


def _octets(response: Response, *more: str) -> bytes:
    fields = [f"{name}: {value}" for name, value in response.headers]
    fields += [f"Content-Length: {len(response.body)}", "Connection: close", *more]
    head = "\r\n".join((f"HTTP/1.1 {response.status} X", *fields, "", ""))
    return head.encode() + response.body


def sends(status: int, body: bytes, *fields: str) -> Answer:
    """Return what sends this response to every request."""
    response = Response(status, (("Content-Type", "application/json"),), body)
    return lambda connection, _request: connection.sendall(_octets(response, *fields))


def drips(connection: socket.socket, _request: Request) -> None:
    """Send a complete, valid response, an octet at a time: each read gets something."""
    for octet in _octets(Response(200, (), b'{"keys": []}' + b" " * 500)):
        connection.sendall(bytes([octet]))
        time.sleep(0.03)


def says_nothing(connection: socket.socket, _request: Request) -> None:
    connection.settimeout(5)
    connection.recv(1)


def resets(connection: socket.socket, _request: Request) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def breaks_off(connection: socket.socket, _request: Request) -> None:
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"keys": [')


HTML = b"<!doctype html><title>Down for maintenance</title>"
#: What an issuer may answer that is no set of keys.
ANSWERS: dict[str, Answer] = {
    "500": sends(500, b""),
    "429": sends(429, b"", "Retry-After: 86400"),
    "HTML with 200": sends(200, HTML),
    "gzip that is none": sends(200, b'{"keys": []}', "Content-Encoding: gzip"),
    "a gzip bomb": sends(200, gzip.compress(b" " * 5_000_000), "Content-Encoding: gzip"),
    "an empty body": sends(200, b""),
    "an empty set": sends(200, b'{"keys": []}'),
    "a set of no use": sends(200, json.dumps({"keys": [{"kty": "oct", "k": "AA"}]}).encode()),
    "5 MB": sends(200, b'{"keys": [' + b" " * 5_000_000 + b"]}"),
    "a redirect": sends(302, b"", "Location: http://127.0.0.1:1/"),
    "a slow drip": drips,
    "silence": says_nothing,
    "a reset": resets,
    "half a response": breaks_off,
}
