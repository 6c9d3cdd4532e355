"""Many issuers, issuers with many tenants, and claim mapping."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard import (
    ClaimMapping,
    ConfigurationError,
    Guard,
    Introspection,
    Issuer,
    IssuerUnavailable,
    KeyPolicy,
    Principal,
    RequiredClaims,
    Response,
    TokenError,
    step_up,
)
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed
from bearerguard.testing import LocalIssuer, SigningKey
from tests.conformance.harness import Clock

URL = "https://id.test/{tenant}/v2"
KEY = SigningKey.generate("ES256", "k1")
EVIL = SigningKey.generate("ES256", "k1")


class Provider:
    """A provider with any number of tenants, each with a key of its own; some may be down."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.tenants: dict[str, LocalIssuer] = {}
        self.down: set[str] = set()
        self.fetched: Counter[str] = Counter()

    def tenant(self, name: str) -> LocalIssuer:
        if name not in self.tenants:
            url = URL.replace("{tenant}", name)
            self.tenants[name] = LocalIssuer(url, algorithm="ES256", clock=self.clock)
        return self.tenants[name]

    def fetch(self, request: Fetch) -> Response:
        name = request.url.split("/v2")[0].rsplit("/", 1)[1]
        self.fetched[name] += 1
        if name in self.down:
            raise FetchFailed(f"{request.url}: refused")
        return self.tenant(name).transport().fetch(request)

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)

    def guard(self, **options: Any) -> Guard:
        issuer = Issuer(URL, **{"audience": "https://api.test", **options})
        return Guard(issuer, transport=self, clock=self.clock)


@pytest.fixture
def provider() -> Provider:
    return Provider()


def test_an_allowed_tenant_passes_and_no_other(provider: Provider) -> None:
    with provider.guard(tenants=["a", "b"]) as guard:
        for name in ("a", "b"):
            principal = guard.verify(provider.tenant(name).token())
            assert principal.issuer == f"https://id.test/{name}/v2"
        with pytest.raises(TokenError, match="unknown_issuer"):
            guard.verify(provider.tenant("c").token())
        assert provider.fetched["c"] == 0
        assert set(guard.health()["issuers"]) == {"https://id.test/a/v2", "https://id.test/b/v2"}
        assert guard.health()["fresh"]
        assert repr(guard) == f"Guard({URL!r})"


def test_STEP_01_the_age_of_a_login_has_the_leeway_of_the_tenants_pattern(
    provider: Provider,
) -> None:
    recent = step_up(max_age=300)
    with provider.guard(tenants=["a"], leeway=10) as guard:
        now = int(provider.clock())
        for age, met in ((310, True), (311, False)):
            token = provider.tenant("a").token(claims={"auth_time": now - age})
            assert guard.meets(guard.verify(token), recent) is met
        for age, met in ((300, True), (301, False)):  # of a principal that the app has made
            made = Principal(auth_time=now - age)
            stranger = Principal(issuer="https://other.test", auth_time=now - age)
            assert guard.meets(made, recent) is guard.meets(stranger, recent) is met


def test_one_tenants_key_signs_for_no_other(provider: Provider) -> None:
    with provider.guard(tenants=["a", "b"]) as guard:
        forged = provider.tenant("a").token(claims={"iss": "https://id.test/b/v2"})
        with pytest.raises(TokenError, match=r"bad_signature|unknown_key"):
            guard.verify(forged)


@pytest.mark.parametrize(
    "iss",
    [
        "https://id.test//v2",
        "https://id.test/a/b/v2",
        "https://id.test/../v2",
        "https://id.test/a%2Fb/v2",
        "https://id.test/a/v2/",
        "https://id.test/a/v2\n",
        "https://id.test/{tenant}/v2",
        "https://idxtest/a/v2",
        "https://evil.test/https://id.test/a/v2",
        f"https://id.test/{'a' * 129}/v2",
    ],
)
def test_what_only_resembles_a_tenant_is_refused(iss: str, provider: Provider) -> None:
    asked: list[str] = []

    def allow(tenant: str) -> bool:
        asked.append(tenant)
        return True

    with provider.guard(tenants=allow) as guard, pytest.raises(TokenError, match="unknown_issuer"):
        guard.verify(provider.tenant("a").token(claims={"iss": iss}))
    assert asked == []
    assert not provider.fetched


def test_a_callable_allows_a_tenant_only_by_returning_true(provider: Provider) -> None:
    answers: dict[str, Any] = {"a": True, "b": False, "c": "yes", "d": None}
    with provider.guard(tenants=answers.__getitem__) as guard:
        for _ in range(2):
            assert guard.verify(provider.tenant("a").token()).is_authenticated
        for name in ("b", "c", "d"):
            with pytest.raises(TokenError, match="unknown_issuer"):
                guard.verify(provider.tenant(name).token())
        with pytest.raises(IssuerUnavailable, match="tenants= raised KeyError"):
            guard.verify(provider.tenant("e").token())


