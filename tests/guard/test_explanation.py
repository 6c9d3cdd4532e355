"""`Guard.explain`: what each check says about a token, always in agreement with the decision."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bearerguard import (
    Allow,
    ClaimMapping,
    Claims,
    ConfigurationError,
    Deny,
    Event,
    Explanation,
    Guard,
    Issuer,
    Principal,
    Reason,
    Request,
    Revocations,
    TokenError,
    Unavailable,
    claim,
    role,
    scopes,
    step_up,
)
from bearerguard.guard.explanation import Check
from bearerguard.redis import RedisStore
from bearerguard.testing import LocalIssuer
from tests.conformance.harness import NOON, Clock

SECRET_SUBJECT = "person-0815"


def trusting(
    local: LocalIssuer | None = None,
    *,
    options: dict[str, Any] | None = None,
    opaque: bool = False,
    **guard_options: Any,
) -> tuple[LocalIssuer, Guard]:
    """Return an issuer in this process, and a guard that trusts it."""
    local = local or LocalIssuer(algorithm="ES256", clock=Clock())
    given_options = dict(options or {})
    if opaque:
        given_options["introspection"] = local.introspection.options()
    issuer = local.issuer(**given_options)
    guard = Guard(issuer, transport=local.transport(), clock=local.clock, **guard_options)
    return local, guard


def check_of(explanation: Explanation, name: str) -> Check:
    (found,) = [check for check in explanation.checks if check.name == name]
    return found


def failures(explanation: Explanation) -> dict[str, str | None]:
    return {check.name: check.reason for check in explanation.failed}


def decided(guard: Guard, token: str) -> Any:
    request = Request(headers={"Authorization": f"Bearer {token}"})
    return guard.run(guard.authenticate(request))


def test_a_good_token_passes_every_check_that_applies() -> None:
    local, guard = trusting(require=scopes("read"))
    explanation = guard.explain(local.token(scopes=["read"]))
    assert explanation.accepted
    assert explanation.result == "accepted"
    assert explanation.reason is None
    assert explanation.failed == ()
    assert explanation.issuer == local.url
    assert explanation.at == NOON
    assert explanation.header == {"alg": "ES256", "kid": "key-1", "typ": "at+jwt"}
    assert explanation.claims["sub"] == "user"
    assert isinstance(explanation.decision, Allow)
    assert explanation.decision.principal.scopes == {"read"}
    assert {check.status for check in explanation.checks} == {"passed", "not applicable"}


def test_every_failure_is_shown_not_only_the_first() -> None:
    local, guard = trusting(require=scopes("write"))
    token = local.token(expires_in=-300, scopes=["read"], claims={"aud": "https://other.test"})
    explanation = guard.explain(token)
    assert failures(explanation) == {
        "audience": "wrong_audience",
        "expiry": "expired",
        "requirement": "insufficient_scope",
    }
    assert explanation.reason == Reason("wrong_audience")
    audience = check_of(explanation, "audience")
    assert audience.expected == "'https://api.test'"
    assert audience.actual == "'https://other.test'"
    assert audience.remedy.startswith("ask the issuer for that audience")
    assert audience.reference == "RFC 7519 §4.1.3"
    assert check_of(explanation, "expiry").actual.endswith(" UTC (5 min ago)")
    requirement = check_of(explanation, "requirement")
    assert (requirement.expected, requirement.actual) == ("scope 'write'", "scopes ['read']")


def test_the_claims_of_a_token_with_a_wrong_signature_are_checked_too() -> None:
    local, guard = trusting()
    other = LocalIssuer(algorithm="ES256", clock=local.clock)
    token = local.token(key=other.key, claims={"aud": "https://other.test"})
    explanation = guard.explain(token)
    assert failures(explanation) == {"signature": "bad_signature", "audience": "wrong_audience"}
    assert explanation.reason == Reason("bad_signature")
    assert check_of(explanation, "key").actual == "the issuer has kid 'key-1' for ES256"


def test_an_unknown_key_is_explained_by_the_keys_that_there_are() -> None:
    local, guard = trusting()
    for _ in range(9):
        local.rotate()
    explanation = guard.explain(local.token(header={"kid": "gone"}))
    assert failures(explanation) == {"key": "unknown_key"}
    key = check_of(explanation, "key")
    assert key.expected == "a key of the issuer for ES256 with kid 'gone'"
    assert "kid 'key-1' for ES256" in key.actual
    assert key.actual.endswith(", 2 others")
    assert check_of(explanation, "signature").status == "not reached"


def test_an_algorithm_that_the_issuer_may_not_use_leaves_the_signature_unchecked() -> None:
    local, guard = trusting(options={"algorithms": ["RS256"]})
    explanation = guard.explain(local.token(header={"typ": "JWT"}))
    assert failures(explanation) == {"type": "wrong_type", "algorithm": "wrong_algorithm"}
    assert check_of(explanation, "algorithm").actual == "ES256"
    assert check_of(explanation, "key").status == "not reached"


def test_a_header_that_cannot_be_read_leaves_the_claims_to_be_checked() -> None:
    local, guard = trusting()
    explanation = guard.explain(local.token(header={"crit": ["x"]}, claims={"aud": "x"}))
    assert failures(explanation) == {"header": "critical_header", "audience": "wrong_audience"}
    assert explanation.header == {}


def test_an_issuer_that_is_down_is_explained_by_the_first_cause() -> None:
    local, guard = trusting()
    local.outage = True
    explanation = guard.explain(local.token())
    assert explanation.result == "unavailable"
    assert isinstance(explanation.decision, Unavailable)
    key = check_of(explanation, "key")
    assert key.reason == "issuer_unavailable"
    assert "status 503" in key.actual
    assert check_of(explanation, "signature").status == "not reached"
    assert check_of(explanation, "audience").status == "passed"
    assert explanation.to_dict()["status"] == 503


def test_during_the_pause_after_a_failure_the_cause_is_still_named() -> None:
    local, guard = trusting()
    local.garbage = b"<!doctype html><title>Log in</title>"
    guard.explain(local.token())
    key = check_of(guard.explain(local.token()), "key")
    assert "the last fetch of its keys failed: https://" in key.actual
    assert "not JSON but HTML" in key.actual
    assert "let each URL give the JSON it is for" in key.remedy


def test_keys_that_only_the_explanation_needs_may_be_out_of_reach() -> None:
    local, guard = trusting()
    local.outage = True
    explanation = guard.explain(local.token(header={"typ": "JWT"}))
    assert failures(explanation) == {"type": "wrong_type", "key": "issuer_unavailable"}
    assert explanation.reason == Reason("wrong_type")


def test_a_misspelt_issuer_is_explained_and_the_rest_checked_by_the_only_one() -> None:
    local, guard = trusting()
    explanation = guard.explain(local.token(claims={"iss": f"{local.url}/", "aud": "x"}))
    assert failures(explanation) == {"issuer": "unknown_issuer", "audience": "wrong_audience"}
    assert check_of(explanation, "issuer").expected == f"'{local.url}'"
    assert check_of(explanation, "signature").status == "passed"


def test_an_unknown_issuer_ends_the_checks_where_several_are_trusted() -> None:
    local = LocalIssuer(clock=Clock())
    other = Issuer("https://other.test", audience="a", shared_secret="x" * 32)
    guard = Guard(local.issuer(), other, transport=local.transport(), clock=local.clock)
    explanation = guard.explain(local.token(claims={"iss": "https://third.test"}))
    assert failures(explanation) == {"issuer": "unknown_issuer"}
    assert explanation.issuer is None
    assert check_of(explanation, "audience").status == "not reached"


def test_a_token_without_an_issuer_says_who_has_to_add_it() -> None:
    local, guard = trusting()
    explanation = guard.explain(local.token(claims={"iss": None}))
    issuer = check_of(explanation, "issuer")
    assert issuer.actual.startswith("the token has no iss")
    assert "Have the issuer add it" in issuer.remedy


@pytest.mark.parametrize(
    ("token", "actual", "remedy"),
    [
        ("opaque", "an opaque token", "pass introspection="),
        ("a.b.c", "three parts that are no JWT", "whole"),
        ("a.b.c.d.e", "an encrypted JWT (JWE)", "signed access tokens"),
        ("x" * 20_000, "it is longer than 16384 bytes", "max_token_bytes="),
    ],
)
def test_what_is_no_jwt_is_explained_by_its_form(token: str, actual: str, remedy: str) -> None:
    _, guard = trusting()
    explanation = guard.explain(token)
    (form,) = explanation.failed
    assert form.name == "form"
    assert form.actual == actual
    assert remedy in form.remedy
    assert {check.status for check in explanation.checks[1:]} <= {"not reached", "not applicable"}


def test_dates_are_given_in_utc_and_from_the_time_of_the_decision() -> None:
    local, guard = trusting()
    explanation = guard.explain(
        local.token(expires_in=7200, claims={"nbf": NOON + 600, "iat": NOON + 900})
    )
    assert failures(explanation) == {
        "not before": "not_yet_valid",
        "issued at": "not_yet_valid",
    }
    assert check_of(explanation, "not before").actual.endswith("UTC (in 10 min)")
    assert check_of(explanation, "expiry").actual.endswith("UTC (in 2 h)")
    assert "UTC" in check_of(explanation, "not before").expected


@pytest.mark.parametrize("value", ["tomorrow", True, -5, 2**60])
def test_a_malformed_date_is_no_date(value: object) -> None:
    local, guard = trusting()
    explanation = guard.explain(local.token(claims={"exp": value}))
    assert list(failures(explanation)) == ["expiry"]


def test_a_token_is_judged_at_another_time() -> None:
    local, guard = trusting()
    token = local.token(expires_in=60)
    assert guard.explain(token).accepted
    later = guard.explain(token, at=NOON + 3600)
    assert failures(later) == {"expiry": "expired"}
    assert later.at == NOON + 3600
    assert isinstance(later.decision, Deny)
    assert later.decision.expired


def test_what_a_route_requires_is_added_to_what_the_guard_requires() -> None:
    local, guard = trusting(require=scopes("read"))
    token = local.token(scopes=["read"], roles=["reader"])
    explanation = guard.explain(token, require=role("admin") | claim("org"))
    assert failures(explanation) == {"requirement": "requirement_unmet"}
    requirement = check_of(explanation, "requirement")
    assert requirement.expected == ("scope 'read' and role 'admin' or scope 'read' and claim 'org'")
    assert "roles ['reader']" in requirement.actual
    assert explanation.to_dict()["status"] == 403
    with pytest.raises(ConfigurationError, match="require="):
        guard.explain(token, require="read")  # type: ignore[arg-type]


def test_a_requirement_with_many_alternatives_is_named_in_part() -> None:
    many = role("r1")
    for number in range(2, 7):
        many |= role(f"r{number}")
    assert str(many).endswith("role 'r4' or 2 others")


def test_missing_claims_are_named_by_rfc_and_by_mapping() -> None:
    mapping = ClaimMapping(required={"tenant": ["a", "b"], "org": None})
    local, guard = trusting(options={"claims": mapping, "strict": True})
    explanation = guard.explain(local.token(claims={"jti": None, "tenant": "c"}))
    assert failures(explanation) == {
        "required claims": "missing_claim",
        "required org": "missing_claim",
        "required tenant": "bad_claim",
    }
    assert check_of(explanation, "required claims").actual == "it has no jti"
    assert check_of(explanation, "required tenant").expected == "tenant of a certain value"
    assert "'c'" not in str(explanation)


def test_another_kind_of_token_is_named() -> None:
    local, guard = trusting(options={"token_types": ["JWT"]})
    token = local.token(header={"typ": "JWT"}, claims={"at_hash": "x"})
    explanation = guard.explain(token)
    assert failures(explanation) == {"kind": "id_token"}
    assert "accept_id_tokens=True" in check_of(explanation, "kind").remedy


def test_a_bound_token_says_that_it_is_bound() -> None:
    local, guard = trusting()
    explanation = guard.explain(local.token(claims={"cnf": {"jkt": "thumbprint"}}))
    assert failures(explanation) == {"sender": "sender_constrained"}
    assert "thumbprint" not in str(explanation)


def test_malformed_claims_leave_the_requirement_unchecked() -> None:
    local, guard = trusting(require=scopes("read"))
    explanation = guard.explain(local.token(claims={"sub": 7}))
    assert failures(explanation) == {"claims": "bad_claim"}
    assert check_of(explanation, "requirement").status == "not reached"


class Choosy:
    """A check that refuses, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, claims: Claims) -> str | None:
        self.calls += 1
        return None if claims.get("org") == "acme" else "org: not ours"


