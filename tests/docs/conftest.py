"""What the pages find when they are run: an issuer and an API on this machine."""

from __future__ import annotations

import sys
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

import pytest

from bearerguard.testing import LocalIssuer
from tests.faults.test_client_storms import COMMAND
from tests.server.serving import Served, served

SECRET = "a secret of the tests of the documentation and not a real one"


@pytest.fixture
def local_issuer() -> Iterator[LocalIssuer]:
    """The issuer that stands for https://id.example.com."""
    issuer = LocalIssuer(audience="https://api.example.com")
    with issuer.serve():
        yield issuer


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An API with its own authorization server, for the pages about clients."""
    with served(tmp_path_factory.mktemp("api"), COMMAND) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh directory, and the variables that pages speak of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BEARERGUARD_SERVER_SECRET", SECRET)
    monkeypatch.setenv("BEARERGUARD_CLIENT_STORAGE_KEY", SECRET)
    monkeypatch.setenv("STORE_SECRET", SECRET)
    monkeypatch.setenv("EVENTS_SECRET", "a-secret-of-the-transmitter")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    return tmp_path


@pytest.fixture
def visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser of somebody who is signed in and allows what is asked."""
    from tests import visitor

    class Visitor(webbrowser.BaseBrowser):
        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
            threading.Thread(target=visitor.visit, args=(url,), daemon=True).start()
            return True

    monkeypatch.setattr(webbrowser, "_tryorder", ["visitor"])
    monkeypatch.setattr(webbrowser, "_browsers", {"visitor": [None, Visitor()]})
