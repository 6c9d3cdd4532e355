"""The figures of `bearerguard serve` for Prometheus: `--metrics-path`.

With several workers, each scrape must add up all: `prometheus_client` does so by files in
`PROMETHEUS_MULTIPROC_DIR`, and reads that variable when it is imported.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bearerguard.errors import ConfigurationError
from bearerguard.server import ServerObserver
from bearerguard.server.hosting.asgi import ASGIApp, AsgiHost, Receive, Scope, Send

_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """Counts the responses of a server, and serves the figures.

    Make it before any worker is forked.

    Args:
        path: where the figures are served.
        workers: how many processes serve.

    Attributes:
        observer: what `AuthorizationServer(observers=)` gets.

    Raises:
        ConfigurationError: the path, or the folder that the environment names, is unusable.
        MissingExtra: `prometheus_client` is not installed.
    """

    def __init__(self, path: str, *, workers: int = 1) -> None:
        if not path.startswith("/") or path.endswith("/") or any(each in path for each in "?#*% "):
            raise ConfigurationError('--metrics-path: pass an exact path such as "/metrics"')
        self._path = path
        folder = _shared_folder(workers)
        # An extra, imported after the variable is set; the first import names the extra.
        from bearerguard.prometheus import PrometheusServerObserver  # noqa: PLC0415 - see above # isort: skip
        from prometheus_client import (  # noqa: PLC0415 - see above
            CollectorRegistry,
            ProcessCollector,
            make_asgi_app,
            multiprocess,
        )

        counting = CollectorRegistry()
        self.observer: ServerObserver = PrometheusServerObserver(counting)
        if folder is None:
            ProcessCollector(registry=counting)
            self._app: ASGIApp = make_asgi_app(counting)
        else:
            shown = CollectorRegistry()
            # Its signature has no types.
            multiprocess.MultiProcessCollector(shown, folder)  # type: ignore[no-untyped-call]
            self._app = make_asgi_app(shown)

    def serve(self, host: AsgiHost, taken: Iterable[str]) -> None:
        """Serve the figures beside a server, whose paths are `taken`."""
        if self._path in taken:
            raise ConfigurationError(
                f"--metrics-path: {self._path} is another endpoint of this server"
            )
        behind = host.api

        async def api(scope: Scope, receive: Receive, send: Send) -> None:
            is_metrics = scope["type"] == "http" and scope["path"] == self._path
            await (self._app if is_metrics else behind)(scope, receive, send)

        host.api = api


def _shared_folder(workers: int) -> str | None:
    """Return the folder of the workers' figures; make one if there are several workers."""
    folder = os.environ.get(_FOLDER)
    if folder is not None:
        if not Path(folder).is_dir() or not os.access(folder, os.W_OK):
            raise ConfigurationError(
                f"{_FOLDER}: name an empty folder that exists and can be written"
            )
        return folder
    if workers == 1:
        return None
    folder, owner = tempfile.mkdtemp(prefix="bearerguard-metrics-"), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not where a worker ends
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    os.environ[_FOLDER] = folder
    return folder
