"""Sealing: what was sealed opens unaltered, only for its purpose and in its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard import ConfigurationError
from bearerguard.runtime.sealing import Sealer, SealError

OLD, NEW = b"o" * 32, "n" * 32
SEALER = Sealer(OLD, purpose="tests")


@given(st.binary(), st.binary())
def test_what_is_sealed_opens_where_it_belongs(plaintext: bytes, associated: bytes) -> None:
    sealed = SEALER.seal(plaintext, associated)
    assert SEALER.open(sealed, associated) == plaintext
    with pytest.raises(SealError):
        SEALER.open(sealed, associated + b"x")


@given(st.binary(min_size=1), st.data())
def test_nothing_altered_opens(plaintext: bytes, data: st.DataObject) -> None:
    sealed = SEALER.seal(plaintext)
    position = data.draw(st.integers(0, len(sealed) - 1))
    flip = data.draw(st.integers(1, 255))
    altered = bytearray(sealed)
    altered[position] ^= flip
    with pytest.raises(SealError):
        SEALER.open(bytes(altered))
    with pytest.raises(SealError):
        SEALER.open(sealed[:position])


@given(st.binary())
def test_what_was_never_sealed_does_not_open(octets: bytes) -> None:
    with pytest.raises(SealError):
        SEALER.open(octets)
    with pytest.raises(SealError):
        SEALER.open(b"\x01" + octets)


def test_a_purpose_opens_nothing_of_another() -> None:
    with pytest.raises(SealError):
        Sealer(OLD, purpose="other").open(SEALER.seal(b"text"))


def test_the_same_text_never_looks_the_same() -> None:
    sealed = SEALER.seal(b"text"), SEALER.seal(b"text")
    assert sealed[0] != sealed[1]
    assert all(b"text" not in each for each in sealed)


def test_a_secret_is_renewed_by_a_list_from_newest_to_oldest() -> None:
    old, both, new = (Sealer(*secrets, purpose="tests") for secrets in ((OLD,), (NEW, OLD), (NEW,)))
    assert both.open(old.seal(b"text")) == b"text"
    assert new.open(both.seal(b"text")) == b"text"
    with pytest.raises(SealError):
        old.open(both.seal(b"text"))
    with pytest.raises(SealError):
        new.open(old.seal(b"text"))


@pytest.mark.parametrize("secrets", [(), ("short",), (b"x" * 31,), (b"x" * 32, "short"), (7,)])
def test_a_secret_that_could_be_guessed_is_refused(secrets: tuple[bytes, ...]) -> None:
    with pytest.raises(ConfigurationError, match="secret="):
        Sealer(*secrets, purpose="tests")


def test_no_secret_shows() -> None:
    assert "nnn" not in repr(Sealer(NEW, purpose="tests"))
    with pytest.raises(ConfigurationError) as raised:
        Sealer("hunter2", purpose="tests")
    assert "hunter2" not in str(raised.value)
