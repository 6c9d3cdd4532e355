"""Pushed authorization requests (CONFORMANCE PAR-01, RFC 9126)."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import argon2
import pytest

from bearerguard import ConfigurationError, Request
from bearerguard.protocol import pkce
from bearerguard.runtime.rate_limits import RateLimit
from bearerguard.server import Lifetimes, PeopleOptions, Registered, Registration
from bearerguard.server.endpoints import authorization, pushed_authorization
from bearerguard.server.grants import scopes_and_resources
from bearerguard.server.login import prompt
from tests.faults.size import size
from tests.server.devices import Device
from tests.server.harness import (
    CALLBACK,
    FORM,
    ISSUER,
    SECRET,
    VERIFIER,
    Harness,
    Make,
    Reply,
    basic,
    claims,
)
from tests.server.people.visitor import Visitor
from tests.server.test_assertions import KEY, TYPE, assertion
from tests.server.test_metadata_documents import Agent

ENGINES = pytest.mark.both_engines
PUSH = "/oauth/par"
PREFIX = "urn:ietf:params:oauth:request_uri:"
DEVICE, THIEF = Device(), Device()
# The text of the page for a link that leads nowhere any more.
NO_MORE = "It has expired, or was used already."
# The second is the reason when the server has already removed the row.
EXPIRED = ("expired_request_uri", "unknown_request_uri")


def parameters(client: Registered, **changed: Any) -> dict[str, Any]:
    """Return the parameters of a client's request, as a link would have them."""
    usual = {
        "redirect_uri": client.client.redirect_uris[-1],
        "response_type": "code",
        "scope": "read write",
        "state": "a state",
        "code_challenge": pkce.challenge(VERIFIER),
        "code_challenge_method": "S256",
    }
    return usual | changed


def push(
    harness: Harness, client: Registered | None = None, proof: str | None = None, **changed: Any
) -> Reply:
    registered = client or harness.app
    headers = {} if proof is None else {"dpop": proof}
    fields = harness.credentials(registered) | parameters(registered, **changed)
    return harness.post(PUSH, fields, **headers)


def pushed(harness: Harness, client: Registered | None = None, **changed: Any) -> str:
    response = push(harness, client, **changed)
    assert response.status == 201, response.response.body
    request_uri: str = response.json["request_uri"]
    return request_uri


def arrive(
    harness: Harness, request_uri: str, client: Registered | None = None, **beside: Any
) -> Reply:
    """Follow the link that a client makes of what it has pushed."""
    fields = {"client_id": (client or harness.app).client_id, "request_uri": request_uri, **beside}
    return harness.send("GET", f"/oauth/authorize?{urlencode(fields)}")


def reason(harness: Harness) -> Any:
    """Why the last request was refused."""
    return [each for each in harness.events if "reason" in each.details][-1].details["reason"]


def leads_nowhere(harness: Harness, response: Reply, *why: str) -> None:
    """See that a user gets a page, and is not sent on to an address that nobody has checked."""
    assert response.status == 400
    assert response.header("location") is None
    assert response.header("cache-control") == "no-store"
    assert NO_MORE in response.response.body.decode()
    assert reason(harness) in why


def metadata(harness: Harness) -> dict[str, Any]:
    return harness.send("GET", "/.well-known/oauth-authorization-server").json


# Pushing


@ENGINES
def test_PAR_01_a_client_pushes_its_request_and_its_user_allows_it(harness: Harness) -> None:
    response = push(harness)
    assert response.status == 201
    assert response.header("cache-control") == "no-store"
    assert response.json.keys() == {"request_uri", "expires_in"}
    assert response.json["expires_in"] == 60
    request_uri = response.json["request_uri"]
    assert request_uri.startswith(PREFIX)
    sent = arrive(harness, request_uri).sent
    assert (sent["state"], sent["iss"]) == ("a state", ISSUER)
    tokens = harness.redeem(sent["code"])
    assert tokens.json["scope"] == "read write"


def test_PAR_01_a_public_client_pushes_by_its_id_alone(harness: Harness) -> None:
    request_uri = pushed(harness, harness.phone)
    page = arrive(harness, request_uri, harness.phone)
    code = harness.consent(page).sent["code"]
    assert harness.redeem(code, harness.phone).status == 200


