"""JSON as security protocols need it (RFC 8259 read strictly, RFC 8725 §3.7).

UTF-8 only, no duplicate members, no NaN or infinities, no lone surrogates, nothing after
the value. Every refusal is a ValueError.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


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


def loads(octets: bytes) -> Any:
    """Parse one JSON text; raises ValueError for whatever is not strictly one."""
    try:
        text = octets.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\u" in text:  # only an escape can smuggle half a surrogate pair in
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def loads_object(octets: bytes) -> dict[str, Any]:
    """Parse one JSON object; raises ValueError for any other value."""
    value = loads(octets)
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one refusal for all bad JSON
    return value
