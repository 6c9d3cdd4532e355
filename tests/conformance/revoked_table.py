"""REVOKED-01 … REVOKED-04: tokens refused before they expire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bearerguard import Revocations
from bearerguard.redis import RedisStore
from tests.conformance.drivers import Headers, Received
from tests.conformance.harness import Harness
from tests.conformance.hdr_table import TOKEN, fixed, good
from tests.conformance.scenario import Scenario
from tests.processes import free_port


def _revoke(**names: Any) -> Callable[[Harness], None]:
    return lambda harness: harness.guard.revoke(**names)


def _warm_then_revoke(harness: Harness) -> None:
    harness.guard.verify(harness.token(jti="warm"))
    assert harness.request(_warm(harness)).status == 200
    harness.guard.revoke(token_id="warm")


def _warm(harness: Harness) -> Headers:
    return harness.bearer(jti="warm")


def _local() -> dict[str, Any]:
    return {"revocations": Revocations()}


def _silent() -> dict[str, Any]:
    """Revocations in a store at which nobody listens."""
    store = RedisStore(f"redis://127.0.0.1:{free_port()}", secret="s" * 32)
    return {"revocations": Revocations(store)}


def _again_is_refused(harness: Harness, response: Received) -> None:
    assert harness.request(_warm(harness)).status == response.status


TABLE = [
    *(
        Scenario(
            id=f"REVOKED-04 a token that does not say when it was issued, and {name}",
            send=good(iat=None),
            fresh=fresh,
            status=status,
            error=error,
        )
        for name, fresh, status, error in (
            ("might be revoked", _local, 401, TOKEN),
            ("cannot be", dict, 200, None),
        )
    ),
    Scenario(
        id="REVOKED-01 a token by its jti",
        before=_revoke(token_id="t1"),
        send=good(jti="t1"),
        fresh=_local,
        status=401,
        error=TOKEN,
    ),
    Scenario(
        id="REVOKED-01 a token that passed before",
        before=_warm_then_revoke,
        send=_warm,
        own_issuer=True,
        algorithm="RS256",  # the same octets each time
        fresh=_local,
        status=401,
        error=TOKEN,
        after=_again_is_refused,
    ),
    Scenario(
        id="REVOKED-01 all of a user",
        before=_revoke(subject="user"),
        send=good(),
        fresh=_local,
        status=401,
        error=TOKEN,
    ),
    Scenario(
        id="REVOKED-01 all of a client",
        before=_revoke(client_id="app"),
        send=good(),
        fresh=_local,
        status=401,
        error=TOKEN,
    ),
    Scenario(
        id="REVOKED-01 all of a session",
        before=_revoke(session_id="s1"),
        send=good(sid="s1"),
        fresh=_local,
        status=401,
        error=TOKEN,
    ),
    Scenario(
        id="REVOKED-02 another token passes",
        before=_revoke(token_id="t1"),
        send=good(jti="t2"),
        fresh=_local,
        status=200,
        identity="user",
    ),
    Scenario(
        id="REVOKED-02 what was issued since passes",
        before=_revoke(subject="user", issued_before=1_700_000_000),
        send=good(),
        fresh=_local,
        status=200,
    ),
    Scenario(
        id="REVOKED-02 a token that outlives the memory of revocations",
        send=good(expires_in=90_000),
        fresh=_local,
        status=401,
        error=TOKEN,
    ),
    Scenario(
        id="REVOKED-03 the shared store was never read",
        send=good(),
        fresh=_silent,
        status=503,
    ),
    Scenario(
        id="REVOKED-03 a bad token is bad all the same",
        send=fixed(b"Bearer abc"),
        fresh=_silent,
        status=401,
        error=TOKEN,
    ),
]
