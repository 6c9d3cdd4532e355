"""The failure matrix of a shared store: Redis is killed, hangs, is full or emptied; both adapters.

Revocations are followed over Redis, and introspection responses are shared there. While it fails,
tokens pass until the list is too old, and then get 503; no revoked token ever passes.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import pytest

from bearerguard import HttpTransport, IntrospectionCache, RevocationFailed, Revocations
from bearerguard.redis import RedisStore
from tests.faults.clocked_api import KINDS, NO_TLS, Api
from tests.faults.issuer_place import Place
from tests.faults.size import FULL
from tests.redis_server import RedisServer

SECRET = "a secret that the workers share, not a real one"
STALENESS = 60.0
# Until a follower has noticed: a round, and the timeout of a read.
NOTICED = 1.5


@contextmanager
def _killed(redis: RedisServer) -> Generator[None]:
    redis.kill()
    yield
    redis.start()


@contextmanager
def _hanging(redis: RedisServer) -> Generator[None]:
    redis.signal(signal.SIGSTOP)
    yield
    redis.signal(signal.SIGCONT)


@contextmanager
def _full(redis: RedisServer) -> Generator[None]:
    with redis.client() as client:
        client.config_set("maxmemory", "1")
        client.config_set("maxmemory-policy", "noeviction")
        yield
        client.config_set("maxmemory", "0")


@contextmanager
def _emptied(redis: RedisServer) -> Generator[None]:
    with redis.client() as client:
        client.flushall()
    yield


FAULTS = {"killed": _killed, "hanging": _hanging, "full": _full, "emptied": _emptied}


@pytest.fixture
def place() -> Iterator[Place]:
    with Place() as made:
        yield made


def _api(kind: str, place: Place, redis: RedisServer) -> Api:
    issuer = place.issuer.issuer(introspection=place.issuer.introspection.options(cache_ttl=300))
    store = RedisStore(redis.url, secret=SECRET, timeout=0.3)
    return Api(
        kind,
        issuer,
        HttpTransport(ssl_context=NO_TLS),
        revocations=Revocations(store, max_staleness=STALENESS),
        introspection_cache=IntrospectionCache(store, secret=SECRET),
    )


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Half of the pairs by themselves.
PAIRS = [
    pytest.param(kind, fault, id=f"{kind}-{fault}")
    for number, fault in enumerate(FAULTS)
    for kind in (KINDS if FULL else (KINDS[number % 2],))
]


@pytest.mark.parametrize(("kind", "fault"), PAIRS)
def test_tokens_pass_while_the_list_is_young_and_no_revoked_one_ever_does(
    redis: RedisServer, place: Place, kind: str, fault: str
) -> None:
    issuer = place.issuer
    with _api(kind, place, redis) as api:
        warm, opaque, revoked = issuer.token(), issuer.opaque_token(), issuer.token()
        assert [api.status(each)[0] for each in (warm, opaque, revoked)] == [200] * 3
        api.guard.revoke(revoked)
        assert api.status(revoked)[0] == 401
        with FAULTS[fault](redis):
            time.sleep(NOTICED)
            for token in (warm, opaque, issuer.token(), issuer.opaque_token()):
                status, taken = api.status(token)
                assert (status, taken < 3) == (200, True)
            assert api.status(revoked)[0] == 401
            if fault in {"killed", "hanging"}:
                with pytest.raises(RevocationFailed):
                    api.guard.revoke(issuer.token())
                api.clock.ahead += STALENESS + 1
                assert [api.status(each)[0] for each in (warm, issuer.token())] == [503, 503]
                assert api.status(revoked)[0] in {401, 503}
        eventually(lambda: api.status(warm)[0] == 200)
        assert api.status(issuer.token())[0] == 200
        assert api.status(revoked)[0] == 401
        # A worker that starts now learns of it too, whatever was lost.
        eventually(lambda: api.guard.health()["revocations"]["status"] == "fresh")
        with _api(kind, place, redis) as other:
            eventually(lambda: other.status(revoked)[0] == 401)
            assert other.status(warm)[0] == 200