def test_PAR_01_a_client_authenticates_as_at_the_token_endpoint(harness: Harness) -> None:
    app = harness.app
    fields = parameters(app)
    by_header = harness.post(PUSH, fields, authorization=basic(app.client_id, app.client_secret))
    assert by_header.status == 201
    with_id = fields | {"client_id": app.client_id}  # as oauth4webapi sends it
    both = harness.post(PUSH, with_id, authorization=basic(app.client_id, app.client_secret))
    assert both.status == 201
    wrong = harness.post(PUSH, fields, authorization=basic(app.client_id, "wrong"))
    assert wrong.error == (401, "invalid_client")
    assert (wrong.header("www-authenticate") or "").startswith("Basic")
    assert harness.post(PUSH, with_id).error == (401, "invalid_client")
    assert harness.post(PUSH, fields | {"client_id": "nobody"}).error == (401, "invalid_client")
    assert harness.post(PUSH, fields).error == (401, "invalid_client")


@pytest.mark.parametrize("audience", [ISSUER, f"{ISSUER}/oauth/token", f"{ISSUER}{PUSH}"])
def test_PAR_01_an_assertion_is_for_the_issuer_and_on_request_for_an_endpoint(
    make: Make, audience: str
) -> None:
    for accepted in (False, True):
        harness = make(accept_endpoint_audiences=accepted)
        robot = harness.add("Robot", jwks={"keys": [KEY.jwk()]})
        fields = parameters(robot) | {
            "client_assertion_type": TYPE,
            "client_assertion": assertion(harness, robot, aud=audience),
        }
        expected = 201 if accepted or audience == ISSUER else 401
        assert harness.post(PUSH, fields).status == expected


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no PKCE": ({"code_challenge": None}, "invalid_request", "missing_code_challenge"),
    "plain PKCE": (
        {"code_challenge_method": "plain"},
        "invalid_request",
        "unsupported_code_challenge_method",
    ),
    "another redirect URI": (
        {"redirect_uri": "https://evil.example/cb"},
        "invalid_request",
        "unregistered_redirect_uri",
    ),
    "unknown scope": ({"scope": "delete"}, "invalid_scope", "unknown_scope"),
    "another type": ({"response_type": "token"}, "unsupported_response_type", ""),
    "no type": ({"response_type": None}, "invalid_request", "missing_parameter"),
    "another mode": (
        {"response_mode": "fragment"},
        "invalid_request",
        "unsupported_response_mode",
    ),
    "unknown resource": (
        {"resource": "https://other.example"},
        "invalid_target",
        "unknown_resource",
    ),
    "bad prompt": ({"prompt": "none login"}, "invalid_request", "unusable_prompt"),
    "bad max_age": ({"max_age": "-1"}, "invalid_request", "malformed_max_age"),
    "bad key": ({"dpop_jkt": "x"}, "invalid_request", "malformed_dpop_jkt"),
    "request object": ({"request": "a.b.c"}, "request_not_supported", ""),
    "request URI": ({"request_uri": PREFIX + "x"}, "invalid_request", "request_uri_pushed"),
    "another's request URI": (
        {"request_uri": "https://app.example.com/request"},
        "invalid_request",
        "request_uri_pushed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_PAR_01_what_would_be_refused_at_the_authorization_endpoint_is_refused_here(
    harness: Harness, name: str
) -> None:
    changed, error, why = REFUSED[name]
    response = push(harness, **changed)
    assert response.error == (400, error)
    assert response.header("content-type") == "application/json"
    assert response.json["error_description"]
    assert reason(harness) == (why or error)
    assert harness.store.count("pushed_requests") == 0


def test_PAR_01_a_redirect_uri_is_left_out_only_if_it_is_the_only_one(harness: Harness) -> None:
    request_uri = pushed(harness, redirect_uri=None)
    assert arrive(harness, request_uri).location.startswith(CALLBACK)
    assert push(harness, harness.phone, redirect_uri=None).error == (400, "invalid_request")
    assert reason(harness) == "missing_parameter"


def test_PAR_01_a_client_without_the_grant_pushes_nothing(harness: Harness) -> None:
    machine = harness.add("Machine", grant_types=["client_credentials"])
    assert push(harness, machine).error == (400, "unauthorized_client")


