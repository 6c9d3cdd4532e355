"""A Secret Service in a session of its own: GNOME's keyring on its own bus, with its own folders.

The bus starts no service by itself. On a usual session bus, whoever calls `org.freedesktop.secrets`
before the daemon has taken that name makes the bus start a second daemon, which nobody unlocked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 60
_DEFAULT = "/org/freedesktop/secrets/aliases/default"
_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:dir={folder}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""
_ENDED = "the daemon ended before those who called it"
_SCRIPT = f"""
printf secret | gnome-keyring-daemon --unlock --components=secrets --foreground >/dev/null &
"$@"
code=$?
kill -0 $! || echo "{_ENDED}" >&2
kill $!
exit $code
"""


# GNOME's daemon aborts now and then, when a caller leaves the bus while it looks up one of its
# properties: `gkd_secret_service_get_pkcs11_session: assertion 'client' failed`.
_ATTEMPTS = 3


def run(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a session with an unlocked keyring.

    Begins anew where the daemon ended itself meanwhile: that says nothing of who called it.
    """
    if None in map(shutil.which, ("dbus-run-session", "gnome-keyring-daemon")):
        pytest.skip("dbus-run-session or gnome-keyring-daemon is not installed")
    for _ in range(_ATTEMPTS):
        done = _run(code)
        if _ENDED not in done.stderr:
            break
    return done


def _run(code: str) -> subprocess.CompletedProcess[str]:
    # Not below the test's own folder, whose path may be too long for a socket.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        bus = Path(home) / "bus.conf"
        bus.write_text(_BUS.format(folder=home))
        session = ["dbus-run-session", "--config-file", str(bus), "--", "sh", "-c", _SCRIPT, "sh"]
        return subprocess.run(
            [*session, sys.executable, "-c", code],
            cwd=ROOT,
            env=_environ(Path(home)),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


def _environ(home: Path) -> dict[str, str]:
    environ = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("XDG_", "GNOME_KEYRING_", "DBUS_"))
    }
    for name in ("CACHE_HOME", "CONFIG_HOME", "DATA_HOME", "RUNTIME_DIR", "STATE_HOME"):
        folder = home / name.lower()
        folder.mkdir(mode=0o700)
        environ[f"XDG_{name}"] = str(folder)
    return {
        **environ,
        "HOME": str(home),
        "PYTHON_KEYRING_BACKEND": "keyring.backends.SecretService.Keyring",
    }


def wait() -> None:
    """Wait, inside the session, until the daemon has its name and its collection is unlocked."""
    import secretstorage  # on Linux only

    deadline = time.monotonic() + _SECONDS
    while True:
        with closing(secretstorage.dbus_init()) as bus:
            try:
                if not secretstorage.Collection(bus, _DEFAULT).is_locked():
                    return
                problem = "it is locked"
            except secretstorage.SecretStorageException as error:
                problem = repr(error)
        assert time.monotonic() < deadline, f"no keyring in {_SECONDS} s: {problem}"
        time.sleep(0.05)
