"""JSON as security protocols need it (RFC 8259 read strictly, RFC 8725 §3.7).

UTF-8 only, no duplicate members, no NaN or infinities, no lone surrogates, no nesting beyond
64 levels, nothing after the value. Every refusal is a ValueError.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from types import GenericAlias
from typing import Any, NoReturn

from bearerguard.protocol.jose.speed import msgspec

# Claims are far below it, and the recursion limit is far above.
_MAX_DEPTH = 64


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member name is repeated")
    return members


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant
)
# The scanner of `decode`, without its search for white space around the value.
_scan: Callable[[str, int], tuple[Any, int]] = vars(_DECODER)["scan_once"]


def loads(octets: bytes) -> Any:
    """Parse one JSON text; raises ValueError for anything else."""
    try:
        text = octets.decode("utf-8")
        try:
            value, end = _scan(text, 0)
        except StopIteration:
            value, end = None, -1
        if end != len(text):  # white space is around it, or it is no JSON
            value = _DECODER.decode(text)
        if "\\" in text:  # an escape may be half a surrogate pair, and nothing else can
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    # Fast path: without a second object and a second array, nothing is nested deeply.
    if text.rfind("{") > 0 or text.rfind("[") != text.find("["):
        _check_depth(text, value)
    return value


def _check_depth(text: str, value: Any) -> None:
    if text.count("[") + text.count("{") <= _MAX_DEPTH:  # it cannot be that deep
        return
    level = [value]
    for _ in range(_MAX_DEPTH):
        members = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for some in members for each in some if isinstance(each, dict | list)]
        if not level:
            return
    raise ValueError("nested too deeply")


def without_nulls(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members whose value is not null: null means that there is none."""
    return {name: value for name, value in members.items() if value is not None}


def _parsed_object(octets: bytes) -> dict[str, Any]:
    value = loads(octets)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one refusal for all bad JSON
    return value


def _fast_object(octets: bytes) -> dict[str, Any]:
    """Parse with msgspec a text that encodes to the very same octets.

    Such a text is strict: it has each member once, and no white space, needless escape or unusual
    number. Other texts go to the strict parser, so that both ways accept and refuse the same.
    """
    try:
        value: dict[str, Any] = _decode(octets)
        if _encode(value) == octets:
            return value
    except ValueError:
        pass  # the strict parser describes the error, if there is one
    return _parsed_object(octets)


def _objects(levels: int) -> Any:
    """Return the type of an object with at most this many levels of values."""
    plain: Any = str | int | float | bool | None
    kind = plain
    for _ in range(levels - 1):
        kind = plain | GenericAlias(list, kind) | GenericAlias(dict, (str, kind))
    return GenericAlias(dict, (str, kind))


loads_object: Callable[[bytes], dict[str, Any]]
"""Parse one JSON object; raises ValueError for anything else."""

if msgspec is None:
    loads_object = _parsed_object
else:
    # The depth of usual claims; deeper ones take the strict parser.
    _decode = msgspec.json.Decoder(_objects(5)).decode
    _encode = msgspec.json.Encoder().encode
    loads_object = _fast_object