def test_PAR_01_a_repeated_parameter_is_refused(harness: Harness) -> None:
    fields = [*(harness.credentials() | parameters(harness.app)).items(), ("state", "another")]
    assert harness.post(PUSH, fields).error == (400, "invalid_request")


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
def test_PAR_01_only_post_is_allowed(harness: Harness, method: str) -> None:
    response = harness.send(method, PUSH)
    assert response.status == 405
    assert response.header("allow") == "POST"


def test_PAR_01_a_request_that_is_no_form_is_refused(harness: Harness) -> None:
    response = harness.send("POST", PUSH, b"{}", content_type="application/json")
    assert response.error == (400, "invalid_request")


@pytest.mark.parametrize("length", [20_000, 70_000])
def test_PAR_01_a_request_that_is_too_large_is_refused(harness: Harness, length: int) -> None:
    assert push(harness, state="s" * length).error == (413, "invalid_request")
    assert harness.store.count("pushed_requests") == 0


def test_PAR_01_a_request_may_be_longer_than_a_link(harness: Harness) -> None:
    state = "s" * 10_000
    assert harness.authorize(state=state).status == 400
    assert arrive(harness, pushed(harness, state=state)).sent["state"] == state


def by_address(harness: Harness, client: Registered, address: str) -> Reply:
    fields = harness.credentials(client) | parameters(client)
    body = urlencode({name: value for name, value in fields.items() if value is not None}).encode()
    headers = {"content-type": FORM}
    return Reply(harness.server.handle(Request("POST", PUSH, headers, body, peer=address)))


def test_PAR_01_an_address_pushes_a_limited_number_of_requests_of_public_clients(
    harness: Harness,
) -> None:
    found = [by_address(harness, harness.phone, "2001:db8::1").status for _ in range(120)]
    assert set(found) == {201}
    refused = by_address(harness, harness.phone, "2001:db8::2")  # of the same site
    assert refused.error == (429, "temporarily_unavailable")
    assert int(refused.header("retry-after") or "") == 1
    assert reason(harness) == "too_many_pushed_requests"
    assert by_address(harness, harness.phone, "198.51.100.7").status == 201
    assert by_address(harness, harness.app, "2001:db8::1").status == 201, "it has proved itself"
    harness.clock.now += 1
    assert by_address(harness, harness.phone, "2001:db8::1").status == 201


# The networks that requests come from, all at one moment.
FLOODS = [
    pytest.param(lambda n: f"2001:db8:0:{n % 256:x}::1", 4 * 120, id="of one /56"),
    pytest.param(lambda n: f"2001:db8:0:{n:x}::1", 16 * 120, id="of one /48"),
    pytest.param(lambda n: f"2001:db8:{n:x}::1", 6000, id="of anybody"),
]


@pytest.mark.both_engines
@pytest.mark.parametrize(("network", "stored"), FLOODS[: size(3, 1)])
def test_PAR_01_strangers_leave_a_bounded_number_of_rows_together(
    make: Make, network: Callable[[int], str], stored: int
) -> None:
    harness = make()
    number = size(10_000, 500)
    found = Counter(
        by_address(harness, harness.phone, network(each)).status for each in range(number)
    )
    rows = harness.store.count("pushed_requests")
    print(f"{number} pushed requests, {rows} stored: {dict(found)}")
    assert found == {201: stored, 429: number - stored}
    assert rows == stored
    assert by_address(harness, harness.app, "2001:db8::1").status == 201, "it has proved itself"


@ENGINES
def test_PAR_01_the_limit_of_all_addresses_is_one_for_each_client_of_the_operator(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushed_authorization, "IN_ALL", RateLimit(attempts=3, interval=60))
    harness = make(registration=Registration())
    other = harness.add("Other", public=True)
    strangers = [self_registered(harness), self_registered(harness)]

    def push_all(*clients: Registered) -> list[int]:
        found = [
            by_address(harness, clients[each % len(clients)], f"198.51.100.{each}")
            for each in range(4)
        ]
        return [each.status for each in found]

    assert push_all(harness.phone) == [201] * 3 + [429]
    assert push_all(*strangers) == [201] * 3 + [429], "all of them have one"
    assert push_all(other) == [201] * 3 + [429]
    assert push_all(harness.app) == [201] * 4, "it has proved itself"
    assert harness.store.count("pushed_requests") == 13
    harness.clock.now += 60
    assert by_address(harness, harness.phone, "198.51.100.9").status == 201


