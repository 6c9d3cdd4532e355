"""Challenges that were received: the `WWW-Authenticate` field parsed (RFC 9110 §11.6.1).

A field holds any number of challenges, separated by the same commas that separate their
parameters. Parsing ends at the first text that is not a challenge: nothing after it is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a grammar
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
# auth-param = token BWS "=" BWS ( token / quoted-string )
_PARAMETER = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*(?:{_QUOTED}|({_TOKEN}))[ \t]*(?=,|$)")
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|$)")
_TOKEN68 = re.compile(r"[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)")
_BETWEEN = re.compile(r"[ \t,]*")
_ESCAPED = re.compile(r"\\(.)")
# How many characters of a field are parsed; no API needs more.
_MAX_LENGTH = 8192


@dataclass(frozen=True, slots=True)
class ReceivedChallenge:
    """One challenge that was received: its scheme and parameter names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse(fields: Iterable[str]) -> list[ReceivedChallenge]:
    """Return the challenges of all field values, in order.

    Of a parameter that is repeated in one challenge, the first value counts.
    """
    found: list[ReceivedChallenge] = []
    for field in fields:
        found += _parsed(field[:_MAX_LENGTH])
    return found


def find(challenges: Iterable[ReceivedChallenge], *schemes: str) -> ReceivedChallenge | None:
    """Return the first challenge of one of these schemes, those with an error code first."""
    ours = [each for each in challenges if each.scheme in schemes]
    return next((each for each in ours if "error" in each.parameters), ours[0] if ours else None)


def _parsed(field: str) -> list[ReceivedChallenge]:
    found: list[ReceivedChallenge] = []
    parameters: dict[str, str] | None = None
    position = _skipped(field, 0)
    while position < len(field):
        if parameters is not None and (match := _PARAMETER.match(field, position)):
            name, quoted, plain = match.groups()
            value = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
            parameters.setdefault(name.lower(), value)
        elif match := _SCHEME.match(field, position):
            parameters = {}
            found.append(ReceivedChallenge(match[1].lower(), parameters))
            position = match.end()
            if not _PARAMETER.match(field, position):
                match = _TOKEN68.match(field, position) or match
        else:
            break
        position = _skipped(field, match.end())
    return found


def _skipped(field: str, position: int) -> int:
    between = _BETWEEN.match(field, position)
    return position if between is None else between.end()
