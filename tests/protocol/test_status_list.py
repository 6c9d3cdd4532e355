"""Status lists as values: the bit array, the reference in a token, and which URIs are allowed."""

from __future__ import annotations

import base64
import json
import random
import time
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard import TokenError
from bearerguard.protocol import status_list
from bearerguard.protocol.status_list import StatusReference

NOON = 1_800_000_000.0
URI = "https://id.test/statuslists/1"


def _text(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


# The examples of the draft's §4.1 and §4.2, and the first vector of its appendix: bits, `lst`, the
# statuses that are set, and the size.
VECTORS: list[tuple[int, str, dict[int, int], int]] = [
    (1, "eNrbuRgAAhcBXQ", dict.fromkeys((0, 3, 4, 5, 7, 8, 9, 13, 15), 1), 16),
    (2, "eNo76fITAAPfAgc", {0: 1, 1: 2, 3: 3, 5: 1, 7: 1, 8: 1, 9: 2, 10: 3, 11: 3}, 12),
    (
        1,
        (
            "eNrt3AENwCAMAEGogklACtKQPg9LugC9k_ACvreiogEAAKkeCQAAAAAAAAAAAAAAAAAAAIBylgQAAAAAAAAAAAAA"
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAXG9IAAAAAAAAAPwsJAAAAAAAAAAAAAAAvhsSAAAAAAAAAAAA"
            "7KpLAAAAAAAAAAAAAAAAAAAAAJsLCQAAAAAAAAAAADjelAAAAAAAAAAAKjDMAQAAAACAZC8L2AEb"
        ),
        dict.fromkeys(
            (0, 1993, 25460, 159495, 495669, 554353, 645645, 723232, 854545, 934534, 1000345), 1
        ),
        2**20,
    ),
]
# The next two, of 2**20 statuses: bits, the statuses, and how the draft's `lst` begins and ends.
LONG_VECTORS: list[tuple[int, dict[int, int], str, str]] = [
    (
        2,
        {
            0: 1,
            1993: 2,
            25460: 1,
            159495: 3,
            495669: 1,
            554353: 1,
            645645: 2,
            723232: 1,
            854545: 1,
            934534: 2,
            1000345: 3,
        },
        "eNrt2zENACEQAEEuoaBABP5VIO01fCjIHTMStt9ovGVI",
        "EBqH81gAQw",
    ),
    (
        4,
        {
            0: 1,
            1993: 2,
            35460: 3,
            459495: 4,
            595669: 5,
            754353: 6,
            845645: 7,
            923232: 8,
            924445: 9,
            934534: 10,
            1000345: 12,
            1004534: 11,
            1030203: 13,
            1030204: 14,
            1030205: 15,
        },
        "eNrt0EENgDAQADAIHwImkIIEJEwCUpCEBBQRHOy35Li1EjoOQGabAg",
        "jsA9xMBMA",
    ),
]


@pytest.mark.no_cover
@pytest.mark.parametrize(("bits", "expected", "begins", "ends"), LONG_VECTORS, ids=["2", "4"])
def test_TSL_01_a_list_is_packed_as_the_draft_does(
    bits: int, expected: dict[int, int], begins: str, ends: str
) -> None:
    claim = status_list.encode((expected.get(index, 0) for index in range(2**20)), bits)
    assert claim["lst"].startswith(begins)
    assert claim["lst"].endswith(ends)
    found = status_list.decode(claim)
    assert {index: found[index] for index in range(2**20) if found[index]} == expected


VECTORS_CLAIM = {"bits": 1, "lst": VECTORS[0][1]}


@pytest.mark.parametrize(("bits", "packed", "expected", "size"), VECTORS, ids=range(3))
def test_TSL_01_the_vectors_of_the_draft_are_read_exactly(
    bits: int, packed: str, expected: dict[int, int], size: int
) -> None:
    found = status_list.decode({"bits": bits, "lst": packed})
    assert len(found) == size
    assert {index: found[index] for index in range(size) if found[index]} == expected


def test_TSL_01_the_first_status_is_in_the_lowest_bits() -> None:
    found = status_list.decode(VECTORS_CLAIM)
    assert found.octets == bytes([0xB9, 0xA3])


@given(
    bits=st.sampled_from([1, 2, 4, 8]),
    data=st.data(),
)
def test_every_status_of_an_encoded_list_is_read_back(bits: int, data: st.DataObject) -> None:
    statuses = data.draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=200))
    claim = status_list.encode(statuses, bits)
    found = status_list.decode(json.loads(json.dumps(claim)))
    assert [found[index] for index in range(len(statuses))] == statuses
    # The last octet is filled with zeros, and nothing is behind it.
    assert len(found) - len(statuses) < 8
    for index in (len(found), len(found) + 7, -1):
        with pytest.raises(IndexError):
            found[index]


