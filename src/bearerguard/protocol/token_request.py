"""Building requests to a token endpoint, and what is like it (RFC 6749 §3.2, §4, §6)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

from bearerguard.protocol.client_authentication import Proof
from bearerguard.runtime.flow import Fetch

_HEADERS = (
    ("accept", "application/json"),
    ("content-type", "application/x-www-form-urlencoded"),
)

Fields = Iterable[tuple[str, str]]


def request(endpoint: str, fields: Fields, proof: Proof, headers: Fields = ()) -> Fetch:
    """Return the request with a client's proof of who it is.

    Its connection is never one that was kept: a dead one would have the request sent again,
    and a code or a refresh token serves once.
    """
    form = urlencode([*fields, *proof.parameters]).encode("ascii")
    return Fetch("POST", endpoint, (*_HEADERS, *proof.headers, *headers), form)


def audience(scope: Iterable[str], resources: Iterable[str]) -> list[tuple[str, str]]:
    """Return what says for what a token is: `scope`, and each `resource` (RFC 8707 §2)."""
    joined = " ".join(dict.fromkeys(scope))
    asked = [("scope", joined)] if joined else []
    return asked + [("resource", resource) for resource in resources]
