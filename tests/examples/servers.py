"""The examples, each started by its framework's ordinary commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import free_port, program

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
_PYTHON = [sys.executable, "-m"]
_COMMANDS: dict[str, tuple[str, Callable[[int], list[str]]]] = {
    "uvicorn": (
        "starlette_app",
        lambda port: ["uvicorn", "app:app", "--port", str(port), "--log-level", "warning"],
    ),
    "fastapi": (
        "fastapi_app",
        lambda port: ["uvicorn", "app:app", "--port", str(port), "--log-level", "warning"],
    ),
    "hypercorn": (
        "starlette_app",
        lambda port: ["hypercorn", "app:app", "--bind", f"127.0.0.1:{port}"],
    ),
    "granian": (
        "starlette_app",
        lambda port: ["granian", "app:app", "--interface", "asgi", "--port", str(port)],
    ),
    "gunicorn": (
        "flask_app",
        lambda port: [
            *("gunicorn", "app:app", "--bind", f"127.0.0.1:{port}", "--preload"),
            *("--workers", "2", "--threads", "8"),
        ],
    ),
    "waitress": (
        "flask_app",
        lambda port: ["waitress", f"--listen=127.0.0.1:{port}", "--threads=16", "app:app"],
    ),
    "gunicorn with Django": (
        "django_app",
        lambda port: ["gunicorn", "recordings.wsgi", "--bind", f"127.0.0.1:{port}", "--threads=8"],
    ),
    "uvicorn with Django": (
        "django_app",
        lambda port: [
            *("uvicorn", "recordings.asgi:application", "--port", str(port)),
            *("--log-level", "warning", "--lifespan", "off"),
        ],
    ),
    "hypercorn with Django": (
        "django_app",
        lambda port: ["hypercorn", "recordings.asgi:application", "--bind", f"127.0.0.1:{port}"],
    ),
    "flask": ("flask_app", lambda port: ["flask", "run", "--port", str(port)]),
}
SERVERS = list(_COMMANDS)


@contextmanager
def serving(server: str, issuer_url: str, audience: str, **settings: str) -> Generator[str]:
    """Serve the example for this server with these settings; yields its URL."""
    example, command = _COMMANDS[server]
    port = free_port()
    environ = {
        f"{prefix}BEARERGUARD_{name}": value
        for prefix in ("", "FLASK_")
        for name, value in {"ISSUER": issuer_url, "AUDIENCE": audience, **settings}.items()
    }
    with program([*_PYTHON, *command(port)], cwd=EXAMPLES / example, environ=environ) as running:
        running.wait_for_port(port)
        yield f"http://127.0.0.1:{port}"
