"""SIGTERM under load, at real servers as docs/deployment.md sets them up: no response is lost."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import httpx2
import pytest

from bearerguard.server import AuthorizationServer, Lifetimes, PeopleOptions, SigningKeys
from tests.faults.size import size
from tests.faults.stopping import Client, Outcomes, codes
from tests.processes import free_port, program
from tests.server.cookie_login import current_user
from tests.server.harness import CALLBACK, SCOPES, SECRET
from tests.server.serving import ROOT

ROUNDS, CLIENTS, CODES = size(10, 2), 8, 60
_STOPS = ROOT / "examples" / "graceful_stop"
_SERVE = (
    *(str(Path(sys.executable).with_name("bearerguard")), "serve", "--port", "{port}"),
    *("--algorithm", "ES256"),
)
_GUNICORN = (sys.executable, "-m", "gunicorn", "--config", str(_STOPS / "gunicorn.conf.py"))
_SERVERS = {
    "serve": _SERVE,
    "serve with workers": (*_SERVE, "--workers", "2"),
    "gunicorn": (*_GUNICORN, "--bind", "127.0.0.1:{port}", "tests.server.served:wsgi"),
    "uvicorn": (sys.executable, str(_STOPS / "with_uvicorn.py")),
}
_HYPERCORN = (sys.executable, str(_STOPS / "with_hypercorn.py"))
_APP = """
import os
from tests.server.served import app, server
port = int(os.environ["PORT"])
"""


def _stopped_under_load(
    folder: Path, command: tuple[str, ...], *, leave: bool = False
) -> tuple[Outcomes, int, float]:
    """Start a server, stop it under load; return what was seen, the responses before, seconds."""
    port = free_port()
    url, store = f"http://127.0.0.1:{port}", f"sqlite:///{folder}/auth.db"
    server = AuthorizationServer(
        url,
        store=store,
        secret=SECRET,
        scopes=SCOPES,
        people=PeopleOptions(current_user=current_user, login_url="http://127.0.0.1/login"),
        lifetimes=Lifetimes(code=600),
        signing=SigningKeys(algorithm="ES256"),
    )
    client = server.clients.add(
        "App", redirect_uris=[CALLBACK], scopes=list(SCOPES), require_consent=False
    )
    made = [codes(server, client, CODES, f"user{n}") for n in range(CLIENTS)]
    server.close()
    variables = {
        "ISSUER": url,
        "STORE": store,
        "ALGORITHM": "ES256",
        "CODE_LIFETIME": "600",
        "BEARERGUARD_SERVER_SECRET": SECRET,
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": store,
        "PORT": str(port),
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(folder))),
    }
    (folder / "app.py").write_text(_APP)
    arguments = [each.format(port=port) for each in command]
    with program(arguments, cwd=folder, environ=variables) as running:
        running.wait_for_port(port)
        # gunicorn listens before its workers can respond.
        assert httpx2.get(f"{url}/oauth/jwks", timeout=30).status_code == 200
        # Of four: two connect anew each time, one keeps its connection busy, one lets it idle.
        clients = [
            Client(
                url,
                client,
                each,
                keeps=n % 2 == 1,
                pause=0.1 if n % 4 == 3 else 0,
                leaves=leave,
            )
            for n, each in enumerate(made)
        ]
        for each in clients:
            each.start()
        time.sleep(1)
        for each in clients:
            each.stopping.set()
        began = time.monotonic()
        os.kill(running.pid, signal.SIGTERM)
        running.wait_for_end(20)
        seconds = time.monotonic() - began
        total = Outcomes()
        for each in clients:
            each.join(40)
            assert not each.is_alive()
            total += each.seen
    return total, sum(each.before for each in clients), seconds


@pytest.mark.parametrize("kind", _SERVERS)
def test_a_server_that_stops_responds_to_each_request_that_it_accepted(
    tmp_path: Path, kind: str
) -> None:
    total = _stops(tmp_path, kind, _SERVERS[kind])
    assert total.refused >= CLIENTS * ROUNDS
    assert not [each for each in total.lost if each.startswith("kept")]
    # The kernel resets a connection that it accepts between the last look and the closing of the
    # port: on busy processors, one in some thirty stops.
    assert total.lost.total() <= 1


def test_hypercorn_loses_nothing_when_its_clients_leave_as_it_says(tmp_path: Path) -> None:
    """Hypercorn itself loses connections that come just when it closes its port."""
    total = _stops(tmp_path, "hypercorn", _HYPERCORN, leave=True)
    assert total.responses >= CLIENTS * ROUNDS
    assert not total.lost


def _stops(folder: Path, kind: str, command: tuple[str, ...], *, leave: bool = False) -> Outcomes:
    total, before, seconds = Outcomes(), 0, 0.0
    for number in range(ROUNDS):
        place = folder / str(number)
        place.mkdir()
        seen, earlier, took = _stopped_under_load(place, command, leave=leave)
        total += seen
        before += earlier
        seconds = max(seconds, took)
    print(f"\n{kind}: {ROUNDS} stops; responses before the signal: {before}, after:")
    print(f"  {total.responses}; lost: {dict(total.lost)}; the longest stop: {seconds:.1f} s")
    assert total.problems == []
    return total
