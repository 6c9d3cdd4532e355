"""A million revocations: what a worker that starts, one more entry, and a user's grants cost.

BEARERGUARD_STRESS=1 runs it in the size of `scripts/stress`; the figures are printed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import httpx2
import pytest

from bearerguard import Guard, Issuer, Revocations, TokenError
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.redis import RedisStore
from bearerguard.server.store import revocations as rows
from bearerguard.testing import LocalIssuer
from tests.faults.size import FULL, size
from tests.processes import free_port, program
from tests.redis_server import RedisServer
from tests.server.harness import ISSUER, Harness

MANY = size(1_000_000, 20_000)
GRANTS = size(2_000, 200)
ONE_BY_ONE = size(2_000, 100)
SIZES = (0, 1_000, 100_000, *([MANY] if FULL else []))
AUDIENCE = "https://api.test"
SECRET = "a secret of the workers, not a real one"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def issuer() -> LocalIssuer:
    return LocalIssuer("https://issuer.test", audience=AUDIENCE, algorithm="ES256")


@pytest.fixture
def harness(tmp_path: Path) -> Generator[Harness]:
    made = Harness(tmp_path)
    yield made
    made.server.close()


def name(number: int) -> str:
    return f"{number:032d}"


def made(issuer: str, count: int, over: float) -> Iterator[Revocation]:
    return (Revocation("token", issuer, name(number), None, over) for number in range(count))


def guard_of(issuer: LocalIssuer, redis: RedisServer) -> Guard:
    trusted = Issuer(issuer.url, audience=AUDIENCE, keys=issuer.jwks())
    return Guard(trusted, revocations=Revocations(RedisStore(redis.url, secret=SECRET)))


def filled(issuer: LocalIssuer, redis: RedisServer) -> None:
    """Append many revocations to the log, as workers do."""
    with guard_of(issuer, redis) as guard:
        guard.warm()
        feed = guard._revoker._given().shared._feed
        for some in _in_parts(list(made(issuer.url, MANY, time.time() + 3600))):
            guard.run(feed.publish(some, notify=False))


def _in_parts(revocations: Sequence[Revocation]) -> Iterator[Sequence[Revocation]]:
    return (revocations[at : at + 20_000] for at in range(0, len(revocations), 20_000))


def is_revoked(guard: Guard, token: str) -> bool:
    try:
        guard.verify(token)
    except TokenError as refusal:
        if refusal.reason.code != "revoked":
            raise
        return True
    return False


def test_a_worker_that_starts_reads_the_revocations_in_redis(
    redis: RedisServer, issuer: LocalIssuer
) -> None:
    filled(issuer, redis)
    with guard_of(issuer, redis) as guard:
        began = time.process_time()
        guard.warm()
        took = time.process_time() - began
        assert guard.health()["revocations"]["entries"] == MANY
        assert is_revoked(guard, issuer.token(claims={"jti": name(0)}))
        assert is_revoked(guard, issuer.token(claims={"jti": name(MANY - 1)}))
        assert not is_revoked(guard, issuer.token(claims={"jti": name(MANY)}))
    print(f"\n{MANY} revocations in Redis: caught up in {took:.1f} s of CPU")
    if FULL:
        assert took < 10


def test_a_guard_that_starts_beside_a_server_reads_its_revocations(harness: Harness) -> None:
    with harness.server.database.write() as connection:
        for some in _in_parts(list(made(ISSUER, MANY, harness.clock.now + 3600))):
            rows.add(connection, [_row(each) for each in some])
    token = harness.token(grant_type="client_credentials").json["access_token"]
    with Guard(harness.server.issuer(), clock=harness.clock) as guard:
        began = time.process_time()
        guard.warm()
        took = time.process_time() - began
        assert guard.health()["revocations"]["entries"] == MANY
        assert not is_revoked(guard, token)
        assert harness.server.revoke(token)
        assert is_revoked(guard, token)
    print(f"\n{MANY} revocations in the server's database: caught up in {took:.1f} s of CPU")
    if FULL:
        assert took < 10


def _row(revocation: Revocation) -> dict[str, object]:
    return {
        "kind": revocation.kind,
        "issuer": None,
        "value": revocation.value,
        "before": revocation.before,
        "expires_at": revocation.expires_at,
    }


def test_a_gunicorn_worker_starts_within_its_timeout(
    redis: RedisServer, issuer: LocalIssuer, tmp_path: Path
) -> None:
    filled(issuer, redis)
    port = free_port()
    environ = {
        "REDIS_URL": redis.url,
        "JWKS": json.dumps(issuer.jwks()),
        "ISSUER": issuer.url,
        "AUDIENCE": AUDIENCE,
        "SECRET": SECRET,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "gunicorn", "tests.faults.many_api:app"]
    with program([*command, "-b", f"127.0.0.1:{port}"], cwd=tmp_path, environ=environ) as running:
        running.wait_for_port(port)
        began = time.monotonic()
        answers = [
            httpx2.get(
                f"http://127.0.0.1:{port}/",
                headers={"Authorization": f"Bearer {issuer.token(claims={'jti': each})}"},
                timeout=60,
            ).status_code
            for each in (name(MANY), name(0), name(MANY - 1))
        ]
        took = time.monotonic() - began
        assert answers == [200, 401, 401]
        assert "TIMEOUT" not in running.output
    print(f"\na gunicorn worker before {MANY} revocations: first three answers after {took:.1f} s")


@pytest.mark.parametrize("known", SIZES)
def test_one_more_revocation_costs_the_same_at_every_size(issuer: LocalIssuer, known: int) -> None:
    revocations = Revocations()
    trusted = Issuer(issuer.url, audience=AUDIENCE, keys=issuer.jwks())
    with Guard(trusted, revocations=revocations) as guard:
        over = time.time() + 3600
        revocations.add(made(issuer.url, known, over))
        took: list[float] = []
        for number in range(known, known + ONE_BY_ONE):
            one = Revocation("token", issuer.url, name(number), None, over)
            began = time.process_time()
            revocations.add([one])
            took.append(time.process_time() - began)
        assert guard.health()["revocations"]["entries"] == known + ONE_BY_ONE
        assert is_revoked(guard, issuer.token(claims={"jti": name(known + ONE_BY_ONE - 1)}))
    mean = sum(took) / len(took)
    print(f"\none more than {known}: {mean * 1e6:.1f} us, slowest {max(took) * 1e3:.1f} ms")
    if FULL:
        assert mean < 1e-4


def test_a_user_with_many_grants_is_revoked_in_one_go(harness: Harness, redis: RedisServer) -> None:
    tokens = [harness.tokens()["access_token"] for _ in range(GRANTS)]
    batches: list[int] = []
    harness.server.on_revocations(lambda revoked: batches.append(len(revoked)))
    store = RedisStore(redis.url, secret=SECRET)
    beside = Guard(harness.server.issuer(), clock=harness.clock, revocations=Revocations(store))
    with Guard(harness.server.issuer(), clock=harness.clock) as alone, beside:
        for guard in (alone, beside):
            assert not is_revoked(guard, tokens[0])
        began = time.monotonic()
        assert harness.server.revoke_user(user_id="ada") == GRANTS
        took = time.monotonic() - began
        for guard in (alone, beside):
            assert all(is_revoked(guard, token) for token in (tokens[0], tokens[-1]))
    assert batches == [GRANTS + 1], "the grants and the user, in one call"
    print(f"\n{GRANTS} grants of a user revoked, and announced to two guards, in {took:.2f} s")