def test_new_tokens_of_a_removed_tenant_are_refused(provider: Provider) -> None:
    customers = {"a", "b"}
    with provider.guard(tenants=lambda tenant: tenant in customers) as guard:
        for name in ("a", "b"):
            guard.verify(provider.tenant(name).token())
        customers.remove("a")
        with pytest.raises(TokenError, match="unknown_issuer"):
            guard.verify(provider.tenant("a").token())
        assert guard.verify(provider.tenant("b").token()).is_authenticated
        customers.add("a")
        assert guard.verify(provider.tenant("a").token()).is_authenticated
    assert provider.fetched["a"] == 2  # its keys were held meanwhile: metadata and keys, once


def test_overlapping_patterns_keep_their_tenants_apart(
    provider: Provider,
) -> None:
    audience = "https://api.test"
    one = Issuer(URL, audience=audience, tenants=["a"])
    other = Issuer("https://id.test/b{tenant}/v2", audience=audience, tenants=["c"])
    with Guard(one, other, transport=provider, clock=provider.clock) as guard:
        for name in ("a", "bc"):
            assert guard.verify(provider.tenant(name).token()).is_authenticated
        for name in ("c", "ba"):
            with pytest.raises(TokenError, match="unknown_issuer"):
                guard.verify(provider.tenant(name).token())


def test_an_outage_of_one_tenant_does_not_affect_others(provider: Provider) -> None:
    provider.down.add("a")
    with provider.guard(tenants=["a", "b"]) as guard:
        with pytest.raises(IssuerUnavailable, match=r"id\.test/a"):
            guard.verify(provider.tenant("a").token())
        assert guard.verify(provider.tenant("b").token()).is_authenticated
        before = provider.fetched["a"]
        with pytest.raises(IssuerUnavailable):
            guard.verify(provider.tenant("a").token())
        assert provider.fetched["a"] == before  # the pause is the tenant's own
        health = guard.health()
        assert health["issuers"]["https://id.test/a/v2"]["status"] == "absent"
        assert health["fresh"]  # one customer's outage takes no API out of service


def test_a_bounded_number_of_tenants_is_kept_and_dropped_ones_are_not_refreshed(
    provider: Provider,
) -> None:
    names = [f"t{number}" for number in range(30)]
    with provider.guard(tenants=names, max_tenants=10) as guard:
        for name in names:
            guard.verify(provider.tenant("t0").token())  # is in use all the time
            guard.verify(provider.tenant(name).token())
            assert len(guard.health()["issuers"]) <= 10
        assert provider.fetched["t0"] == 2  # metadata and keys, once
        gone = guard._trust.find("https://id.test/t1/v2")
        assert gone is not None
        guard.verify(provider.tenant("t2").token())
        assert provider.fetched["t2"] == 4


def test_keys_that_are_retired_are_refreshed_no_more(provider: Provider) -> None:
    with provider.guard(tenants=["a"]) as guard:
        guard.verify(provider.tenant("a").token())
        trusted = guard._trust.find("https://id.test/a/v2")
        assert trusted is not None
        keys = trusted[1]
        assert keys.next_refresh() is not None
        keys.retire()
        assert keys.next_refresh() is None
        before = provider.fetched["a"]
        provider.clock.now += 400
        guard.run(keys.refresh())
        assert provider.fetched["a"] == before


def test_a_cached_token_of_a_tenant_stays_valid_while_the_keys_are(
    provider: Provider,
) -> None:
    with provider.guard(tenants=["a"]) as guard:
        token = provider.tenant("a").token()
        guard.verify(token)
        provider.clock.now += 400
        assert guard.verify(token).is_authenticated


def test_a_thousand_issuers_cost_no_more_than_one(provider: Provider) -> None:
    first = provider.tenant("first")
    issuers = [
        Issuer(f"https://id.test/{number}/v2", audience="https://api.test", keys=KEY.jwk())
        for number in range(999)
    ]
    one = first.guard()
    many = Guard(*issuers, first.issuer(), transport=first.transport(), clock=provider.clock)
    with one, many:
        for guard in (one, many):
            guard.verify(first.token())
        windows: dict[Guard, list[float]] = {one: [], many: []}
        for _ in range(12):
            for guard, taken in windows.items():
                tokens = [first.token() for _ in range(50)]
                began = time.perf_counter()
                for token in tokens:
                    guard.verify(token)
                taken.append((time.perf_counter() - began) / 50)
        medians = [sorted(taken)[6] * 1e6 for taken in windows.values()]
        print(
            f"a cold token with one issuer {medians[0]:.1f} µs, with 1000 {medians[1]:.1f} µs:"
            f" ratio {medians[1] / medians[0]:.3f}"
        )
        assert many._trust.find(first.url) is not None
        assert first.hits["/first/v2/jwks"] == 2  # each guard fetched its own issuer's, and once
        with pytest.raises(TokenError, match="bad_signature"):
            many.verify(first.token(key=EVIL, claims={"iss": "https://id.test/7/v2"}))
        assert many.verify(
            first.token(key=KEY, claims={"iss": "https://id.test/7/v2"})
        ).is_authenticated


