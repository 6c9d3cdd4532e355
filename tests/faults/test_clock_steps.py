"""The date of a running API, or of a running server, is set an hour forward or back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bearerguard import HttpTransport, Issuer, KeyPolicy
from tests.faults.clocked_api import KINDS, NO_TLS, Api, Clock
from tests.faults.issuer_place import Place
from tests.server.harness import Harness

HOUR = 3600.0


def _api(kind: str, place: Place, clock: Clock, refresh: float) -> Api:
    policy = KeyPolicy(max_age=HOUR / 2, refresh=refresh)
    issuer = Issuer(place.url, audience=place.issuer.audience, key_policy=policy)
    # The date steps; the system's counter of seconds does not.
    transport = HttpTransport(ssl_context=NO_TLS)
    return Api(kind, issuer, transport, clock=clock, monotonic=time.monotonic)


@pytest.mark.parametrize("kind", KINDS)
def test_an_hour_forward_ends_tokens_and_costs_no_keys(kind: str) -> None:
    clock = Clock()
    with Place() as place, _api(kind, place, clock, 600) as api:
        short, long = (place.issuer.token(expires_in=each) for each in (HOUR / 2, HOUR * 2))
        assert [api.status(each)[0] for each in (short, long)] == [200, 200]
        asked = place.asked
        with place.refusing():  # the keys are not an hour older: no fetch is needed
            clock.ahead = HOUR
            assert [api.status(each)[0] for each in (short, long)] == [401, 200]
            assert api.status(place.issuer.token(expires_in=HOUR * 2))[0] == 200
        assert place.asked == asked
        # And the date is set right again: what was refused is valid.
        clock.ahead = 0.0
        assert [api.status(each)[0] for each in (short, long)] == [200, 200]


@pytest.mark.parametrize("kind", KINDS)
def test_an_hour_back_refuses_what_is_not_yet_valid_and_prolongs_no_key(kind: str) -> None:
    clock = Clock()
    with Place() as place, _api(kind, place, clock, 1) as api:
        known, unknown = (
            place.issuer.token(claims={"nbf": int(time.time()), "jti": each}) for each in "ab"
        )
        assert api.status(known)[0] == 200
        clock.ahead = -HOUR
        # What was valid once stays so; what was never seen is not valid yet.
        assert [api.status(each)[0] for each in (known, unknown)] == [200, 401]
        withdrawn = place.issuer.token(expires_in=HOUR * 3, claims={"iat": int(time.time() - HOUR)})
        assert api.status(withdrawn)[0] == 200
        place.issuer.rotate(keep=False)
        deadline = time.monotonic() + 10
        while api.status(withdrawn)[0] != 401:  # within a refresh, whatever the date says
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert api.status(place.issuer.token(claims={"iat": int(time.time() - HOUR)}))[0] == 200


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_server_whose_date_steps_refreshes_on_and_issues_valid_tokens(
    tmp_path: Path, step: float
) -> None:
    harness = Harness(tmp_path)
    tokens = harness.tokens()
    code = harness.code()
    harness.clock.now += step
    # Sixty seconds are over, or are not; in no case is it 500, and never is a code used twice.
    redeemed = harness.redeem(code)
    assert redeemed.status == (400 if step > 0 else 200)
    assert harness.redeem(code).error == (400, "invalid_grant")
    refreshed = harness.refresh(tokens["refresh_token"])
    assert refreshed.status == 200
    assert harness.is_active(refreshed.json["access_token"])
    assert not harness.is_active(tokens["access_token"]) or step < 0
    harness.clock.now -= step
    again = harness.refresh(refreshed.json["refresh_token"])
    assert again.status == 200
    assert harness.is_active(again.json["access_token"])
    harness.server.close()
