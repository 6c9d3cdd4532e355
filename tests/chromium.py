"""Headless Chromium with a person's hands: opens a page, presses a button, sees what came."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.sync.client import ClientConnection, connect

_SECONDS = 60


def pressed(url: str, button: str, expected: str, profile: Path) -> str:
    """Open a page, press the button that a selector names, wait for a text; return the page's."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    process = subprocess.Popen(
        [chromium, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with connect(_page(profile), origin=None, max_size=None) as page:
            steps = itertools.count(1)
            _ask(page, next(steps), "Page.navigate", url=url)
            press = f"(b => b ? (b.click(), 'pressed') : '')(document.querySelector({button!r}))"
            _until(page, steps, press, "pressed")
            return _until(page, steps, "document.body?.innerText ?? ''", expected)
    finally:
        process.terminate()
        process.wait(20)


def _page(profile: Path) -> str:
    """Return the address by which the browser's page is driven."""
    place, deadline = profile / "DevToolsActivePort", time.monotonic() + _SECONDS
    while not (place.exists() and place.read_text()):
        assert time.monotonic() < deadline, "Chromium did not start"
        time.sleep(0.05)
    port = place.read_text().split()[0]
    pages = httpx2.get(f"http://127.0.0.1:{port}/json/list").json()
    found: str = next(each["webSocketDebuggerUrl"] for each in pages if each["type"] == "page")
    return found


def _until(page: ClientConnection, steps: Any, script: str, expected: str) -> str:
    deadline = time.monotonic() + _SECONDS
    while True:
        answer = _ask(page, next(steps), "Runtime.evaluate", expression=script)
        seen = str(answer.get("result", {}).get("value", ""))
        if expected in seen:
            return seen
        assert time.monotonic() < deadline, f"{expected!r} never came; the page shows {seen!r}"
        time.sleep(0.1)


def _ask(page: ClientConnection, step: int, method: str, **parameters: Any) -> dict[str, Any]:
    page.send(json.dumps({"id": step, "method": method, "params": parameters}))
    while True:
        message = json.loads(page.recv(_SECONDS))
        if message.get("id") == step:
            result: dict[str, Any] = message.get("result", {})
            return result
