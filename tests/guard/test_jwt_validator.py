"""JWT validation: what a known header skips, and what is always checked."""

from __future__ import annotations

import pytest

from bearerguard import Event, TokenError
from bearerguard.guard.decision import Allow, Pending
from bearerguard.testing import LocalIssuer


def test_roles_that_are_no_names_grant_nothing() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard() as guard:
        mixed = guard.verify(issuer.token(claims={"roles": ["editor", 1, {"a": 1}]}))
        assert mixed.roles == {"editor"}
        assert mixed.claims.to_dict()["roles"] == ["editor", 1, {"a": 1}]
        assert guard.verify(issuer.token(claims={"roles": "editor"})).roles == frozenset()
        assert guard.verify(issuer.token(roles=["a", "b"])).claims["roles"] == ("a", "b")


def test_many_different_headers_of_one_issuer_fill_no_memory() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard() as guard:
        for number in range(100):
            token = issuer.token(header={"n": number})
            assert guard.verify(token).subject == "user"
        (_, keys) = guard._trust.find(issuer.url) or (None, None)
        assert keys is not None
        assert len(keys._selections[1]) == 64


def test_a_known_header_accepts_no_bad_signature_and_no_bad_claim() -> None:
    issuer, thief = LocalIssuer(algorithm="ES256"), LocalIssuer(algorithm="ES256")
    with issuer.guard() as guard:
        guard.verify(issuer.token())
        for bad, reason in [
            (thief.token(), "bad_signature"),
            (issuer.token(claims={"aud": "https://other.test"}), "wrong_audience"),
            (issuer.token(expires_in=-60), "expired"),
            (issuer.token()[:-4] + "AAAA", "bad_signature"),
        ]:
            with pytest.raises(TokenError, match=reason):
                guard.verify(bad)
        assert issuer.hits["/jwks"] == 1


def test_two_new_tokens_at_once_are_both_valid() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard() as guard:
        credentials = [f"Bearer {issuer.token(subject=name)}".encode() for name in ("ada", "eve")]
        # Both start while their header is unknown; when the second is validated it is known.
        pending_tokens = [guard.decide_now([each]) for each in credentials]
        for name, pending in zip(("ada", "eve"), pending_tokens, strict=True):
            assert isinstance(pending, Pending)
            decision = guard.run(pending.flow)
            assert isinstance(decision, Allow)
            assert decision.principal.subject == name


def test_a_token_without_iss_is_refused_with_the_reason_that_there_is_no_option() -> None:
    issuer, events = LocalIssuer(algorithm="ES256"), list[Event]()
    with issuer.guard(on_event=events.append) as guard:
        for absent, says in ((None, "the token has no iss, and no option"), (7, "iss is 7: add")):
            with pytest.raises(TokenError):
                guard.verify(issuer.token(claims={"iss": absent}))
            assert events[-1].code == "unknown_issuer"
            assert events[-1].detail.startswith(says)


def test_a_token_with_its_scheme_is_refused_with_what_to_pass_instead() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard() as guard, pytest.raises(TokenError, match="what follows `Bearer ` alone"):
        guard.verify(f"Bearer {issuer.token()}")