@ENGINES
def test_PAR_01_what_is_refused_is_not_charged_and_leaves_no_row(harness: Harness) -> None:
    for _ in range(3):
        bound = harness.credentials(harness.phone) | parameters(harness.phone, scope="delete")
        refused = harness.post(PUSH, bound, dpop=proof(harness))
        assert refused.error == (400, "invalid_scope")
        large = push(harness, harness.phone, state="s" * 20_000)
        assert large.error == (413, "invalid_request")
    for table in ("login_attempts", "assertions", "pushed_requests"):
        assert harness.store.count(table) == 0


def self_registered(harness: Harness) -> Registered:
    content = json.dumps({"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"})
    reply = harness.send(
        "POST", "/oauth/register", content.encode(), content_type="application/json"
    )
    return Registered(harness.server.clients.get(reply.json["client_id"]), client_secret=None)


def test_PAR_01_all_processes_count_the_requests_of_strangers_together(make: Make) -> None:
    harness = make()
    for _ in range(60):
        assert by_address(harness, harness.phone, "198.51.100.7").status == 201
    harness.server.close()
    harness.server = harness.another()
    found = [by_address(harness, harness.phone, "198.51.100.7").status for _ in range(61)]
    assert found == [201] * 60 + [429]


def test_PAR_01_a_client_pushes_a_limited_number_of_requests(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushed_authorization, "_PER_CLIENT", RateLimit(attempts=3, interval=1))
    harness = make()
    assert [push(harness).status for _ in range(4)] == [201] * 3 + [429]
    assert push(harness).error == (429, "temporarily_unavailable")
    other = harness.add("Other")
    assert push(harness, other).status == 201
    harness.clock.now += 1
    assert push(harness).status == 201


def test_PAR_01_nothing_that_authenticates_a_client_is_stored(harness: Harness) -> None:
    push(harness, code_verifier=VERIFIER, password="a password", nonce="n-0S6_WzA2Mj")
    ((row,),) = harness.store.run("SELECT parameters FROM pushed_requests")
    assert parse_qs(row).keys() == parameters(harness.app).keys()
    ((digest,),) = harness.store.run("SELECT digest FROM pushed_requests")
    request_uri = pushed(harness)
    assert len(digest) == 64
    assert request_uri.removeprefix(PREFIX) not in str(
        harness.store.run("SELECT * FROM pushed_requests")
    )


def test_PAR_01_a_page_of_a_registered_origin_may_push(harness: Harness) -> None:
    page = harness.add("Page", public=True, origins=["https://app.example.com"])
    fields = harness.credentials(page) | parameters(page)
    response = harness.post(PUSH, fields, origin="https://app.example.com")
    assert response.header("access-control-allow-origin") == "https://app.example.com"
    other = harness.post(PUSH, fields, origin="https://evil.example")
    assert other.header("access-control-allow-origin") is None


@pytest.mark.parametrize("seconds", [0, -1, 601, "60", True])
def test_PAR_01_a_lifetime_has_at_most_ten_minutes(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Lifetimes\(pushed_request=\)"):
        Lifetimes(pushed_request=seconds)


def test_PAR_01_the_lifetime_is_an_option(make: Make) -> None:
    harness = make(lifetimes=Lifetimes(pushed_request=600))
    response = push(harness)
    assert response.json["expires_in"] == 600
    harness.clock.now += 599
    assert arrive(harness, response.json["request_uri"]).status == 303


# Arriving


@ENGINES
def test_PAR_01_a_request_is_used_once(harness: Harness) -> None:
    request_uri = pushed(harness)
    assert arrive(harness, request_uri).sent["code"]
    leads_nowhere(harness, arrive(harness, request_uri), "used_request_uri")


@ENGINES
def test_PAR_01_of_many_arrivals_at_once_one_gets_a_code(harness: Harness) -> None:
    request_uri = pushed(harness)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: arrive(harness, request_uri), range(50)))
    assert Counter(each.status for each in found) == {303: 1, 400: 49}
    assert harness.store.count("codes") == 1
    (code,) = [each.sent["code"] for each in found if each.status == 303]
    assert harness.redeem(code).status == 200


