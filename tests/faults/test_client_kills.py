"""A client that is killed while it refreshes: its session goes on without a login."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx2

from bearerguard.client import AuthorizationCode, Token, TokenManager
from tests.faults.client_process import session, storage
from tests.faults.size import size
from tests.faults.test_client_storms import COMMAND
from tests.server.serving import ROOT, Served, served
from tests.visitor import visit

KILLS = size(300, 25)


def _browser(address: str) -> None:
    threading.Thread(target=visit, args=(address,)).start()


def _log_in(api: Served, client_id: str, secret: str, path: Path) -> None:
    source = AuthorizationCode(
        api.url,
        client_id=client_id,
        client_secret=secret,
        scopes="read",
        resources=api.url,
        open_browser=_browser,
    )
    TokenManager(source, storage=storage(path)).login()


def _rotated(folder: Path) -> int:
    """How many refresh tokens the server has given; a repeated refresh gives none."""
    with closing(sqlite3.connect(folder / "auth.db")) as database:
        counted: int = database.execute("SELECT count(*) FROM refresh_tokens").fetchone()[0]
    return counted


def _kept(manager: TokenManager, path: Path) -> Token:
    kept = storage(path).load(manager.key)
    assert kept is not None
    return Token.from_bytes(kept)


def test_CL_05_a_client_that_is_killed_while_it_refreshes_loses_no_session(tmp_path: Path) -> None:
    dice = random.Random()
    path = tmp_path / "state" / "tokens"
    during = unkept = renewals = 0
    with served(tmp_path, COMMAND) as api:
        client = api.add(redirect_uris=["http://127.0.0.1/callback"])
        secret = client.client_secret or ""
        _log_in(api, client.client_id, secret, path)
        given = (api.url, str(path), client.client_id, secret, "1")
        for number in range(KILLS):
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.client_process", "renew", *given],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert child.stdout is not None
            assert child.stdout.readline() == "READY\n"
            time.sleep(dice.uniform(0, 0.1))
            child.kill()
            printed = child.stdout.readlines()
            child.stdout.close()
            child.wait()
            renewals += printed.count("kept\n")
            during += printed[-1:] == ["begin\n"]
            # Another process goes on: with a successor that the killed one may never have got.
            manager = session(api.url, path, client.client_id, secret)
            before = _kept(manager, path)
            rotated = _rotated(tmp_path)
            after = manager.renew(manager.lease()).token
            unkept += _rotated(tmp_path) == rotated
            assert after.access_token != before.access_token, f"after kill {number}"
            answer = httpx2.get(
                f"{api.url}/x", headers={"authorization": f"Bearer {after.access_token}"}
            )
            assert answer.status_code == 200, f"after kill {number}"
    print(f"\n{KILLS} clients killed, {during} of them while they refreshed;")
    print(f"  {renewals} refreshes were kept, beside one before and one after each kill;")
    print(f"  {unkept} times the server had rotated what the file still held; 0 sessions lost")
    assert 0 < unkept <= KILLS
