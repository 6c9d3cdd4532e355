"""The floor F: the least that a request with a known token can cost in pure Python.

Scan twelve headers for the authorization, build the key from it, hit a dict, read the clock.
Everything that recognises a token does these, so all other figures are multiples of F.
"""

from __future__ import annotations

import time
from itertools import repeat

from benchmarks.rounds import Case

SCHEME = b"Bearer "

# What a browser or an HTTP library sends besides.
OTHER_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"host", b"api.example.com"),
    (b"connection", b"keep-alive"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"application/json, text/plain, */*"),
    (b"accept-language", b"en-GB,en;q=0.7,de;q=0.3"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"referer", b"https://app.example.com/recordings"),
    (b"sec-fetch-dest", b"empty"),
    (b"sec-fetch-mode", b"cors"),
    (b"sec-fetch-site", b"same-site"),
    (b"priority", b"u=0"),
)


def headers(token: str) -> list[tuple[bytes, bytes]]:
    """Return twelve headers, with a new object for the authorization."""
    return [*OTHER_HEADERS, (b"authorization", SCHEME + token.encode())]


def floor(token: str) -> Case:
    """Return the floor as a case."""
    lines = headers(token)
    known = {token.encode(): time.time() + 3600}

    def run(count: int) -> None:
        clock = time.time
        for _ in repeat(None, count):
            for name, value in lines:
                if name == b"authorization":
                    found = value
            # The slice is a new object: as for a real request, its hash is not known yet.
            if clock() >= known[found[7:]]:
                raise RuntimeError("the token of the floor has expired")

    return Case(run)
