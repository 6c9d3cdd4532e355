"""Runs the tests of a project that uses bearerguard, in a process and a folder of their own.

The plugin is loaded by its entry point there, as for everybody who has installed the package. A
connection that would leave this machine fails the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_NO_NETWORK = """
import socket

_connect = socket.socket.connect


def connect(self, address):
    if isinstance(address, tuple) and not str(address[0]).startswith(("127.", "::1")):
        raise AssertionError(f"a test connects to {address[0]}")
    return _connect(self, address)


socket.socket.connect = connect
"""


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in `folder`."""
    (folder / "no_network.py").write_text(_NO_NETWORK)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no_network", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def passing(folder: Path, *options: str) -> str:
    """Run pytest in `folder`, and return what it printed; a test that fails is an error here."""
    done = run_pytest(folder, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
