"""What each library's `BearerAuth` makes of refusals; given to another library, it says so."""

from __future__ import annotations

import gc
import io
from typing import Any

import httpx
import httpx2
import pytest
import requests

from bearerguard.client import BearerAuth, StaticToken, TokenManager
from bearerguard.client import httpx as for_httpx
from bearerguard.client import requests as for_requests
from bearerguard.errors import ConfigurationError, InsufficientScope, LoginRequired, StepUpRequired
from tests.client.callers import NAMES, caller
from tests.client.scripted_server import manager

AUTHS = {"httpx2": BearerAuth, "httpx": for_httpx.BearerAuth, "requests": for_requests.BearerAuth}


def refused(*challenges, status=401):
    return lambda _: (status, [("WWW-Authenticate", each) for each in challenges], b"no")


@pytest.mark.parametrize("name", NAMES)
def test_CL_02_a_refused_token_is_renewed_and_the_request_sent_again(server, time, name):
    with caller(name, manager(server, time)) as call:
        assert call("GET", f"{server.url}/api").text == "t1"
        server.revoke()
        answer = call("POST", f"{server.url}/api", data={"a": "b"})
        assert answer.text == "t2"
    assert [each.form for each in server.at("/api")] == [{}, {"a": "b"}, {"a": "b"}]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("challenges", [(), ("Basic realm=x",), ("Bearer realm=x",), ('a"',)])
def test_CL_02_a_401_without_a_code_has_the_token_renewed_as_well(server, time, name, challenges):
    server.answers["/api"] = lambda asked: (
        (200, [], b"good") if asked.token == "t2" else refused(*challenges)(asked)
    )
    with caller(name, manager(server, time)) as call:
        assert call("GET", f"{server.url}/api").text == "good"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("status", "challenge"),
    [
        (401, 'Bearer error="invalid_request"'),
        (403, 'Bearer error="invalid_token"'),
        (403, ""),
        (500, 'Bearer error="invalid_token"'),
    ],
)
def test_CL_02_other_refusals_are_the_callers(server, time, name, status, challenge):
    server.answers["/api"] = refused(challenge, status=status)
    with caller(name, manager(server, time)) as call:
        assert call("GET", f"{server.url}/api").status_code == status
    assert len(server.at("/api")) == len(server.at("/token")) == 1


@pytest.mark.parametrize("name", NAMES)
def test_CL_03_demands_are_read_from_any_of_the_challenges(server, time, name):
    server.answers["/scope"] = refused(
        "Negotiate", "junk = = junk", 'Bearer error="insufficient_scope", scope="a b a"', status=403
    )
    server.answers["/login"] = refused(
        "Basic realm=x",
        'DPoP error="insufficient_user_authentication", acr_values="gold", max_age=5, scope=c',
    )
    server.answers["/odd"] = refused('Bearer error=insufficient_user_authentication, max_age="-5"')
    with caller(name, manager(server, time)) as call:
        with pytest.raises(InsufficientScope) as more:
            call("GET", f"{server.url}/scope")
        assert more.value.scopes == ("a", "b")
        with pytest.raises(StepUpRequired) as login:
            call("GET", f"{server.url}/login")
        found = (login.value.acr_values, login.value.max_age, login.value.scopes)
        assert found == (("gold",), 5, ("c",))
        with pytest.raises(StepUpRequired, match="another login") as odd:
            call("GET", f"{server.url}/odd")
        assert odd.value.max_age is None
    assert len(server.at("/token")) == 1
    gc.collect()  # a connection that was left open would warn now


@pytest.mark.parametrize("name", NAMES)
def test_CL_03_a_demand_for_scope_may_be_the_answer_to_the_renewed_token(server, time, name):
    server.answers["/api"] = lambda asked: (
        refused('Bearer error="insufficient_scope", scope=w', status=403)(asked)
        if asked.token == "t2"
        else refused('Bearer error="invalid_token"')(asked)
    )
    with caller(name, manager(server, time)) as call, pytest.raises(InsufficientScope):
        call("GET", f"{server.url}/api")
    assert len(server.at("/api")) == 2
    gc.collect()


