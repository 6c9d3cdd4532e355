"""What happens while a revocation, or a redemption, waits for another process to write."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy

from bearerguard import Guard, TokenError
from tests.server.harness import Harness, Reply, claims

pytestmark = pytest.mark.both_engines


@contextmanager
def waiting(
    harness: Harness, action: Callable[[], Any]
) -> Generator[tuple[sqlalchemy.Connection, Future[Any]]]:
    """Keep others from writing while `action` is asked for, until the block is left."""
    with ThreadPoolExecutor(1) as pool:
        with harness.store.writing_alone() as connection:
            asked = pool.submit(action)
            time.sleep(0.3)  # it is waiting by now
            assert not asked.done()
            yield connection, asked
        asked.result()


REVOKING: dict[str, Callable[[Harness, str], object]] = {
    "grant": lambda harness, token: harness.server.revoke_grant(claims(token)["sid"]),
    "user": lambda harness, _: harness.server.revoke_user(user_id="ada"),
    "user at a client": lambda harness, _: harness.server.revoke_user(
        user_id="ada", client_id=harness.app.client_id
    ),
}


@pytest.mark.parametrize("how", REVOKING)
def test_a_token_that_was_issued_while_its_revocation_waited_is_revoked(
    harness: Harness, how: str
) -> None:
    first = harness.tokens()["access_token"]
    with waiting(harness, lambda: REVOKING[how](harness, first)):
        harness.clock.now += 5
        now = int(harness.clock.now)
        content = claims(first) | {"iat": now, "exp": now + 3600, "jti": "of another process"}
        later = harness.server.keys.sign(content, "at+jwt")
    with Guard(harness.server.issuer(), clock=harness.clock) as guard:
        for token in (first, later):
            with pytest.raises(TokenError, match="revoked"):
                guard.verify(token)


def test_a_code_that_was_ended_while_its_redemption_waited_is_not_redeemed(
    harness: Harness,
) -> None:
    code = harness.code()
    with waiting(harness, lambda: harness.redeem(code)) as (connection, asked):
        harness.clock.now += 5
        # As another process does that revokes what the user allowed.
        connection.execute(sqlalchemy.text(f"UPDATE codes SET expires_at = {harness.clock.now}"))
    response: Reply = asked.result()
    assert response.error == (400, "invalid_grant")
