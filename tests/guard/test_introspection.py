"""Introspection: its configuration, several issuers, and concurrent requests."""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from bearerguard import (
    Allow,
    ConfigurationError,
    Event,
    Guard,
    Introspection,
    Issuer,
    IssuerUnavailable,
    Request,
    Response,
    Revocations,
    TokenError,
    TokenExpired,
)
from bearerguard.errors import RevocationsUnavailable
from bearerguard.guard.events import Events
from bearerguard.guard.introspection.breaker import Breaker
from bearerguard.guard.introspection.introspector import Introspector
from bearerguard.guard.introspection.shared_cache import SharedCache
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.guard.token_cache import TokenCache, digest
from bearerguard.redis import RedisStore
from bearerguard.runtime.flow import Fetch, Flow, Once
from bearerguard.runtime.generations import Generations
from bearerguard.runtime.messages import FetchFailed
from bearerguard.testing import LocalIssuer, SigningKey, sign
from tests.conformance.harness import NOON, Clock
from tests.conformance.introspection_table import CLIENT_KEYS, pem
from tests.warm import recalled

PEM = CLIENT_KEYS["ES256"]
SECRET = "s3cret-of-a-client"
PUBLIC_JWK = SigningKey.generate("ES256", "k1").jwk()


def asking(**options: Any) -> Introspection:
    return Introspection("api", **{"client_secret": SECRET, **options})


def keyed(**options: Any) -> Introspection:
    return Introspection("api", **{"private_key": PEM, **options})


def trusting(url: str = "https://a.test", **options: Any) -> Issuer:
    return Issuer(url, **{"audience": "api", "introspection": asking(), **options})


ENCRYPTED = rsa.generate_private_key(65537, 2048).private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw")
)
WEAK = pem(rsa.generate_private_key(65537, 1024))

MISTAKES: list[tuple[str, Callable[[], object]]] = [
    (r"exactly one of client_secret=.*found none", lambda: Introspection("api")),
    (r"found client_secret= and token=", lambda: asking(token="t")),
    (r"client_id=: pass this API's client id", lambda: Introspection(client_secret=SECRET)),
    (
        r"client_id=: pass this API's client id",
        lambda: Introspection(token="t", signed_responses=True),
    ),
    (r"client_id=: pass a non-empty", lambda: Introspection("", client_secret=SECRET)),
    (r"client_secret=: pass a non-empty", lambda: asking(client_secret="")),
    (r"client_secret=: pass a non-empty", lambda: asking(client_secret=b"octets")),
    (r"token=: pass a non-empty", lambda: Introspection(token=7)),  # type: ignore[arg-type]
    (r"token=: it has characters", lambda: Introspection(token="a\r\nb")),
    (r"token=: it has characters", lambda: Introspection(token="tökén")),
    (r"allow_missing_audience=: pass True", lambda: asking(allow_missing_audience="false")),
    (r"signed_responses=: pass True", lambda: asking(signed_responses="no")),
    (r"endpoint=: pass a non-empty", lambda: asking(endpoint="")),
    (r"auth_method=: 'tls_client_auth' is unknown", lambda: asking(auth_method="tls_client_auth")),
    (r"auth_method=: private_key_jwt does not", lambda: asking(auth_method="private_key_jwt")),
    (r"auth_method=: client_secret_basic", lambda: keyed(auth_method="client_secret_basic")),
    (r"cache_ttl=: pass a number of seconds", lambda: asking(cache_ttl=-1)),
    (r"negative_ttl=: pass a number of seconds", lambda: asking(negative_ttl="5")),
    (r"stale_ttl=: pass a number of seconds", lambda: asking(stale_ttl=float("inf"))),
    (r"stale_ttl=: needs a cache_ttl=", lambda: asking(stale_ttl=5, cache_ttl=0)),
    (r"breaker_cooldown=: pass a positive", lambda: asking(breaker_cooldown=0)),
    (r"breaker_cooldown=: pass a positive", lambda: asking(breaker_cooldown=True)),
    (r"private_key=: .*no PEM private key", lambda: keyed(private_key="no key")),
    (r"private_key=: .*is encrypted", lambda: keyed(private_key=ENCRYPTED)),
    (r"private_key=: .*fewer than 2048", lambda: keyed(private_key=WEAK)),
    (r"private_key=: .*no private key", lambda: keyed(private_key=pem(ed448_key()))),
    (r"private_key=: .*neither PEM nor a JWK", lambda: keyed(private_key=7)),
    (r"private_key=: .*kty", lambda: keyed(private_key={"kty": "oct", "k": "AAAA"})),
    (r"private_key=: .*not a valid JWK", lambda: keyed(private_key={"kty": "EC"})),
    (r"private_key=: .*no private key", lambda: keyed(private_key=PUBLIC_JWK)),
    (r"private_key=: .*kid", lambda: keyed(private_key=private_jwk() | {"kid": 7})),
    (r"private_key=: .*algorithm", lambda: keyed(signing_algorithm="RS256")),
    (r"introspection=: pass Introspection", lambda: trusting(introspection="api")),
    (r"tokens=: choose", lambda: trusting(tokens="reference")),
    (
        r'tokens="opaque": pass introspection=',
        lambda: trusting(tokens="opaque", introspection=None),
    ),
    (r'introspection=: nothing is introspected with tokens="jwt"', lambda: trusting(tokens="jwt")),
    (
        r"endpoint=.*use https",
        lambda: trusting(introspection=asking(endpoint="http://a.test/introspect")),
    ),
    (
        r"^endpoint=: remove the user and the password from this URL: neither is sent$",
        lambda: trusting(introspection=asking(endpoint="https://api:p4ss@a.test/introspect")),
    ),
    (r"Issuer\(url\).*use https", lambda: trusting("urn:issuer", keys=PUBLIC_JWK)),
    (
        r"introspection=: 'https://a.test' and 'https://b.test' both introspect: .* route_opaque=",
        lambda: Guard(trusting(), trusting("https://b.test")),
    ),
    (r"route_opaque=: pass a callable", lambda: Guard(trusting(), route_opaque="a")),  # type: ignore[arg-type]
    (
        r"route_opaque=: no issuer has",
        lambda: Guard(trusting(introspection=None), route_opaque=lambda _: None),
    ),
]


