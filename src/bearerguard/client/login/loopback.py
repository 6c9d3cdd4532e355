"""Where the browser brings a native app its answer: a redirect URI on loopback (RFC 8252 §7.3).

Listens on an ephemeral port for one answer: its path, and a `state` that nobody can guess.
Whatever else comes, from another page or another program, is answered and changes nothing, so
that it cannot end a login. Everything is bounded: the request's size, the time of a connection,
the number of connections.
"""

from __future__ import annotations

import errno
import hmac
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl

from bearerguard.client.login import landing_page
from bearerguard.client.login.receivers import HOSTS
from bearerguard.errors import ConfigurationError, LoginFailed

# What a redirect URI may call this machine, and the addresses that a browser may try for it.
_ADDRESSES = {"127.0.0.1": ("127.0.0.1",), "localhost": ("127.0.0.1", "::1"), "::1": ("::1",)}
_HTTP = 80
_NO_SUCH_ADDRESS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}

_MAX_REQUEST = 16 * 1024  # an answer's URL and a browser's header lines
_MAX_CONNECTIONS = 32
_CONNECTION_SECONDS = 5.0  # what a request on loopback takes at most to arrive
_MAX_PARAMETERS = 50
_ROUND_SECONDS = 0.25  # how soon a wait that is given up ends
_END = b"\r\n\r\n"


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    deadline: float
    received: bytearray = field(default_factory=bytearray)
    answer: memoryview = field(default_factory=lambda: memoryview(b""))


