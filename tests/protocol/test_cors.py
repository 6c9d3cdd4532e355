"""The response to a CORS preflight: which header fields a page may send."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bearerguard.protocol.http import cors
from bearerguard.runtime.messages import Response

USUAL = "Authorization, Content-Type, DPoP"


def preflight(origin: str | None, headers: Mapping[str, str]) -> Response:
    return cors.preflight("GET, HEAD", origin, headers.get)


def asked(names: str) -> dict[str, str]:
    return {"access-control-request-method": "GET", "access-control-request-headers": names}


@pytest.mark.parametrize(
    ("wanted", "allowed"),
    [
        ("authorization,mcp-protocol-version", "authorization, mcp-protocol-version"),
        ("a,\t b , a", "a, b"),
        ("a, b c, é, d\r\nx: y, " + "z" * 129, "a"),
        ("", USUAL),
        ("é", USUAL),
        ("a," * 3000, USUAL),
        (",".join(f"x-{number}" for number in range(99)), ", ".join(f"x-{n}" for n in range(64))),
    ],
)
def test_every_header_that_is_well_formed_is_allowed_by_its_name(wanted: str, allowed: str) -> None:
    response = preflight("*", asked(wanted))
    assert response.header("access-control-allow-headers") == allowed
    assert response.header("access-control-allow-origin") == "*"


@pytest.mark.parametrize(("origin", "headers"), [(None, asked("a")), ("*", {})])
def test_what_is_no_preflight_or_of_no_allowed_origin_reads_only_the_methods(
    origin: str | None, headers: dict[str, str]
) -> None:
    response = preflight(origin, headers)
    assert response.status == 204
    assert response.header("allow") == "GET, HEAD, OPTIONS"
    assert response.header("access-control-allow-origin") is None


def test_without_names_the_usual_headers_are_allowed() -> None:
    response = preflight("*", {"access-control-request-method": "GET"})
    assert response.header("access-control-allow-headers") == USUAL
