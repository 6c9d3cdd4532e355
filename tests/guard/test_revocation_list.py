"""Revocations as values, and the immutable list of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard import Claims, Principal
from bearerguard.guard.revocation.revocation_list import (
    Revocation,
    RevocationList,
    decode,
    encode,
)
from bearerguard.protocol.revocation import Kind

ISSUER = "https://issuer.test"
NOON, LATE = 1_800_000_000.0, 1_800_090_000.0


def revocation(
    kind: Kind, value: str, before: float | None = None, expires_at: float = LATE
) -> Revocation:
    return Revocation(kind, ISSUER, value, before, expires_at)


def listed(*revocations: Revocation) -> RevocationList:
    return RevocationList().extended(revocations, NOON)


def principal(*, session: Any = None, **options: Any) -> Principal:
    claims = Claims({} if session is None else {"sid": session})
    usual = {"issuer": ISSUER, "subject": "ada", "client_id": "app", "token_id": "t1"}
    return Principal(**{**usual, "issued_at": NOON, "claims": claims, **options})


def test_nothing_is_revoked_at_first() -> None:
    assert not RevocationList().covers(principal())


def test_a_token_is_revoked_by_its_id() -> None:
    revoked = listed(revocation("token", "t1"))
    assert revoked.covers(principal())
    assert not revoked.covers(principal(token_id="t2"))
    assert not revoked.covers(principal(token_id=None))


def test_another_issuers_names_are_not_concerned() -> None:
    for kind, value in (("token", "t1"), ("subject", "ada"), ("client", "app"), ("session", "s1")):
        revoked = RevocationList().extended(
            [Revocation(kind, "https://other.test", value, None, LATE)],  # type: ignore[arg-type]
            NOON,
        )
        assert not revoked.covers(principal(session="s1"))


@pytest.mark.parametrize(("kind", "value"), [("subject", "ada"), ("client", "app")])
def test_tokens_issued_before_the_date_are_revoked_and_later_ones_are_not(
    kind: Kind, value: str
) -> None:
    revoked = listed(revocation(kind, value, NOON + 1))
    assert revoked.covers(principal())
    assert not revoked.covers(principal(issued_at=NOON + 1))
    assert revoked.covers(principal(issued_at=None))  # unknown counts as before
    assert not revoked.covers(principal(subject="eve", client_id="other"))


def test_a_session_is_revoked_by_its_sid() -> None:
    revoked = listed(revocation("session", "s1", NOON + 1))
    assert revoked.covers(principal(session="s1"))
    assert not revoked.covers(principal(session="s2"))
    assert not revoked.covers(principal())
    assert not revoked.covers(principal(session=["s1"]))


def test_a_subjects_tokens_without_a_session_can_be_revoked_alone() -> None:
    revoked = listed(revocation("sessionless", "ada", NOON + 1))
    assert revoked.covers(principal())
    assert not revoked.covers(principal(session="s2"))


def test_a_revocation_that_adds_nothing_leaves_the_list_as_it_is() -> None:
    revoked = listed(revocation("token", "t1"), revocation("subject", "ada", NOON))
    for again in (
        revocation("token", "t1"),
        revocation("token", "t1", NOON),
        revocation("subject", "ada", NOON - 5, LATE - 1),
        revocation("client", "old", NOON - 99, NOON),  # is over
    ):
        assert revoked.extended([again], NOON) is revoked


def test_the_later_date_and_the_later_expiry_win() -> None:
    revoked = listed(revocation("subject", "ada", NOON, LATE))
    for later in (revocation("subject", "ada", NOON + 5, LATE - 9), revocation("subject", "ada")):
        merged = revoked.extended([later, revocation("subject", "ada", NOON - 5)], NOON)
        (entry,) = merged.entries.values()
        assert entry.before == later.before
        assert entry.expires_at == LATE


def test_expired_revocations_are_removed_at_a_change() -> None:
    short = revocation("token", "t1", None, NOON + 10)
    revoked = listed(short)
    assert revoked.live(NOON + 9) == [short]
    assert revoked.live(NOON + 10) == []
    soon = revoked.extended([revocation("token", "t2")], NOON + 20)
    assert len(soon) == 2  # not every change looks at all of it
    later = soon.extended([revocation("token", "t3")], NOON + 100)
    assert sorted(each.value for each in later.entries.values()) == ["t2", "t3"]


def test_the_list_cannot_be_changed() -> None:
    revoked: Any = listed(revocation("token", "t1"))
    with pytest.raises(TypeError):
        revoked.entries["token", ISSUER, "t2"] = revocation("token", "t2")


def test_a_repr_names_nobody() -> None:
    assert "ada" not in repr(revocation("subject", "ada"))
    assert "ada" not in repr(listed(revocation("subject", "ada")))


dates = st.floats(0, 2**53)


@given(
    st.sampled_from(["token", "subject", "client", "session", "sessionless"]),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.none() | dates,
    dates,
)
def test_encoded_revocations_decode_to_the_same(
    kind: Kind, issuer: str, value: str, before: float | None, last: float
) -> None:
    written = Revocation(kind, issuer, value, before, last)
    assert decode(encode([written, written])) == [written, written]


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"[]",
        b"{}",
        b'{"revoked": 7}',
        b'{"revoked": ["token", "i", "v", null, 1]}',
        b'{"revoked": [["key", "i", "v", null, 1]]}',
        b'{"revoked": [["signing key", "i", "v", null, 1]]}',
        b'{"revoked": [[["token"], "i", "v", null, 1]]}',
        b'{"revoked": [["token", null, "v", null, 1]]}',
        b'{"revoked": [["token", "i", "v", null, "soon"]]}',
        b'{"revoked": [["token", "i", "v", "x", 1]]}',
        b'{"revoked": [["token", "i", 7, null, 1]]}',
        b'{"revoked": [["token", "i", "v", null]]}',
        b'{"revoked": [["token", "i", "v", null, 1], "token"]}',
    ],
)
def test_nothing_else_decodes_to_a_revocation(octets: bytes) -> None:
    with pytest.raises(ValueError):
        decode(octets)


def test_merging_keeps_what_has_no_date() -> None:
    dated, undated = revocation("token", "t1", NOON), revocation("token", "t1")
    assert dated.merged(undated).before is undated.merged(dated).before is None
    assert undated.covers(math.inf)


def test_a_list_of_any_length_finds_every_revocation() -> None:
    """Each change copies little, so that what was added lies in several tiers."""
    one_by_one = RevocationList()
    for number in range(5000):
        before = number if number % 3 else None
        one_by_one = one_by_one.extended(
            [Revocation("subject", "i", f"s{number % 1700}", before, 1e9 + number)], now=0.0
        )
    at_once = RevocationList().extended(one_by_one.entries.values(), now=0.0)
    assert at_once.entries == one_by_one.entries
    assert len(at_once) == len(one_by_one) == 1700
    assert all(one_by_one.includes(each) for each in at_once.entries.values())


def test_a_change_leaves_the_list_before_as_it_was() -> None:
    lists = [RevocationList()]
    for number in range(300):
        lists.append(lists[-1].extended([Revocation("token", "i", f"t{number}", None, 9.0)], 0.0))
    assert [len(each) for each in lists] == list(range(301))


def test_expired_revocations_leave_a_long_list_within_a_time_that_grows_with_it() -> None:
    many = [Revocation("token", "i", f"t{number}", None, 100.0) for number in range(100_000)]
    long = RevocationList().extended(many, now=0.0)
    later = long.extended([Revocation("token", "i", "last", None, 1e9)], now=long.purge_at)
    assert len(later) == 1