class LoopbackReceiver:
    """Receives the answer of an authorization request on this machine alone.

    It listens as soon as it is made, so that the browser may come early; it is served by the
    thread that waits, and leaves no socket when the block ends.

    Args:
        state: what the answer must repeat (RFC 6749 §4.1.1); a random one if absent.
        port: the port to listen on; any free one if absent, as RFC 8252 §7.3 demands of servers
            to allow. Fixed for servers that compare the whole URI.
        path: the path of the redirect URI.
        host: how the redirect URI calls this machine: 127.0.0.1, localhost or ::1. For
            localhost, both addresses are listened to, as far as the machine has them.
        redirect_uri: the redirect URI letter by letter, where it matters.

    Raises:
        LoginFailed: nothing can listen there.
        ConfigurationError: the host is not this machine.
    """

    def __init__(
        self,
        *,
        state: str | None = None,
        port: int = 0,
        path: str = "/callback",
        host: str = "127.0.0.1",
        redirect_uri: str | None = None,
    ) -> None:
        if host not in HOSTS:
            raise ConfigurationError(f"host=: pass one of {', '.join(HOSTS)}: this machine alone")
        self.state = secrets.token_urlsafe(32) if state is None else state
        self._path = path or "/"
        self._cancelled = False
        self._waiting = threading.Lock()
        self._open: dict[socket.socket, _Connection] = {}
        self._selector = selectors.DefaultSelector()
        self._listeners: list[socket.socket] = []
        for address in _ADDRESSES[host]:
            port = self._listen(address, port)
        name = f"[{host}]" if ":" in host else host
        # A browser leaves out the port of http (RFC 9110 §4.2.3).
        self._hosts = [f"{name}:{port}"] + ([name] if port == _HTTP else [])
        self._redirect_uri = redirect_uri or f"http://{name}:{port}{path}"

    @property
    def redirect_uri(self) -> str:
        """The redirect URI for the authorization request."""
        return self._redirect_uri

    def wait(self, timeout: float) -> Mapping[str, str]:
        """Return the parameters of the answer, an error's too; then listen no more.

        Raises:
            LoginFailed: none came within `timeout` seconds, or `cancel` was called.
        """
        with self._waiting:
            deadline = time.monotonic() + timeout
            while not self._cancelled:
                now = time.monotonic()
                if now >= deadline:
                    raise LoginFailed(f"no answer came from the browser within {timeout:g} s")
                self._drop_late(now)
                for key, _ in self._selector.select(min(deadline - now, _ROUND_SECONDS)):
                    found = self._serve(key.data)
                    if found is not None:
                        self._finish()
                        return found
            raise LoginFailed("the login was given up")

    def cancel(self) -> None:
        """Let `wait` end soon, in whichever thread it runs."""
        self._cancelled = True

    def close(self) -> None:
        """Stop listening, and drop whoever is connected; whoever waits gives up first."""
        self.cancel()
        with self._waiting:
            self._release()

    def _listen(self, address: str, port: int) -> int:
        """Listen at an address, unless it is a further one that this machine lacks."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
            self._listeners.append(listener)
            # No SO_REUSEADDR: on some systems it lets another program take the port over.
            listener.bind((address, port))
            listener.listen(_MAX_CONNECTIONS)
        except OSError as error:
            if len(self._listeners) > 1 and error.errno in _NO_SUCH_ADDRESS:
                self._listeners.pop().close()
                return port
            self.close()
            raise LoginFailed(
                f"cannot listen on {address}:{port} ({error.strerror}): choose another port"
            ) from error
        listener.setblocking(False)  # noqa: FBT003 - by position only
        self._selector.register(listener, selectors.EVENT_READ, listener)
        return int(listener.getsockname()[1])

    def _release(self) -> None:
        for connection in list(self._open.values()):
            self._drop(connection)
        self._selector.close()
        for each in self._listeners:
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LoopbackReceiver({self.redirect_uri!r})"

    def _serve(self, connection: _Connection | socket.socket) -> Mapping[str, str] | None:
        """Take one step for what is ready; return the answer if this was it."""
        if isinstance(connection, socket.socket):
            self._accept(connection)
        elif connection.socket in self._open:  # else it was dropped within this round
            try:
                if not connection.answer:
                    return self._receive(connection)
                self._send(connection)
            except OSError:
                self._drop(connection)  # it went away; whoever it was may come again
        return None

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return  # it went away before its turn
        if len(self._open) >= _MAX_CONNECTIONS:
            # The oldest goes: silent ones keep nobody out.
            self._drop(next(iter(self._open.values())))
        accepted.setblocking(False)  # noqa: FBT003 - by position only
        connection = _Connection(accepted, time.monotonic() + _CONNECTION_SECONDS)
        self._open[accepted] = connection
        self._selector.register(accepted, selectors.EVENT_READ, connection)

    def _receive(self, connection: _Connection) -> Mapping[str, str] | None:
        octets = connection.socket.recv(_MAX_REQUEST)
        connection.received += octets
        if not octets:
            self._drop(connection)
            return None
        if _END not in connection.received:
            if len(connection.received) > _MAX_REQUEST:
                self._answer(connection, landing_page.refused(431))
            return None
        found, page = self._judged(bytes(connection.received.partition(_END)[0]))
        self._answer(connection, page)
        return found

    def _judged(self, head: bytes) -> tuple[Mapping[str, str] | None, bytes]:
        """Return the answer that a request brings, if it does, and what the browser sees."""
        line, *fields = head.decode("latin-1").split("\r\n")
        method, _, rest = line.partition(" ")
        target, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/1.") or not target.startswith("/"):
            return None, landing_page.refused(400)
        # A name that leads here (DNS rebinding) is not this address.
        hosts = [each[5:].strip() for each in fields if each[:5].lower() == "host:"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return None, landing_page.refused(400)
        path, _, query = target.partition("?")
        if path != self._path:
            return None, landing_page.refused(404)
        if method != "GET":
            return None, landing_page.refused(405)
        found = self._parameters(query)
        if found is None:
            return None, landing_page.refused(400)
        return found, landing_page.received(worked="error" not in found)

    def _parameters(self, query: str) -> Mapping[str, str] | None:
        """Return an answer's parameters; None unless it is one, with our `state` and no repeats."""
        try:
            pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            return None
        found = dict(pairs)
        state = found.get("state", "")
        if not hmac.compare_digest(state.encode(), self.state.encode()):
            return None
        if len(found) != len(pairs) or ("code" in found) == ("error" in found):
            return None
        return found

    def _answer(self, connection: _Connection, page: bytes) -> None:
        connection.answer = memoryview(page)
        self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        try:
            sent = connection.socket.send(connection.answer)
        except BlockingIOError:
            return
        connection.answer = connection.answer[sent:]
        if not connection.answer:
            self._drop(connection)

    def _finish(self) -> None:
        """Let the browser have its page, should it not have gone out whole; then close."""
        for each in self._listeners:
            self._selector.unregister(each)
        for connection in list(self._open.values()):
            if not connection.answer:
                self._drop(connection)
        deadline = time.monotonic() + _CONNECTION_SECONDS
        while self._open and time.monotonic() < deadline:
            for key, _ in self._selector.select(_ROUND_SECONDS):
                self._serve(key.data)
        self._release()
        self._cancelled = True

    def _drop_late(self, now: float) -> None:
        for connection in list(self._open.values()):
            if connection.deadline <= now:
                self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        del self._open[connection.socket]
        self._selector.unregister(connection.socket)
        connection.socket.close()
