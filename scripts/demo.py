"""The demo: an issuer, the recordings API, live tokens, and curl lines to paste.

`--check` sends the printed lines itself and compares the answers. Everything stays on
this machine's loopback interface and ends with this process.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bearerguard.testing import LocalIssuer

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "starlette_app"
AUDIENCE = "https://api.example.com"
START_SECONDS = 20


@dataclass(frozen=True)
class Step:
    """One line to paste, and what comes back."""

    says: str
    arguments: tuple[str, ...]
    expect: str

    def line(self, url: str) -> str:
        return shlex.join(("curl", "-si", *self.arguments, url))


def steps(issuer: LocalIssuer) -> list[Step]:
    def bearer(token: str) -> tuple[str, str]:
        return "-H", f"Authorization: Bearer {token}"

    reader, writer = issuer.token(scope="read"), issuer.token(scope="read write")
    expired, foreign = issuer.token(lifetime=-3600), issuer.token(aud="https://other.example.com")
    post = ("-X", "POST")
    return [
        Step("No token", (), "401"),
        Step("A token with the scope read", bearer(reader), "200"),
        Step("The same token, where write is needed", (*post, *bearer(reader)), "403"),
        Step("A token with write", (*post, *bearer(writer)), "201"),
        Step("An expired token", bearer(expired), "401"),
        Step("A token for another API", bearer(foreign), "401"),
        Step("Credentials that cannot be read", ("-H", "Authorization: Bearer a b"), "400"),
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def api(issuer: LocalIssuer, port: int) -> Iterator[None]:
    """Run the Starlette example with uvicorn until the block ends."""
    environ = {**os.environ, "BEARERGUARD_ISSUER": issuer.url, "BEARERGUARD_AUDIENCE": AUDIENCE}
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


def show(plan: list[Step], url: str) -> None:
    print(f"The recordings API listens at {url}\n")
    for step in plan:
        print(f"# {step.says}: {step.expect}\n{step.line(url)}\n")


def check(plan: list[Step], url: str) -> bool:
    """Send every line; print what came back; return whether all was as announced."""
    good = True
    for step in plan:
        answer = subprocess.run(
            shlex.split(step.line(url)), capture_output=True, text=True, check=False
        )
        if answer.returncode != 0:
            sys.exit(f"demo: curl failed with exit code {answer.returncode}")
        head = answer.stdout.partition("\n\n")[0].splitlines()
        status = head[0].split()[1]
        good &= status == step.expect
        print(f"{'ok' if status == step.expect else 'WRONG':5}  {status}  {step.says}")
        for field in head[1:]:
            if field.lower().startswith(("www-authenticate", "access-token-expires-in")):
                print(f"            {field}")
    return good


def main() -> int:
    options = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    options.add_argument("--check", action="store_true", help="send the lines and compare")
    options.add_argument("--port", type=int, default=0, help="of the API; a free one by default")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = chosen.port or free_port()
    url = f"http://127.0.0.1:{port}/api/v1/recordings"
    issuer = LocalIssuer(audience=AUDIENCE)
    with issuer.serve(), api(issuer, port):
        plan = steps(issuer)
        if chosen.check:
            return 0 if check(plan, url) else 1
        show(plan, url)
        print("Tokens live for an hour. Ctrl-C ends the demo.", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
