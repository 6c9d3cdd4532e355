"""The authorization endpoint (CONFORMANCE AZ): what a link gets, and where errors go."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import pytest

from bearerguard.server import User
from tests.server.harness import CALLBACK, ISSUER, VERIFIER, Harness, Make, claims


def test_AZ_01_an_empty_parameter_is_as_if_omitted_and_an_unknown_one_is_ignored(
    harness: Harness,
) -> None:
    response = harness.authorize(scope="", resource="", colour="blue", state=None)
    assert response.status == 303
    tokens = harness.redeem(response.sent["code"]).json
    assert tokens["scope"] == "read write"


def test_AZ_01_a_repeated_parameter_is_an_error_and_a_repeated_resource_is_not(
    make: Make,
) -> None:
    harness = make(resources=["https://a.example.com", "https://b.example.com"])
    repeated = harness.authorize(scope=["read", "write"])
    assert repeated.sent["error"] == "invalid_request"
    both = harness.authorize(resource=["https://a.example.com", "https://b.example.com"])
    assert "code" in both.sent


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "DELETE"])
def test_AZ_01_only_get_is_allowed(harness: Harness, method: str) -> None:
    response = harness.send(method, f"/oauth/authorize?client_id={harness.app.client_id}")
    assert (response.status, response.header("allow")) == (405, "GET")


@pytest.mark.parametrize(
    "fields",
    [
        {"client_id": None},
        {"client_id": ""},
        {"client_id": "nobody"},
        {"client_id": "\0"},
        {"redirect_uri": "https://evil.example.com/cb"},
        {"redirect_uri": "javascript:alert(1)"},
    ],
)
def test_AZ_02_an_unknown_client_or_place_gets_a_page_that_leads_nowhere(
    harness: Harness, fields: dict[str, Any]
) -> None:
    response = harness.authorize(**fields)
    assert response.status == 400
    assert response.header("location") is None
    assert (response.header("content-type") or "").startswith("text/html")


@pytest.mark.parametrize("name", ["client_id", "redirect_uri"])
def test_AZ_02_a_repeated_client_or_place_leads_nowhere(harness: Harness, name: str) -> None:
    query = {"client_id": harness.app.client_id, "redirect_uri": CALLBACK, "response_type": "code"}
    response = harness.send(
        "GET", f"/oauth/authorize?{urlencode(query)}&{name}={quote(query[name], safe='')}"
    )
    assert (response.status, response.header("location")) == (400, None)


def test_AZ_02_without_a_redirect_uri_the_only_one_is_taken_and_of_several_none(
    harness: Harness,
) -> None:
    assert harness.authorize(redirect_uri=None).location.startswith(CALLBACK + "?")
    assert harness.authorize(harness.phone, redirect_uri=None).status == 400


@pytest.mark.parametrize("query", [b"%zz", b"client_id=%ff", b"a=" + b"x" * 70_000])
def test_AZ_02_a_query_that_cannot_be_read_gets_a_page(harness: Harness, query: bytes) -> None:
    assert harness.send("GET", "/oauth/authorize?" + query.decode("latin-1")).status == 400


@pytest.mark.parametrize(
    "uri",
    [
        CALLBACK + "/",
        "https://app.example.com/CB",
        "https://APP.example.com/cb",
        CALLBACK + "?x=1",
        "https://app.example.com/%63b",
        "https://app.example.com%2Fcb",
        "https://app.example.com:443/cb",
        "https://app.example.com:444/cb",
        CALLBACK + "#f",
        "http://app.example.com/cb",
        "https://app.example.com.evil.example/cb",
        "https://app.example.com@evil.example/cb",
        " " + CALLBACK,
        CALLBACK + "\n",
    ],
)
def test_AZ_03_a_redirect_uri_is_compared_letter_by_letter(harness: Harness, uri: str) -> None:
    assert harness.authorize(redirect_uri=uri).status == 400


@pytest.mark.parametrize(
    ("registered", "sent", "good"),
    [
        ("http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", True),
        ("http://127.0.0.1:8000/cb", "http://127.0.0.1/cb", True),
        ("http://[::1]/cb", "http://[::1]:51004/cb", True),
        ("http://localhost/cb", "http://localhost:51004/cb", True),
        ("http://localhost:80", "http://localhost:81", True),
        ("http://localhost/cb", "http://localhost:80@evil.example/cb", False),
        ("http://localhost/cb", "http://localhost.evil.example/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:99999/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:/cb", False),
        ("http://127.0.0.1/cb", "http://localhost/cb", False),
        ("http://127.0.0.1/cb", "https://127.0.0.1:8000/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:8000/other", False),
        ("http://127.0.0.1/cb", "http://127.0.0.2/cb", False),
        ("com.example.app:/cb", "com.example.app:/cb", True),
        ("com.example.app:/cb", "com.example.app:/cb2", False),
    ],
)
def test_AZ_03_a_loopback_address_may_come_with_any_port_and_nothing_else_may_differ(
    harness: Harness, registered: str, sent: str, good: bool
) -> None:
    client = harness.add("Native", redirect_uris=[registered])
    response = harness.authorize(client, redirect_uri=sent)
    assert response.status == (303 if good else 400)
    if good:
        assert response.location.startswith(sent + "?")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"scope": 'read "'}, "invalid_scope"),
        ({"resource": "https://other.example.com"}, "invalid_target"),
        ({"resource": "not a uri"}, "invalid_target"),
        ({"resource": ISSUER + "#part"}, "invalid_target"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
    ],
)
def test_AZ_04_errors_are_redirected_to_the_client_with_state_and_issuer(
    harness: Harness, fields: dict[str, Any], error: str
) -> None:
    response = harness.authorize(**fields, state="a b&c=ü")
    assert response.status == 303
    assert response.location.startswith(CALLBACK + "?")
    sent = response.sent
    assert (sent["error"], sent["state"], sent["iss"]) == (error, "a b&c=ü", ISSUER)
    assert "code" not in sent


def test_AZ_04_a_client_without_that_grant_is_unauthorized(harness: Harness) -> None:
    client = harness.add("Machine", grant_types=["client_credentials"])
    assert harness.authorize(client).sent["error"] == "unauthorized_client"


def test_AZ_04_a_denial_by_the_user_is_redirected_to_the_client(harness: Harness) -> None:
    page = harness.authorize(harness.phone)
    response = harness.consent(page, decision="deny")
    assert response.status == 303
    sent = response.sent
    assert (sent["error"], sent["state"], sent["iss"]) == ("access_denied", "a state", ISSUER)


def test_AZ_04_an_unavailable_store_is_redirected_to_the_client(harness: Harness) -> None:
    harness.store.rename("codes", "elsewhere")
    response = harness.authorize()
    assert response.status == 303
    sent = response.sent
    assert (sent["error"], sent["state"]) == ("temporarily_unavailable", "a state")
    assert sent["iss"] == ISSUER
    assert len(harness.named("store_unavailable")) == 1


def test_AZ_04_a_code_comes_with_state_and_issuer_and_the_query_that_is_there_stays(
    harness: Harness,
) -> None:
    client = harness.add("Query", redirect_uris=[CALLBACK + "?tenant=1"])
    response = harness.authorize(client, redirect_uri=CALLBACK + "?tenant=1")
    assert response.location.startswith(CALLBACK + "?tenant=1&code=")
    sent = response.sent
    assert (sent["state"], sent["iss"], sent["tenant"]) == ("a state", ISSUER, "1")
    assert "state" not in harness.authorize(client, state=None).sent


@pytest.mark.parametrize(
    "fields",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge": None},
        {"code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge": VERIFIER, "code_challenge_method": "plain"},
        {"code_challenge": "too-short"},
        {"code_challenge": "ü" * 43},
    ],
)
def test_AZ_05_pkce_is_required_and_only_s256_is(harness: Harness, fields: dict[str, Any]) -> None:
    assert harness.authorize(**fields).sent["error"] == "invalid_request"


def test_AZ_05_a_confidential_client_may_be_registered_without_pkce(harness: Harness) -> None:
    client = harness.add("Server side", require_pkce=False)
    code = harness.authorize(client, code_challenge=None, code_challenge_method=None).sent["code"]
    missing = harness.redeem(code, client, redirect_uri=None, code_verifier=None)
    assert missing.error == (400, "invalid_request")
    assert harness.redeem(code, client, code_verifier=None).status == 200


def test_AZ_05_a_challenge_that_was_sent_is_enforced_even_where_none_is_required(
    harness: Harness,
) -> None:
    client = harness.add("Server side", require_pkce=False)
    code = harness.code(client)
    assert harness.redeem(code, client, code_verifier=None).error == (400, "invalid_grant")
    assert harness.redeem(code, client, code_verifier="x" * 43).error == (400, "invalid_grant")
    assert harness.redeem(code, client).status == 200


def test_AZ_06_the_user_signs_in_before_an_error_is_sent_on(harness: Harness) -> None:
    harness.user = None
    response = harness.authorize(response_type="token")
    assert response.status == 303
    assert response.location.startswith("https://app.example.com/login?next=")
    assert "error" not in response.sent


def test_AZ_06_the_consent_page_cannot_be_framed_or_stored_and_names_the_request(
    harness: Harness,
) -> None:
    page = harness.authorize(harness.phone)
    assert page.status == 200
    assert "frame-ancestors 'none'" in (page.header("content-security-policy") or "")
    assert page.header("x-frame-options") == "DENY"
    assert page.header("cache-control") == "no-store"
    assert page.header("referrer-policy") == "no-referrer"
    text = page.response.body.decode()
    assert "Phone" in text
    assert "Read your recordings" in text
    assert "app.example.com" in text


def test_AZ_06_a_decision_without_the_pages_token_is_refused(harness: Harness) -> None:
    page = harness.authorize(harness.phone)
    assert harness.consent(page, csrf="made-up").status == 400
    assert harness.consent(page, request="made-up").status == 400
    harness.user = None
    assert harness.consent(page).status == 403


def test_AZ_06_what_was_allowed_is_remembered_for_a_client_that_can_prove_who_it_is(
    harness: Harness,
) -> None:
    client = harness.add("Asks", require_consent=True)
    page = harness.authorize(client, scope="read")
    assert page.status == 200
    assert "code" in harness.consent(page, remember="yes").sent
    assert "code" in harness.authorize(client, scope="read").sent
    assert harness.authorize(client, scope="read write").status == 200


@pytest.mark.parametrize("fails", ["codes", "consents"])
def test_A8_a_code_is_stored_with_the_consent_or_neither_is(harness: Harness, fails: str) -> None:
    client = harness.add("Asks", require_consent=True)
    page = harness.authorize(client, scope="read")
    with harness.store.full(fails):
        assert harness.consent(page, remember="yes").sent["error"] == "temporarily_unavailable"
        assert "is_full" in str(harness.named("store_unavailable"))
        assert [harness.store.count(each) for each in ("codes", "consents")] == [0, 0]
    assert "code" in harness.consent(page, remember="yes").sent
    assert [harness.store.count(each) for each in ("codes", "consents")] == [1, 1]
    assert "code" in harness.authorize(client, scope="read").sent


ONE, TWO = "https://one.example.com", "https://two.example.com"


@pytest.mark.parametrize(
    ("allowed", "before", "asked", "after", "again"),
    [
        (None, (ONE, TWO), None, (ONE, TWO), False),
        (None, (ONE, TWO), ONE, (ONE, TWO), False),
        (None, (ONE, TWO), TWO, (ONE, TWO), True),
        (None, (ONE, TWO), None, (TWO, ONE), True),
        (None, (ONE, TWO), ONE, (TWO, ONE), False),
        (TWO, (ONE, TWO), TWO, (ONE, TWO), False),
        (TWO, (ONE, TWO), None, (TWO, ONE), False),
        (TWO, (ONE, TWO), None, (ONE, TWO), True),
        (ONE, (ONE, TWO), [ONE, TWO], (ONE, TWO), True),
        ([ONE, TWO], (ONE, TWO), [TWO, ONE], (ONE, TWO), False),
        ([ONE, TWO], (ONE, TWO), None, (TWO,), False),
    ],
)
def test_A8_consent_that_is_remembered_holds_for_the_apis_it_was_given_for(
    make: Make, allowed: Any, before: Any, asked: Any, after: Any, *, again: bool
) -> None:
    harness = make(resources=before)
    client = harness.add("Asks", require_consent=True)
    page = harness.authorize(client, scope="read", resource=allowed)
    assert "code" in harness.consent(page, remember="yes").sent
    harness.server = harness.another(people=harness.people, resources=after)
    response = harness.authorize(client, scope="read", resource=asked)
    assert response.status == (200 if again else 303)
    assert response.status == 200 or "code" in response.sent


def test_A8_a_page_about_one_api_gives_no_code_for_another_that_became_the_first(
    make: Make,
) -> None:
    harness = make(resources=[ONE, TWO])
    page = harness.authorize(harness.phone)
    harness.server = harness.another(people=harness.people, resources=[TWO, ONE])
    assert harness.consent(page).status == 200


def test_AZ_06_a_client_that_anybody_can_pose_as_is_asked_about_each_time(harness: Harness) -> None:
    phone = harness.add("Native", public=True, redirect_uris=["http://127.0.0.1/cb"])
    page = harness.authorize(phone)
    assert "code" in harness.consent(page, remember="yes").sent
    assert harness.authorize(phone).status == 200


def test_AZ_06_consent_is_asked_again_when_the_client_is_gone_or_may_have_more(
    harness: Harness,
) -> None:
    phone = harness.add("Short-lived", public=True)
    page = harness.authorize(phone)
    harness.server.clients.remove(phone.client_id)
    assert harness.consent(page).status == 400
    harness.add("Short-lived", public=True, client_id=phone.client_id, scopes=["read"])
    narrower = harness.consent(page).sent["code"]
    assert harness.redeem(narrower, phone).json["scope"] == "read"
    harness.server.clients.remove(phone.client_id)
    harness.add("Short-lived", public=True, client_id=phone.client_id, scopes=[])
    assert harness.consent(page).sent["error"] == "invalid_scope"
    harness.server.clients.remove(phone.client_id)
    harness.add("Short-lived", public=True, client_id=phone.client_id, scopes=["read"])
    everything = harness.authorize(phone, scope=None)
    harness.server.clients.remove(phone.client_id)
    harness.add("Short-lived", public=True, client_id=phone.client_id, scopes=["read", "write"])
    again = harness.consent(everything)
    assert again.status == 200
    assert "Change your recordings" in again.response.body.decode()


def test_AZ_07_a_code_lives_for_a_minute(harness: Harness) -> None:
    early, late = harness.code(), harness.code()
    harness.clock.now += 59
    assert harness.redeem(early).status == 200
    harness.clock.now += 1
    assert harness.redeem(late).error == (400, "invalid_grant")


def test_AZ_07_a_code_is_bound_to_its_client_redirect_challenge_scope_and_resource(
    make: Make,
) -> None:
    harness = make(resources=["https://a.example.com", "https://b.example.com"])
    other = harness.add("Other")
    code = harness.code(scope="read", resource="https://a.example.com")
    assert harness.redeem(code, other).error == (400, "invalid_grant")
    assert harness.redeem(code, redirect_uri=CALLBACK + "/").error == (400, "invalid_grant")
    assert harness.redeem(code, code_verifier="v" * 43).error == (400, "invalid_grant")
    assert harness.redeem(code, resource="https://b.example.com").error == (400, "invalid_target")
    response = harness.redeem(code, scope="read write")
    assert response.json["scope"] == "read"


def test_an_app_whose_current_user_is_wrong_gets_503_and_a_log_line(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    wrong: Any = "ada"
    harness.user = wrong
    assert harness.authorize().status == 503
    assert "current_user=" in caplog.text


def test_ISS_01_a_user_with_a_clients_id_gets_no_tokens(harness: Harness) -> None:
    assert harness.user is not None
    harness.user = type(harness.user)(harness.phone.client_id, "Mallory")
    assert harness.authorize().sent["error"] == "server_error"


def test_a_user_whose_id_is_too_long_for_the_store_gets_a_page_and_no_code(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    longest = "\N{SNOWMAN}" * 255
    harness.user = User(longest, "Ada")
    assert claims(harness.tokens()["access_token"])["sub"] == longest
    harness.user = User(longest + "a", "Ada")
    page = harness.authorize()
    assert page.status == 503
    assert page.header("location") is None
    assert page.header("retry-after")
    assert "at most 255 characters" in caplog.text