@ENGINES
def test_PAR_01_of_two_consents_at_once_one_gets_a_code(harness: Harness) -> None:
    request_uri = pushed(harness, harness.phone)
    pages = [arrive(harness, request_uri, harness.phone) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(harness.consent, pages))
    assert sorted(each.status for each in found) == [303, 400]
    assert harness.store.count("codes") == 1


def test_PAR_01_who_arrives_too_late_gets_a_page(harness: Harness) -> None:
    request_uri = pushed(harness)
    harness.clock.now += 60
    leads_nowhere(harness, arrive(harness, request_uri), *EXPIRED)


@pytest.mark.parametrize(
    ("request_uri", "why"),
    [(PREFIX, "unknown_request_uri"), (PREFIX + "x" * 43, "unknown_request_uri")],
)
def test_PAR_01_a_request_that_nobody_has_pushed_is_a_page(
    harness: Harness, request_uri: str, why: str
) -> None:
    leads_nowhere(harness, arrive(harness, request_uri), why)


def test_PAR_01_a_request_is_its_clients_alone(harness: Harness) -> None:
    request_uri = pushed(harness)
    response = arrive(harness, request_uri, harness.phone)
    leads_nowhere(harness, response, "request_uri_of_another_client")
    assert arrive(harness, request_uri).sent["code"], "nobody else uses it up"


def test_PAR_01_a_link_with_two_requests_is_malformed(harness: Harness) -> None:
    pair = [("client_id", harness.app.client_id)]
    pair += [("request_uri", pushed(harness)) for _ in range(2)]
    response = harness.send("GET", f"/oauth/authorize?{urlencode(pair)}")
    assert response.status == 400
    assert response.header("location") is None


def test_PAR_01_a_request_uri_of_an_app_is_no_pushed_request(harness: Harness) -> None:
    response = harness.authorize(request_uri="https://app.example.com/request")
    assert response.sent["error"] == "request_not_supported"


def test_PAR_01_what_stands_beside_a_pushed_request_does_not_count(harness: Harness) -> None:
    beside: dict[str, Any] = {
        "redirect_uri": "https://evil.example/cb",
        "scope": "write",
        "state": "another",
        "prompt": "none login",
        "code_challenge": "x",
        "request": "a.b.c",
        "resource": "https://other.example",
    }
    response = arrive(harness, pushed(harness, scope="read"), **beside)
    assert response.location.startswith(CALLBACK)
    assert response.sent["state"] == "a state"
    assert harness.redeem(response.sent["code"]).json["scope"] == "read"


def test_PAR_01_a_request_counts_as_the_client_is_now(harness: Harness) -> None:
    removed = harness.add("Removed")
    for_removed = pushed(harness, removed)
    harness.server.clients.remove(removed.client_id)
    gone = arrive(harness, for_removed, removed)
    assert (gone.status, reason(harness)) == (400, "unknown_client")


@ENGINES
def test_PAR_01_a_consent_page_is_reloaded_and_read_for_longer_than_a_minute(
    harness: Harness,
) -> None:
    request_uri = pushed(harness, harness.phone)
    for _ in range(3):
        page = arrive(harness, request_uri, harness.phone)
        assert page.status == 200
        harness.clock.now += 900
    assert harness.consent(page).sent["code"]
    leads_nowhere(harness, harness.consent(page), "used_request_uri")


def test_PAR_01_a_page_that_is_left_open_for_more_than_an_hour_leads_nowhere(
    harness: Harness,
) -> None:
    request_uri = pushed(harness, harness.phone)
    arrive(harness, request_uri, harness.phone)
    harness.clock.now += 3500
    page = arrive(harness, request_uri, harness.phone)
    harness.clock.now += 160
    leads_nowhere(harness, harness.consent(page), *EXPIRED)


def come_back(harness: Harness, response: Reply) -> Reply:
    """Return from the app's own login, as its browser does."""
    address = parse_qs(urlsplit(response.location).query)["next"][0]
    cookie = (response.header("set-cookie") or "").partition(";")[0]
    return harness.send("GET", address.removeprefix(ISSUER), cookie=cookie)


