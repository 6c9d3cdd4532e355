"""With and without the extra [speed], the same octets are accepted, with the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bearerguard.protocol.jose import base64url, speed, strict_json
from tests.properties.test_parsers import JSON

pytestmark = pytest.mark.skipif(
    not speed.IN_USE, reason="the extra [speed] is not installed, or BEARERGUARD_PLAIN is set"
)
ALPHABET = b"ABCXYZabcxyz0189-_+/= \n.!\xff"
COMPACT = JSON.map(lambda value: json.dumps({"a": value}, separators=(",", ":")))


def outcome(parse: Callable[[bytes], Any], octets: bytes) -> Any:
    try:
        value = parse(octets)
    except ValueError:
        return ValueError
    return value, repr(value)  # 1 is 1.0 and True, but not for a claim


def plainly(text: bytes) -> bytes:
    """Decode without pybase64."""
    with mock.patch.object(base64url, "pybase64", None):
        return base64url.decode(text)


@given(st.binary() | st.lists(st.sampled_from(ALPHABET), max_size=9).map(bytes))
@example(b"AB")
@example(b"QQ==")
@example(b"ab+/")
@example(b"a b c")
@example(b"YWJj\n")
def test_base64url_is_the_same(text: bytes) -> None:
    assert outcome(base64url.decode, text) == outcome(plainly, text)


@given(st.binary())
def test_genuine_base64url_is_the_same(octets: bytes) -> None:
    text = base64url.encode(octets)
    assert base64url.decode(text) == plainly(text) == octets


@given(
    st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | COMPACT.map(str.encode)
    | st.builds(
        lambda text, at, put: text[: at % len(text)] + put + text[at % len(text) :],
        COMPACT.map(str.encode),
        st.integers(0, 99),
        st.sampled_from([b'"a":1,', b" ", b"\\u0061", b"1e5", b"\x00", b"\xff", b"{", b"["]),
    )
)
@example(b'{"a":1,"a":2}')
@example(b'{"a":1,"\\u0061":2}')
@example(b'{"b":{"a":1,"a":1}}')
@example(b'{"a":1e400}')
@example(b'{"a":NaN}')
@example(b'{"a":-0}')
@example(b'{"a":-0.0}')
@example(b'{"a":18446744073709551616}')
@example(b'{"a":1234567890123456789012345678901234567890}')
@example(b'{"a":1.0}')
@example(b'{"a":1E2}')
@example(b'{"a":"\\ud800"}')
@example(b'{"a":"\xed\xa0\x80"}')
@example('{"a":"é"}'.encode())
@example(b'\xef\xbb\xbf{"a":1}')
@example('{"a":1}'.encode("utf-16"))
@example(b' {"a":1} ')
@example(b'{"a":1}x')
@example(b'{"a":[{"b":[{"c":[{"d":{}}]}]}]}')
@example(b'{"a":' * 63 + b"1" + b"}" * 63)
@example(b'{"a":' * 65 + b"1" + b"}" * 65)
@example(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")
@example(b"[]")
def test_an_object_is_the_same(octets: bytes) -> None:
    assert outcome(strict_json._fast_object, octets) == outcome(strict_json._parsed_object, octets)


@pytest.mark.parametrize(("setting", "used"), [("", True), ("1", False)])
def test_the_environment_can_leave_the_extra_out(setting: str, used: bool) -> None:
    code = "from bearerguard.protocol.jose import speed; print(speed.IN_USE)"
    environ = {**os.environ, "BEARERGUARD_PLAIN": setting}
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == str(used)


def test_the_extra_is_used_where_it_is_installed() -> None:
    assert speed.IN_USE
    assert strict_json.loads_object is strict_json._fast_object
