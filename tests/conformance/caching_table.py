"""CACHE-01, CACHE-02, EXP-01 … EXP-03: response headers."""

from __future__ import annotations

import re
from collections.abc import Callable

from bearerguard import GITHUB_EXPIRY, ExpiryHeaders, scopes
from tests.conformance.drivers import Received
from tests.conformance.harness import NOON, Harness
from tests.conformance.hdr_table import SCOPE, TOKEN, fixed, good, nothing, with_origin
from tests.conformance.scenario import Scenario

IN, AT = "access-token-expires-in", "access-token-expires-at"
_EXPOSED = {
    "www-authenticate",
    "dpop-nonce",
    "access-token-expires-in",
    "access-token-expires-at",
    "retry-after",
}


def _exposes(*more: str) -> Callable[[Harness, Received], None]:
    def check(_harness: Harness, response: Received) -> None:
        listed = ",".join(response.values("access-control-expose-headers"))
        names = [name.strip().lower() for name in listed.split(",")]
        assert set(names) == _EXPOSED | set(more)
        assert len(names) == len(set(names))

    return check


def _later(harness: Harness) -> None:
    harness.guard.verify(harness.token(jti="warm", expires_in=100))
    harness.clock.now += 58.5


TABLE = [
    Scenario(id="CACHE-01 private", send=good(), status=200, headers={"cache-control": "private"}),
    Scenario(
        id="CACHE-01 as the operator wants it",
        send=good(),
        guard={"cache_control": "no-store"},
        status=200,
        headers={"cache-control": "no-store", IN: "3600"},
    ),
    Scenario(
        id="CACHE-01 left out",
        send=good(),
        guard={"cache_control": None},
        status=200,
        headers={IN: "3600"},
        absent=("cache-control",),
    ),
    Scenario(
        id="CACHE-01 nothing to add",
        send=good(),
        guard={"cache_control": None, "expiry_headers": None},
        status=200,
        absent=("cache-control", IN, AT),
    ),
    Scenario(
        id="CACHE-01 what the app set stands",
        send=good(),
        app_headers=(("Cache-Control", "max-age=5"),),
        status=200,
        headers={"cache-control": "max-age=5", IN: "3600"},
    ),
    Scenario(
        id="CACHE-02 optional, with a token",
        send=good(),
        adapter={"optional": True},
        status=200,
        headers={"vary": "Authorization", "cache-control": "private"},
    ),
    Scenario(
        id="CACHE-02 optional, without a token",
        send=nothing,
        adapter={"optional": True},
        status=200,
        headers={"vary": "Authorization"},
    ),
    Scenario(
        id="CACHE-02 optional, refused",
        send=fixed(b"Bearer abc"),
        adapter={"optional": True},
        status=401,
        error=TOKEN,
        headers={"vary": "Authorization"},
    ),
    Scenario(
        id="CACHE-02 merges with the app's",
        send=good(),
        adapter={"optional": True},
        app_headers=(("Vary", "Accept, authorization"),),
        status=200,
        headers={"vary": "Accept, authorization"},
    ),
    Scenario(
        id="CACHE-02 not where a token is demanded", send=good(), status=200, absent=("vary",)
    ),
    Scenario(
        id="EXP-01 both headers",
        send=good(expires_in=842),
        status=200,
        headers={IN: "842", AT: f"@{int(NOON) + 842}"},
    ),
    Scenario(
        id="EXP-01 own names",
        send=good(),
        guard={"expiry_headers": ExpiryHeaders("X-Left", None)},
        status=200,
        headers={"x-left": "3600"},
        absent=(IN, AT),
    ),
    Scenario(
        id="EXP-01 GitHub's",
        send=good(),
        guard={"expiry_headers": GITHUB_EXPIRY},
        status=200,
        headers={
            "github-authentication-token-expiration": re.compile(
                r"2027-01-15 09:00:00 UTC",
            )
        },
        absent=(IN, AT),
    ),
    Scenario(
        id="EXP-01 none", send=good(), guard={"expiry_headers": None}, status=200, absent=(IN, AT)
    ),
    Scenario(
        id="EXP-02 at response start, floored",
        before=_later,
        send=lambda harness: harness.bearer(jti="warm", expires_in=41.5),
        own_issuer=True,
        status=200,
        headers={IN: "41"},
    ),
    Scenario(
        id="EXP-02 within the leeway it is 0",
        send=good(expires_in=-10),
        status=200,
        headers={IN: "0", AT: f"@{int(NOON) - 10}"},
    ),
    Scenario(
        id="EXP-02 on 403 too",
        send=good(expires_in=60),
        adapter={"require": scopes("write")},
        status=403,
        error=SCOPE,
        scope="write",
        headers={IN: "60", AT: f"@{int(NOON) + 60}"},
    ),
    Scenario(
        id="EXP-02 expired",
        send=good(expires_in=-31),
        status=401,
        error=TOKEN,
        headers={IN: "0"},
        absent=(AT,),
    ),
    Scenario(
        id="EXP-02 expired but forged says nothing",
        send=lambda harness: [
            (
                "Authorization",
                b"Bearer " + harness.token(expires_in=-31)[:-8].encode() + b"AAAAAAAA",
            )
        ],
        status=401,
        error=TOKEN,
        absent=(IN, AT),
    ),
    Scenario(
        id="EXP-02 anonymous", send=nothing, adapter={"optional": True}, status=200, absent=(IN, AT)
    ),
    Scenario(
        id="EXP-02 public responses",
        send=good(),
        app_headers=(("Cache-Control", "public, max-age=60"),),
        status=200,
        absent=(IN, AT),
    ),
    Scenario(
        id="EXP-02 shared responses",
        send=good(),
        app_headers=(("Cache-Control", "max-age=1"), ("Cache-Control", "S-MaxAge=60")),
        status=200,
        absent=(IN, AT),
    ),
    Scenario(id="EXP-03 allowed", send=with_origin(good()), status=200, after=_exposes()),
    Scenario(id="EXP-03 refused", send=with_origin(nothing), status=401, after=_exposes()),
    Scenario(
        id="EXP-03 merged",
        send=with_origin(good()),
        app_headers=(("Access-Control-Expose-Headers", "X-Total, retry-after"),),
        status=200,
        after=_exposes("x-total"),
    ),
    Scenario(
        id="EXP-03 a star is not enough",
        send=with_origin(good()),
        app_headers=(("Access-Control-Expose-Headers", "*"),),
        status=200,
        after=_exposes("*"),
    ),
    Scenario(
        id="EXP-03 without Origin",
        send=good(),
        status=200,
        absent=("access-control-expose-headers",),
    ),
]