@pytest.mark.parametrize(("bits", "statuses"), [(1, [2]), (2, [-1]), (8, [256]), (3, [0])])
def test_what_does_not_fit_is_not_encoded(bits: int, statuses: list[int]) -> None:
    with pytest.raises(ValueError, match="bits"):
        status_list.encode(statuses, bits)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(bits=JSON, packed=JSON | st.binary(max_size=40).map(_text))
def test_no_other_claim_raises_anything_but_value_error(bits: Any, packed: Any) -> None:
    try:
        found = status_list.decode({"bits": bits, "lst": packed})
    except ValueError:
        return
    assert found.bits in {1, 2, 4, 8}


@given(position=st.integers(0, 1000), flipped=st.integers(1, 255))
def test_a_list_with_one_altered_octet_is_refused_or_is_the_same_list(
    position: int, flipped: int
) -> None:
    """ZLIB's checksum (RFC 1950 §2.2) detects it; only the header's level may differ."""
    claim = status_list.encode([1, 0, 1] * 50)
    octets = bytearray(base64.urlsafe_b64decode(claim["lst"] + "=="))
    octets[position % len(octets)] ^= flipped
    try:
        found = status_list.decode({"bits": 1, "lst": _text(bytes(octets))})
    except ValueError:
        return
    assert found == status_list.decode(claim)


@pytest.mark.parametrize(
    "claim",
    [
        None,
        [],
        {},
        {"bits": 1},
        {"bits": 3, "lst": "eNrbuRgAAhcBXQ"},
        {"bits": True, "lst": "eNrbuRgAAhcBXQ"},
        {"bits": 1.0, "lst": "eNrbuRgAAhcBXQ"},
        {"bits": "1", "lst": "eNrbuRgAAhcBXQ"},
        {"bits": 1, "lst": 7},
        {"bits": 1, "lst": "eNrbuRgAAhcBXQ=="},
        {"bits": 1, "lst": "eNrbuRgAAhcBX é"},
        {"bits": 1, "lst": "eNrbuRgAAhcB"},  # cut off
        {"bits": 1, "lst": "eNrbuRgAAhcBXQAA"},  # followed by something
        {"bits": 1, "lst": ""},
        {"bits": 1, "lst": "uaM"},  # not compressed
    ],
    ids=str,
)
def test_TSL_01_a_malformed_list_is_refused(claim: object) -> None:
    with pytest.raises(ValueError, match=r"status_list|bits|lst"):
        status_list.decode(claim)


def test_TSL_01_a_zip_bomb_is_refused_before_it_fills_the_memory() -> None:
    """128 MB of zeros in 130 kB."""
    packing = zlib.compressobj(9)
    zeros = bytes(2**20)
    bomb = b"".join(packing.compress(zeros) for _ in range(128)) + packing.flush()
    packed = _text(bomb)
    tracemalloc.start()
    try:
        began = time.process_time()
        with pytest.raises(ValueError, match="octets"):
            status_list.decode({"bits": 1, "lst": packed})
        spent = time.process_time() - began
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(f"refused after {spent * 1000:.0f} ms; peak {peak / 1e6:.1f} MB")
    assert peak < 4 * status_list.MAX_OCTETS


@pytest.mark.no_cover
def test_a_million_statuses_take_an_eighth_of_a_megabyte() -> None:
    seeded = random.Random(20)
    claim = status_list.encode(seeded.randrange(2) for _ in range(10**6))
    began = time.process_time()
    found = status_list.decode(claim)
    spent = time.process_time() - began
    print(f"{len(claim['lst'])} characters, read in {spent * 1000:.1f} ms")
    assert (len(found), len(found.octets)) == (10**6, 125_000)
    assert len(claim["lst"]) < 200_000


# The reference in a token


def test_a_token_names_its_place() -> None:
    claims = {"status": {"status_list": {"uri": URI, "idx": 7}, "other": 1}}
    assert status_list.reference(claims) == StatusReference(URI, 7)
    assert status_list.reference({}) is None