def test_PAR_01_a_request_survives_a_login(harness: Harness) -> None:
    user, harness.user = harness.user, None
    request_uri = pushed(harness)
    asked = arrive(harness, request_uri)
    assert "redirect_uri" not in asked.location
    harness.clock.now += 600
    harness.user = user
    assert come_back(harness, asked).sent["state"] == "a state"


@pytest.mark.parametrize("fields", [{"prompt": "login"}, {"max_age": "0"}])
def test_PAR_01_a_request_survives_a_demand_for_a_new_login(
    harness: Harness, fields: dict[str, Any]
) -> None:
    request_uri = pushed(harness, **fields)
    asked = arrive(harness, request_uri)
    assert asked.location.startswith("https://app.example.com/login?")
    assert parse_qs(urlsplit(asked.location).query)["prompt"] == ["login"]
    harness.clock.now += 100
    in_vain = come_back(harness, asked)
    assert in_vain.sent["error"] == "login_required"
    asked = arrive(harness, pushed(harness, **fields))
    assert harness.user is not None
    harness.user = replace(harness.user, auth_time=harness.clock.now)
    tokens = harness.redeem(come_back(harness, asked).sent["code"]).json
    assert claims(tokens["access_token"])["auth_time"] == harness.clock.now


def test_PAR_01_a_request_survives_our_own_login_page(make: Make) -> None:
    harness = make(people=PeopleOptions(password_parameters=argon2.profiles.CHEAPEST))
    harness.server.users.add("ada", "correct horse battery")
    visitor = Visitor(harness.server.handle)
    request_uri = pushed(harness, harness.phone)
    link = urlencode({"client_id": harness.phone.client_id, "request_uri": request_uri})
    asked = visitor.send("GET", f"/oauth/authorize?{link}")
    page = visitor.send("GET", asked.header("location") or "")
    assert page.status == 200
    harness.clock.now += 300
    page.fields |= {"username": "ada", "password": "correct horse battery"}
    signed_in = visitor.send(
        "POST",
        page.action,
        urlencode(page.fields).encode(),
        content_type=FORM,
        sec_fetch_site="same-origin",
    )
    consent = visitor.send("GET", signed_in.header("location") or "")
    assert "wants" in consent.text or "Phone" in consent.text
    allowed = visitor.send(
        "POST",
        consent.action,
        urlencode(consent.fields | {"decision": "allow"}).encode(),
        content_type=FORM,
        sec_fetch_site="same-origin",
    )
    assert "code=" in (allowed.header("location") or "")


def test_PAR_01_an_error_uses_a_request_up(harness: Harness) -> None:
    request_uri = pushed(harness, harness.phone)
    page = arrive(harness, request_uri, harness.phone)
    assert harness.consent(page, decision="deny").sent["error"] == "access_denied"
    leads_nowhere(harness, harness.consent(page), "used_request_uri")
    silent = pushed(harness, harness.phone, prompt="none")
    assert arrive(harness, silent, harness.phone).sent["error"] == "consent_required"
    leads_nowhere(harness, arrive(harness, silent, harness.phone), "used_request_uri")


@ENGINES
def test_PAR_01_of_two_refusals_at_once_one_is_sent(harness: Harness) -> None:
    request_uri = pushed(harness, harness.phone, prompt="none")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: arrive(harness, request_uri, harness.phone), range(20)))
    assert Counter(each.status for each in found) == {303: 1, 400: 19}


def test_PAR_01_without_the_store_there_is_a_page_and_nothing_is_used_up(harness: Harness) -> None:
    request_uri = pushed(harness)
    harness.store.rename("pushed_requests", "elsewhere")
    page = arrive(harness, request_uri)
    assert (page.status, page.header("location")) == (503, None)
    assert (page.header("content-type") or "").startswith("text/html")
    assert page.header("retry-after")
    refused = push(harness)
    assert refused.error == (503, "temporarily_unavailable")
    assert refused.header("retry-after")
    harness.store.rename("elsewhere", "pushed_requests")
    harness.store.rename("codes", "elsewhere")
    assert arrive(harness, request_uri).sent["error"] == "temporarily_unavailable"
    harness.store.rename("elsewhere", "codes")
    assert arrive(harness, request_uri).sent["code"], "the user may try again"