def test_the_checks_of_the_application_are_named_and_called_no_more_than_needed() -> None:
    check = Choosy()
    local, guard = trusting(options={"checks": [check]})
    explanation = guard.explain(local.token(claims={"org": "acme"}))
    assert check_of(explanation, "check Choosy").status == "passed"
    assert check.calls == 1
    explanation = guard.explain(local.token())
    assert failures(explanation) == {"check Choosy": "refused_by_check"}
    assert check_of(explanation, "check Choosy").actual == "Choosy: org: not ours"


def test_a_check_that_fails_makes_the_token_unavailable() -> None:
    def broken(_claims: Claims) -> str | None:
        raise KeyError("org")

    local, guard = trusting(options={"checks": [broken]})
    explanation = guard.explain(local.token())
    assert explanation.result == "unavailable"
    (failed,) = explanation.failed
    assert failed.reason == "claim_check_failed"
    assert "raised KeyError" in failed.actual


def test_a_check_that_changes_its_mind_is_explained_by_what_decided() -> None:
    said = iter(["its org is not ours", None])

    def fickle(_claims: Claims) -> str | None:
        return next(said)

    local, guard = trusting(options={"checks": [fickle]})
    explanation = guard.explain(local.token())
    assert explanation.result == "refused"
    assert failures(explanation) == {"validation": "refused_by_check"}


