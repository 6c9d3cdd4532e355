"""A loopback HTTP server whose responses come from a function, for tests and demos."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bearerguard.runtime.messages import Request, Response


@contextmanager
def serving(handle: Callable[[Request], Response | None], port: int = 0) -> Generator[str]:
    """Serve `handle` on 127.0.0.1 inside the block, which gets the URL.

    When `handle` returns None, the connection is closed without a response.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            self._respond()

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            response = handle(Request(self.command, self.path, self.headers.items(), body))
            self.close_connection = True
            if response is None:
                return
            self.send_response(response.status)
            for name, value in response.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            """Log nothing."""

    with _Server(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a herd of requests may come at once

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that has gone: guards time out on purpose."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