def test_PAR_01_a_request_is_found_after_the_secret_was_renewed(harness: Harness) -> None:
    request_uri = pushed(harness)
    harness.server.close()
    harness.server = harness.another(
        secret=["a newer secret of the server only for tests", SECRET], people=harness.people
    )
    assert arrive(harness, request_uri).sent["code"]


def test_PAR_01_each_parameter_that_the_authorization_endpoint_reads_may_be_pushed() -> None:
    read: set[str] = set()
    for module in (authorization, prompt, scopes_and_resources):
        source = inspect.getsource(module)
        read |= set(re.findall(r"parameters\.(?:get|required)\(\"(\w+)\"\)", source))
    assert read - {"client_id", "request_uri"} == set(authorization.PUSHED)


# Demanding


def test_PAR_01_the_metadata_names_the_endpoint_and_whether_it_must_be_used(make: Make) -> None:
    found = metadata(make())
    assert found["pushed_authorization_request_endpoint"] == f"{ISSUER}{PUSH}"
    assert "require_pushed_authorization_requests" not in found
    found = metadata(make(require_par=True))
    assert found["require_pushed_authorization_requests"] is True


def test_PAR_01_a_server_may_demand_that_all_clients_push(make: Make) -> None:
    harness = make(require_par=True)
    sent = harness.authorize().sent
    assert (sent["error"], sent["state"]) == ("invalid_request", "a state")
    assert "RFC 9126" in sent["error_description"]
    assert reason(harness) == "request_not_pushed"
    assert arrive(harness, pushed(harness)).sent["code"]


def test_PAR_01_an_operator_may_demand_that_one_client_pushes(harness: Harness) -> None:
    careful = harness.add("Careful", require_pushed_authorization_requests=True)
    assert harness.authorize(careful).sent["error"] == "invalid_request"
    assert arrive(harness, pushed(harness, careful), careful).sent["code"]
    assert harness.authorize().sent["code"]
    with pytest.raises(ConfigurationError, match="require_pushed_authorization_requests="):
        harness.add(
            "Machine",
            grant_types=["client_credentials"],
            require_pushed_authorization_requests=True,
        )


def test_PAR_01_an_option_that_is_neither_true_nor_false_is_refused(make: Make) -> None:
    with pytest.raises(ConfigurationError, match="require_par=: pass True or False"):
        make(require_par="yes")


def test_PAR_01_a_client_that_registers_itself_may_bind_itself_to_push(make: Make) -> None:
    harness = make(registration=Registration())
    content = b'{"redirect_uris":["https://app.example.com/cb"],"token_endpoint_auth_method":"none"'
    member = b',"require_pushed_authorization_requests":'
    json = {"content_type": "application/json"}
    registered = harness.send("POST", "/oauth/register", content + member + b"true}", **json)
    assert registered.json["require_pushed_authorization_requests"] is True
    client = Registered(
        harness.server.clients.get(registered.json["client_id"]), client_secret=None
    )
    assert harness.authorize(client).sent["error"] == "invalid_request"
    page = arrive(harness, pushed(harness, client), client)
    assert harness.consent(page).sent["code"]
    plain = harness.send("POST", "/oauth/register", content + b"}", **json)
    assert "require_pushed_authorization_requests" not in plain.json
    wrong = harness.send("POST", "/oauth/register", content + member + b'"yes"}', **json)
    assert wrong.error == (400, "invalid_client_metadata")


def test_PAR_01_a_document_may_say_that_its_client_pushes(make: Make) -> None:
    agent = Agent(make)
    agent.web.publish(require_pushed_authorization_requests=True)
    assert agent.authorize().sent["error"] == "invalid_request"


# Bound to a key


def proof(harness: Harness, device: Device = DEVICE, **changed: Any) -> str:
    return device.proof(harness, **({"htu": f"{ISSUER}{PUSH}"} | changed))