@pytest.mark.parametrize(
    "status",
    [
        "active",
        7,
        [],
        {},
        {"identifier_list": {}},
        {"status_list": 7},
        {"status_list": {"uri": URI}},
        {"status_list": {"idx": 1}},
        {"status_list": {"uri": "", "idx": 1}},
        {"status_list": {"uri": "x" * 3000, "idx": 1}},
        {"status_list": {"uri": 7, "idx": 1}},
        *({"status_list": {"uri": URI, "idx": idx}} for idx in (-1, 1.0, True, "1", 2**53, None)),
    ],
    ids=str,
)
def test_TSL_01_a_malformed_reference_is_401(status: object) -> None:
    with pytest.raises(TokenError) as caught:
        status_list.reference({"status": status})
    assert caught.value.reason.code == "bad_status"


@given(status=JSON)
def test_no_status_raises_anything_but_a_refusal(status: Any) -> None:
    try:
        status_list.reference({"status": status})
    except TokenError:
        return
    assert status is None


# The status list token


def claims(**changed: Any) -> dict[str, Any]:
    usual = {"sub": URI, "iat": NOON, "status_list": VECTORS_CLAIM}
    return {name: value for name, value in {**usual, **changed}.items() if value is not None}


def read(found: dict[str, Any]) -> status_list.PublishedList:
    return status_list.read(found, uri=URI, issuers=("https://id.test",), now=NOON, leeway=30)


def test_a_status_list_token_says_how_long_it_is_used() -> None:
    found = read(claims(ttl=60, exp=NOON + 5, iss="https://id.test", nbf=NOON))
    assert (found.ttl, found.expires_at, len(found.statuses)) == (60, NOON + 5, 16)
    assert (read(claims()).ttl, read(claims()).expires_at) == (None, None)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sub": "https://id.test/statuslists/2"}, "sub"),
        ({"sub": None}, "sub"),
        ({"iss": "https://other.test"}, "iss"),
        ({"iss": 7}, "iss"),
        ({"iss": ["https://id.test"]}, "iss"),
        ({"iat": None}, "iat"),
        ({"iat": "now"}, "iat"),
        ({"iat": NOON + 301}, "iat"),
        ({"exp": NOON - 30}, "expired"),
        ({"exp": "never"}, "exp"),
        ({"nbf": NOON + 31}, "nbf"),
        ({"ttl": 0}, "ttl"),
        ({"ttl": -1}, "ttl"),
        ({"ttl": True}, "ttl"),
        ({"status_list": None}, "status_list"),
    ],
    ids=str,
)
def test_TSL_01_another_status_list_token_says_nothing(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(claims(**changed))


# Which URIs are fetched


@pytest.mark.parametrize(
    ("uri", "pattern"),
    [
        (URI, URI),
        (URI, "https://id.test/statuslists/*"),
        (URI, "https://id.test/*"),
        ("https://id.test/statuslists/2026/11/a_b-c.jwt", "https://id.test/statuslists/*"),
        ("https://id.test/list?id=7", "https://id.test/list?id=7"),
    ],
)
def test_TSL_01_a_uri_that_fits_a_pattern_is_allowed(uri: str, pattern: str) -> None:
    assert status_list.is_allowed(uri, [pattern])
    assert status_list.pattern_mistake(pattern) is None or "?" in pattern


@pytest.mark.parametrize(
    "uri",
    [
        "https://evil.test/statuslists/1",
        "http://id.test/statuslists/1",
        "https://id.test/statuslists/",
        "https://id.test/statuslists/*",
        "https://id.test/statuslists/../admin",
        "https://id.test/statuslists/./1",
        "https://id.test/statuslists/a/..",
        "https://id.test/statuslists/%2e%2e/admin",
        "https://id.test/statuslists/1?x=https://evil.test",
        "https://id.test/statuslists/1#a",
        "https://id.test/statuslists/a//b",
        "https://id.test/statuslists/a\\b",
        "https://id.test/statuslists/a b",
        "https://id.test/statuslists/a\n",
        "https://id.test/statuslists/é",
        "https://id.test@evil.test/statuslists/1",
        "https://ID.test/statuslists/1",
        "",
    ],
)
def test_TSL_01_no_other_uri_is_ever_allowed(uri: str) -> None:
    assert not status_list.is_allowed(uri, ["https://id.test/statuslists/*"])


@pytest.mark.parametrize(
    "pattern",
    [
        *("", "*", "https://*", "https://*.id.test/x", "https://id.test", "https://id.test*"),
        *("https://id.test/*/x", "https://a@id.test/x", "ftp://id.test/x", "https://id.test/x?*"),
    ],
)
def test_a_pattern_names_one_host(pattern: str) -> None:
    assert status_list.pattern_mistake(pattern)