def mapped(present: dict[str, Any], **options: Any) -> Any:
    """Return who bears a token with these claims at an issuer with these options."""
    local = LocalIssuer(algorithm="ES256", clock=Clock())
    with Guard(local.issuer(**options), transport=local.transport(), clock=local.clock) as guard:
        return guard.verify(local.token(client_id=None, claims=present))


def test_scopes_roles_and_clients_are_found_where_they_stand() -> None:
    principal = mapped(
        {
            "permissions": ["read"],
            "access": {"api.v1": {"roles": ["editor"]}, "scope": "write read"},
            "https://id.test/roles": "admin",
            "app": {"id": "web"},
        },
        claims=ClaimMapping(
            scopes=["permissions", "access.scope", "nowhere"],
            roles=["access.api.v1.roles", "https://id.test/roles", "access.nowhere", "app.id.no"],
            client=["nowhere", "app.id"],
        ),
    )
    assert principal.scopes == {"read", "write"}
    assert principal.roles == {"editor", "admin"}
    assert principal.client_id == "web"
    assert "roles" not in principal.claims  # they are as they came


def test_no_client_is_no_client() -> None:
    assert mapped({"azp": "web"}, claims=ClaimMapping(client="nowhere")).client_id == "web"


@pytest.mark.parametrize("wrong", [7, {"a": 1}, ["read", 7], [["read"]]])
def test_scopes_and_roles_of_a_wrong_kind_are_refused(wrong: Any) -> None:
    for mapping in (
        ClaimMapping(scopes=["mine"]),
        ClaimMapping(roles=["mine"]),
        ClaimMapping(client=["mine"]),
    ):
        with pytest.raises(TokenError, match="bad_claim"):
            mapped({"mine": wrong}, claims=mapping)


def test_another_claim_may_be_the_audience() -> None:
    accepted = {"claims": ClaimMapping(audience="resource"), "audience": "recordings"}
    assert mapped({"aud": None, "resource": "recordings"}, **accepted).is_authenticated
    with pytest.raises(TokenError, match="wrong_audience"):
        mapped({"aud": "recordings", "resource": "other"}, **accepted)
    with pytest.raises(TokenError, match="missing_claim"):
        mapped({"aud": "recordings"}, **accepted)


def test_claims_may_be_required_with_their_values() -> None:
    required: RequiredClaims = {
        "use": "access",
        "level": ["high", "low"],
        "verified": True,
        "tenant.id": None,
    }
    good = {"use": "access", "level": ["other", "low"], "verified": True, "tenant": {"id": 7}}
    assert mapped(good, claims=ClaimMapping(required=required)).is_authenticated
    for wrong, reason in (
        ({"use": "id"}, "bad_claim"),
        ({"use": None}, "missing_claim"),
        ({"level": ["other"]}, "bad_claim"),
        ({"level": {"high": 1}}, "bad_claim"),
        ({"verified": False}, "bad_claim"),
        ({"verified": "True"}, "bad_claim"),
        ({"verified": 1}, "bad_claim"),
        ({"tenant": {}}, "missing_claim"),
    ):
        with pytest.raises(TokenError, match=reason):
            mapped({**good, **wrong}, claims=ClaimMapping(required=required))
    assert mapped({"use": "x"}, claims=ClaimMapping(required=["use"])).is_authenticated


def test_an_issuer_may_have_other_spellings_and_its_principals_one() -> None:
    local = LocalIssuer(algorithm="ES256", clock=Clock())
    issuer = local.issuer(aliases=["issuer.test"], introspection=local.introspection.options())
    with Guard(issuer, transport=local.transport(), clock=local.clock) as guard:
        for spelling in (local.url, "issuer.test"):
            assert guard.verify(local.token(claims={"iss": spelling})).issuer == local.url
            assert guard.verify(local.opaque_token(claims={"iss": spelling})).issuer == local.url
        with pytest.raises(TokenError, match="unknown_issuer"):
            guard.verify(local.token(claims={"iss": "issuer.test/"}))