@pytest.mark.parametrize("named", [False, True])
def test_ADP_01_PAR_01_a_proof_binds_the_code_to_its_key(harness: Harness, named: bool) -> None:
    response = push(
        harness, harness.phone, proof(harness), dpop_jkt=DEVICE.thumbprint if named else None
    )
    page = arrive(harness, response.json["request_uri"], harness.phone)
    code = harness.consent(page).sent["code"]
    assert harness.redeem(code, harness.phone).error == (400, "invalid_grant")
    stolen = harness.redeem(code, harness.phone, proof=THIEF.proof(harness))
    assert stolen.error == (400, "invalid_grant")
    bound = harness.redeem(code, harness.phone, proof=DEVICE.proof(harness))
    assert bound.json["token_type"] == "DPoP"


def test_ADP_01_PAR_01_dpop_jkt_binds_the_code_without_a_proof(harness: Harness) -> None:
    request_uri = pushed(harness, dpop_jkt=DEVICE.thumbprint)
    code = arrive(harness, request_uri).sent["code"]
    assert harness.redeem(code, proof=THIEF.proof(harness)).error == (400, "invalid_grant")
    assert harness.redeem(code, proof=DEVICE.proof(harness)).status == 200


def test_ADP_01_PAR_01_two_keys_are_refused(harness: Harness) -> None:
    response = push(harness, proof=proof(harness), dpop_jkt=THIEF.thumbprint)
    assert response.error == (400, "invalid_request")
    assert "dpop_jkt" in response.json["error_description"]


def test_ADP_01_PAR_01_a_proof_is_for_this_endpoint_and_used_once(harness: Harness) -> None:
    elsewhere = push(harness, proof=DEVICE.proof(harness))
    assert elsewhere.error == (400, "invalid_dpop_proof")
    once = proof(harness)
    assert push(harness, proof=once).status == 201
    assert push(harness, proof=once).error == (400, "invalid_dpop_proof")


def test_ADP_01_PAR_01_a_nonce_is_demanded_here_too(make: Make) -> None:
    harness = make(dpop_nonces=True)
    demanded = push(harness, proof=proof(harness))
    assert demanded.error == (400, "use_dpop_nonce")
    nonce = demanded.header("dpop-nonce")
    assert push(harness, proof=proof(harness, nonce=nonce)).status == 201


# What is left


@ENGINES
def test_PAR_01_requests_that_nobody_arrives_with_are_removed(make: Make) -> None:
    harness = make()
    rounds = size(100, 10)
    most = 0
    for _ in range(rounds):
        for _ in range(100):
            pushed(harness)
        harness.clock.now += 60
        most = max(most, harness.store.count("pushed_requests"))
        harness.server.prune()
    assert most == 100, f"{rounds * 100} requests were pushed"
    assert harness.store.count("pushed_requests") == 0


@ENGINES
def test_PAR_01_a_request_that_a_user_has_arrived_with_is_removed_after_an_hour(
    harness: Harness,
) -> None:
    request_uri = pushed(harness, harness.phone)
    arrive(harness, request_uri, harness.phone)
    harness.clock.now += 3600
    harness.server.prune()
    assert arrive(harness, request_uri, harness.phone).status == 200
    harness.clock.now += 60
    harness.server.prune()
    assert harness.store.count("pushed_requests") == 0
    leads_nowhere(harness, arrive(harness, request_uri, harness.phone), "unknown_request_uri")


def test_PAR_01_a_client_that_registered_itself_is_limited_by_address_with_a_secret_too(
    make: Make,
) -> None:
    harness = make(registration=Registration())
    content = json.dumps({"redirect_uris": [CALLBACK]}).encode()
    headers = {"content-type": "application/json"}
    registered = Reply(
        harness.server.handle(
            Request("POST", "/oauth/register", headers, content, peer="198.51.100.7")
        )
    ).json
    fields = {
        "client_id": registered["client_id"],
        "client_secret": registered["client_secret"],
        "response_type": "code",
        "code_challenge": pkce.challenge(VERIFIER),
        "code_challenge_method": "S256",
    }
    found = Counter(
        Reply(
            harness.server.handle(
                Request(
                    "POST",
                    PUSH,
                    {"content-type": FORM},
                    urlencode(fields).encode(),
                    peer="198.51.100.7",
                )
            )
        ).status
        for _ in range(121)
    )
    assert found == {201: 120, 429: 1}