@pytest.mark.parametrize("name", AUTHS)
def test_CL_02_an_api_that_refuses_fresh_tokens_costs_no_token_each_time(server, time, name):
    server.answers["/bad"] = refused('Bearer error="invalid_token"')
    tokens = manager(server, time)
    with caller(name, tokens) as call:
        for _ in range(5):
            assert call("GET", f"{server.url}/bad").status_code == 401
        assert len(server.at("/token")) == 2
        assert call("GET", f"{server.url}/api").text == "t2"
        time.pass_by(10.1)
        assert call("GET", f"{server.url}/bad").status_code == 401
        assert len(server.at("/token")) == 3
        server.revoke()
        time.pass_by(10.1)
        assert call("GET", f"{server.url}/api").text == "t4"


@pytest.mark.parametrize("name", NAMES)
def test_CL_02_a_token_that_cannot_be_renewed_is_sent_once(server, name):
    tokens = TokenManager(StaticToken("given"))
    with caller(name, tokens, origins=server.url) as call:
        assert call("GET", f"{server.url}/api").status_code == 401
    assert [each.token for each in server.at("/api")] == ["given"]


@pytest.mark.parametrize("name", NAMES)
def test_CL_05_a_failed_renewal_reaches_the_caller_and_leaves_nothing_open(server, time, name):
    with caller(name, manager(server, time)) as call:
        call("GET", f"{server.url}/api")
        server.revoke()
        server.answers["/token"] = lambda _: (400, [], {"error": "invalid_client"})
        with pytest.raises(Exception, match="invalid_client"):
            call("GET", f"{server.url}/api")
    gc.collect()


def test_requests_has_the_first_answer_in_the_history_of_the_second(server, time):
    with caller("requests", manager(server, time)) as call:
        call("GET", f"{server.url}/api")
        server.revoke()
        answer = call("GET", f"{server.url}/api")
    assert [each.status_code for each in answer.history] == [401]
    assert answer.request.headers["Authorization"] == "Bearer t2"


def test_requests_may_have_an_adapter_without_urllib3(server, time):
    class Adapter(requests.adapters.BaseAdapter):
        sent = 0

        def send(self, request, *_: Any, **__: Any):
            self.sent += 1
            response = requests.Response()
            response.status_code, response.request = 401, request
            response.url = request.url or ""
            response.__dict__["connection"] = self
            response.raw = io.BytesIO(b"")
            response.headers["WWW-Authenticate"] = 'Bearer error="insufficient_scope", scope=x'
            return response

        def close(self):
            pass

    with requests.Session() as session:
        session.auth = for_requests.BearerAuth(manager(server, time))
        adapter: Any = Adapter()
        session.mount(server.url, adapter)
        with pytest.raises(InsufficientScope):
            session.get(f"{server.url}/api")


SENDERS: dict[str, Any] = {
    "httpx2": lambda url, auth: httpx2.get(url, auth=auth),
    "httpx": lambda url, auth: httpx.get(url, auth=auth),
    "requests": lambda url, auth: requests.get(url, auth=auth, timeout=5),
}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("own", AUTHS)
def test_an_auth_of_another_library_is_refused_with_the_right_one(server, time, sender, own):
    auth = AUTHS[own](manager(server, time))
    if sender == own:
        assert SENDERS[sender](f"{server.url}/api", auth).text == "t1"
        return
    with pytest.raises(TypeError, match=f"is for {own}, not for {sender}: use .*{sender}"):
        SENDERS[sender](f"{server.url}/api", auth)
    assert not server.asked


def test_a_static_token_may_come_from_the_environment_and_is_read_anew():
    environ = {"TOKEN": "one"}
    source = StaticToken.from_env("TOKEN", resources="https://api.example.com", environ=environ)
    tokens = TokenManager(source)
    assert tokens.token().access_token == "one"
    environ["TOKEN"] = "two"
    assert tokens.renew(tokens.lease()).header == "Bearer two"
    environ.clear()
    with pytest.raises(LoginRequired, match="TOKEN is not set"):
        tokens.renew(tokens.lease())
    assert repr(source) == "StaticToken()"
    assert source.resources == ("https://api.example.com",)


@pytest.mark.parametrize("given", ["", "Bearer abc", "a\n", "\u00e9", 7, None])
def test_a_static_token_that_can_be_none_is_refused_at_once(given):
    with pytest.raises(ConfigurationError, match="StaticToken"):
        StaticToken(given)