def test_introspection_responses_are_mapped_too() -> None:
    local = LocalIssuer(algorithm="ES256", clock=Clock())
    issuer = local.issuer(
        introspection=local.introspection.options(),
        claims=ClaimMapping(roles=["realm.roles"], required={"use": "access"}),
        hints={"bad_claim": "send an access token"},
    )
    with Guard(issuer, transport=local.transport(), clock=local.clock) as guard:
        good = local.opaque_token(claims={"realm": {"roles": ["admin"]}, "use": "access"})
        assert guard.verify(good).roles == {"admin"}
        with pytest.raises(TokenError, match="send an access token"):
            guard.verify(local.opaque_token(claims={"use": "id"}))


@pytest.mark.parametrize("wrong", [True, "1795543956", [1795543956], 1e300])
@pytest.mark.parametrize(
    "options", [{}, {"claims": ClaimMapping(scopes=["scope"])}, {"aliases": ["id.test"]}]
)
def test_a_malformed_expiry_in_a_response_is_refused_mapped_or_not(
    wrong: Any, options: dict[str, Any]
) -> None:
    local = LocalIssuer(algorithm="ES256", clock=Clock())
    issuer = local.issuer(introspection=local.introspection.options(), **options)
    members = {"active": True, "aud": local.audience, "exp": wrong}
    local.introspection.response = Response(
        200, (("Content-Type", "application/json"),), json.dumps(members).encode()
    )
    with (
        Guard(issuer, transport=local.transport(), clock=local.clock) as guard,
        pytest.raises(TokenError, match="its exp is no date"),
    ):
        guard.verify("opaque-token")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    st.text(min_size=1),
)
def test_any_claims_are_mapped_or_refused(value: Any, path: str) -> None:
    mapping = ClaimMapping(
        scopes=[path],
        roles=[f"a.{path}"],
        client=["a"],
        audience=path,
        required={"a": ["x", True]},
    )
    for claims in ({"a": value, path: value}, {"a": "x", path: value}, {path: {path: value}}):
        try:
            found = mapping.standard_claims(json.loads(json.dumps(claims)))
        except TokenError:
            continue
        assert isinstance(found["scope"], str)
        assert isinstance(found["roles"], list)


def pattern(**options: Any) -> Issuer:
    return Issuer(URL, **{"audience": "api", "tenants": ["a"], **options})


MISTAKES: list[tuple[str, Callable[[], object]]] = [
    (r"tenants=: pass the list", lambda: pattern(tenants=None)),
    (r"tenants=: pass the list", lambda: pattern(tenants=[])),
    (r"tenants=: pass the list", lambda: pattern(tenants="a")),
    (r"tenants=: pass the list", lambda: pattern(tenants=["a/b"])),
    (
        r"tenants=: the issuer's url has no",
        lambda: Issuer("https://a", audience="b", tenants=["a"]),
    ),
    (r"pass \{tenant\} once", lambda: Issuer(URL + "{tenant}", audience="a", tenants=["a"])),
    (r"max_tenants=", lambda: pattern(max_tenants=0)),
    (r"tenants=: not together with aliases=: pass another", lambda: pattern(aliases=["x"])),
    (
        r"tenants=: not together with introspection=.* Issuer of its own, .* route_opaque=",
        lambda: pattern(introspection=Introspection("api", client_secret="s")),
    ),
    (r"aliases=", lambda: Issuer("https://a", audience="b", aliases="c")),
    (r"aliases=", lambda: Issuer("https://a", audience="b", aliases=[""])),
    (r"scopes=: pass a claim or a list", lambda: ClaimMapping(scopes=7)),  # type: ignore[arg-type]
    (r"roles=: pass a claim or a list", lambda: ClaimMapping(roles=[7])),  # type: ignore[list-item]
    (r"client=: pass a claim or a list", lambda: ClaimMapping(client="")),
    (r"audience=: pass the name of a claim", lambda: ClaimMapping(audience="")),
    (r"required=: pass claim names", lambda: ClaimMapping(required=7)),  # type: ignore[arg-type]
    (r"required=: pass claim names", lambda: ClaimMapping(required=[7])),  # type: ignore[list-item]
    (r"required=: pass claim names", lambda: ClaimMapping(required={"a": 7})),  # type: ignore[dict-item]
    (r"required=: pass claim names", lambda: ClaimMapping(required={"a": []})),
    (r"required=: pass claim names", lambda: ClaimMapping(required={"": "x"})),
    (
        r"KeyPolicy\(token=\): pass jwks_uri=",
        lambda: Issuer("https://a", audience="b", key_policy=KeyPolicy(token="t")),
    ),
    (
        r"the issuer 'https://b' is given twice",
        lambda: Guard(
            Issuer("https://a", audience="a", aliases=["https://b"]),
            Issuer("https://b", audience="a"),
        ),
    ),
]


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_mistake_is_named(message: str, mistake: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mistake()