def test_a_revoked_token_is_explained_as_revoked() -> None:
    local, guard = trusting(revocations=Revocations())
    token = local.token()
    assert check_of(guard.explain(token), "revocation").status == "passed"
    guard.revoke(token)
    assert failures(guard.explain(token)) == {"revocation": "revoked"}
    lasting = guard.explain(local.token(expires_in=10**6))
    assert failures(lasting) == {"revocation": "lives_too_long"}
    unread = guard.explain("opaque")
    assert check_of(unread, "revocation").status == "not reached"


def test_revocations_that_cannot_be_read_are_named_as_the_cause() -> None:
    away = RedisStore("redis://127.0.0.1:1", secret="s" * 32, timeout=0.2)
    local, guard = trusting(revocations=Revocations(away))
    with guard:
        explanation = guard.explain(local.token())
        assert explanation.result == "unavailable"
        assert failures(explanation) == {"revocation": "revocations_unavailable"}
        both = guard.explain(local.token(expires_in=-300))
        assert failures(both) == {
            "expiry": "expired",
            "revocation": "revocations_unavailable",
        }
        assert both.reason == Reason("expired", "The access token expired")


# Opaque tokens


def test_an_opaque_token_is_introspected_anew() -> None:
    local, guard = trusting(opaque=True, require=scopes("write"))
    token = local.opaque_token(claims={"scope": "write", "aud": "https://api.test"})
    guard.verify(token)
    assert guard.explain(token).accepted
    local.introspection.revoke(token)
    explanation = guard.explain(token)
    assert failures(explanation) == {"introspection": "inactive"}
    assert check_of(explanation, "introspection").actual == "it is not active"
    assert guard.verify(token), "the cached response is still used"


