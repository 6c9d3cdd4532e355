"""Seeded mutations of valid tokens: by octets, by parts, and by what JSON and signatures mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from bearerguard.protocol.jose import base64url

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
ODD = '+/=.~%, \t"\\{}[]:\x00\x7f\xa0\xff'
# What replaces a member's value.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**53 + 1, 1e308, "", "none", "HS256", "ES256", "admin", "*"),
    *(
        [],
        {},
        [None],
        ["https://api.test", 1],
        {"a": 1},
        "https://api.test.evil",
        "\ud7ff",
        "x" * 999,
    ),
)
NAMES = (
    "alg",
    "typ",
    "kid",
    "crit",
    "b64",
    "jwk",
    "iss",
    "aud",
    "exp",
    "nbf",
    "iat",
    "sub",
    "scope",
)


class Token(NamedTuple):
    """A valid token of one issuer, and the texts that are valid besides."""

    text: str
    valid: frozenset[str]


def mutated(token: Token, random: Random) -> str:
    """Return a text that differs from the token, and from its other valid texts."""
    text = token.text
    while text in token.valid:
        for _ in range(random.choice((1, 1, 1, 2, 5))):
            text = random.choice(_MUTATIONS)(text, random)
    return text


def mutations(tokens: list[Token], seed: int, count: int) -> Iterator[tuple[Token, str]]:
    """Return so many mutations, the same ones for the same seed."""
    random = Random(seed)
    for number in range(count):
        token = tokens[number % len(tokens)]
        yield token, mutated(token, random)


def _change_letter(text: str, random: Random) -> str:
    at = random.randrange(max(1, len(text)))
    return text[:at] + random.choice(ALPHABET) + text[at + 1 :]


def _flip_bit(text: str, random: Random) -> str:
    if not text:
        return "A"
    at = random.randrange(len(text))
    return text[:at] + chr((ord(text[at]) ^ 1 << random.randrange(8)) & 0xFF) + text[at + 1 :]


def _insert(text: str, random: Random) -> str:
    at = random.randrange(len(text) + 1)
    return text[:at] + random.choice(ALPHABET + ODD) + text[at:]


def _delete(text: str, random: Random) -> str:
    at, length = random.randrange(len(text) + 1), random.choice((1, 1, 2, 10))
    return text[:at] + text[at + length :]


def _cut(text: str, random: Random) -> str:
    return text[: random.randrange(len(text) + 1)]


def _repeat(text: str, random: Random) -> str:
    begin = random.randrange(len(text) + 1)
    return text[:begin] + text[begin : begin + 20] * random.choice((2, 3)) + text[begin + 20 :]


def _swap_parts(text: str, random: Random) -> str:
    parts = text.split(".")
    random.shuffle(parts)
    return ".".join(parts)


def _drop_part(text: str, random: Random) -> str:
    parts = text.split(".")
    parts[random.randrange(len(parts))] = random.choice(("", "e30", "AA", "bnVsbA"))
    return ".".join(parts)


def _decoded(text: str, part: int) -> tuple[list[str], bytes] | None:
    parts = text.split(".")
    try:
        return parts, base64url.decode(parts[part].encode("latin-1"))
    except (ValueError, IndexError):
        return None


def _change_octet(text: str, random: Random) -> str:
    """Change an octet of a decoded part, and encode it canonically."""
    part = random.randrange(3)
    found = _decoded(text, part)
    if found is None or not found[1]:
        return _change_letter(text, random)
    parts, octets = found
    at = random.randrange(len(octets))
    octets = octets[:at] + bytes([octets[at] ^ 1 << random.randrange(8)]) + octets[at + 1 :]
    return _with(parts, part, octets)


def _change_member(text: str, random: Random) -> str:
    part = random.randrange(2)
    found = _decoded(text, part)
    try:
        members = {} if found is None else json.loads(found[1])
    except ValueError:
        members = {}
    if found is None or not isinstance(members, dict) or not members:
        return _change_letter(text, random)
    name = random.choice((*members, *NAMES))
    if random.random() < 0.2:
        members.pop(name, None)
    else:
        members[name] = random.choice(VALUES)
    encoded = json.dumps(members, separators=random.choice(((",", ":"), (", ", ": "))))
    return _with(found[0], part, encoded.encode())


def _repeat_member(text: str, random: Random) -> str:
    part = random.randrange(2)
    found = _decoded(text, part)
    if found is None or not found[1].startswith(b"{"):
        return _change_letter(text, random)
    member = json.dumps({random.choice(NAMES): random.choice(VALUES)})[1:-1].encode()
    return _with(found[0], part, b"{" + member + b"," + found[1][1:])


def _change_signature(text: str, random: Random) -> str:
    found = _decoded(text, 2)
    if found is None:
        return _change_letter(text, random)
    parts, octets = found
    half = len(octets) // 2
    changes: tuple[bytes, ...] = (
        octets[half:] + octets[:half],
        bytes(len(octets)),
        octets[:half] + bytes(len(octets) - half),
        bytes(half) + octets[half:],
        octets + b"\0",
        b"\0" + octets,
        octets[:-1],
        octets[::-1],
        random.randbytes(len(octets)),
    )
    return _with(parts, 2, random.choice(changes))


def _with(parts: list[str], part: int, octets: bytes) -> str:
    parts[part] = base64url.encode(octets).decode()
    return ".".join(parts)


_MUTATIONS: tuple[Callable[[str, Random], str], ...] = (
    *(_change_letter, _flip_bit, _insert, _delete, _cut, _repeat, _swap_parts, _drop_part),
    *(_change_octet, _change_member, _repeat_member, _change_signature),
)
