"""Pushed security events and global token revocation, through both adapters."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bearerguard import ConfigurationError, Event, Guard, Revocations, TokenError
from bearerguard.guard.revocation.posted_events import MAX_BODY, Posted
from bearerguard.protocol.events import security_event
from bearerguard.protocol.events.security_event import CAEP, RISC, SSF
from bearerguard.redis import RedisStore
from bearerguard.security_events import GlobalTokenRevocation, SecurityEvents
from bearerguard.testing import LocalIssuer, SigningKey
from tests.adapters import posting
from tests.adapters.posting import Post, Reply
from tests.conformance.harness import NOON, Clock, with_claims
from tests.processes import free_port
from tests.redis_server import RedisServer

SET = "application/secevent+jwt"
JSON = "application/json"
AUDIENCE = "https://api.test/events"
ENDPOINT = "https://api.test/global-token-revocation"
SECRET = "a-secret-of-the-transmitter"
REVOKED = CAEP + "session-revoked"


POSTS: dict[str, Post] = {
    "asgi": partial(posting.post_asgi, kind=SET),
    "wsgi": partial(posting.post_wsgi, kind=SET),
}


@pytest.fixture(params=list(POSTS.values()), ids=list(POSTS))
def post(request: pytest.FixtureRequest) -> Post:
    found: Post = request.param
    return found


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


@pytest.fixture
def reported() -> list[Event]:
    return []


@pytest.fixture
def guard(issuer: LocalIssuer, reported: list[Event]) -> Guard:
    return issuer.guard(revocations=Revocations(), on_event=reported.append)


@pytest.fixture
def receiver(guard: Guard) -> SecurityEvents:
    return SecurityEvents(guard, audience=AUDIENCE, subject_of=by_email)


def by_email(identifier: Any) -> str | None:
    known = {"ada@example.com": "ada"}
    return known.get(identifier["email"]) if identifier["format"] == "email" else None


def event(issuer: LocalIssuer, kind: str = REVOKED, **changed: Any) -> str:
    """Return a security event token; `payload` has the members of the event."""
    usual: dict[str, Any] = {
        "aud": AUDIENCE,
        "sub": None,
        "exp": None,
        "client_id": None,
        "sub_id": iss_sub(issuer),
        "events": {kind: changed.pop("payload", {"event_timestamp": int(NOON)})},
        "header": {"typ": "secevent+jwt"},
    }
    return issuer.token(**with_claims({**usual, **changed}))


def iss_sub(issuer: LocalIssuer, sub: str = "ada") -> dict[str, str]:
    return {"format": "iss_sub", "iss": issuer.url, "sub": sub}


def accepts(guard: Guard, token: str) -> bool:
    try:
        guard.verify(token)
    except TokenError as refusal:
        return refusal.reason.code != "revoked"
    return True


def refused_set(reply: Reply, status: int, code: str) -> None:
    assert reply[0] == status
    assert reply[1]["content-type"] == JSON
    assert reply[1]["cache-control"] == "no-store"
    body = json.loads(reply[2])
    assert body.keys() == {"err", "description"}
    assert body["err"] == code


# Which events revoke


@pytest.mark.parametrize(
    "kind",
    [
        *(CAEP + name for name in ("session-revoked", "credential-change", "token-claims-change")),
        *(
            RISC + name
            for name in (
                *("account-disabled", "account-purged", "account-credential-change-required"),
                *("credential-compromise", "sessions-revoked"),
            )
        ),
    ],
)
def test_SET_02_an_event_revokes_the_tokens_of_its_subject(
    post: Post, guard: Guard, issuer: LocalIssuer, receiver: SecurityEvents, kind: str
) -> None:
    mine, other = issuer.token(subject="ada"), issuer.token(subject="eve")
    assert accepts(guard, mine)
    status, headers, body = post(receiver, event(issuer, kind))
    assert (status, body) == (202, b"")
    assert headers["cache-control"] == "no-store"
    assert not accepts(guard, mine)
    assert accepts(guard, other)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (CAEP + "credential-change", {"change_type": "create"}),
        (CAEP + "device-compliance-change", {"current_status": "not-compliant"}),
        (RISC + "account-enabled", {}),
        ("https://vendor.test/event/unheard-of", {}),
        (SSF + "stream-updated", {"status": "paused"}),
    ],
)
def test_another_event_is_acknowledged_and_reported(
    *, post: Post, guard: Guard, issuer: LocalIssuer, receiver: SecurityEvents,
    reported: list[Event], kind: str, payload: dict[str, Any],
) -> None:  # fmt: skip
    mine = issuer.token(subject="ada")
    assert post(receiver, event(issuer, kind, payload=payload))[0] == 202
    assert accepts(guard, mine)
    assert reported[-2].code == "security_event_ignored" or (
        reported[-1].code == "security_event_ignored"
    )
    assert any(kind in each.detail for each in reported)


def test_an_event_named_in_also_revokes(post: Post, guard: Guard, issuer: LocalIssuer) -> None:
    kind = CAEP + "device-compliance-change"
    receiver = SecurityEvents(guard, audience=[AUDIENCE, "x"], also=[kind])
    assert post(receiver, event(issuer, kind))[0] == 202
    assert not accepts(guard, issuer.token(subject="ada"))


def test_a_verification_event_needs_no_subject(
    post: Post, issuer: LocalIssuer, receiver: SecurityEvents, reported: list[Event]
) -> None:
    sent = event(issuer, SSF + "verification", sub_id=None, payload={"state": "s3cret-state"})
    assert post(receiver, sent)[0] == 202
    assert "event_stream_verified" in [each.code for each in reported]
    assert "s3cret-state" not in str(reported)


# Whose tokens


SUBJECTS: list[tuple[str, dict[str, Any], set[str]]] = [
    ("iss_sub", {"format": "iss_sub", "iss": "https://issuer.test", "sub": "ada"},
     {"s1", "s2", "-"}),
    ("iss-sub of RISC drafts",
     {"subject_type": "iss-sub", "iss": "https://issuer.test", "sub": "ada"}, {"s1", "s2", "-"}),
    ("opaque user", {"format": "opaque", "id": "ada"}, {"s1", "s2", "-"}),
    ("opaque session", {"format": "opaque", "id": "s1"}, {"s1"}),
    ("email", {"format": "email", "email": "ada@example.com"}, {"s1", "s2", "-"}),
    ("email of nobody", {"format": "email", "email": "eve@example.com"}, set()),
    ("phone", {"format": "phone_number", "phone_number": "+1"}, set()),
    ("another issuer's", {"format": "iss_sub", "iss": "https://other.test", "sub": "ada"}, set()),
    ("aliases", {"format": "aliases", "identifiers": [
        {"format": "email", "email": "eve@example.com"}, {"format": "opaque", "id": "ada"}]},
     {"s1", "s2", "-"}),
    ("complex user", {"format": "complex", "user": {"format": "opaque", "id": "ada"}},
     {"s1", "s2", "-"}),
    ("complex session", {"format": "complex", "session": {"format": "opaque", "id": "s1"}}, {"s1"}),
    ("session of a user", {"format": "complex", "session": {"format": "opaque", "id": "s1"},
     "user": {"format": "iss_sub", "iss": "https://issuer.test", "sub": "ada"},
     "tenant": {"format": "opaque", "id": "t"}}, {"s1", "-"}),
    ("complex without a format", {"user": {"format": "opaque", "id": "ada"}}, {"s1", "s2", "-"}),
    ("device of a user", {"format": "complex", "device": {"format": "opaque", "id": "d"},
     "user": {"format": "opaque", "id": "ada"}}, {"s1", "s2", "-"}),
    ("device alone", {"format": "complex", "device": {"format": "opaque", "id": "ada"}}, set()),
    ("application", {"format": "complex", "application": {"format": "opaque", "id": "app"}},
     {"s1", "s2", "-"}),
    ("jwt_id", {"format": "jwt_id", "iss": "https://issuer.test", "jti": "token-s2"}, {"s2"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "revoked"), [row[1:] for row in SUBJECTS], ids=[row[0] for row in SUBJECTS]
)
@pytest.mark.parametrize("old", [False, True], ids=["sub_id", "subject in the event"])
def test_SET_02_a_subject_says_whose_tokens_are_revoked(
    *, post: Post, guard: Guard, issuer: LocalIssuer, receiver: SecurityEvents, old: bool,
    subject: dict[str, Any], revoked: set[str],
) -> None:  # fmt: skip
    def token(session: str) -> str:
        named = {} if session == "-" else {"sid": session}
        return issuer.token(subject="ada", claims={**named, "jti": f"token-{session}"})

    tokens = {session: token(session) for session in ("s1", "s2", "-")}
    changed = {"sub_id": None, "payload": {"subject": subject}} if old else {"sub_id": subject}
    assert post(receiver, event(issuer, **changed))[0] == 202
    assert {each for each, sent in tokens.items() if not accepts(guard, sent)} == revoked


def test_SET_02_tokens_issued_after_the_event_are_valid(
    post: Post, guard: Guard, issuer: LocalIssuer, receiver: SecurityEvents, clock: Clock
) -> None:
    """An event may arrive late: `event_timestamp` counts, then `toe`, then `iat`."""
    for sub, changed in (
        ("ada", {"payload": {"event_timestamp": NOON + 10}, "toe": NOON + 90}),
        ("bob", {"payload": {"event_timestamp": (NOON + 10) * 1000}}),  # in drafts of CAEP
        ("cyd", {"payload": {}, "toe": NOON + 10}),
        ("dan", {"payload": {}, "iat": NOON + 10}),
    ):
        clock.now = NOON + 100
        given: dict[str, Any] = {"sub_id": iss_sub(issuer, sub), **changed}
        sent = event(issuer, **given)
        assert post(receiver, sent)[0] == 202
        assert accepts(guard, issuer.token(subject=sub, claims={"iat": int(NOON) + 11}))
        assert not accepts(guard, issuer.token(subject=sub, claims={"iat": int(NOON) + 10}))


def test_SET_02_a_replay_is_acknowledged_and_revokes_nothing_more(
    post: Post, guard: Guard, issuer: LocalIssuer, receiver: SecurityEvents, clock: Clock
) -> None:
    sent = event(issuer)
    for _ in range(3):
        assert post(receiver, sent)[0] == 202
        clock.now += 5
        assert accepts(guard, issuer.token(subject="ada"))
    revocations = guard.health()["revocations"]
    assert revocations["entries"] == 2  # ada's tokens, and the token of the event


# What is refused


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"aud": "https://other.test"}, "invalid_audience"),
        ({"aud": None}, "invalid_audience"),
        ({"aud": [{}, 7]}, "invalid_audience"),
        ({"iss": "https://stranger.test"}, "invalid_issuer"),
        ({"key": SigningKey.generate("ES256", "key-1")}, "invalid_key"),
        ({"header": {"typ": "secevent+jwt", "kid": "unknown"}}, "invalid_key"),
        ({"header": {"typ": "secevent+jwt", "alg": "none"}}, "invalid_key"),
        ({"header": {"typ": "at+jwt"}}, "invalid_request"),
        ({"header": {"typ": "JWT"}}, "invalid_request"),
        ({"header": {"typ": None}}, "invalid_request"),
        ({"jti": None}, "invalid_request"),
        ({"jti": 7}, "invalid_request"),
        ({"iat": None}, "invalid_request"),
        ({"iat": NOON + 301}, "invalid_request"),
        ({"iat": "now"}, "invalid_request"),
        ({"exp": NOON}, "invalid_request"),
        ({"toe": NOON + 301}, "invalid_request"),
        ({"events": None}, "invalid_request"),
        ({"events": {}}, "invalid_request"),
        ({"events": []}, "invalid_request"),
        ({"events": {REVOKED: 7}}, "invalid_request"),
        ({"events": {f"urn:{n}": {} for n in range(17)}}, "invalid_request"),
        ({"payload": {"event_timestamp": NOON + 301}}, "invalid_request"),
        ({"payload": {"event_timestamp": -1}}, "invalid_request"),
        ({"sub_id": 7}, "invalid_request"),
        ({"sub_id": {"format": "iss_sub", "iss": "https://issuer.test"}}, "invalid_request"),
        ({"sub_id": {"format": "iss_sub", "iss": 7, "sub": "ada"}}, "invalid_request"),
        ({"sub_id": {"format": "opaque", "id": ""}}, "invalid_request"),
        ({"sub_id": {"id": "ada"}}, "invalid_request"),
        ({"sub_id": {"format": "complex"}}, "invalid_request"),
        ({"sub_id": {"format": "complex", "user": "ada"}}, "invalid_request"),
        ({"sub_id": {"format": "complex", "user": {"format": "complex"}}}, "invalid_request"),
        ({"sub_id": {"format": "aliases", "identifiers": []}}, "invalid_request"),
        (
            {"sub_id": {"format": "aliases", "identifiers": [{"format": "aliases"}]}},
            "invalid_request",
        ),
    ],
    ids=str,
)
def test_SET_01_no_other_token_revokes_anything(
    *, post: Post, guard: Guard, issuer: LocalIssuer, receiver: SecurityEvents,
    reported: list[Event], changed: dict[str, Any], code: str,
) -> None:  # fmt: skip
    refused_set(post(receiver, event(issuer, **changed)), 400, code)
    assert accepts(guard, issuer.token(subject="ada"))
    assert reported[-2].code == "bad_security_event" or reported[-1].code == "bad_security_event"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", SET),
        (b"garbage", SET),
        (b"a.b.c", SET),
        (b"\xff\xfe", SET),
        (b"x" * (MAX_BODY + 1), SET),
        (b"{}", JSON),
        (b"", ""),
    ],
    ids=range(7),
)
def test_SET_01_a_malformed_request_is_400(
    post: Post, receiver: SecurityEvents, body: bytes, kind: str
) -> None:
    refused_set(post(receiver, body, kind=kind), 400, "invalid_request")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT"])
def test_another_method_is_not_allowed(post: Post, receiver: SecurityEvents, method: str) -> None:
    status, headers, _ = post(receiver, b"", method=method)
    assert (status, headers["allow"]) == (405, "POST")


def test_the_transmitter_may_have_to_authenticate(
    post: Post, guard: Guard, issuer: LocalIssuer
) -> None:
    receiver = SecurityEvents(guard, audience=AUDIENCE, bearer=["b" * 20, SECRET])
    for wrong in (None, "", SECRET[:-1], SECRET + "x", "é"):
        reply = post(receiver, event(issuer), bearer=wrong)
        refused_set(reply, 401, "authentication_failed")
        assert reply[1]["www-authenticate"] == "Bearer"
    assert accepts(guard, issuer.token(subject="ada"))
    for each in ("b" * 20, SECRET):
        assert post(receiver, event(issuer), bearer=each)[0] == 202
    assert not accepts(guard, issuer.token(subject="ada"))


def test_what_a_withdrawn_key_signed_revokes_nothing(
    post: Post, issuer: LocalIssuer, guard: Guard, receiver: SecurityEvents
) -> None:
    leaked = event(issuer)
    withdrawn = issuer.key.kid
    issuer.rotate()
    guard.revoke(key_id=withdrawn)
    refused_set(post(receiver, leaked), 400, "invalid_request")
    assert accepts(guard, issuer.token(subject="ada"))


def test_a_security_event_token_opens_no_api(
    post: Post, guard: Guard, issuer: LocalIssuer, receiver: SecurityEvents
) -> None:
    sent = event(issuer, aud=[AUDIENCE, issuer.audience], exp=NOON + 60, sub="eve")
    assert post(receiver, sent)[0] == 202
    with pytest.raises(TokenError):
        guard.verify(sent)


def test_nothing_of_a_subject_is_reported(
    post: Post, issuer: LocalIssuer, receiver: SecurityEvents, reported: list[Event]
) -> None:
    post(receiver, event(issuer, sub_id={"format": "email", "email": "ada@example.com"}))
    post(receiver, event(issuer, sub_id={"format": "email", "email": "eve@example.com"}))
    assert "security_event_applied" in [each.code for each in reported]
    assert "example.com" not in " ".join(each.detail for each in reported)


# Our own trouble


def unavailable(reply: Reply) -> None:
    status, headers, body = reply
    assert (status, body) == (503, b"")
    assert int(headers["retry-after"]) >= 1


def test_it_is_503_while_keys_or_revocations_are_unavailable(
    post: Post, issuer: LocalIssuer, receiver: SecurityEvents, reported: list[Event]
) -> None:
    issuer.outage = True
    unavailable(post(receiver, event(issuer)))
    assert reported[-1].code == "security_event_failed"
    issuer.outage = False
    store = RedisStore(f"redis://127.0.0.1:{free_port()}", secret="s" * 32)
    with issuer.guard(revocations=Revocations(store)) as guard:
        unavailable(post(SecurityEvents(guard, audience=AUDIENCE), event(issuer)))


@pytest.mark.parametrize("result", [7, [""], [7], ValueError("secret")])
def test_a_subject_of_that_fails_is_503(
    post: Post, issuer: LocalIssuer, guard: Guard, reported: list[Event], result: Any
) -> None:
    def failing(_identifier: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    receiver = SecurityEvents(guard, audience=AUDIENCE, subject_of=failing)
    sent = event(issuer, sub_id={"format": "email", "email": "ada@example.com"})
    unavailable(post(receiver, sent))
    assert "subject_of=" in reported[-1].detail
    assert "secret" not in reported[-1].detail


def test_a_subject_may_be_several_users(post: Post, issuer: LocalIssuer, guard: Guard) -> None:
    receiver = SecurityEvents(guard, audience=AUDIENCE, subject_of=lambda _: ("ada", "bob"))
    sent = event(issuer, sub_id={"format": "email", "email": "x@example.com"})
    assert post(receiver, sent)[0] == 202
    assert [accepts(guard, issuer.token(subject=sub)) for sub in ("ada", "bob", "eve")] == [
        False,
        False,
        True,
    ]


def test_four_workers_refuse_soon_after_an_event(
    post: Post, issuer: LocalIssuer, redis: RedisServer
) -> None:
    with ExitStack() as stack:
        guards = [
            stack.enter_context(
                issuer.guard(revocations=Revocations(RedisStore(redis.url, secret="s" * 32)))
            )
            for _ in range(4)
        ]
        token = issuer.token(subject="ada")
        assert all(accepts(guard, token) for guard in guards)
        receiver = SecurityEvents(guards[0], audience=AUDIENCE)
        began = time.monotonic()
        assert post(receiver, event(issuer))[0] == 202
        while any(accepts(guard, token) for guard in guards):
            assert time.monotonic() - began < 10, "a worker never refused"
            time.sleep(0.002)
        spent = time.monotonic() - began
        # Each of them knows that the token of the event was used.
        again = [post(SecurityEvents(each, audience=AUDIENCE), event(issuer)) for each in guards]
        assert [reply[0] for reply in again] == [202] * 4
    print(f"4 workers over Redis refused {spent * 1000:.0f} ms after the event was posted")


# A transmitter that issues no tokens


def test_a_transmitter_of_its_own_speaks_for_one_issuer(
    post: Post, issuer: LocalIssuer, clock: Clock, reported: list[Event]
) -> None:
    signer = LocalIssuer("https://org.test", algorithm="ES256", clock=clock)
    guard = issuer.guard(revocations=Revocations(), on_event=reported.append)
    trusted = signer.issuer(keys=signer.jwks())
    receiver = SecurityEvents(guard, audience=AUDIENCE, transmitter=trusted)
    sent = event(signer, sub_id=iss_sub(signer))
    assert post(receiver, sent)[0] == 202
    assert not accepts(guard, issuer.token(subject="ada"))
    assert post(receiver, event(signer, sub_id=iss_sub(issuer, "bob")))[0] == 202
    assert not accepts(guard, issuer.token(subject="bob"))
    # The issuer of the tokens itself does not transmit here.
    refused_set(post(receiver, event(issuer, sub_id=iss_sub(issuer, "eve"))), 400, "invalid_issuer")
    assert accepts(guard, issuer.token(subject="eve"))
    # The transmitter's tokens open nothing.
    with pytest.raises(TokenError):
        guard.verify(signer.token())


def test_an_issuer_revokes_its_own_tokens_alone(
    post: Post, clock: Clock, issuer: LocalIssuer
) -> None:
    other = LocalIssuer("https://other.test", algorithm="ES256", clock=clock)
    trusted = [each.issuer(keys=each.jwks()) for each in (issuer, other)]
    with Guard(*trusted, clock=clock, revocations=Revocations()) as guard:
        receiver = SecurityEvents(guard, audience=AUDIENCE)
        assert post(receiver, event(other, sub_id=iss_sub(issuer)))[0] == 202
        assert post(receiver, event(other, sub_id={"format": "opaque", "id": "ada"}))[0] == 202
        assert accepts(guard, issuer.token(subject="ada"))
        assert not accepts(guard, other.token(subject="ada"))
        only = SecurityEvents(guard, audience=AUDIENCE, issuer=issuer.url)
        refused_set(post(only, event(other)), 400, "invalid_issuer")
        assert post(only, event(issuer))[0] == 202


def test_a_tenants_events_concern_no_other_tenant(post: Post, clock: Clock) -> None:
    keys = LocalIssuer("https://id.test/{tenant}", algorithm="ES256", clock=clock)
    pattern = keys.issuer(keys=keys.jwks(), tenants=["a", "b"])
    with Guard(pattern, clock=clock, revocations=Revocations()) as guard:
        receiver = SecurityEvents(guard, audience=AUDIENCE)
        sent = event(keys, iss="https://id.test/a", sub_id={"format": "opaque", "id": "user"})
        assert post(receiver, sent)[0] == 202
        assert not accepts(guard, keys.token(claims={"iss": "https://id.test/a"}))
        assert accepts(guard, keys.token(claims={"iss": "https://id.test/b"}))


# Never 500, and nothing accepted that was altered


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_no_altered_token_is_accepted(
    guard: Guard, issuer: LocalIssuer, receiver: SecurityEvents, data: st.DataObject
) -> None:
    original = event(issuer).encode()
    sent = bytearray(original)
    for at in data.draw(st.sets(st.integers(0, len(sent) - 1), min_size=1, max_size=3)):
        sent[at] ^= data.draw(st.integers(1, 255))
    assert POSTS["asgi"](receiver, bytes(sent))[0] == 400
    assert accepts(guard, issuer.token(subject="ada"))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            [*("format", "id", "iss", "sub", "email", "user", "session", "identifiers"),
             *("subject", "event_timestamp", "complex", REVOKED)]
        ) | st.text(max_size=5),
        inner | st.sampled_from(["opaque", "iss_sub", "complex", "aliases", "email"]),
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    changed=st.dictionaries(
        st.sampled_from(["aud", "iat", "exp", "jti", "toe", "sub_id", "events", "sub"]),
        JSON_VALUES,
    ),
    payload=JSON_VALUES,
)
def test_no_signed_token_makes_it_fail(
    guard: Guard, issuer: LocalIssuer, changed: dict[str, Any], payload: Any
) -> None:
    receiver = SecurityEvents(guard, audience=AUDIENCE, subject_of=lambda _: "bob")
    usual = {"payload": payload, **changed}
    posted = Posted("POST", SET, "", event(issuer, **usual).encode())
    assert guard.run(receiver._receive(posted)).status in {202, 400}
    body = json.dumps({"sub_id": payload}).encode()
    endpoint = GlobalTokenRevocation(guard, bearer=SECRET, subject_of=lambda _: None)
    posted = Posted("POST", JSON, f"Bearer {SECRET}", body)
    assert guard.run(endpoint._receive(posted)).status in {204, 400, 404}


# Global token revocation


@pytest.fixture
def endpoint(guard: Guard) -> GlobalTokenRevocation:
    return GlobalTokenRevocation(guard, audience=ENDPOINT, subject_of=by_email)


def caller(issuer: LocalIssuer, **changed: Any) -> str:
    usual: dict[str, Any] = {
        "aud": ENDPOINT,
        "sub": issuer.url,
        "client_id": None,
        "expires_in": 300,
        "header": {"typ": "global-token-revocation+jwt"},
    }
    return issuer.token(**with_claims({**usual, **changed}))


def subject(members: Any, name: str = "sub_id") -> str:
    return json.dumps({name: members})


@pytest.mark.parametrize("name", ["sub_id", "subject"])
def test_GTR_01_a_request_revokes_all_tokens_of_the_user(
    *, post: Post, guard: Guard, issuer: LocalIssuer, endpoint: GlobalTokenRevocation, name: str,
    clock: Clock, reported: list[Event],
) -> None:  # fmt: skip
    mine, other = issuer.token(subject="ada"), issuer.token(subject="eve")
    reply = post(endpoint, subject(iss_sub(issuer), name), kind=JSON, bearer=caller(issuer))
    assert (reply[0], reply[2]) == (204, b"")
    assert not accepts(guard, mine)
    assert accepts(guard, other)
    assert "revocation_requested" in [each.code for each in reported]
    clock.now += 2
    assert accepts(guard, issuer.token(subject="ada"))


def test_a_user_may_be_named_by_email_and_an_unknown_one_is_404(
    post: Post, guard: Guard, issuer: LocalIssuer, endpoint: GlobalTokenRevocation
) -> None:
    for email, status in (("ada@example.com", 204), ("eve@example.com", 404)):
        body = subject({"format": "email", "email": email})
        assert post(endpoint, body, kind=JSON, bearer=caller(issuer))[0] == status
    assert not accepts(guard, issuer.token(subject="ada"))
    assert accepts(guard, issuer.token(subject="eve"))


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://other.test"},
        {"aud": None},
        {"aud": [7]},
        {"exp": None},
        {"expires_in": -31},
        {"iat": NOON + 301},
        {"nbf": NOON + 31},
        {"iat": "now"},
        {"jti": 7},
        {"iss": "https://stranger.test"},
        {"key": SigningKey.generate("ES256", "key-1")},
        {"header": {"typ": "JWT"}},
        {"header": {"typ": "at+jwt"}},
        {"header": {"typ": None}},
        {"header": {"typ": "secevent+jwt"}},
    ],
    ids=str,
)
def test_GTR_01_another_caller_is_401(
    *, post: Post, guard: Guard, issuer: LocalIssuer, endpoint: GlobalTokenRevocation,
    changed: dict[str, Any],
) -> None:  # fmt: skip
    body = subject(iss_sub(issuer))
    status, headers, _ = post(endpoint, body, kind=JSON, bearer=caller(issuer, **changed))
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert accepts(guard, issuer.token(subject="ada"))


def test_a_caller_without_credentials_is_401_and_its_jwt_counts_once(
    post: Post, issuer: LocalIssuer, endpoint: GlobalTokenRevocation
) -> None:
    body = subject(iss_sub(issuer))
    assert post(endpoint, body, kind=JSON)[0] == 401
    assert post(endpoint, body, kind=JSON, bearer=SECRET)[0] == 401
    sent = caller(issuer)
    replies = [post(endpoint, body, kind=JSON, bearer=sent)[0] for _ in range(2)]
    assert replies == [204, 401]
    assert post(endpoint, body, kind=JSON, bearer=caller(issuer, jti=None))[0] == 204


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", JSON),
        (b"[]", JSON),
        (b"{}", JSON),
        (b'{"sub_id": "ada"}', JSON),
        (b'{"sub_id": {"format": "iss_sub"}}', JSON),
        (b'{"sub_id": 1, "sub_id": 2}', JSON),
        (b" " * (MAX_BODY + 1), JSON),
        (subject({"format": "opaque", "id": "ada"}).encode(), "text/plain"),
    ],
    ids=range(8),
)
def test_a_malformed_revocation_request_is_400(
    *, post: Post, issuer: LocalIssuer, guard: Guard, endpoint: GlobalTokenRevocation,
    body: bytes, kind: str,
) -> None:  # fmt: skip
    by_secret = GlobalTokenRevocation(guard, bearer=SECRET)
    assert post(by_secret, body, kind=kind, bearer=SECRET)[0] == 400
    status, _, content = post(endpoint, body, kind=kind, bearer=caller(issuer))
    assert (status, json.loads(content)["error"]) == (400, "invalid_request")


def test_a_caller_with_a_secret_revokes_the_tokens_of_the_only_issuer(
    post: Post, guard: Guard, issuer: LocalIssuer
) -> None:
    endpoint = GlobalTokenRevocation(guard, bearer=SECRET)
    body = subject({"format": "opaque", "id": "ada"})
    assert post(endpoint, body, kind=JSON, bearer="x" * 20)[0] == 401
    assert post(endpoint, body, kind=JSON, bearer=SECRET)[0] == 204
    assert not accepts(guard, issuer.token(subject="ada"))
    assert post(endpoint, body, kind=JSON, method="GET", bearer=SECRET)[0] == 405


def test_a_revocation_request_is_503_in_our_own_trouble(
    post: Post, guard: Guard, issuer: LocalIssuer, endpoint: GlobalTokenRevocation
) -> None:
    sent = caller(issuer)
    issuer.outage = True
    unavailable(post(endpoint, subject(iss_sub(issuer)), kind=JSON, bearer=sent))
    issuer.outage = False
    guard.close()


# Configuration


def test_a_mistake_in_an_option_is_named(guard: Guard, issuer: LocalIssuer, clock: Clock) -> None:
    other = LocalIssuer("https://other.test", algorithm="ES256", clock=clock)
    trusted = other.issuer(keys=other.jwks())
    pair = Guard(issuer.issuer(keys=issuer.jwks()), trusted, clock=clock, revocations=Revocations())
    wrong: Any = None
    for said, make in (
        ("guard=", lambda: SecurityEvents(wrong, audience=AUDIENCE)),
        ("revocations=", lambda: SecurityEvents(issuer.guard(), audience=AUDIENCE)),
        ("audience=", lambda: SecurityEvents(guard, audience="")),
        ("bearer=", lambda: SecurityEvents(guard, audience=AUDIENCE, bearer="short")),
        ("bearer=", lambda: SecurityEvents(guard, audience=AUDIENCE, bearer="with a space " * 3)),
        ("subject_of=", lambda: SecurityEvents(guard, audience=AUDIENCE, subject_of="x")),  # type: ignore[arg-type]
        ("also=", lambda: SecurityEvents(guard, audience=AUDIENCE, also=REVOKED)),
        ("transmitter=", lambda: SecurityEvents(guard, audience=AUDIENCE, transmitter="x")),  # type: ignore[arg-type]
        ("issuer=", lambda: SecurityEvents(guard, audience=AUDIENCE, issuer="https://x.test")),
        ("issuer=", lambda: SecurityEvents(pair, audience=AUDIENCE, transmitter=trusted)),
        ("issuer=", lambda: GlobalTokenRevocation(pair, bearer=SECRET)),
        ("audience=", lambda: GlobalTokenRevocation(guard)),
    ):
        with pytest.raises(ConfigurationError, match=said):
            make()


def test_a_request_shows_nothing_in_a_traceback() -> None:
    posted = Posted("POST", SET, f"Bearer {SECRET}", b"secret")
    assert repr(posted) == "Posted('POST')"


def test_the_error_codes_are_those_of_the_rfc() -> None:
    """RFC 8935 §2.4; the other codes of its registry are for what is never found here."""
    assert {security_event.error_code(reason) for reason in security_event._ERRORS} == {
        "invalid_issuer",
        "invalid_key",
        "invalid_audience",
    }