def test_an_opaque_token_is_judged_at_another_time_and_introspected_now() -> None:
    local = LocalIssuer(algorithm="ES256", clock=Clock())
    signed = local.introspection.options(signed_responses=True)
    _, guard = trusting(local, options={"introspection": signed})
    token = local.opaque_token(expires_in=3600)
    assert guard.explain(token, at=NOON + 1800).accepted
    assert failures(guard.explain(token, at=NOON + 7200)) == {"expiry": "expired"}


def test_every_failure_of_an_active_opaque_token_is_shown() -> None:
    local, guard = trusting(opaque=True, require=scopes("write"))
    token = local.opaque_token(claims={"aud": "https://other.test", "iss": "https://x.test"})
    explanation = guard.explain(token)
    assert failures(explanation) == {
        "issuer": "unknown_issuer",
        "audience": "wrong_audience",
        "requirement": "insufficient_scope",
    }
    missing = guard.explain(local.opaque_token(claims={"aud": None}))
    assert failures(missing)["required claims"] == "missing_claim"
    assert check_of(missing, "audience").status == "not applicable"


def test_an_introspection_endpoint_that_is_down_is_explained() -> None:
    local, guard = trusting(opaque=True)
    local.outage = True
    explanation = guard.explain("opaque")
    assert explanation.result == "unavailable"
    assert "status 503" in check_of(explanation, "introspection").actual


