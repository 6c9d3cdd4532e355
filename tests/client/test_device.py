"""The device grant (RFC 8628) against a server over HTTP; the time between questions is counted."""

from __future__ import annotations

import anyio
import pytest

from bearerguard.client import DeviceCode, TokenManager
from bearerguard.client.driving import handlers
from bearerguard.client.login.device_code import DevicePrompt
from bearerguard.errors import DiscoveryError, StepUpRequired, TokenRefused, TokenUnavailable
from bearerguard.runtime.effects import Sleep
from bearerguard.runtime.flow import run
from bearerguard.transports.http import HttpTransport
from tests.client.scripted_server import Answer

PENDING: Answer = (400, [], {"error": "authorization_pending"})
SLOW: Answer = (400, [], {"error": "slow_down"})


@pytest.fixture
def device(server):
    """A server that has a code for whoever asks."""
    server.code = {
        "device_code": "the device code",
        "user_code": "WDJB-MJHT",
        "verification_uri": "https://id.example/device",
        "verification_uri_complete": "https://id.example/device?code=WDJB-MJHT",
        "expires_in": 600,
        "interval": 2,
    }
    server.answers["/device"] = lambda _: (200, [], server.code)
    server.script = []
    server.answers["/token"] = lambda _: server.script.pop(0) if server.script else give(server)
    return server


def give(server):
    return 200, [], server.granted(refresh_token="r1")


def source(server, shown=None, **options):
    prompt = [].append if shown is None else shown.append
    return DeviceCode(
        server.url, client_id="tv", scopes="read", resources=server.url, prompt=prompt, **options
    )


def logged_in(server, **options):
    """Log in over HTTP; return the token, and how long was waited between the questions."""
    waited = []
    table, _ = handlers(HttpTransport())
    table = {**table, Sleep: lambda effect: waited.append(effect.seconds)}
    try:
        return run(source(server, **options).login(None), table), waited
    except TokenRefused as error:
        return error, waited


def test_a_code_is_shown_and_the_server_asked_until_the_person_has_entered_it(device):
    shown: list[DevicePrompt] = []
    device.script = [PENDING, PENDING]
    token, waited = logged_in(device, shown=shown)
    assert (token.access_token, token.refresh_token, token.scopes) == ("t3", "r1", ("read",))
    assert waited == [2, 2, 2]
    (prompt,) = shown
    assert (prompt.user_code, prompt.expires_in) == ("WDJB-MJHT", 600)
    assert prompt.verification_uri_complete == "https://id.example/device?code=WDJB-MJHT"
    assert "the device code" not in repr(prompt)
    asked = device.at("/device")[0].form
    assert asked == {"client_id": "tv", "scope": "read", "resource": device.url}
    polled = device.at("/token")[0].form
    assert polled["grant_type"] == "urn:ietf:params:oauth:grant-type:device_code"
    assert (polled["device_code"], polled["client_id"]) == ("the device code", "tv")


def test_slow_down_adds_five_seconds_for_good(device):
    device.script = [PENDING, SLOW, PENDING, SLOW]
    assert logged_in(device)[1] == [2, 2, 7, 7, 12]


@pytest.mark.parametrize("interval", [100, 2])
def test_a_server_in_trouble_is_asked_less_often_and_never_more(device, interval):
    device.code["interval"] = interval
    device.script = [(503, [], b""), (500, [], b""), PENDING]
    expected = [100] * 4 if interval == 100 else [2, 4, 8, 8]
    assert logged_in(device)[1] == expected


@pytest.mark.parametrize("error", ["access_denied", "expired_token", "invalid_grant", "odd"])
def test_a_refusal_ends_the_login(device, error):
    device.script = [PENDING, (400, [], {"error": error})]
    found, waited = logged_in(device)
    assert isinstance(found, TokenRefused)
    assert found.error == error
    assert len(waited) == 2


def test_a_code_that_nobody_enters_in_time_ends_the_login(device):
    device.code["expires_in"] = 10
    device.script = [PENDING] * 100
    found, waited = logged_in(device)
    assert found.error == "expired_token"
    assert waited == [2] * 5


