"""The demo: the recordings API with its own authorization server, and lines to paste.

It creates a user, an app with a secret and an app without one. `--check` sends the printed lines
itself, goes through the browser flow by HTTP, and prints requests and responses. Everything stays
on the loopback interface of this machine and ends with this process.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from demo_check import check
from demo_page import page
from demo_steps import PASSWORD, USER, Setup, Step, steps

from bearerguard.runtime.messages import Request, Response
from bearerguard.server.administration import Administration
from bearerguard.testing.loopback import serving

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "embedded_app"
START_SECONDS = 20


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def set_up(url: str, callback: str, store: str, secret: str) -> Setup:
    """Create the user and the two apps, as `bearerguard user add` and `client add` do."""
    with Administration(store, secret=secret) as server:
        server.users.add(USER, PASSWORD, name="Ada Lovelace")
        confidential = server.clients.add("Field Notes", scopes=["read", "write"])
        public = server.clients.add(
            "Pocket Recorder", public=True, redirect_uris=[callback], scopes=["read", "write"]
        )
    own_secret = confidential.client_secret or ""
    return Setup(url, callback, confidential.client_id, own_secret, public.client_id)


@contextmanager
def api(url: str, port: int, store: str, secret: str) -> Iterator[None]:
    """Run the example with uvicorn until the block ends."""
    environ = {
        **os.environ,
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": store,
        "BEARERGUARD_SERVER_SECRET": secret,
    }
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    server = subprocess.Popen([*command, "--log-level", "warning"], cwd=EXAMPLE, env=environ)
    try:
        wait_for(port, server)
        yield
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit("demo: the API did not start; its messages are above")


def app_page(request: Request) -> Response:
    """Respond as the app to which the browser is redirected with a code."""
    parts = urlsplit(request.url)
    if parts.path != "/callback":
        return Response(404)
    fields = {name: values[0] for name, values in parse_qs(parts.query).items()}
    line = f"CODE={fields['code']}" if "code" in fields else fields.get("error", "no code")
    print(f"  (the browser was redirected)  {line}", flush=True)
    headers = (("Content-Type", "text/html; charset=utf-8"), ("Cache-Control", "no-store"))
    return Response(200, headers, page(line, worked="code" in fields).encode())


def show(plan: list[Step], url: str) -> None:
    print(f"The recordings API and its authorization server listen at {url}\n")
    print("# Once: a function by which the lines below read a response")
    print("""pick() { echo "$REPLY" | sed -n "s/.*\\"$1\\": *\\"\\([^\\"]*\\)\\".*/\\1/p"; }\n""")
    for number, step in enumerate(plan, 1):
        print(f"# {number}. {step.title}: {step.expect}")
        print(f"# {step.first}\n{step.line()}\n" if step.first else f"{step.line()}\n")
    print("Ctrl-C ends the demo.", flush=True)


def main() -> int:
    options = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    options.add_argument("--check", action="store_true", help="send the lines and compare")
    options.add_argument("--port", type=int, default=0, help="of the API; a free one by default")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = chosen.port or free_port()
    url, secret = f"http://127.0.0.1:{port}", secrets.token_hex(32)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bearerguard-demo-"))
        store = f"sqlite:///{folder}/demo.db"
        callback = stack.enter_context(serving(app_page)) + "/callback"
        plan = steps(set_up(url, callback, store, secret))
        stack.enter_context(api(url, port, store, secret))
        if chosen.check:
            return 0 if check(plan) else 1
        show(plan, url)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
