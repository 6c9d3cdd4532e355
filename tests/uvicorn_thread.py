"""A real uvicorn in a thread of this process, for an app that a test makes."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

_START_SECONDS = 10


@contextmanager
def running(app: Any, port: int = 0, **options: Any) -> Generator[str]:
    """Serve an ASGI app on 127.0.0.1 inside the block, which gets the URL."""
    options = {"lifespan": "off", **options}
    config = uvicorn.Config(app, port=port, log_level="critical", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        assert time.monotonic() < deadline, "uvicorn did not start"
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"{'https' if config.is_ssl else 'http'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
