"""The loopback redirect URI of a native app (RFC 8252 §7.3): a listener for one response.

Listens on an ephemeral port for the authorization response: a GET of its path with the `state` of
the request. Any other request, from another page or another program, gets an error page and cannot
end the login. The size of a request, the time of a connection and the number of connections are
bounded.
"""

from __future__ import annotations

import errno
import hmac
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl

from bearerguard.client.login import landing_page
from bearerguard.errors import ConfigurationError, LoginFailed, quoted
from bearerguard.runtime.addresses import LOOPBACK_HOSTS

# The addresses that a browser may try for each host of a redirect URI.
_ADDRESSES = {"127.0.0.1": ("127.0.0.1",), "localhost": ("127.0.0.1", "::1"), "::1": ("::1",)}
_HTTP = 80
_NO_SUCH_ADDRESS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}

_MAX_REQUEST = 16 * 1024  # the URL of a response and the headers of a browser
_MAX_CONNECTIONS = 32
_CONNECTION_SECONDS = 5.0  # within which a request on loopback must arrive
_MAX_PARAMETERS = 50
_ROUND_SECONDS = 0.25  # within which a wait ends after `cancel`
_END = b"\r\n\r\n"


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    deadline: float
    received: bytearray = field(default_factory=bytearray)
    response: memoryview = field(default_factory=lambda: memoryview(b""))


class LoopbackReceiver:
    """Receives an authorization response on a loopback address (RFC 8252 §7.3).

    It listens as soon as it is made, so that the browser may come early. The thread that calls
    `wait` serves the connections. All sockets are closed when the `with` block ends.

    Args:
        state: what the response must repeat (RFC 6749 §4.1.1); a random value by default.
        port: the port to listen on; by default any free one, which RFC 8252 §7.3 requires servers
            to accept. Name it for servers that compare the whole URI.
        path: the path of the redirect URI.
        host: the host of the redirect URI: "127.0.0.1", "localhost" or "::1". For "localhost" it
            listens on 127.0.0.1 and, where the machine has it, on ::1.
        redirect_uri: the exact text of the redirect URI, for servers that compare it literally.
        monotonic: returns seconds that no change of the calendar clock disturbs.

    Raises:
        LoginFailed: the address or the port cannot be listened on.
        ConfigurationError: the host is none of those above.
    """

    def __init__(
        self,
        *,
        state: str | None = None,
        port: int = 0,
        path: str = "/callback",
        host: str = "127.0.0.1",
        redirect_uri: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if host not in LOOPBACK_HOSTS:
            raise ConfigurationError(
                f"host=: pass a name of this machine ({', '.join(LOOPBACK_HOSTS)}),"
                f" not {quoted(host)}"
            )
        self.state: str = secrets.token_urlsafe(32) if state is None else state
        self._path = path or "/"
        self._monotonic = monotonic
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
        """Return the parameters of the response, an error response too, and stop listening.

        Raises:
            LoginFailed: no response came within `timeout` seconds, or `cancel` was called.
        """
        with self._waiting:
            deadline = self._monotonic() + timeout
            while not self._cancelled:
                now = self._monotonic()
                if now >= deadline:
                    raise LoginFailed(f"no response came from the browser within {timeout:g} s")
                self._drop_late(now)
                for key, _ in self._selector.select(min(deadline - now, _ROUND_SECONDS)):
                    found = self._serve(key.data)
                    if found is not None:
                        self._finish()
                        return found
            raise LoginFailed("the login was cancelled")

    def cancel(self) -> None:
        """Make `wait` end soon, whichever thread it runs in."""
        self._cancelled = True

    def close(self) -> None:
        """Make `wait` end, then close the listeners and all connections."""
        self.cancel()
        with self._waiting:
            self._release()

    def _listen(self, address: str, port: int) -> int:
        """Listen on an address; a second address that this machine lacks is left out."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            listener = socket.socket(family, socket.SOCK_STREAM)
            self._listeners.append(listener)
            # A second login soon after the first needs the same port. On other systems the option
            # lets another program take over the port.
            if sys.platform == "linux":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
        """Serve one ready socket; return the response if it arrived on it."""
        if isinstance(connection, socket.socket):
            self._accept(connection)
        elif connection.socket in self._open:  # otherwise it was dropped in this round
            try:
                if not connection.response:
                    return self._receive(connection)
                self._send(connection)
            except OSError:
                self._drop(connection)  # the peer closed it, and may connect again
        return None

    def _accept(self, listener: socket.socket) -> None:
        try:
            accepted, _ = listener.accept()
        except OSError:
            return  # the peer closed it before it was accepted
        if len(self._open) >= _MAX_CONNECTIONS:
            # The oldest is dropped, so that idle connections keep nobody out.
            self._drop(next(iter(self._open.values())))
        accepted.setblocking(False)  # noqa: FBT003 - by position only
        connection = _Connection(accepted, self._monotonic() + _CONNECTION_SECONDS)
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
                self._respond(connection, landing_page.refused(431))
            return None
        found, page = self._handled(bytes(connection.received.partition(_END)[0]))
        self._respond(connection, page)
        return found

    def _handled(self, head: bytes) -> tuple[Mapping[str, str] | None, bytes]:
        """Return the authorization response in a request, if any, and the page to send."""
        line, *fields = head.decode("latin-1").split("\r\n")
        method, _, rest = line.partition(" ")
        target, _, version = rest.rpartition(" ")
        if not version.startswith("HTTP/1.") or not target.startswith("/"):
            return None, landing_page.refused(400)
        # Another name that resolves to this address (DNS rebinding) is refused.
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
        """Return the response in a query; None for another `state` or a repeated parameter."""
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

    def _respond(self, connection: _Connection, page: bytes) -> None:
        connection.response = memoryview(page)
        self._selector.modify(connection.socket, selectors.EVENT_WRITE, connection)
        self._send(connection)

    def _send(self, connection: _Connection) -> None:
        try:
            sent = connection.socket.send(connection.response)
        except BlockingIOError:
            return
        connection.response = connection.response[sent:]
        if not connection.response:
            self._drop(connection)

    def _finish(self) -> None:
        """Stop listening, send what is left of the browser's page, and close."""
        for each in self._listeners:
            self._selector.unregister(each)
        for connection in list(self._open.values()):
            if not connection.response:
                self._drop(connection)
        deadline = self._monotonic() + _CONNECTION_SECONDS
        while self._open and self._monotonic() < deadline:
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
