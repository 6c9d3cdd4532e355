"""Observers: one record for each decision and for each fetch, and no effect on any request."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from bearerguard import (
    ConfigurationError,
    DecisionRecord,
    ExpiryHeaders,
    FetchFailed,
    FetchRecord,
    Guard,
    Issuer,
    IssuerUnavailable,
    Request,
    Response,
    Revocations,
    TokenError,
    claim,
    role,
    scopes,
)
from bearerguard.guard.observers import Observers
from bearerguard.middleware.admission import Admission, RequestInfo
from bearerguard.redis import RedisStore
from bearerguard.runtime.flow import Fetch
from bearerguard.testing import LocalIssuer, SigningKey
from tests.adapters.adapters import ADAPTERS, Send
from tests.conformance.harness import Clock
from tests.redis_server import RedisServer

Adapter = Callable[..., Send]


class Recorder:
    """An observer that keeps what it gets."""

    def __init__(self) -> None:
        self.decisions: list[DecisionRecord] = []
        self.fetches: list[FetchRecord] = []

    def decided(self, record: DecisionRecord) -> None:
        self.decisions.append(record)

    def fetched(self, record: FetchRecord) -> None:
        self.fetches.append(record)

    @property
    def results(self) -> list[tuple[str, str, str | None, bool | None]]:
        return [(each.kind, each.result, each.reason, each.is_cached) for each in self.decisions]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


def forged(issuer: LocalIssuer) -> str:
    return issuer.token(key=SigningKey.generate("ES256", issuer.key.kid))


# Decisions


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_each_request_is_one_record_with_its_reason_and_whether_the_token_was_cached(
    adapter: Adapter, issuer: LocalIssuer, recorder: Recorder
) -> None:
    with issuer.guard(observers=[recorder]) as guard:
        send = adapter(guard)
        token = issuer.token()
        statuses = [
            send(*given).status
            for given in [(token,), (token,), (), (forged(issuer),), (token, token)]
        ]
    assert statuses == [200, 200, 401, 401, 400]
    assert recorder.results == [
        ("request", "allow", None, False),
        ("request", "allow", None, True),
        ("request", "deny", "missing_credentials", None),
        ("request", "deny", "bad_signature", False),
        ("request", "deny", recorder.decisions[4].reason, None),
    ]
    assert [each.status for each in recorder.decisions] == [None, None, 401, 401, 400]
    assert [each.issuer for each in recorder.decisions] == [
        *(issuer.url, issuer.url, None, issuer.url, None)
    ]
    assert not any(each.is_stale for each in recorder.decisions)
    assert all(0 <= each.seconds < 60 for each in recorder.decisions)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_observed_response_is_the_same_as_one_that_is_not(
    adapter: Adapter, issuer: LocalIssuer, recorder: Recorder
) -> None:
    token = issuer.token()
    with issuer.guard() as plain, issuer.guard(observers=[recorder]) as observed:
        for guard in (plain, observed):
            adapter(guard)(token)
        for given in ((token,), (), (forged(issuer),)):
            assert adapter(plain)(*given) == adapter(observed)(*given)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_request_that_is_excluded_is_no_decision_and_an_optional_one_without_token_is(
    adapter: Adapter, issuer: LocalIssuer, recorder: Recorder
) -> None:
    with issuer.guard(observers=[recorder]) as guard:
        assert adapter(guard, exclude=("/",))().status == 200
        assert recorder.decisions == []
        assert adapter(guard, optional=True)().status == 200
    assert recorder.results == [("request", "allow", "missing_credentials", None)]


def test_the_requirement_of_the_request_counts_as_its_refusal(
    issuer: LocalIssuer, recorder: Recorder
) -> None:
    with issuer.guard(observers=[recorder], require=role("admin")) as guard:
        headers = {"Authorization": f"Bearer {issuer.token()}"}
        for _ in range(2):
            guard.run(guard.authenticate(Request(headers=headers)))
    assert recorder.results == [
        ("request", "deny", "requirement_unmet", False),
        ("request", "deny", "requirement_unmet", True),
    ]


def test_the_refusal_of_a_route_is_a_record_of_its_own_and_what_a_route_allows_is_none(
    issuer: LocalIssuer, recorder: Recorder
) -> None:
    with issuer.guard(observers=[recorder]) as guard:
        admission, request = Admission(guard), RequestInfo("GET", "/")
        fields = [f"Bearer {issuer.token()}".encode()]
        allowed: Any = guard.run(admission.decide(fields, request))
        assert (
            admission.authorize(allowed.principal, claim("iss", issuer.url), lambda: request)
            is None
        )
        assert guard.authorize(allowed.principal, None) is None
        assert admission.authorize(allowed.principal, scopes("delete"), lambda: request)
    assert recorder.results == [
        ("request", "allow", None, False),
        ("route", "deny", "insufficient_scope", None),
    ]
    assert [each.issuer for each in recorder.decisions] == [issuer.url] * 2
    assert recorder.decisions[1].status == 403


def test_a_token_that_is_verified_without_a_request_is_a_record_too(
    issuer: LocalIssuer, recorder: Recorder
) -> None:
    with issuer.guard(observers=[recorder]) as guard:
        token = issuer.token()
        guard.verify(token)
        assert anyio.run(guard.averify, token).subject == "user"
        with pytest.raises(TokenError):
            guard.verify("a.b.c")
    assert recorder.results == [
        ("token", "allow", None, False),
        ("token", "allow", None, True),
        ("token", "deny", "malformed_token", False),
    ]


def test_an_outage_is_unavailable_and_names_the_issuer(
    issuer: LocalIssuer, recorder: Recorder
) -> None:
    issuer.outage = True
    with issuer.guard(observers=[recorder]) as guard:
        with pytest.raises(IssuerUnavailable):
            guard.verify(issuer.token())
        guard.run(
            guard.authenticate(Request(headers={"Authorization": f"Bearer {issuer.token()}"}))
        )
    for record in recorder.decisions:
        assert (record.result, record.reason, record.issuer) == (
            *("unavailable", "issuer_unavailable", issuer.url),
        )
        assert record.status == 503


def test_the_duration_includes_the_fetches(recorder: Recorder) -> None:
    clock = Clock()
    issuer = LocalIssuer(algorithm="ES256", clock=clock)

    class Slow:
        def fetch(self, request: Fetch) -> Response:
            clock.now += 0.25
            return issuer.transport().fetch(request)

        afetch = fetch

    guard = Guard(issuer.issuer(), transport=Slow(), clock=clock, observers=[recorder])  # type: ignore[arg-type]
    with guard:
        guard.verify(issuer.token())
    assert recorder.decisions[0].seconds == 0.5  # metadata and keys
    assert [each.seconds for each in recorder.fetches] == [0.25, 0.25]


def test_a_revoked_token_is_a_refusal_of_its_issuer(
    issuer: LocalIssuer, recorder: Recorder
) -> None:
    with issuer.guard(observers=[recorder], revocations=Revocations()) as guard:
        token = issuer.token()
        guard.verify(token)
        guard.revoke(token)
        with pytest.raises(TokenError):
            guard.verify(token)
    record = recorder.decisions[-1]
    assert (record.reason, record.issuer, record.is_cached) == ("revoked", issuer.url, True)


# Stale


def test_keys_that_could_not_be_renewed_are_stale_until_they_are(recorder: Recorder) -> None:
    clock = Clock()
    issuer = LocalIssuer(algorithm="ES256", clock=clock)
    with issuer.guard(observers=[recorder]) as guard:
        token = issuer.token()
        guard.verify(token)
        issuer.outage = True
        with pytest.raises((TokenError, IssuerUnavailable)):
            guard.verify(issuer.token(header={"kid": "unknown"}))
        guard.verify(token)
        issuer.outage = False
        clock.now += 60
        with pytest.raises(TokenError):
            guard.verify(issuer.token(header={"kid": "unknown"}))
        guard.verify(token)
    allowed = [each for each in recorder.decisions if each.result == "allow"]
    assert [each.is_stale for each in allowed] == [False, True, False]


def test_an_introspection_response_past_its_time_is_stale(recorder: Recorder) -> None:
    clock = Clock()
    issuer = LocalIssuer(algorithm="ES256", clock=clock)
    chosen = issuer.introspection.options(cache_ttl=60, stale_ttl=600)
    trusted = issuer.issuer(introspection=chosen)
    with Guard(trusted, transport=issuer.transport(), clock=clock, observers=[recorder]) as guard:
        token = issuer.opaque_token()
        guard.verify(token)
        guard.verify(token)
        issuer.outage = True
        clock.now += 61
        guard.verify(token)
        guard.verify(token)
    assert [(each.is_cached, each.is_stale) for each in recorder.decisions] == [
        *((False, False), (True, False), (False, True), (True, True)),
    ]


# Issuers


def test_a_tenant_is_counted_under_its_pattern(recorder: Recorder) -> None:
    tenant = LocalIssuer("https://id.test/acme/v2", algorithm="ES256")
    pattern = Issuer("https://id.test/{tenant}/v2", audience=tenant.audience, tenants=["acme"])
    with Guard(pattern, transport=tenant.transport(), observers=[recorder]) as guard:
        guard.verify(tenant.token())
    issuers = [each.issuer for each in recorder.decisions]
    issuers += [each.issuer for each in recorder.fetches]
    assert set(issuers) == {"https://id.test/{tenant}/v2"}


def test_an_alias_is_counted_under_the_url(recorder: Recorder, issuer: LocalIssuer) -> None:
    trusted = issuer.issuer(aliases=["https://old.test"])
    with Guard(trusted, transport=issuer.transport(), observers=[recorder]) as guard:
        guard.verify(_named(issuer, "https://old.test"))
    assert recorder.decisions[0].issuer == issuer.url


def test_an_issuer_that_is_not_trusted_labels_nothing(
    recorder: Recorder, issuer: LocalIssuer
) -> None:
    with issuer.guard(observers=[recorder]) as guard, pytest.raises(TokenError):
        guard.verify(_named(issuer, "https://made-up.test"))
    assert (recorder.decisions[0].reason, recorder.decisions[0].issuer) == ("unknown_issuer", None)


def _named(issuer: LocalIssuer, name: str) -> str:
    url, issuer.url = issuer.url, name
    try:
        return issuer.token()
    finally:
        issuer.url = url


# Fetches


def test_each_fetch_of_metadata_and_keys_is_a_record(
    issuer: LocalIssuer, recorder: Recorder
) -> None:
    with issuer.guard(observers=[recorder]) as guard:
        guard.warm()
    metadata, keys = recorder.fetches
    assert (metadata.target, keys.target) == ("metadata", "jwks")
    assert (metadata.url, keys.url) == (
        "https://issuer.test/.well-known/oauth-authorization-server",
        "https://issuer.test/jwks",
    )
    for record in recorder.fetches:
        assert (record.result, record.error, record.status) == ("ok", None, 200)
        assert (record.issuer, record.method) == (issuer.url, "GET")
        assert record.octets
        assert record.octets > 50


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (Response(200, (), b"<html>"), "not_json"),
        (Response(200, (), b"{}"), "content"),
        (Response(404, (), b"no"), "status"),
        (Response(302, (("Location", "https://x.test"),)), "redirect"),
        (FetchFailed("no route", kind="unreachable"), "unreachable"),
        (FetchFailed("too long", kind="encoding", status=200), "encoding"),
        (FetchFailed("a transport of one's own"), "other"),
        (RuntimeError("a fault of the transport"), "other"),
        (ValueError("a fault of the transport"), "content"),
    ],
)
def test_a_fetch_that_fails_says_why(
    issuer: LocalIssuer, recorder: Recorder, response: Response | Exception, error: str
) -> None:
    class Failing:
        def fetch(self, _request: Fetch) -> Response:
            if isinstance(response, Exception):
                raise response
            return response

        afetch = fetch

    uri = "https://issuer.test:8443/keys?code=secret"
    trusted = Issuer(issuer.url, audience="api", jwks_uri=uri)
    with Guard(trusted, transport=Failing(), observers=[recorder]) as guard:  # type: ignore[arg-type]
        guard.warm()
    (record,) = recorder.fetches
    assert (record.result, record.error) == ("failed", error)
    assert record.status == getattr(response, "status", None)
    octets = None if isinstance(response, Exception) else len(response.body)
    assert record.octets == octets
    assert record.url == "https://issuer.test:8443/keys"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:p4ss@[2001:db8::1]:8443/keys?k=1#f", "https://[2001:db8::1]:8443/keys"),
        ("https://issuer.test", "https://issuer.test"),
        ("https://[", None),
        ("https://issuer.test:port/keys", None),
    ],
)
def test_a_url_is_shown_without_user_query_and_fragment(
    recorder: Recorder, url: str, shown: str | None
) -> None:
    with Observers([recorder]).watch("jwks", None)(url):
        pass
    assert recorder.fetches[0].url == shown


def test_introspection_is_a_fetch_that_posts(issuer: LocalIssuer, recorder: Recorder) -> None:
    chosen = issuer.introspection.options()
    trusted = issuer.issuer(introspection=chosen)
    with Guard(trusted, transport=issuer.transport(), observers=[recorder]) as guard:
        guard.verify(issuer.opaque_token())
        issuer.introspection.response = Response(200, (), b"<html>")
        with pytest.raises(IssuerUnavailable):
            guard.verify(issuer.opaque_token())
        issuer.introspection.response = Response(500)
        with pytest.raises(IssuerUnavailable):
            guard.verify(issuer.opaque_token())
    found = [each for each in recorder.fetches if each.target == "introspection"]
    assert [(each.method, each.result, each.error, each.status) for each in found] == [
        ("POST", "ok", None, 200),
        ("POST", "failed", "not_json", 200),
        ("POST", "failed", "status", 500),
    ]


def test_a_read_of_shared_revocations_is_a_fetch(
    issuer: LocalIssuer, recorder: Recorder, redis: RedisServer
) -> None:
    store = RedisStore(redis.url, secret="s" * 32)
    with issuer.guard(observers=[recorder], revocations=Revocations(store)) as guard:
        guard.warm()
        first = next(each for each in recorder.fetches if each.target == "revocations")
        assert (first.result, first.url, first.issuer, first.method) == ("ok", None, None, None)
        redis.kill()
    with issuer.guard(observers=[recorder], revocations=Revocations(store)) as guard:
        guard.warm()
    failed = [each for each in recorder.fetches if each.error is not None]
    assert {(each.target, each.error) for each in failed} == {("revocations", "store")}


def test_a_fetch_that_is_given_up_makes_no_record(issuer: LocalIssuer, recorder: Recorder) -> None:
    with issuer.guard(observers=[recorder]) as guard:
        headers = {"Authorization": f"Bearer {issuer.token()}"}

        async def leave() -> None:
            issuer.delay = 30
            with anyio.move_on_after(0.05):
                await guard.arun(guard.authenticate(Request(headers=headers)))

        anyio.run(leave)
    assert recorder.fetches == []
    assert recorder.decisions == []


# Observers


def test_an_observer_that_raises_changes_no_decision_and_is_logged_once_a_minute(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def decided(self, record: DecisionRecord) -> None:
            raise RuntimeError("the observer's own trouble")

        fetched: Any = decided

    clock = Clock()
    issuer = LocalIssuer(algorithm="ES256", clock=clock)
    with issuer.guard(observers=[Broken(), recorder]) as guard:
        for _ in range(5):
            assert guard.verify(issuer.token()).subject == "user"
        clock.now += 61
        assert guard.verify(issuer.token()).subject == "user"
    assert len(recorder.decisions) == 6
    assert len(recorder.fetches) == 2
    lines = [each for each in caplog.records if "observers=" in each.message]
    assert [each.message for each in lines] == [
        "observers=: Broken raised",
        "observers=: Broken raised (and 6 times more since the last line)",
    ]
    assert all(each.levelno == logging.ERROR and each.exc_info for each in lines)


@pytest.mark.parametrize("given", [None, "x", object(), [object()], [Recorder], Recorder()])
def test_what_is_no_observer_is_refused(issuer: LocalIssuer, given: Any) -> None:
    with pytest.raises(ConfigurationError, match="observers=: pass a list"):
        issuer.guard(observers=given)


def test_without_observers_the_adapters_find_tokens_by_themselves(issuer: LocalIssuer) -> None:
    token = issuer.token()
    for observers, found in (((), True), ([Recorder()], False)):
        with issuer.guard(observers=observers) as guard:
            guard.verify(token)
            assert (guard.cached(f"Bearer {token}") is not None) is found
            assert bool(guard.recent) is found


def test_an_observer_of_the_health_gets_it_and_keeps_no_guard_alive(issuer: LocalIssuer) -> None:
    class Reader(Recorder):
        def attached(self, health: Any) -> None:
            self.health = weakref.WeakMethod(health)

    reader = Reader()
    guard = issuer.guard(observers=[reader], expiry_headers=ExpiryHeaders())
    health = reader.health()
    assert health is not None
    assert set(health()["issuers"]) == {issuer.url}
    del health
    guard.close()
    del guard
    gc.collect()
    assert reader.health() is None
