"""TSL-01: tokens whose status is in a list of their issuer (draft-ietf-oauth-status-list §8.3)."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from bearerguard.protocol import status_list
from bearerguard.protocol.jose import base64url
from bearerguard.testing import SigningKey
from tests.conformance.drivers import Headers, Received
from tests.conformance.harness import NOON, Harness
from tests.conformance.hdr_table import TOKEN
from tests.conformance.scenario import Scenario

_ALLOWED = {"status_lists": ["https://issuer.test/statuslists/*"]}
_REQUIRED = {**_ALLOWED, "require_status": True}
_BOMB = base64url.encode(zlib.compress(bytes(status_list.MAX_OCTETS + 1), 9)).decode()
_FOREIGN = SigningKey.generate("ES256", "key-1")


def _listed(index: Any = 7, **changed: Any) -> Callable[[Harness], Headers]:
    def send(harness: Harness) -> Headers:
        reference = harness.issuer.status_list.reference(index)["status"]["status_list"]
        return harness.bearer(status={"status_list": {**reference, **changed}})

    return send


def _opaque(harness: Harness) -> Headers:
    return harness.opaque(**harness.issuer.status_list.reference(7))


def _set(status: int, **attributes: Any) -> Callable[[Harness], None]:
    def before(harness: Harness) -> None:
        for name, value in attributes.items():
            setattr(harness.issuer.status_list, name, value)
        harness.issuer.status_list[7] = status

    return before


def _faulty(**faults: Any) -> Callable[[Harness], None]:
    def before(harness: Harness) -> None:
        harness.guard.warm()
        for name, value in faults.items():
            setattr(harness.issuer, name, value)

    return before


def _nothing_is_fetched(harness: Harness, _response: Received) -> None:
    assert [path for path in harness.issuer.hits if "status" in path] == []


def _is_fetched_once(harness: Harness, response: Received) -> None:
    for _ in range(3):
        assert harness.request(_listed()(harness)).status == response.status
    assert harness.issuer.hits["/statuslists/1"] == 1


def _row(name: str, status: int, **options: Any) -> Scenario:
    options = {"send": _listed(), "issuer": _ALLOWED, "own_issuer": True, **options}
    error = TOKEN if status == 401 else None
    return Scenario(id=f"TSL-01 {name}", status=status, error=error, **options)


_UNUSABLE: dict[str, dict[str, Any]] = {
    "is of another uri": {"claims": {"sub": "https://issuer.test/statuslists/2"}},
    "is of another issuer": {"claims": {"iss": "https://other.test"}},
    "has expired": {"claims": {"exp": NOON - 31}},
    "has no iat": {"claims": {"iat": None}},
    "has a ttl of zero": {"ttl": 0},
    "has another typ": {"header": {"typ": "JWT"}},
    "has no typ": {"header": {"typ": None}},
    "is an access token": {"header": {"typ": "at+jwt"}},
    "is signed with a foreign key": {"key": _FOREIGN},
    "is signed with a shared secret": {"key": SigningKey("HS256", "key-1", b"s" * 32)},
    "is not signed": {"header": {"alg": "none"}},
    "has a critical extension": {"header": {"crit": ["x"]}},
    "has 3 bits": {"claims": {"status_list": {"bits": 3, "lst": "eNrbuRgAAhcBXQ"}}},
    "is not compressed": {"claims": {"status_list": {"bits": 1, "lst": "uaM"}}},
    "is a zip bomb": {"claims": {"status_list": {"bits": 8, "lst": _BOMB}}},
}

TABLE = [
    _row("a token that the list says is valid passes", 200, after=_is_fetched_once),
    _row("an INVALID token is 401", 401, before=_set(1), after=_is_fetched_once),
    _row("a SUSPENDED token is 401", 401, before=_set(2, bits=2)),
    _row("a token with a status of the application's own is 401", 401, before=_set(13, bits=4)),
    _row("the other tokens of the list pass", 200, before=_set(255, bits=8), send=_listed(8)),
    _row("an index that the list does not have is 401", 401, send=_listed(1000)),
    *(
        _row(f"an idx {index!r} is 401", 401, send=_listed(index), after=_nothing_is_fetched)
        for index in (-1, "7", 7.0, True, None)
    ),
    *(
        _row(f"a uri {uri} is 401 and not fetched", 401, send=_listed(uri=uri),
             after=_nothing_is_fetched)
        for uri in (
            "https://evil.test/statuslists/1",
            "https://issuer.test/statuslists/../jwks",
            "http://127.0.0.1/statuslists/1",
            "file:///etc/passwd",
        )
    ),
    *(
        _row(f"a status {status!r} is 401", 401, after=_nothing_is_fetched,
             send=lambda harness, status=status: harness.bearer(status=status))
        for status in ("active", {}, {"status_list": 7})
    ),
    _row("a token without a status passes", 200, send=Harness.bearer),
    _row("a token without a status is 401 where one is required", 401,
         send=Harness.bearer, issuer=_REQUIRED, after=_nothing_is_fetched),
    _row("without status_lists= the claim is ignored", 200,
         before=_set(1), issuer={}, after=_nothing_is_fetched),
    _row("an invalid token causes no fetch", 401, after=_nothing_is_fetched,
         send=lambda harness: harness.bearer(
             expires_in=-60, **harness.issuer.status_list.reference(7))),
    _row("a token signed by a stranger causes no fetch", 401, after=_nothing_is_fetched,
         send=lambda harness: harness.bearer(
             key=_FOREIGN, **harness.issuer.status_list.reference(7))),
    *(
        _row(f"a list that {name} says nothing: 503", 503, before=_set(0, **attributes))
        for name, attributes in _UNUSABLE.items()
    ),
    _row("an issuer that is down: 503", 503, before=_faulty(outage=True)),
    _row("a list that is HTML: 503", 503, before=_faulty(garbage=b"<html>")),
    _row("a list that is empty: 503", 503, before=_faulty(garbage=b"")),
    _row("a refused connection: 503", 503, before=_faulty(refuses=True)),
    _row("an introspected token with a valid status passes", 200, introspection={}, send=_opaque),
    _row("an introspected token with a status that is not valid is 401", 401, introspection={},
         send=_opaque, before=_set(1)),
    _row("an introspected token without a status passes", 200, introspection={},
         send=Harness.opaque, issuer=_REQUIRED),
]  # fmt: skip
