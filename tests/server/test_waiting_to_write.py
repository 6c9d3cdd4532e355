"""What happens while a revocation, or a redemption, waits for another process to write."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest

from bearerguard import Guard, TokenError
from tests.server.stage import Answer, Stage, claims


@contextmanager
def waiting(stage: Stage, action: Callable[[], Any]) -> Generator[tuple[sqlite3.Connection, Any]]:
    """Keep the database locked while `action` is asked for, until the block is left."""
    path = stage.folder / "auth.db"
    with (
        ThreadPoolExecutor(1) as pool,
        closing(sqlite3.connect(path, isolation_level=None)) as database,
    ):
        database.execute("BEGIN IMMEDIATE")
        asked: Future[Any] = pool.submit(action)
        time.sleep(0.3)  # it is waiting by now
        assert not asked.done()
        yield database, asked
        database.execute("COMMIT")
        asked.result()


REVOKING: dict[str, Callable[[Stage, str], object]] = {
    "grant": lambda stage, token: stage.server.revoke_grant(claims(token)["sid"]),
    "user": lambda stage, _: stage.server.revoke_user(user_id="ada"),
    "user at a client": lambda stage, _: stage.server.revoke_user(
        user_id="ada", client_id=stage.app.client_id
    ),
}


@pytest.mark.parametrize("how", REVOKING)
def test_a_token_that_was_issued_while_its_revocation_waited_is_revoked(
    stage: Stage, how: str
) -> None:
    first = stage.tokens()["access_token"]
    with waiting(stage, lambda: REVOKING[how](stage, first)):
        stage.clock.now += 5
        now = int(stage.clock.now)
        content = claims(first) | {"iat": now, "exp": now + 3600, "jti": "of another process"}
        later = stage.server.keys.sign(content, "at+jwt")
    with Guard(stage.server.issuer(), clock=stage.clock) as guard:
        for token in (first, later):
            with pytest.raises(TokenError, match="revoked"):
                guard.verify(token)


def test_a_code_that_was_ended_while_its_redemption_waited_is_not_redeemed(stage: Stage) -> None:
    code = stage.code()
    with waiting(stage, lambda: stage.redeem(code)) as (database, asked):
        stage.clock.now += 5
        # As another process does that revokes what the user allowed.
        database.execute("UPDATE codes SET expires_at = ?", (stage.clock.now,))
    answer: Answer = asked.result()
    assert answer.error == (400, "invalid_grant")