def test_a_token_that_no_issuer_is_found_for_is_explained() -> None:
    _, guard = trusting(opaque=True, route_opaque=lambda _token: None)
    explanation = guard.explain("opaque")
    assert failures(explanation) == {"issuer": "unknown_issuer"}
    assert "route_opaque=" in check_of(explanation, "issuer").actual
    assert failures(guard.explain("op\u00e4que")) == {"form": "malformed_token"}


def test_a_jwt_is_introspected_where_all_tokens_are() -> None:
    local, guard = trusting(opaque=True, options={"tokens": "opaque"})
    explanation = guard.explain(local.token())
    assert explanation.accepted
    assert check_of(explanation, "introspection").status == "passed"
    assert check_of(explanation, "form").actual == "a JWT"
    assert "signature" not in [check.name for check in explanation.checks]


# What an explanation shows and leaves alone


def test_an_explanation_shows_neither_token_nor_signature_nor_subject() -> None:
    local, guard = trusting(require=claim("email", "a@b.test"))
    token = local.token(subject=SECRET_SUBJECT, claims={"email": "c@d.test", "aud": "x"})
    explanation = guard.explain(token)
    shown = f"{explanation} {explanation!r} {json.dumps(explanation.to_dict())}"
    assert SECRET_SUBJECT not in shown
    assert "@" not in shown
    assert not any(part in shown for part in token.split("."))
    assert explanation.to_dict()["claims"] == list(explanation.claims)


def test_an_explanation_reports_and_caches_nothing() -> None:
    events: list[Event] = []
    local, guard = trusting(on_event=events.append)
    guard.warm()
    events.clear()
    guard.explain(local.token(claims={"aud": "x"}))
    guard.explain(local.token())
    assert events == []
    assert guard.health()["cached_tokens"] == 0


def test_an_explanation_reads_as_lines() -> None:
    local, guard = trusting()
    lines = str(guard.explain(local.token(claims={"aud": "https://other.test"}))).splitlines()
    assert lines[0] == "refused: wrong_audience"
    assert lines[1] == "  passed  form: a JWT"
    assert any(line.startswith("  failed  audience: 'https://other.test'; exp") for line in lines)
    assert str(guard.explain(local.token())).startswith("accepted\n")


