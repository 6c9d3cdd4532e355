"""STEP-01 and HDR-17: a token whose login does not suffice (RFC 9470 §3)."""

from __future__ import annotations

import json
from typing import Any

from bearerguard import role, scopes, step_up
from tests.conformance.drivers import Received
from tests.conformance.harness import NOON, Harness
from tests.conformance.hdr_table import SCOPE, good, nothing
from tests.conformance.scenario import Scenario, challenge_parameters

LOGIN = "insufficient_user_authentication"
_STRONG, _RECENT = step_up(acr=["phr", "phrh"]), step_up(max_age=300)
_BOTH = _STRONG & _RECENT


def _names(**expected: str) -> Any:
    """Check what the challenge says of the login, and that the body says the same."""

    def check(_harness: Harness, response: Received) -> None:
        sent = challenge_parameters(response.one("www-authenticate"))
        named = {name: sent[name] for name in ("acr_values", "max_age") if name in sent}
        assert named == expected
        body = json.loads(response.body)
        found = {name: body[name] for name in ("acr_values", "max_age") if name in body}
        assert {name: str(value) for name, value in found.items()} == expected
        assert isinstance(body.get("max_age", 0), int)

    return check


def _when_it_has_become_too_old(harness: Harness, response: Received) -> None:
    """Send the same token while it is cached, until its login is too old."""
    assert response.status == 200
    headers = harness.bearer(auth_time=int(NOON) - 100)
    for seconds, status in ((0, 200), (230, 200), (230.5, 401), (0, 200), (1000, 401)):
        harness.clock.now = NOON + seconds
        response = harness.request(headers)
        assert response.status == status, seconds
    _names(max_age="300")(harness, response)


def _at_a_clock_that_was_set_back(harness: Harness, _response: Received) -> None:
    headers = harness.bearer(auth_time=int(NOON) - 100, iat=int(NOON) - 500)
    for seconds, status in ((0, 200), (-301, 200), (-401, 401), (10, 200)):
        harness.clock.now = NOON + seconds
        assert harness.request(headers).status == status, seconds


TABLE = [
    Scenario(
        id="STEP-01 login too old",
        send=good(auth_time=int(NOON) - 331),
        adapter={"require": _RECENT},
        status=401,
        error=LOGIN,
        after=_names(max_age="300"),
    ),
    Scenario(
        id="STEP-01 login old enough for the leeway alone",
        send=good(auth_time=int(NOON) - 330),
        adapter={"require": _RECENT},
        status=200,
    ),
    Scenario(
        id="STEP-01 the leeway is the issuer's",
        send=good(auth_time=int(NOON) - 301),
        issuer={"leeway": 0},
        adapter={"require": _RECENT},
        status=401,
        error=LOGIN,
    ),
    Scenario(
        id="STEP-01 no auth_time",
        send=good(),
        adapter={"require": _RECENT},
        status=401,
        error=LOGIN,
        after=_names(max_age="300"),
    ),
    Scenario(
        id="STEP-01 login in the future",
        send=good(auth_time=int(NOON) + 301),
        adapter={"require": _RECENT},
        status=401,
        error=LOGIN,
    ),
    Scenario(
        id="STEP-01 no acr",
        send=good(),
        adapter={"require": _STRONG},
        status=401,
        error=LOGIN,
        after=_names(acr_values="phr phrh"),
    ),
    Scenario(
        id="STEP-01 another acr",
        send=good(acr="pwd"),
        adapter={"require": _STRONG},
        status=401,
        error=LOGIN,
        after=_names(acr_values="phr phrh"),
    ),
    Scenario(
        id="STEP-01 one acr of several",
        send=good(acr="phrh"),
        adapter={"require": _STRONG},
        status=200,
    ),
    Scenario(
        id="STEP-01 acr suffices and the login is too old: both are named",
        send=good(acr="phr", auth_time=int(NOON) - 400),
        adapter={"require": _BOTH},
        status=401,
        error=LOGIN,
        after=_names(acr_values="phr phrh", max_age="300"),
    ),
    Scenario(
        id="STEP-01 both suffice",
        send=good(acr="phr", auth_time=int(NOON)),
        adapter={"require": _BOTH},
        status=200,
    ),
    Scenario(
        id="STEP-01 of the guard and of the adapter: the stricter of both",
        send=good(auth_time=int(NOON) - 200),
        guard={"require": step_up(max_age=60)},
        adapter={"require": _RECENT},
        status=401,
        error=LOGIN,
        after=_names(max_age="60"),
    ),
    Scenario(
        id="STEP-01 a cached token whose login becomes too old",
        send=good(auth_time=int(NOON) - 100),
        adapter={"require": _RECENT},
        status=200,
        after=_when_it_has_become_too_old,
    ),
    Scenario(
        id="STEP-01 a clock that is set back",
        send=good(auth_time=int(NOON) - 100),
        adapter={"require": _RECENT},
        status=200,
        after=_at_a_clock_that_was_set_back,
    ),
    Scenario(
        id="STEP-01 an introspected token",
        introspection={},
        issuer={"tokens": "opaque"},
        send=lambda harness: harness.opaque(acr="phr", auth_time=int(NOON)),
        adapter={"require": _BOTH},
        status=200,
    ),
    Scenario(
        id="STEP-01 an introspected token without a sufficient login",
        introspection={},
        issuer={"tokens": "opaque"},
        send=lambda harness: harness.opaque(acr="phr", auth_time=int(NOON) - 1000),
        adapter={"require": _BOTH},
        status=401,
        error=LOGIN,
        after=_names(acr_values="phr phrh", max_age="300"),
    ),
    Scenario(
        id="STEP-01 without a token no login is named",
        send=nothing,
        adapter={"require": scopes("a") & _BOTH},
        status=401,
        scope="a",
        after=_names(),
    ),
    Scenario(
        id="HDR-17 scope and login lacking: 401 with both",
        send=good(scope="read"),
        adapter={"require": scopes("read", "write") & _RECENT},
        status=401,
        error=LOGIN,
        scope="read write",
        after=_names(max_age="300"),
    ),
    Scenario(
        id="HDR-17 login lacking, scopes held: no scope",
        send=good(scope="read"),
        adapter={"require": scopes("read") & _RECENT},
        status=401,
        error=LOGIN,
        after=_names(max_age="300"),
    ),
    Scenario(
        id="HDR-17 scope lacking beside a sufficient login: 403",
        send=good(auth_time=int(NOON)),
        adapter={"require": scopes("write") & _RECENT},
        status=403,
        error=SCOPE,
        scope="write",
        after=_names(),
    ),
    Scenario(
        id="HDR-17 role lacking beside the login: the realm alone",
        send=good(),
        adapter={"require": role("boss") & _RECENT},
        status=403,
        after=_names(),
    ),
    Scenario(
        id="HDR-17 login written first is named first",
        send=good(scope="x"),
        adapter={"require": _RECENT | scopes("admin")},
        status=401,
        error=LOGIN,
        after=_names(max_age="300"),
    ),
    Scenario(
        id="HDR-17 scope written first is named first",
        send=good(scope="x"),
        adapter={"require": scopes("admin") | _RECENT},
        status=403,
        error=SCOPE,
        scope="admin",
        after=_names(),
    ),
    Scenario(
        id="HDR-17 an alternative to the login is enough",
        send=good(scope="admin"),
        adapter={"require": _RECENT | scopes("admin")},
        status=200,
    ),
]