@pytest.mark.parametrize(
    ("interval", "expected"), [(None, 5.0), (0, 1.0), (-3, 1.0), (0.2, 1.0), ("3", 3.0)]
)
def test_the_interval_is_five_seconds_by_default_and_never_below_one(device, interval, expected):
    device.code["interval"] = interval
    if interval is None:
        del device.code["interval"]
    assert logged_in(device)[1] == [expected]


@pytest.mark.parametrize(
    "members",
    [
        {"user_code": None},
        {"user_code": ""},
        {"user_code": "a\x1b[2J"},
        {"device_code": 7},
        {"verification_uri": "http://id.example/device"},
        {"verification_uri": "javascript:alert(1)"},
        {"verification_uri_complete": "ftp://id.example"},
        {"verification_uri_complete": 7},
        {"expires_in": None},
        {"expires_in": "soon"},
        {"expires_in": 10**400},
        {"interval": "often"},
        {"interval": []},
    ],
)
def test_a_device_code_that_is_none_is_refused(device, members):
    device.code |= members
    found, waited = logged_in(device)
    assert found.error == "invalid_response"
    assert not waited


@pytest.mark.parametrize(
    ("members", "cause"),
    [
        ({"user_code": 123456}, "its user_code is no text"),
        ({"verification_uri": "www.id.example/device"}, "its verification_uri, 'www.id.example"),
        ({"verification_uri_complete": "/device?c=1"}, "its verification_uri_complete, '/device"),
        ({"expires_in": None}, "its expires_in is no number of seconds"),
        ({"interval": "often"}, "its interval is no number of seconds"),
    ],
)
def test_what_is_wrong_with_a_device_code_is_named(device, members, cause):
    device.code |= members
    assert cause in str(logged_in(device)[0])


def test_an_empty_member_that_need_not_be_there_is_none(device):
    device.code |= {"verification_uri_complete": "", "interval": ""}
    shown: list[DevicePrompt] = []
    assert logged_in(device, shown=shown)[1] == [5.0]
    assert shown[0].verification_uri_complete is None


def test_an_interval_that_is_longer_than_any_login_does_not_overflow(device):
    device.code["interval"] = 1e300
    assert logged_in(device)[1] == [86_400.0]


@pytest.mark.parametrize("body", [b"", b"[]", b"{"])
def test_an_answer_that_is_no_json_is_refused(device, body):
    device.answers["/device"] = lambda _: (200, [], body)
    assert logged_in(device)[0].error == "invalid_response"


def test_a_server_that_refuses_or_has_no_device_grant_is_named(device):
    device.answers["/device"] = lambda _: (400, [], {"error": "invalid_scope"})
    assert logged_in(device)[0].error == "invalid_scope"
    device.answers["/device"] = lambda _: (503, [], b"")
    with pytest.raises(TokenUnavailable):
        logged_in(device)
    del device.metadata["device_authorization_endpoint"]
    with pytest.raises(DiscoveryError, match="device_authorization_endpoint"):
        logged_in(device)


@pytest.mark.parametrize("way", ["sync", "asyncio", "trio"])
def test_a_login_by_device_really_waits_and_is_kept(device, way):
    device.code["interval"] = 1
    device.script = [PENDING]
    tokens = TokenManager(source(device))
    token = tokens.login() if way == "sync" else anyio.run(tokens.alogin, backend=way)
    assert tokens.token() == token
    renewed = tokens.renew(tokens.lease()).token
    assert device.at("/token")[-1].form["refresh_token"] == "r1"
    assert renewed.access_token == "t3"


def test_CL_03_a_stronger_login_is_asked_for_by_device_too(device):
    device.code["interval"] = 1
    tokens = TokenManager(source(device))
    tokens.step_up(StepUpRequired(("gold",), 60, ("write",)))
    asked = device.at("/device")[0].form
    assert (asked["acr_values"], asked["max_age"], asked["scope"]) == ("gold", "60", "read write")


def test_the_code_is_printed_by_default_where_no_pipe_catches_it(device, capsys):
    device.code["interval"] = 1
    TokenManager(DeviceCode(device.url, client_id="tv")).login()
    out, err = capsys.readouterr()
    assert not out
    assert err == "Open https://id.example/device and enter the code WDJB-MJHT\n"