@pytest.mark.anyio
async def test_an_event_loop_gets_the_same_explanation() -> None:
    local, guard = trusting()
    token = local.token(claims={"aud": "x"})
    assert await guard.aexplain(token) == guard.explain(token)


# Agreement

VALUES = st.sampled_from(
    [None, "x", "", 7, True, [], ["x"], ["x", 7], {"a": "x"}, NOON, NOON + 5000, NOON - 5000, 0]
)
CLAIMS = st.dictionaries(
    st.sampled_from(
        [
            *("aud", "exp", "nbf", "iat", "sub", "client_id", "jti", "scope", "scp", "roles"),
            *("acr", "auth_time", "azp", "cnf", "events", "at_hash", "token_use", "typ"),
            *("token_type", "org", "realm_access", "iss"),
        ]
    ),
    VALUES
    | st.sampled_from(
        ["https://api.test", "id", "refresh", "DPoP", "write", {"roles": ["x"]}, {"roles": 7}]
    ),
    max_size=4,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64"]),
    st.sampled_from([None, "none", "ES256", "RS256", "key-1", "key-9", "JWT", "at+jwt", 7, ["x"]]),
    max_size=2,
)
MAPPINGS = st.builds(
    ClaimMapping,
    audience=st.sampled_from(["aud", "azp", "org"]),
    roles=st.sampled_from([(), "realm_access.roles", "org"]),
    scopes=st.sampled_from([(), "scp", "org"]),
    client=st.sampled_from([(), "azp", "aud"]),
    required=st.sampled_from([(), "org", {"org": "x"}, {"aud": "x"}, "realm_access.roles"]),
)
OPTIONS = st.fixed_dictionaries(
    {
        "strict": st.booleans(),
        "accept_id_tokens": st.booleans(),
        "token_types": st.sampled_from([("at+jwt",), ("JWT",), ("at+jwt", "JWT")]),
        "algorithms": st.sampled_from([None, ("ES256",), ("RS256",)]),
        "claims": st.just(ClaimMapping()) | MAPPINGS,
        "checks": st.sampled_from([(), (Choosy(),)]),
        "aliases": st.sampled_from([(), ("x",)]),
    }
)
REQUIREMENTS = st.sampled_from([None, scopes("write"), role("x") | claim("org", "x")])
LOCAL = LocalIssuer(algorithm="ES256", clock=Clock())
OTHER = LocalIssuer(algorithm="ES256", clock=Clock())


def assert_agreement(guard: Guard, token: str) -> None:
    explanation, decision = guard.explain(token), decided(guard, token)
    assert explanation.decision == decision
    codes = list(failures(explanation).values())
    if isinstance(decision, Allow):
        assert codes == []
        assert guard.verify(token) == decision.principal
    else:
        assert decision.reason.code in codes
        assert "validation" not in failures(explanation)
        if decision.status == 401:
            with pytest.raises(TokenError) as refused:
                guard.verify(token)
            assert refused.value.reason == decision.reason
    assert explanation.result in {"accepted", "refused", "unavailable"}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    CLAIMS,
    HEADERS,
    OPTIONS,
    REQUIREMENTS,
    st.tuples(st.booleans(), st.none() | st.builds(Revocations)),
)
def test_explanation_and_decision_agree_on_every_jwt(
    claims: dict[str, Any],
    header: dict[str, Any],
    options: dict[str, Any],
    requirement: Any,
    guard_options: tuple[bool, Revocations | None],
) -> None:
    genuine, revocations = guard_options
    _, guard = trusting(
        LOCAL,
        options=options,
        require=requirement,
        revocations=revocations,
    )
    key = LOCAL.key if genuine else OTHER.key
    token = LOCAL.token(claims=claims, header=header, key=key)
    assert_agreement(guard, token)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CLAIMS, OPTIONS, REQUIREMENTS, st.booleans())
