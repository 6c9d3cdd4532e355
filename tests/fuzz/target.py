"""What a fuzz target is: a function of octets, and the seeds that mutation begins with.

Knows no parser. A target raises for a violation, and returns for input that is rightly refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bearerguard import Response

Check = Callable[[bytes], object]
TARGETS: dict[str, Target] = {}

# What mutations insert: what separates, repeats or ends something in the grammars of these parsers.
_TOKENS = (
    *(b"", b"\0", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\t", b"\r\n", b"\n\n"),
    *(b"%", b"%00", b"%zz", b"+", b"=", b"==", b"&", b";", b",", b".", b"..", b"/../", b"?", b"#"),
    *(b"@", b":", b"[", b"]", b"{", b"}", b'"', b"\\", b"\\ud800", b"\\u0000", b"'", b"*", b"-"),
    *(b"null", b"true", b"NaN", b"1e999", b"-0", b"0", b"-1", b"9" * 20, b"9" * 5000, b"[" * 99),
    *(b"{}", b"[]", b'""', b'{"a":1,"a":1}', b"http://[", b"::1", b"%25", b"\xe2\x80\xae"),
    *(b"none", b"HS256", b"Bearer ", b"DPoP ", b"Basic ", b"a" * 300),
)


@dataclass(frozen=True)
class Target:
    """One parser, or one whole role, under fuzzing."""

    check: Check
    seeds: tuple[bytes, ...]

    def mutated(self, seed: str) -> Iterator[bytes]:
        """Yield the seeds, and then mutations of them without end, always the same ones."""
        yield from self.seeds
        chance = random.Random(seed)
        known = list(self.seeds)
        while True:
            octets = bytearray(chance.choice(known))
            for _ in range(chance.randrange(1, 5)):
                chance.choice(_MUTATIONS)(octets, chance)
            yield bytes(octets)


def target(*seeds: bytes) -> Callable[[Check], Check]:
    """Register a function as the target of its name."""

    def registered(check: Check) -> Check:
        assert check.__name__ not in TARGETS, check.__name__
        TARGETS[check.__name__] = Target(check, seeds)
        return check

    return registered


def response(octets: bytes) -> Response:
    """Read a response: a status, header lines, an empty line and the body."""
    head, _, body = octets.partition(b"\n\n")
    status, *lines = head.decode("latin-1").split("\n")
    pairs = (line.partition(":") for line in lines)
    fields = tuple((name.strip(), value.strip()) for name, _, value in pairs)
    return Response(int(status) if status.isdecimal() and len(status) == 3 else 200, fields, body)


def text(octets: bytes) -> str:
    """Return text as a header or a URL may have it: any octet is a character."""
    return octets.decode("latin-1")


def _flip(octets: bytearray, chance: random.Random) -> None:
    if octets:
        octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)


def _insert(octets: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(octets) + 1)
    octets[at:at] = chance.choice(_TOKENS)


def _replace(octets: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(octets) + 1)
    octets[at : at + chance.randrange(1, 9)] = chance.choice(_TOKENS)


def _remove(octets: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(octets) + 1)
    del octets[at : at + chance.randrange(1, 9)]


def _repeat(octets: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(octets) + 1)
    octets[at:at] = octets[at : at + chance.randrange(1, 33)]


def _cut(octets: bytearray, chance: random.Random) -> None:
    del octets[chance.randrange(len(octets) + 1) :]


_MUTATIONS = (_flip, _flip, _insert, _replace, _replace, _remove, _repeat, _cut)
