"""Workers that share introspection responses, over a real Redis."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import pytest

from bearerguard import (
    ConfigurationError,
    Event,
    Guard,
    IntrospectionCache,
    IssuerUnavailable,
    Revocations,
    TokenError,
)
from bearerguard.redis import RedisStore
from bearerguard.testing import LocalIssuer
from tests.redis_server import RedisServer
from tests.warm import recalled

SECRET = "a secret of all workers, of 32 bytes or more"


def worker(issuer: LocalIssuer, redis: RedisServer, *secrets: str) -> Guard:
    store = RedisStore(redis.url, secret=SECRET, timeout=0.3)
    return Guard(
        issuer.issuer(introspection=issuer.introspection.options()),
        transport=issuer.transport(),
        introspection_cache=IntrospectionCache(store, secret=secrets or SECRET),
    )


def test_INT_04_workers_read_the_response_that_one_of_them_got(redis: RedisServer) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    token = issuer.opaque_token(subject="ada-lovelace")
    with worker(issuer, redis) as first, worker(issuer, redis) as second:
        assert first.verify(token).subject == "ada-lovelace"
        issuer.outage = True
        assert second.verify(token).subject == "ada-lovelace"
        with worker(issuer, redis) as third:
            assert anyio.run(third.averify, token).subject == "ada-lovelace"
        assert issuer.hits["/introspect"] == 1
        stolen = redis.dump()
        assert token.encode() not in stolen
        assert b"ada-lovelace" not in stolen
        stranger = worker(issuer, redis, "another secret, which is as long as it must be")
        with stranger, pytest.raises(IssuerUnavailable):
            stranger.verify(token)


def test_a_secret_of_the_cache_is_renewed_by_a_list_newest_first(redis: RedisServer) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    old, new = SECRET, "another secret, which is as long as it must be"
    before, after = issuer.opaque_token(), issuer.opaque_token()
    with worker(issuer, redis, old) as first:
        first.verify(before)
    with worker(issuer, redis, new, old) as second:
        second.verify(before)  # the old one opens
        second.verify(after)  # the new one seals
    with worker(issuer, redis, new) as third:
        third.verify(after)
        assert issuer.hits["/introspect"] == 2
        third.verify(before)
    assert issuer.hits["/introspect"] == 3


def test_INT_04_an_outage_of_the_store_only_costs_calls_to_the_issuer(redis: RedisServer) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    token = issuer.opaque_token()
    with worker(issuer, redis) as first, worker(issuer, redis) as second:
        redis.kill()
        for guard in (first, second):
            assert guard.verify(token).subject == "user"
            assert recalled(guard, b"Bearer " + token.encode()) is not None
            with pytest.raises(TokenError, match="inactive"):
                guard.verify("made-up")
    assert issuer.hits["/introspect"] == 4


def test_a_store_that_shares_nothing_is_reported(redis: RedisServer) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    events: list[Event] = []

    def start_worker(secret: str) -> Guard:
        return Guard(
            issuer.issuer(introspection=issuer.introspection.options()),
            transport=issuer.transport(),
            introspection_cache=IntrospectionCache(
                RedisStore(redis.url, secret=SECRET, timeout=0.3), secret=secret
            ),
            on_event=events.append,
        )

    token = issuer.opaque_token()
    with start_worker(SECRET) as first, start_worker(SECRET[::-1]) as stranger:
        first.verify(token)
        assert events == []
        stranger.verify(token)
        (event,) = events
        assert (event.code, event.issuer) == ("introspection_cache_failed", issuer.url)
        assert "another secret" in event.detail
        redis.kill()
        first.verify(issuer.opaque_token())
    assert "the shared store: the connection was refused (ConnectionError)" in {
        event.detail for event in events
    }
    assert {event.code for event in events} == {"introspection_cache_failed"}


def test_another_audience_is_another_cache(redis: RedisServer) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    token = issuer.opaque_token()
    how = issuer.introspection.options()
    store = RedisStore(redis.url, secret=SECRET, timeout=0.3)
    other = Guard(
        issuer.issuer(introspection=how, audience="urn:another"),
        transport=issuer.transport(),
        introspection_cache=IntrospectionCache(store, secret=SECRET),
    )
    with worker(issuer, redis) as first, other:
        first.verify(token)
        with pytest.raises(TokenError, match="wrong_audience"):
            other.verify(token)
    assert issuer.hits["/introspect"] == 2


def test_a_closed_guard_leaves_no_connection_to_the_store(redis: RedisServer) -> None:
    issuer = LocalIssuer(algorithm="ES256")
    guard = worker(issuer, redis)
    with redis.client() as client:
        client.ping()
        guard.verify(issuer.opaque_token())
        assert len(client.client_list()) == 2
        guard.close()
        deadline = time.monotonic() + 10
        while len(client.client_list()) > 1:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("counting", ["+xlen", "-xlen"])
def test_a_database_user_needs_only_the_documented_rights(
    redis: RedisServer, counting: str
) -> None:
    rights = ["~{mine}*", "~mine:*", "&{mine}*", "-@all", "+@transaction"]
    rights += [f"+{name}" for name in ("get", "set", "xadd", "xrange", "xtrim", "publish")]
    rights += ["+subscribe", "+ping", counting]
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "api", "on", ">p4ssword", "resetkeys", *rights)
    issuer = LocalIssuer(algorithm="ES256")
    events: list[Event] = []

    def start_worker(password: str) -> Guard:
        url = redis.url.replace("//", f"//api:{password}@")
        store = RedisStore(url, secret=SECRET, prefix="mine", timeout=0.5)
        return Guard(
            issuer.issuer(introspection=issuer.introspection.options()),
            transport=issuer.transport(),
            revocations=Revocations(store),
            introspection_cache=IntrospectionCache(store, secret=SECRET),
            on_event=events.append,
        )

    token, revoked = issuer.opaque_token(), issuer.opaque_token(claims={"jti": "t1"})
    with start_worker("p4ssword") as first, start_worker("p4ssword") as second:
        first.revoke(token_id="t1")
        for guard in (first, second):
            assert guard.verify(token).subject == "user"
            with pytest.raises(TokenError, match="revoked"):
                guard.verify(revoked)
    assert issuer.hits["/introspect"] == 2  # once for each token
    assert {event.code for event in events} == {"revoked"}
    with start_worker("m1staken") as stranger, pytest.raises(IssuerUnavailable) as raised:
        stranger.verify(token)
    assert "AuthenticationError" in str(raised.value)
    assert "m1staken" not in repr((raised.value, events, stranger))


STORE = RedisStore("redis://127.0.0.1", secret=SECRET)
MISTAKES: list[tuple[str, Callable[[], object]]] = [
    (r"IntrospectionCache\(store\)", lambda: IntrospectionCache(None, secret=SECRET)),  # type: ignore[arg-type]
    (
        "prefix=",
        lambda: IntrospectionCache(
            RedisStore("redis://127.0.0.1", secret=SECRET), secret=SECRET, prefix=""
        ),
    ),
    ("secret=", lambda: IntrospectionCache(STORE, secret=[])),
    ("secret=", lambda: IntrospectionCache(STORE, secret=None)),  # type: ignore[arg-type]
    ("secret=", lambda: IntrospectionCache(STORE, secret="short")),
    (
        "introspection_cache=: pass IntrospectionCache",
        lambda: LocalIssuer(algorithm="ES256").guard(introspection_cache="redis://127.0.0.1"),  # type: ignore[arg-type]
    ),
]


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_mistake_is_named(message: str, mistake: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mistake()