def test_explanation_and_decision_agree_on_every_opaque_token(
    claims: dict[str, Any], options: dict[str, Any], requirement: Any, missing_audience: bool
) -> None:
    introspection = LOCAL.introspection.options(allow_missing_audience=missing_audience)
    _, guard = trusting(
        LOCAL, options={**options, "introspection": introspection}, require=requirement
    )
    assert_agreement(guard, LOCAL.opaque_token(claims=claims))


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40))
def test_explanation_and_verification_agree_on_what_is_no_token(text: str) -> None:
    _, guard = trusting(LOCAL)
    with pytest.raises(TokenError) as refused:
        guard.verify(text)
    assert list(failures(guard.explain(text)).values()) == [refused.value.reason.code]


def test_the_principal_of_an_accepted_explanation_is_that_of_verify() -> None:
    local, guard = trusting()
    token = local.token()
    explanation = guard.explain(token)
    assert isinstance(explanation.decision, Allow)
    principal: Principal = explanation.decision.principal
    assert principal == guard.verify(token)


def test_static_keys_are_not_read_again_for_an_explanation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    local = LocalIssuer(algorithm="ES256", clock=Clock())
    local.extra_keys = [{"kty": "unknown"}]
    _, guard = trusting(local, options={"keys": local.jwks()})
    assert len(caplog.records) == 1, "the key that is passed over, when the issuer is made"
    assert guard.explain(local.token()).accepted
    assert len(caplog.records) == 1


def test_an_allowed_tenant_is_explained_by_its_own_issuer() -> None:
    local = LocalIssuer("https://id.test/acme", algorithm="ES256", clock=Clock())

    def allowed(tenant: str) -> bool:
        return {"acme": True}[tenant]

    issuer = Issuer("https://id.test/{tenant}", audience=local.audience, tenants=allowed)
    guard = Guard(issuer, transport=local.transport(), clock=local.clock)
    explanation = guard.explain(local.token(claims={"aud": "x"}))
    assert explanation.issuer == "https://id.test/acme"
    assert failures(explanation) == {"audience": "wrong_audience"}
    unsure = guard.explain(local.token(claims={"iss": "https://id.test/other"}))
    assert unsure.result == "unavailable"
    assert failures(unsure) == {"issuer": "issuer_unavailable"}
    stranger = guard.explain(local.token(claims={"iss": "https://other.test"}))
    assert failures(stranger) == {"issuer": "unknown_issuer"}


@pytest.mark.parametrize("opaque", [False, True])
def test_STEP_01_a_login_that_does_not_suffice_is_explained(opaque: bool) -> None:
    local, guard = trusting(opaque=opaque, require=step_up(acr="phr", max_age=300))
    make = local.opaque_token if opaque else local.token
    token = make(claims={"acr": "pwd", "auth_time": int(NOON) - 600})
    explanation = guard.explain(token)
    assert failures(explanation) == {"requirement": "insufficient_user_authentication"}
    requirement = check_of(explanation, "requirement")
    assert requirement.expected == "a login by 'phr' and a login at most 300 s old"
    assert requirement.actual == "acr 'pwd' and a login 10 min old"
    assert requirement.remedy.startswith("let the user log in again in this way")
    assert isinstance(explanation.decision, Deny)
    assert explanation.decision == decided(guard, token)
    assert (explanation.decision.acr_values, explanation.decision.max_age) == (("phr",), 300)
    strong = make(claims={"acr": "phr", "auth_time": int(NOON) - 100})
    assert guard.explain(strong).accepted
    assert failures(guard.explain(strong, at=NOON + 231)) == {
        "requirement": "insufficient_user_authentication"
    }
    assert guard.explain(strong, at=NOON + 230).accepted