def ed448_key() -> ed448.Ed448PrivateKey:
    return ed448.Ed448PrivateKey.generate()


def private_jwk() -> dict[str, Any]:
    from jwt.algorithms import ECAlgorithm

    key = SigningKey.generate("ES256", "k1")
    members: dict[str, Any] = ECAlgorithm.to_jwk(key.private, as_dict=True)
    return members


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_mistake_is_named(message: str, mistake: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mistake()


def test_no_secret_is_shown() -> None:
    for shown in (
        repr(asking()),
        repr(trusting()),
        repr(Introspection(token="access-token")),
        repr(keyed(private_key=private_jwk())),
    ):
        assert SECRET not in shown
        assert "access-token" not in shown
        assert "'d'" not in shown


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


def guard_of(issuer: LocalIssuer, **options: Any) -> Guard:
    how = issuer.introspection.options(**options)
    return Guard(
        issuer.issuer(introspection=how), transport=issuer.transport(), clock=issuer._clock
    )


def test_the_environment_says_how_to_ask(issuer: LocalIssuer) -> None:
    environ = {
        "BEARERGUARD_ISSUER": issuer.url,
        "BEARERGUARD_AUDIENCE": issuer.audience,
        "BEARERGUARD_TOKENS": "opaque",
        "BEARERGUARD_INTROSPECTION_CLIENT_ID": "api",
        "BEARERGUARD_INTROSPECTION_CLIENT_SECRET": issuer.introspection.client_secret,
        "BEARERGUARD_INTROSPECTION_CACHE_TTL": "0",
        "BEARERGUARD_INTROSPECTION_STALE_TTL": "",
    }
    with Guard.from_env(environ, transport=issuer.transport(), clock=issuer._clock) as guard:
        token = issuer.opaque_token()
        guard.verify(token)
        guard.verify(token)
        guard.verify(issuer.token())
    assert issuer.hits["/introspect"] == 3
    with pytest.raises(ConfigurationError, match="INTROSPECTION_CACHE_TTL: give a number"):
        Guard.from_env({**environ, "BEARERGUARD_INTROSPECTION_CACHE_TTL": "soon"})


def test_an_issuer_of_opaque_tokens_needs_no_keys(issuer: LocalIssuer) -> None:
    how = issuer.introspection.options()
    opaque = issuer.issuer(introspection=how, tokens="opaque")
    issuer.garbage = b"no keys"
    with Guard(opaque, transport=issuer.transport(), clock=issuer._clock) as guard:
        guard.warm()
        assert guard.health()["fresh"]
        assert guard.verify(issuer.opaque_token()).subject == "user"
    assert issuer.hits["/jwks"] == 0


def test_warming_finds_the_endpoint_and_reports_one_that_cannot_be_found(
    issuer: LocalIssuer, clock: Clock
) -> None:
    events: list[Event] = []
    how = issuer.introspection.options()
    with Guard(
        issuer.issuer(introspection=how),
        transport=issuer.transport(),
        clock=clock,
        on_event=events.append,
    ) as guard:
        issuer.outage = True
        anyio.run(guard.awarm)
        assert [event.code for event in events] == ["keys_fetch_failed", "introspection_failed"]
        issuer.outage = False
        clock.now += 30
        guard.warm()
        before = sum(issuer.hits.values())
        guard.verify(issuer.opaque_token())
        assert sum(issuer.hits.values()) == before + 1


def test_an_endpoint_that_moved_is_found_again(issuer: LocalIssuer, clock: Clock) -> None:
    with guard_of(issuer, breaker_cooldown=5) as guard:
        guard.verify(issuer.opaque_token())
        where = issuer.introspection.metadata
        issuer.introspection.metadata = lambda url: {  # type: ignore[method-assign]
            **where(url),
            "introspection_endpoint": f"{url}/moved",
        }
        for _ in range(3):
            with pytest.raises(IssuerUnavailable, match="status 404"):
                guard.verify(issuer.opaque_token())
        clock.now += 5
        assert guard.verify(issuer.opaque_token()).subject == "user"
        assert issuer.hits["/moved"] == 1


def test_an_endpoint_that_was_discovered_long_ago_is_discovered_again(
    issuer: LocalIssuer, clock: Clock
) -> None:
    with guard_of(issuer) as guard:
        guard.verify(issuer.opaque_token())
        found = issuer.hits["/.well-known/oauth-authorization-server"]
        clock.now += 86_400
        guard.verify(issuer.opaque_token())
        assert issuer.hits["/.well-known/oauth-authorization-server"] == found + 1


def test_an_endpoint_over_plain_http_elsewhere_is_not_asked(issuer: LocalIssuer) -> None:
    issuer.introspection.metadata = lambda url: {  # type: ignore[method-assign]
        "introspection_endpoint": "http://elsewhere.test/introspect"
    }
    with (
        guard_of(issuer) as guard,
        pytest.raises(IssuerUnavailable, match=r"no https URL.*pass endpoint="),
    ):
        guard.verify(issuer.opaque_token())


def two(clock: Clock, route: Callable[[str], Any], **options: Any) -> tuple[Any, Any, Guard]:
    """Two introspecting issuers behind one guard."""
    first = LocalIssuer("https://a.test", algorithm="ES256", clock=clock)
    second = LocalIssuer("https://b.test", algorithm="ES256", clock=clock)

    class Both:
        def fetch(self, request: Fetch) -> Response:
            asked = first if request.url.startswith(first.url) else second
            return asked.transport().fetch(request)

        async def afetch(self, request: Fetch) -> Response:
            return self.fetch(request)

    guard = Guard(
        first.issuer(introspection=first.introspection.options(), **options),
        second.issuer(introspection=second.introspection.options()),
        route_opaque=route,
        transport=Both(),
        clock=clock,
    )
    return first, second, guard


def test_INT_03_route_opaque_chooses_the_issuer(clock: Clock) -> None:
    chosen: list[Any] = []
    first, second, guard = two(clock, lambda _token: chosen[-1])
    with guard:
        for issuer, choice in ((first, first.url), (second, Issuer(second.url, audience="x"))):
            chosen.append(choice)
            assert guard.verify(issuer.opaque_token(subject=issuer.url)).subject == issuer.url
        assert (first.hits["/introspect"], second.hits["/introspect"]) == (1, 1)
        chosen.append(None)
        with pytest.raises(TokenError, match="unknown_issuer"):
            guard.verify("of-nobody")
        for wrong in ("https://c.test", ["https://a.test"], 7):
            chosen.append(wrong)
            with pytest.raises(IssuerUnavailable, match="route_opaque="):
                guard.verify("of-whom")
        chosen.clear()
        with pytest.raises(IssuerUnavailable, match="raised IndexError"):
            guard.verify("of-whom")
    assert (first.hits["/introspect"], second.hits["/introspect"]) == (1, 1)


def test_INT_03_an_issuer_introspects_its_own_jwts_alone(
    clock: Clock,
) -> None:
    first, second, guard = two(clock, lambda _token: "https://a.test", tokens="opaque")
    with guard:
        assert guard.verify(first.token()).subject == "user"
        assert guard.verify(second.token()).subject == "user"
        assert (first.hits["/introspect"], second.hits["/introspect"]) == (1, 0)
        with pytest.raises(TokenError, match="inactive"):
            guard.verify("a.b.c.d.e")  # encrypted for the one that route_opaque names
        assert (first.hits["/introspect"], second.hits["/introspect"]) == (2, 0)


def test_an_issuer_introspects_its_jwts_whichever_of_its_names_they_have(clock: Clock) -> None:
    local = LocalIssuer("https://id.test", algorithm="ES256", clock=clock)
    guard = Guard(
        local.issuer(
            introspection=local.introspection.options(cache_ttl=0),
            tokens="opaque",
            aliases=["id.test", "https://id.test/"],
        ),
        Issuer("https://b.test", audience="b", keys=PUBLIC_JWK),
        transport=local.transport(),
        clock=clock,
    )
    with guard:
        for asked, name in enumerate(("https://id.test", "id.test", "https://id.test/"), 1):
            assert guard.verify(local.token(claims={"iss": name})).issuer == "https://id.test"
            assert local.hits["/introspect"] == asked
        local.introspection.response = Response(
            200, (("Content-Type", "application/json"),), b'{"active": false}'
        )
        for name in ("https://id.test", "id.test", "https://id.test/"):
            with pytest.raises(TokenError, match="inactive"):
                guard.verify(local.token(claims={"iss": name}))


def test_route_opaque_may_name_an_issuer_by_an_alias(clock: Clock) -> None:
    first, second, guard = two(clock, lambda _token: "a.test", aliases=["a.test"])
    with guard:
        assert guard.verify(first.opaque_token()).issuer == "https://a.test"
    assert second.hits["/introspect"] == 0


def test_a_signed_response_may_have_an_alias_as_its_issuer(clock: Clock) -> None:
    local = LocalIssuer("https://id.test", algorithm="ES256", clock=clock)
    guard = Guard(
        local.issuer(
            introspection=local.introspection.options(signed_responses=True), aliases=["id.test"]
        ),
        transport=local.transport(),
        clock=clock,
    )
    header = {"alg": "ES256", "typ": "token-introspection+jwt", "kid": local.key.kid}
    members = {"active": True, "aud": local.audience, "sub": "ada"}
    with guard:
        for name, passes in (("id.test", True), ("https://id.test", True), ("other.test", False)):
            claims = {"iss": name, "aud": "api", "iat": int(NOON), "token_introspection": members}
            local.introspection.response = Response(
                200,
                (("Content-Type", "application/token-introspection+jwt"),),
                sign(header, claims, local.key).encode(),
            )
            if passes:
                assert guard.verify(f"asked-as-{name.partition('//')[2]}").subject == "ada"
            else:
                with pytest.raises(IssuerUnavailable):
                    guard.verify("asked-as-other")


def test_INT_03_an_encrypted_token_is_not_sent_to_an_issuer_of_opaque_tokens(
    clock: Clock,
) -> None:
    _first, second, guard = two(clock, lambda _token: "https://b.test", tokens="opaque")
    with guard, pytest.raises(TokenError, match="encrypted_token"):
        guard.verify("a.b.c.d.e")
    assert second.hits["/introspect"] == 0


def test_a_token_with_illegal_characters_is_sent_nowhere(issuer: LocalIssuer) -> None:
    with guard_of(issuer) as guard:
        for odd in ("two words", "é", "line\nbreak", ""):
            with pytest.raises(TokenError, match="malformed_token"):
                guard.verify(odd)
    assert issuer.hits["/introspect"] == 0


def test_a_bearer_token_may_be_renewed_by_a_callable(issuer: LocalIssuer) -> None:
    tokens = iter(["old", issuer.introspection.access_token])
    with guard_of(issuer, token=lambda: next(tokens)) as guard:
        with pytest.raises(IssuerUnavailable):
            guard.verify(issuer.opaque_token())
        assert guard.verify(issuer.opaque_token()).subject == "user"
        with pytest.raises(IssuerUnavailable, match="was raised"):
            guard.verify(issuer.opaque_token())  # it raises now; its words are not repeated


def test_a_token_that_was_introspected_again_is_warm_again(
    issuer: LocalIssuer, clock: Clock
) -> None:
    with guard_of(issuer) as guard:
        token = issuer.opaque_token(scopes=["read"])
        field = b"Bearer " + token.encode()
        assert recalled(guard, field) is None
        guard.verify(token)
        for _ in range(3):
            assert recalled(guard, field) is not None
            clock.now += 60
            assert recalled(guard, field) is None
            guard.verify(token)
            assert recalled(guard, field) is not None
    assert issuer.hits["/introspect"] == 4


def test_an_expired_token_is_refused_as_such_without_asking(
    issuer: LocalIssuer, clock: Clock
) -> None:
    with guard_of(issuer) as guard:
        token = issuer.opaque_token(expires_in=10)
        guard.verify(token)
        clock.now += 40
        issuer.outage = True
        with pytest.raises(TokenExpired):
            guard.verify(token)


@pytest.mark.parametrize("negative_ttl", [0, 10])
def test_INT_07_what_the_issuer_has_taken_back_does_not_pass_in_an_outage(
    negative_ttl: float, issuer: LocalIssuer, clock: Clock
) -> None:
    with guard_of(issuer, stale_ttl=600, negative_ttl=negative_ttl) as guard:
        kept, revoked = issuer.opaque_token(), issuer.opaque_token()
        for token in (kept, revoked):
            guard.verify(token)
        clock.now += 61
        issuer.introspection.revoke(revoked)
        with pytest.raises(TokenError, match="inactive"):
            guard.verify(revoked)
        clock.now += 11
        issuer.outage = True
        assert guard.verify(kept).is_authenticated
        with pytest.raises(IssuerUnavailable):
            guard.verify(revoked)


def test_a_closed_guard_forgets_refusals_too(issuer: LocalIssuer) -> None:
    guard = guard_of(issuer)
    for _ in range(2):
        with guard, pytest.raises(TokenError):
            guard.verify("made-up")
    assert issuer.hits["/introspect"] == 2


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_all_who_wait_for_a_cancelled_leader_get_a_response(
    backend: str, issuer: LocalIssuer
) -> None:
    token = issuer.opaque_token()
    subjects: list[str] = []
    with guard_of(issuer) as guard:
        guard.warm()
        issuer.delay = 0.2

        async def lead(leader: anyio.CancelScope) -> None:
            with leader:
                await guard.averify(token)

        async def follow() -> None:
            subjects.append((await guard.averify(token)).identity)

        async def main() -> None:
            async with anyio.create_task_group() as group:
                leader = anyio.CancelScope()
                group.start_soon(lead, leader)
                await anyio.sleep(0.05)
                for _ in range(10):
                    group.start_soon(follow)
                await anyio.sleep(0.05)
                leader.cancel()

        anyio.run(main, backend=backend)
    assert subjects == ["user"] * 10


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_probe_that_is_cancelled_lets_another_probe_at_once(
    backend: str, issuer: LocalIssuer, clock: Clock
) -> None:
    with guard_of(issuer) as guard:
        issuer.outage = True
        for _ in range(3):
            with pytest.raises(IssuerUnavailable):
                guard.verify(issuer.opaque_token())
        issuer.outage = False
        clock.now += 1
        token = issuer.opaque_token()

        async def main() -> None:
            issuer.delay = 0.3
            with anyio.move_on_after(0.05):
                await guard.averify(token)
            issuer.delay = 0.0
            assert (await guard.averify(token)).subject == "user"

        anyio.run(main, backend=backend)


def test_INT_04_a_leader_checks_again_whether_another_has_asked_meanwhile(
    issuer: LocalIssuer,
) -> None:
    with guard_of(issuer) as guard:
        request = Request(headers={"Authorization": f"Bearer {issuer.opaque_token()}"})
        late = guard.authenticate(request)
        once = next(late)  # it is about to ask, and is slow
        assert isinstance(once, Once)
        guard.run(guard.authenticate(request))
        with pytest.raises(StopIteration) as stop:
            late.send(guard.run(once.flow()))
        assert isinstance(stop.value.value, Allow)
    assert issuer.hits["/introspect"] == 1


def test_a_herd_that_fails_together_is_one_failure_once_the_breaker_is_open() -> None:
    breaker = Breaker(30, 30)
    eras = [breaker.enter(NOON) for _ in range(100)]
    pauses = [breaker.failed(NOON, era) for era in eras]
    assert pauses == [0, 0] + [1] * 98
    assert breaker.wait(NOON) == 1


def test_only_one_call_probes_and_a_lost_probe_is_replaced() -> None:
    breaker = Breaker(30, 10)
    for _ in range(3):
        breaker.failed(NOON, breaker.enter(NOON))
    now = NOON + 1
    assert breaker.wait(now) == 0
    breaker.enter(now)
    assert breaker.wait(now) == 1
    assert breaker.wait(now + 10) == 0
    assert breaker.wait(now - 100) <= 30  # a clock set back
    breaker.abandoned()
    assert breaker.wait(now) == 0
    breaker.failed(now, breaker.enter(now))
    assert breaker.wait(now) == 2
    breaker.succeeded()
    assert breaker.wait(now) == 0
    assert not breaker.is_open


def test_an_objection_to_the_probe_closes_the_breaker_until_the_next_failure() -> None:
    breaker = Breaker(30, 10)
    late = breaker.enter(NOON)
    for _ in range(3):
        breaker.failed(NOON, breaker.enter(NOON))
    breaker.objected(late)  # to what was asked before it opened
    assert breaker.wait(NOON) == 1
    breaker.objected(breaker.enter(NOON + 1))
    assert (breaker.is_open, breaker.wait(NOON + 1)) == (False, 0)
    breaker.failed(NOON + 1, breaker.enter(NOON + 1))
    assert breaker.wait(NOON + 1) == 2  # it is no first pause


def test_strangers_who_probe_after_an_outage_stop_no_others(
    issuer: LocalIssuer, clock: Clock
) -> None:
    handle = issuer.introspection.handle

    def firewall(request: Request, url: str, key: SigningKey) -> Response:
        return Response(403) if b"made-up" in request.body else handle(request, url, key)

    issuer.introspection.handle = firewall  # type: ignore[method-assign]
    with guard_of(issuer) as guard:
        assert guard.verify(issuer.opaque_token())
        issuer.outage = True
        for _ in range(4):
            with pytest.raises(IssuerUnavailable):
                guard.verify(issuer.opaque_token())
        issuer.outage = False
        clock.now += 2
        with pytest.raises(IssuerUnavailable, match="status 403"):
            guard.verify("made-up")
        assert guard.verify(issuer.opaque_token())


def test_generations_are_bounded_and_keep_what_is_used() -> None:
    held: Generations[int, str] = Generations(10)
    for number in range(1000):
        held.put(number, str(number))
        held.get(0)
        assert len(held) <= 10
    assert held.get(0) == "0"
    assert held.get(1) is None
    assert "0" in held.values()
    held.clear()
    assert len(held) == 0


class Shelf(SharedCache):
    """A shared cache in one process."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str, bytes], bytes] = {}
        self.ttl = 0.0

    def get(self, issuer: str, resource: str, digest: bytes) -> Flow[bytes | None]:
        yield from ()
        return self.kept.get((issuer, resource, digest))

    def put(
        self, issuer: str, resource: str, digest: bytes, value: bytes, ttl: float
    ) -> Flow[None]:
        yield from ()
        self.ttl = ttl
        self.kept[issuer, resource, digest] = value


def worker(
    issuer: LocalIssuer, shelf: Shelf, revocations: Revocations | None = None, **options: Any
) -> tuple[Introspector, Guard]:
    """An introspector as each worker has one, and a guard to drive it."""
    how = issuer.introspection.options(**options)
    clock, configured = issuer._clock, issuer.issuer()
    events = Events(None, clock)
    keys = KeyCache(
        configured, clock=clock, events=events, schedule=lambda *_: None, on_shortened=lambda: None
    )
    introspector = Introspector(
        configured,
        how,
        keys,
        TokenCache(100, clock),
        clock=clock,
        events=events,
        shared=shelf,
        revocations=None if revocations is None else revocations.attach(clock, events.emit),
    )
    return introspector, issuer.guard(revocations=revocations)


def introspected(worker: tuple[Introspector, Guard], token: str) -> str:
    introspector, guard = worker
    octets = token.encode()
    return guard.run(introspector.introspect(octets, digest(octets))).principal.identity


def test_workers_share_introspection_responses(issuer: LocalIssuer, clock: Clock) -> None:
    shelf = Shelf()
    first, second = worker(issuer, shelf), worker(issuer, shelf)
    token = issuer.opaque_token(expires_in=40)
    assert introspected(first, token) == "user"
    assert shelf.ttl == 40
    clock.now += 20
    issuer.outage = True
    assert introspected(second, token) == "user"
    assert issuer.hits["/introspect"] == 1
    clock.now += 20  # the store kept it for too long
    with pytest.raises(IssuerUnavailable):
        introspected(worker(issuer, shelf), token)


def test_the_response_of_another_worker_is_checked_here(issuer: LocalIssuer, clock: Clock) -> None:
    shelf = Shelf()
    token = issuer.opaque_token(expires_in=10)
    introspected(worker(issuer, shelf), token)
    clock.now += 100
    with pytest.raises(TokenExpired):
        introspected(worker(issuer, shelf), token)


def test_a_worker_whose_clock_is_ahead_does_not_prolong_caching(
    issuer: LocalIssuer, clock: Clock
) -> None:
    shelf = Shelf()
    token = issuer.opaque_token(expires_in=7200)
    clock.now += 3600
    introspected(worker(issuer, shelf), token)
    clock.now -= 3600
    other = worker(issuer, shelf)
    introspected(other, token)
    assert issuer.hits["/introspect"] == 1
    entry = other[0]._tokens.get(digest(token.encode()))
    assert entry is not None
    assert entry.deadline == clock.now + 60


def test_refusals_and_uncacheable_responses_are_not_shared(
    issuer: LocalIssuer,
) -> None:
    shelf = Shelf()
    with pytest.raises(TokenError):
        introspected(worker(issuer, shelf), "made-up")
    introspected(worker(issuer, shelf, cache_ttl=0), issuer.opaque_token())
    assert shelf.kept == {}


def test_a_transport_that_raises_is_503_and_its_message_is_not_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken:
        def fetch(self, request: Fetch) -> Response:
            raise RuntimeError(request.body.decode())

        async def afetch(self, request: Fetch) -> Response:
            raise FetchFailed("asked")

    endpoint = asking(endpoint="https://a.test/introspect")
    with Guard(trusting(introspection=endpoint), transport=Broken()) as guard:
        with pytest.raises(IssuerUnavailable, match="RuntimeError was raised"):
            guard.verify("opaque-token")
        with pytest.raises(IssuerUnavailable, match="asked"):
            anyio.run(guard.averify, "opaque-token")
    assert "opaque-token" not in caplog.text
    assert logging.WARNING in {record.levelno for record in caplog.records}
    gc.collect()


@pytest.mark.parametrize("stale_ttl", [0, 600])
def test_a_response_signed_by_a_withdrawn_key_is_not_used(clock: Clock, stale_ttl: float) -> None:
    """At once, cached or not, while the keys are cached; the token may still be good."""
    issuer = LocalIssuer(algorithm="ES256", clock=clock)
    how = issuer.introspection.options(signed_responses=True, stale_ttl=stale_ttl)
    guard = Guard(
        issuer.issuer(introspection=how),
        transport=issuer.transport(),
        clock=clock,
        revocations=Revocations(),
    )
    token, other = issuer.opaque_token(subject="ada"), issuer.opaque_token(subject="grace")
    with guard:
        assert guard.verify(token).subject == "ada"
        assert recalled(guard, f"Bearer {token}")
        guard.revoke(key_id=issuer.key.kid)
        assert not recalled(guard, f"Bearer {token}")
        for each in (token, other):
            with pytest.raises(IssuerUnavailable, match="withdrawn"):
                guard.verify(each)
        issuer.rotate()
        clock.now += 300  # for as long as an endpoint is left alone about one token
        assert guard.verify(token).subject == "ada"
        assert guard.verify(other).subject == "grace"
        assert recalled(guard, f"Bearer {token}")


def test_workers_do_not_share_a_response_signed_by_a_withdrawn_key(clock: Clock) -> None:
    issuer, shelf, revocations = LocalIssuer(algorithm="ES256", clock=clock), Shelf(), Revocations()
    first, second, third = (
        worker(issuer, shelf, revocations, signed_responses=True) for _ in range(3)
    )
    token = issuer.opaque_token()
    assert introspected(first, token) == "user"
    assert introspected(second, token) == "user"
    assert issuer.hits["/introspect"] == 1
    first[1].revoke(key_id=issuer.key.kid)
    issuer.rotate()
    assert introspected(third, token) == "user"
    assert issuer.hits["/introspect"] == 2


def test_a_signed_response_that_was_not_requested_is_not_shared(clock: Clock) -> None:
    issuer, shelf = LocalIssuer(algorithm="ES256", clock=clock), Shelf()
    token, asked = issuer.opaque_token(), worker(issuer, shelf)
    members = {"active": True, "aud": issuer.audience, "sub": "ada", "exp": NOON + 60}
    claims = {"iss": issuer.url, "aud": "api", "iat": int(NOON), "token_introspection": members}
    header = {"alg": "ES256", "typ": "token-introspection+jwt", "kid": issuer.key.kid}
    issuer.introspection.response = Response(
        200,
        (("Content-Type", "application/token-introspection+jwt"),),
        sign(header, claims, issuer.key).encode(),
    )
    assert introspected(asked, token) == "ada"
    assert shelf.kept == {}


def test_a_signed_response_is_503_while_the_withdrawn_keys_are_unknown(
    clock: Clock,
) -> None:
    issuer = LocalIssuer(algorithm="ES256", clock=clock)
    away = RedisStore("redis://127.0.0.1:1", secret="s" * 32, timeout=0.2)
    how = issuer.introspection.options(signed_responses=True)
    with Guard(
        issuer.issuer(introspection=how),
        transport=issuer.transport(),
        clock=clock,
        revocations=Revocations(away),
    ) as guard:
        for _ in range(2):
            with pytest.raises(RevocationsUnavailable):
                guard.verify(issuer.opaque_token())
        assert guard.health()["introspection"][issuer.url]["status"] == "ok"


class Says:
    """An issuer that says the same of every token."""

    def __init__(self, **members: Any) -> None:
        self.body = json.dumps({"active": True, "sub": "ada", **members}).encode()

    def fetch(self, request: Fetch) -> Response:
        return Response(200, (), self.body)

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


def said_of(members: dict[str, Any], **options: Any) -> Guard:
    asked = asking(endpoint="https://a.test/introspect", **options)
    return Guard(trusting(introspection=asked), transport=Says(**members))


@pytest.mark.parametrize("audience", [{}, {"aud": None}, {"aud": []}, {"aud": ""}])
def test_INT_03_a_response_without_an_audience_is_refused_with_the_option_that_allows_it(
    audience: dict[str, Any],
) -> None:
    with pytest.raises(TokenError, match="allow_missing_audience=True") as refused:
        said_of(audience).verify("opaque")
    assert refused.value.reason.code == "missing_claim"
    assert said_of(audience, allow_missing_audience=True).verify("opaque").subject == "ada"


@pytest.mark.parametrize("audience", [["other"], "other", [""], {}, 0, False])
def test_INT_03_another_audience_is_never_a_missing_one(audience: object) -> None:
    with pytest.raises(TokenError):
        said_of({"aud": audience}, allow_missing_audience=True).verify("opaque")


def test_INT_03_a_response_of_another_issuer_is_refused_with_the_option_that_allows_it() -> None:
    with pytest.raises(
        TokenError, match=r"iss is 'https://a.test/' .*'https://a.test': .*aliases="
    ):
        said_of({"aud": "api", "iss": "https://a.test/"}).verify("opaque")
