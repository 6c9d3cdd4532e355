"""Tokens that are bound to a key of their sender: options, external URLs, replays, `verify`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from bearerguard import (
    Allow,
    Challenge,
    ConfigurationError,
    Deny,
    Event,
    Guard,
    MemoryReplays,
    NonceRequired,
    Principal,
    ProofError,
    ReceivedRequest,
    ReplaysUnavailable,
    Request,
    Revocations,
    TokenError,
    Unavailable,
    scopes,
)
from bearerguard.errors import WRONG_KEY
from bearerguard.guard.binding import Binding, DpopOptions, made
from bearerguard.guard.binding.external_url import ExternalUrls
from bearerguard.guard.binding.received_request import sent_path
from bearerguard.guard.config.protected_resource import ProtectedResource
from bearerguard.guard.keys.key_validity import KeyValidity
from bearerguard.guard.token_cache import TokenCache, VerifiedToken
from bearerguard.protocol import dpop
from bearerguard.protocol.dpop import CheckedProof
from bearerguard.protocol.http.credentials import Credentials
from bearerguard.protocol.http.proxies import forwarded_origin
from bearerguard.protocol.jose import signing
from bearerguard.redis import RedisStore
from bearerguard.testing import Clock, LocalIssuer

CLOCK = Clock(1_800_000_000)
ISSUER = LocalIssuer(clock=CLOCK)
KEY = signing.PrivateKey("ES256", None, signing.generate("ES256"))
JKT = dpop.key_thumbprint(KEY)
URL = "https://api.test/things"
SECRET = "s" * 32
CLOSED = "redis://127.0.0.1:1"


def guard(**options: Any) -> Guard:
    return ISSUER.guard(**{"dpop": "allowed", **options})


def token(**claims: Any) -> str:
    return ISSUER.token(claims={"cnf": {"jkt": JKT}, **claims})


def request(text: str, *, jti: str = "one", url: str = URL, **claims: Any) -> Request:
    """Return a request with a token and a proof for it."""
    proof = dpop.proof(KEY, "GET", url, now=CLOCK(), jti=jti, access_token=text, **claims)
    fields = {"Authorization": f"DPoP {text}", "DPoP": proof}
    return Request("GET", url, fields)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dpop": "on"}, r"dpop=: 'on' is no mode: pass \"off\", \"allowed\" or \"required\""),
        ({"dpop": None}, "dpop=: None is no mode"),
        ({"dpop": "off", "replay": MemoryReplays()}, 'replay=: it has no effect with dpop="off"'),
        ({"dpop": "off", "dpop_nonces": SECRET}, "dpop_nonces=: it has no effect"),
        ({"dpop": "off", "dpop_content_digest": True}, "dpop_content_digest=: it has no effect"),
        ({"dpop": "off", "dpop_max_age": 60}, "dpop_max_age=: it has no effect"),
        ({"dpop": "off", "dpop_algorithms": ["ES256"]}, "dpop_algorithms=: it has no effect"),
        ({"dpop": "off", "public_url": URL}, 'public_url=: it has no effect with dpop="off"'),
        (
            {"dpop": "off", "trusted_proxies": ["10.0.0.1"]},
            'trusted_proxies=: it has no effect with dpop="off": leave it out, unless cert',
        ),
        (
            {"dpop": "off", "certificates": "tls", "trusted_proxies": ["10.0.0.1"]},
            'trusted_proxies=: it has no effect with dpop="off"',
        ),
        (
            {"public_url": URL, "trusted_proxies": ["10.0.0.1"]},
            "trusted_proxies=: it has no effect with public_url=",
        ),
        ({"dpop_nonces": "short"}, "dpop_nonces=: it is shorter than 32 bytes"),
        ({"dpop_content_digest": 1}, "dpop_content_digest=: pass True or False"),
        ({"dpop_max_age": 0}, "dpop_max_age=: pass a number of seconds, from 1 to 3600"),
        ({"dpop_max_age": True}, "dpop_max_age=: pass"),
        ({"dpop_max_age": "60"}, "dpop_max_age=: pass"),
        ({"dpop_algorithms": "ES256"}, "dpop_algorithms=: pass a list"),
        ({"dpop_algorithms": []}, "dpop_algorithms=: pass a list"),
        ({"dpop_algorithms": ["HS256"]}, "dpop_algorithms=: pass a list"),
        ({"replay": object()}, "replay=: pass a RedisStore"),
        ({"resource": False}, "public_url=: dpop= needs the URL by which clients reach this API"),
        ({"public_url": "api.test"}, "public_url=: pass the URL"),
        ({"public_url": "https://api.test/?q"}, "public_url=: pass the URL"),
        ({"public_url": "https://api.test/#f"}, "public_url=: pass the URL"),
        ({"public_url": "https://user@api.test"}, "public_url=: pass the URL"),
        ({"public_url": 7}, "public_url=: pass the URL"),
        ({"resource": False, "trusted_proxies": "10.0.0.1"}, "trusted_proxies=: pass a list"),
        ({"trusted_proxies": ["0.0.0.0/0"]}, "trusted_proxies=: a network of all addresses"),
    ],
)
def test_a_wrong_option_is_named_with_the_remedy(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        guard(**options)


def test_the_number_of_replays_is_positive() -> None:
    with pytest.raises(ConfigurationError, match=r"MemoryReplays\(size=\)"):
        MemoryReplays(size=0)


def test_proxies_are_for_the_url_of_proofs_or_for_certificates() -> None:
    proxies = {"trusted_proxies": ["10.0.0.1"]}
    for options in (
        {},
        {"certificates": "nginx"},
        {"certificates": "nginx", "dpop": "off"},
        {"certificates": "nginx", "public_url": "https://api.test"},
    ):
        guard(**proxies, **options).close()


def test_a_public_url_makes_a_resource_needless() -> None:
    text = token()
    with guard(resource=False, public_url="https://api.test") as own:
        assert isinstance(own.run(own.authenticate(request(text))), Allow)


# The external URL

RESOURCE = ProtectedResource("https://api.test/v1")
FORWARDED = {
    "x-forwarded-proto": "https",
    "x-forwarded-host": "public.test",
    "host": "inner.test:8000",
}


def received(
    path: str = "/things", peer: str = "10.0.0.1", scheme: str = "http", **fields: str
) -> ReceivedRequest:
    values = {name.replace("_", "-"): [value.encode()] for name, value in fields.items()}
    return ReceivedRequest("GET", path, lambda name: values.get(name, []), scheme, peer)


def forwarded(peer: str, **changes: str) -> ReceivedRequest:
    fields = {name: value for name, value in {**FORWARDED, **changes}.items() if value}
    values = {name.replace("_", "-"): [value.encode()] for name, value in fields.items()}
    return ReceivedRequest("GET", "/things", lambda name: values.get(name, []), "http", peer)


@pytest.mark.parametrize(
    ("public_url", "path", "expected"),
    [
        ("https://a.test", "/x", "https://a.test/x"),
        ("https://a.test/", "/x", "https://a.test/x"),
        ("https://a.test", "", "https://a.test/"),
        ("https://a.test/v1", "/x", "https://a.test/v1/x"),
        ("https://a.test/v1/", "/v1/x", "https://a.test/v1/x"),
        ("https://a.test/v1", "/v1", "https://a.test/v1"),
        ("https://a.test/v1", "/v10/x", "https://a.test/v1/v10/x"),
        ("https://a.test:8443/v1", "/x", "https://a.test:8443/v1/x"),
    ],
)
def test_the_path_of_the_public_url_is_neither_left_out_nor_doubled(
    public_url: str, path: str, expected: str
) -> None:
    assert ExternalUrls(public_url, (), None).of(received(path)) == expected


def test_without_a_public_url_the_resource_has_scheme_and_host() -> None:
    assert ExternalUrls(None, (), RESOURCE).of(forwarded("10.0.0.1")) == "https://api.test/things"


def test_a_trusted_proxy_says_scheme_and_host_and_nobody_else_does() -> None:
    urls = ExternalUrls(None, ["10.0.0.0/24"], RESOURCE)
    assert urls.of(forwarded("10.0.0.1")) == "https://public.test/things"
    assert urls.of(forwarded("203.0.113.9")) == "https://api.test/things"
    assert ExternalUrls("https://own.test", ["10.0.0.0/24"], RESOURCE).of(
        forwarded("10.0.0.1")
    ) == ("https://own.test/things")


def test_without_a_resource_other_peers_are_refused() -> None:
    urls = ExternalUrls(None, ["unix"], None)
    assert urls.of(forwarded("")) == "https://public.test/things"
    with pytest.raises(ProofError, match=r"it comes from '203\.0\.113\.9'.*--no-proxy-headers"):
        urls.of(forwarded("203.0.113.9"))
    with pytest.raises(ProofError, match="which says no valid host"):
        urls.of(forwarded("", **{"x-forwarded-host": "a b", "host": ""}))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"host": "a.test"}, "http://a.test"),
        ({"host": "A.test:8000", "x-forwarded-proto": "HTTPS"}, "https://a.test:8000"),
        ({"x-forwarded-host": "evil.test, a.test", "host": "b.test"}, "http://a.test"),
        ({"x-forwarded-proto": "http, wss", "host": "a.test"}, "https://a.test"),
        ({"host": "a.test", "x-forwarded-port": "8443"}, "http://a.test:8443"),
        ({"host": "a.test:80", "x-forwarded-port": "8443"}, "http://a.test:80"),
        ({"host": "a.test", "x-forwarded-port": "x"}, "http://a.test"),
        ({"host": "[::1]:8000"}, "http://[::1]:8000"),
        ({"forwarded": "for=1.2.3.4;host=a.test;proto=https"}, "https://a.test"),
        ({"forwarded": 'host=evil.test, for="[::1]";host="a.test:9"'}, "http://a.test:9"),
        ({"forwarded": "proto=https", "host": "a.test"}, "https://a.test"),
        ({"forwarded": "host=a.test:443;proto=https", "x-forwarded-host": "A.test"}, None),
        (
            {"forwarded": "host=a.test;proto=http", "x-forwarded-host": "A.test:80"},
            "http://a.test",
        ),
        # A proxy that writes one of the two passes the client's other one on.
        ({"forwarded": "host=evil.test", "x-forwarded-host": "a.test"}, None),
        ({"forwarded": "host=evil.test", "x-forwarded-proto": "http", "host": "a.test"}, None),
        ({"forwarded": "host=a.test", "x-forwarded-port": "9"}, None),
        ({"forwarded": "host=a b", "x-forwarded-host": "a.test"}, None),
        ({"forwarded": "proto=ftp", "host": "a.test"}, None),
        ({"host": "a.test/b"}, None),
        ({"host": "user@a.test"}, None),
        ({"host": "a test"}, None),
        ({"x-forwarded-host": ""}, None),
        ({}, None),
    ],
)
def test_forwarded_fields_are_read_as_the_nearest_proxy_wrote_them(
    fields: dict[str, str], expected: str | None
) -> None:
    def values(name: str) -> list[bytes]:
        return [fields[name].encode()] if name in fields else []

    assert forwarded_origin("http", values) == expected


@pytest.mark.parametrize(
    ("whole", "root", "raw", "expected"),
    [
        ("/a", "", "/a", "/a"),
        ("/a", "", "/a?b=c", "/a"),
        ("/a b", "", "/a%20b", "/a%20b"),
        ("/v1/a", "/v1", "/v1/a", "/v1/a"),
        ("/v1/a", "/v1", "/a", "/v1/a"),
        ("/v 1/a/b", "/v 1", "/a%2fb", "/v%201/a%2fb"),
        ("/é", "", "", "/%C3%A9"),
        ("/a;b", "", "", "/a;b"),
        ("/rewritten", "", "/other", "/rewritten"),
        ("/a", "", "http://host:80/a?b", "/a"),
        ("/", "", "http://host", "/"),
        ("/%41", "", "/%2541", "/%2541"),
        ("/%41", "", "/%41", "/%2541"),
    ],
)
def test_the_path_is_the_one_that_was_sent_with_the_mount(
    whole: str, root: str, raw: str, expected: str
) -> None:
    assert sent_path(whole, root, raw) == expected


def test_a_received_request_shows_neither_path_nor_fields() -> None:
    assert repr(received("/secret")) == "ReceivedRequest('GET')"


def test_the_peer_of_a_request_is_found_only_where_proxies_are_trusted() -> None:
    asked: list[str] = []

    def peer() -> str:
        asked.append("peer")
        return "10.0.0.1"

    values = {name.replace("_", "-"): [value.encode()] for name, value in FORWARDED.items()}
    about = ReceivedRequest("GET", "/things", lambda name: values.get(name, []), "http", peer)
    assert ExternalUrls("https://api.test", ["10.0.0.0/24"], None).of(about) == URL
    assert not asked
    found = ExternalUrls(None, ["10.0.0.0/24"], None).of(about)
    assert (found, asked) == ("https://public.test/things", ["peer"])


# Replays


def proof(jti: str = "one", sender: str = JKT, ends: float = 1000.0) -> CheckedProof:
    return CheckedProof(sender, jti, URL, ends - 300, ends, None, None)


def noted(replays: MemoryReplays, made: CheckedProof, now: float, caller: str = "ada") -> bool:
    return replays.use(made, now, ("https://id.test", caller))


def test_DP_06_a_proof_is_used_once_until_it_is_too_old() -> None:
    replays = MemoryReplays()
    assert noted(replays, proof(), 700)
    assert not noted(replays, proof(), 999)
    assert not noted(replays, proof(ends=1100), 999), "the same identifier, made later"
    assert noted(replays, proof("two"), 999)
    assert noted(replays, proof(sender="other"), 999)
    assert replays.count == 3


def test_DP_06_old_uses_are_dropped_and_stay_refused_when_the_clock_is_set_back() -> None:
    replays = MemoryReplays()
    assert noted(replays, proof(), 700)
    assert noted(replays, proof("two", ends=2000), 1700)
    assert replays.count == 1
    assert not noted(replays, proof(), 700)
    assert noted(replays, proof("three", ends=1030), 1000)


def test_DP_06_one_caller_cannot_take_the_place_of_another_with_any_number_of_keys() -> None:
    replays = MemoryReplays(size=8)
    for number in range(2):
        made = proof("one", f"key {number}", ends=1000 + 60 * number)
        assert noted(replays, made, 700)
    with pytest.raises(ReplaysUnavailable, match=r"the caller has used a quarter.*dpop_max_age"):
        noted(replays, proof("more", "key 3"), 700)
    assert not noted(replays, proof("one", "key 0"), 700), "it is known, and so refused as used"
    for caller in ("b", "c", "d"):
        assert all(noted(replays, proof(caller + jti), 700, caller) for jti in "12")
    with pytest.raises(ReplaysUnavailable, match="it is full") as caught:
        noted(replays, proof("other"), 700, "e")
    assert caught.value.retry_after == 60
    assert noted(replays, proof("other", ends=3000), 2700, "e")


def test_DP_06_of_many_threads_one_uses_a_proof() -> None:
    replays, used = MemoryReplays(), []
    started = threading.Barrier(8)

    def use() -> None:
        started.wait()
        used.extend([number for number in range(500) if noted(replays, proof(str(number)), 700)])

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(used) == list(range(500))


def test_DP_06_all_keys_of_one_caller_share_a_quarter_of_the_memory() -> None:
    def asked(own: Guard, subject: str) -> Any:
        key = signing.PrivateKey("ES256", None, signing.generate("ES256"))
        text = token(sub=subject, cnf={"jkt": dpop.key_thumbprint(key)})
        made = dpop.proof(key, "GET", URL, now=CLOCK(), jti="one", access_token=text)
        sent = Request("GET", URL, {"Authorization": f"DPoP {text}", "DPoP": made})
        return own.run(own.authenticate(sent))

    with guard(replay=MemoryReplays(size=8)) as own:
        assert [type(asked(own, "ada")) for _ in range(3)] == [Allow, Allow, Unavailable]
        assert isinstance(asked(own, "eve"), Allow)


def test_replays_show_their_size_alone() -> None:
    assert repr(MemoryReplays(size=9)) == "MemoryReplays(size=9)"


def test_DP_06_a_store_that_is_down_is_nobodys_fault_and_is_reported() -> None:
    events: list[Event] = []
    replay, text = RedisStore(CLOSED, secret=SECRET), token()
    with guard(replay=replay, on_event=events.append) as own:
        decision = own.run(own.authenticate(request(text)))
        assert isinstance(decision, Unavailable)
        assert decision.retry_after == 1
        with pytest.raises(ReplaysUnavailable, match="the replay store is unavailable"):
            own.verify(text, request(text))
    assert [event.code for event in events][-1] == "replays_unavailable"


# Decisions


def test_a_bound_token_is_cached_and_proved_by_each_request() -> None:
    text = token()
    events: list[Event] = []
    with guard(on_event=events.append) as own:
        for number in range(3):
            about = request(text, jti=str(number))
            assert isinstance(own.run(own.authenticate(about)), Allow)
            deny = own.run(own.authenticate(about))
            assert isinstance(deny, Deny)
            assert deny.reason.code == "replayed_proof"
        assert len(own.recent) == 0
        assert own.health()["cached_tokens"] == 1
    assert {event.code for event in events} == {"keys_fetched", "replayed_proof"}


@pytest.mark.parametrize("scheme", [b"Bearer ", b"DPoP ", b"bound:", b""])
def test_no_authorization_field_finds_a_bound_token_in_the_cache(scheme: bytes) -> None:
    text = token()
    with guard() as own:
        assert isinstance(own.run(own.authenticate(request(text))), Allow)
        assert own.cached(scheme + text.encode()) is None
        assert own.cached(scheme + text.encode() + b"bound") is None
        deny = own.run(own.decide([scheme + text.encode()]))
        assert isinstance(deny, Deny)


def test_a_bound_token_is_refused_where_the_request_is_not_passed() -> None:
    with guard() as own:
        deny = own.run(own.decide([f"DPoP {token()}".encode()]))
        assert isinstance(deny, Deny)
        assert (deny.status, deny.reason.code) == (401, "sender_constrained")


def test_a_guard_with_observers_decides_alike() -> None:
    records: list[Any] = []

    class Observing:
        def decided(self, record: Any) -> None:
            records.append(record)

        def fetched(self, record: Any) -> None:
            """Take no note of it."""

    text = token()
    with guard(observers=[Observing()], require=scopes("read")) as own:
        deny = own.run(own.authenticate(request(text)))
        assert isinstance(deny, Deny)
        assert deny.challenges[0].scheme == "DPoP"
        assert own.verify(text, request(text, jti="two")).token_id
    assert len(records) == 2


def test_a_revoked_bound_token_is_refused() -> None:
    text = token(jti="gone")
    with guard(revocations=Revocations()) as own:
        assert isinstance(own.run(own.authenticate(request(text))), Allow)
        own.revoke(text)
        deny = own.run(own.authenticate(request(text, jti="two")))
        assert isinstance(deny, Deny)
        assert deny.reason.code == "revoked"
        assert deny.challenges[0].scheme == "DPoP"


# verify


def test_STREAM_01_the_stream_of_a_bound_token_knows_its_signing_key() -> None:
    text = token()
    with guard() as own:
        decision = own.run(own.authenticate(request(text)))
        assert isinstance(decision, Allow)
        stream = own.stream_token(decision.principal, [f"DPoP {text}".encode()])
        assert stream.key_id == ISSUER.key.kid, "so that its withdrawal ends the stream"


def test_a_proof_is_checked_once_though_its_use_is_noted_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked: list[str] = []
    original = dpop.ProofChecker.check

    def check(*arguments: Any, **named: Any) -> CheckedProof:
        checked.append(named["method"])
        return original(*arguments, **named)

    monkeypatch.setattr(dpop.ProofChecker, "check", check)
    text = token()
    with guard(replay=RedisStore(CLOSED, secret=SECRET)) as own:
        for times in (1, 2):  # validated, and found in the cache
            assert isinstance(own.run(own.authenticate(request(text))), Unavailable)
            assert len(checked) == times


def test_DP_00_verify_refuses_a_bound_token_without_its_request() -> None:
    text = token()
    for own in (guard(), ISSUER.guard()):
        with own, pytest.raises(TokenError) as caught:
            own.verify(text)
        assert caught.value.reason.code == "sender_constrained"


def test_verify_accepts_a_bound_token_with_the_request_that_proves_it() -> None:
    text = token()
    with guard() as own:
        assert own.verify(text, request(text)).claims["cnf"]["jkt"] == JKT
        with pytest.raises(ProofError, match="used before"):
            own.verify(text, request(text))
        with pytest.raises(ProofError, match="missing_proof"):
            own.verify(text, Request("GET", URL))
        assert own.verify(ISSUER.token()).subject, "a bearer token needs no request"


def test_averify_does_the_same() -> None:
    text = token()

    async def main() -> None:
        async with guard() as own:
            assert (await own.averify(text, request(text))).subject
            with pytest.raises(ProofError, match="used before"):
                await own.averify(text, request(text))
            with pytest.raises(TokenError, match="sender_constrained"):
                await own.averify(text)

    asyncio.run(main())


def test_verify_takes_the_path_of_a_request_and_never_its_host() -> None:
    text = token()
    evil = request(text, url="https://evil.test/things")
    with guard() as own:
        with pytest.raises(ProofError, match="wrong_proof_target"):
            own.verify(text, evil)
        proved = request(text)
        assert own.verify(text, Request("GET", "/things?q=1", proved.headers))


@pytest.mark.parametrize(
    "url",
    [
        "/admin?next=https://api.test/things",
        "/admin#https://api.test/things",
        "/admin/x://api.test/things",
        "https://api.test/admin?next=https://api.test/things",
        "https://api.test?next=://api.test/things",
    ],
)
def test_DP_04_a_url_in_a_query_or_path_is_not_the_one_that_was_requested(url: str) -> None:
    text = token()
    proved = request(text)
    with guard() as own:
        with pytest.raises(ProofError, match="wrong_proof_target"):
            own.verify(text, Request("GET", url, proved.headers))
        assert isinstance(own.run(own.authenticate(Request("GET", url, proved.headers))), Deny)
        assert own.verify(text, proved), "and the proof is still unused"


def test_DP_11_verify_demands_a_nonce_too() -> None:
    text, nonces = token(), dpop.Nonces(SECRET, purpose="api")
    with guard(dpop_nonces=SECRET) as own:
        with pytest.raises(NonceRequired):
            own.verify(text, request(text))
        assert own.verify(text, request(text, nonce=nonces.make(CLOCK())))


def test_DP_00_required_refuses_a_bearer_token() -> None:
    with guard(dpop="required") as own, pytest.raises(TokenError, match="unbound"):
        own.verify(ISSUER.token())
    with guard(dpop="required") as own, pytest.raises(TokenError, match="certificates="):
        own.verify(ISSUER.token(claims={"cnf": {"x5t#S256": JKT}}))


# Explaining


@pytest.mark.parametrize("mode", ["allowed", "required"])
def test_a_bound_token_is_explained(mode: str) -> None:
    with guard(dpop=mode) as own:
        explained = own.explain(token(token_type="DPoP"))
    assert isinstance(explained.decision, Allow)
    (sender,) = [check for check in explained.checks if check.name == "sender"]
    assert sender.status == "passed"
    assert sender.actual == "bound by jkt: each request must prove that it has the key"
    assert not [check for check in explained.checks if check.status == "failed"]


@pytest.mark.parametrize(
    ("mode", "cnf", "code"),
    [
        ("off", {"jkt": JKT}, "sender_constrained"),
        ("allowed", {"kid": "x"}, "sender_constrained"),
        ("required", None, "unbound"),
    ],
)
def test_the_refusal_of_a_binding_is_explained(mode: str, cnf: Any, code: str) -> None:
    with guard(dpop=mode) as own:
        explained = own.explain(ISSUER.token(claims={"cnf": cnf}))
    failed = [check for check in explained.checks if check.status == "failed"]
    assert [(check.name, check.reason) for check in failed] == [("sender", code)]
    assert failed[0].remedy


def test_an_introspected_bound_token_is_explained() -> None:
    how = ISSUER.introspection.options()
    text = ISSUER.opaque_token(claims={"cnf": {"jkt": JKT}, "token_type": "DPoP"})
    with (
        guard(introspection=how)
        if False
        else Guard(
            ISSUER.issuer(introspection=how),
            transport=ISSUER.transport(),
            clock=CLOCK,
            dpop="required",
        ) as own
    ):
        assert isinstance(own.explain(text).decision, Allow)


# Other confirmation methods

X5T = "x5t#S256"
OPTIONS: dict[str, Any] = {
    "replay": None,
    "nonces": None,
    "content_digest": False,
    "algorithms": ("ES256",),
    "max_age": 300.0,
    "public_url": "https://api.test",
    "trusted_proxies": (),
}


def of_certificates(mode: Any) -> Binding:
    """Return a binding with a second method, whose value must be a field of the request."""

    def check(value: str, about: ReceivedRequest) -> None:
        if about.values("certificate") != [value.encode()]:
            raise TokenError(WRONG_KEY, "another certificate")

    found = made(DpopOptions(mode=mode, **OPTIONS), {X5T: check}, None, Challenge("api"))
    assert found is not None
    return found


def bound_to(binding: Binding, **methods: str) -> VerifiedToken:
    named = {name.replace("x5t", X5T): value for name, value in methods.items()}
    read = binding.confirmations.read({"cnf": named} if named else {})
    return VerifiedToken(Principal(), 0, KeyValidity(0), bound=read)


def with_certificate(value: str | None, **fields: str) -> Callable[[], ReceivedRequest]:
    given = fields if value is None else {"certificate": value, **fields}
    return lambda: received(**given)


def test_CNF_01_every_method_of_a_token_is_checked() -> None:
    binding, text, now = of_certificates("allowed"), "abc", CLOCK()
    fields = {"dpop": dpop.proof(KEY, "GET", URL, now=now, jti="j", access_token=text)}
    bearer, as_dpop = Credentials("Bearer", b"abc"), Credentials("DPoP", b"abc")
    certified, both = bound_to(binding, x5t=JKT), bound_to(binding, x5t=JKT, jkt=JKT)
    assert binding.check(certified, bearer, with_certificate(JKT), now) is None
    assert binding.check(both, as_dpop, with_certificate(JKT, **fields), now) is not None
    for token_, sent, about in (
        (certified, bearer, with_certificate("other")),
        (certified, bearer, with_certificate(None)),
        (certified, bearer, None),
        (certified, as_dpop, with_certificate(JKT, **fields)),
        (both, bearer, with_certificate(JKT, **fields)),
        (both, as_dpop, with_certificate("other", **fields)),
    ):
        with pytest.raises(TokenError):
            binding.check(token_, sent, about, now)
    with pytest.raises(ProofError, match="missing_proof"):
        binding.check(both, as_dpop, with_certificate(JKT), now)


def test_CNF_01_without_dpop_the_other_methods_work() -> None:
    binding = of_certificates("off")
    deny = Deny(401, WRONG_KEY, (Challenge("api"),))
    assert binding.credentials([b"DPoP abc"]) is None
    assert binding.credentials([b"Bearer abc"]) == Credentials("Bearer", b"abc")
    assert "abc" not in repr(binding.credentials([b"Bearer abc"]))
    assert binding.challenged(deny, None, 0) is deny
    assert binding.store is None
    with pytest.raises(TokenError, match='pass dpop="allowed"'):
        bound_to(binding, jkt=JKT)


def test_CNF_01_where_dpop_is_required_another_method_is_not_enough() -> None:
    binding = of_certificates("required")
    with pytest.raises(TokenError, match="its cnf has no jkt"):
        bound_to(binding, x5t=JKT)
    assert bound_to(binding, x5t=JKT, jkt=JKT).bound is not None
    assert bound_to(binding.without_requirement()).bound is None


def test_the_cache_finds_bound_and_bearer_tokens_apart() -> None:
    with guard() as own:
        entry = own._authenticator.validate_now(token().encode())
        if not isinstance(entry, VerifiedToken):
            entry = own.run(own._authenticator.validate(entry))
    tokens = TokenCache(4, CLOCK)
    tokens.put(b"key", entry)
    assert tokens.get(b"key") is None
    assert tokens.get_bound(b"key") is entry
    assert tokens.get_any(b"key") is entry
