"""What a hostile provider, network or page can send: refused with a page and an event.

Nobody is signed in by any of it, and no account is made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio
import httpx2
import pytest

from bearerguard import Request, Response
from bearerguard.protocol.jose.signing import generate
from bearerguard.runtime.messages import FetchFailed
from bearerguard.runtime.rate_limits import RateLimit
from bearerguard.server.login.upstream_endpoint import LOGOUT_TOKENS
from bearerguard.testing.signing_key import SigningKey
from tests.server.harness import ISSUER, Make, hidden_fields
from tests.server.people.elsewhere import CLIENT, IDP, OTHER, World, answer
from tests.server.people.visitor import Page, Visitor

CALLBACK = f"{ISSUER}/oauth/login/callback"


@pytest.fixture
def world(make: Make) -> World:
    return World(make)


def refused(world: World, page: Page, status: int, reason: str) -> None:
    """Check a refusal: its page, its event, and that it left nothing."""
    assert page.status == status, page.text
    assert page.header("Cache-Control") == "no-store"
    assert "Start again" in page.text
    assert world.reasons()[-1] == reason, world.harness.events[-1]
    assert world.harness.named("upstream_login_failed")[-1].details["reference"] in page.text
    assert world.server.users.all() == []
    assert world.harness.store.count("sessions") == 0
    cookies = [value for name, value in page.response.headers if name == "Set-Cookie"]
    assert not any("bearerguard_session" in each for each in cookies)


def altered(url: str, **changed: str | None) -> str:
    parts = urlsplit(url)
    fields = dict(parse_qsl(parts.query)) | changed
    given = {name: value for name, value in fields.items() if value is not None}
    return f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(given)}"


NOW = 1_700_000_000


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"aud": "another-client"}, "wrong_audience"),
        ({"aud": None}, "missing_claim"),
        ({"aud": [CLIENT, "another"]}, "missing_claim"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "bad_claim"),
        ({"azp": "another"}, "bad_claim"),
        ({"nonce": "another"}, "bad_claim"),
        ({"nonce": None}, "missing_claim"),
        ({"nonce": ["x"]}, "missing_claim"),
        ({"iss": OTHER}, "unknown_issuer"),
        ({"iss": f"{IDP}/"}, "unknown_issuer"),
        ({"iss": None}, "unknown_issuer"),
        ({"exp": NOW - 31}, "expired"),
        ({"exp": None}, "missing_claim"),
        ({"iat": NOW + 301}, "not_yet_valid"),
        ({"iat": None}, "missing_claim"),
        ({"nbf": NOW + 31}, "not_yet_valid"),
        ({"sub": None}, "missing_claim"),
        ({"sub": ""}, "unusable_subject"),
        ({"sub": "x" * 256}, "unusable_subject"),
        ({"sub": "a\x00b"}, "unusable_subject"),
        ({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}, "bad_claim"),
        ({"at_hash": 7}, "bad_claim"),
        ({"token_use": "access"}, None),
        ({"token_type": "refresh"}, "wrong_type"),
        (
            {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
            "id_token",
        ),
    ],
)
def test_an_id_token_that_is_not_of_this_login_is_refused(
    world: World, changed: Mapping[str, Any], reason: str | None
) -> None:
    world.idp.changed = dict(changed)
    page = world.sign_in(world.visitor())
    if reason is None:
        assert page.status == 303
    else:
        refused(world, page, 400, reason)


@pytest.mark.parametrize(
    "header", [{"typ": "at+jwt"}, {"typ": "logout+jwt"}, {"alg": "none"}, {"alg": "HS256"}]
)
def test_a_token_of_another_kind_or_algorithm_is_refused(
    world: World, header: dict[str, Any]
) -> None:
    world.idp.header = header
    page = world.sign_in(world.visitor())
    refused(world, page, 400, "wrong_algorithm" if "alg" in header else "wrong_type")


def test_a_signature_by_another_key_is_refused(world: World) -> None:
    key = world.idp.local.key
    world.idp.key = SigningKey(key.algorithm, key.kid, generate("ES256"))
    refused(world, world.sign_in(world.visitor()), 400, "bad_signature")


def test_the_keys_of_another_upstream_do_not_count(world: World) -> None:
    """Both are trusted here, each for its own users alone."""
    world.idp.key = world.other.local.key
    refused(world, world.sign_in(world.visitor()), 400, "bad_signature")
    world.idp.changed = {"iss": OTHER}
    refused(world, world.sign_in(world.visitor()), 400, "unknown_issuer")


def test_rotated_keys_are_fetched_and_unknown_ones_only_now_and_then(world: World) -> None:
    assert world.sign_in(world.visitor()).status == 303
    world.idp.local.rotate(keep=False)
    world.harness.clock.now += 60
    assert world.sign_in(world.visitor()).status == 303
    before = world.idp.local.hits["/jwks"]
    for number in range(20):
        world.idp.key = SigningKey("ES256", f"unknown-{number}", generate("ES256"))
        assert world.sign_in(world.visitor()).status in {400, 503}
    assert world.idp.local.hits["/jwks"] - before <= 2


# The response


@pytest.mark.parametrize(
    ("changed", "status", "reason"),
    [
        ({"iss": OTHER}, 400, "wrong_iss"),
        ({"iss": None}, 400, "missing_iss"),
        ({"state": None}, 400, "unusable_state"),
        ({"state": "x"}, 400, "unusable_state"),
        ({"state": "A" * 20_000}, 400, "too_large"),
        ({"code": None}, 400, "no_code"),
        ({"code": "unknown"}, 400, "invalid_grant"),
        ({"code": None, "error": "server_error"}, 503, "upstream_error"),
        ({"code": None, "error": "temporarily_unavailable"}, 503, "upstream_error"),
        ({"code": None, "error": "login_required"}, 403, "upstream_error"),
        ({"code": None, "error": "<script>alert(1)</script>"}, 400, "upstream_error"),
    ],
)
def test_a_response_that_does_not_fit_the_request_is_refused(
    world: World, changed: dict[str, str | None], status: int, reason: str
) -> None:
    visitor = world.visitor()
    url = altered(world.idp.authorize(world.chosen(visitor)), **changed)
    page = visitor.get(url)
    refused(world, page, status, reason)
    assert "<script>" not in page.html


def test_a_repeated_parameter_is_refused(world: World) -> None:
    visitor = world.visitor()
    url = world.idp.authorize(world.chosen(visitor))
    refused(world, visitor.get(f"{url}&code=other"), 400, "repeated_parameter")


@pytest.mark.both_engines
def test_a_response_counts_once(world: World) -> None:
    visitor = world.visitor()
    url = world.idp.authorize(world.chosen(visitor))
    assert visitor.get(url).status == 303
    world.server.users.unlink(world.server.users.all()[0].login, issuer=IDP)
    page = visitor.get(url)
    assert (page.status, world.reasons()) == (400, ["used_state"])
    assert len(world.idp.forms) == 1, "the code was not sent again"


def test_login_csrf_a_response_of_another_browser_signs_nobody_in(world: World) -> None:
    """The attacker logs in as himself, and has the victim's browser open the callback."""
    attacker, victim = world.visitor(), world.visitor()
    url = world.idp.authorize(world.chosen(attacker))
    refused(world, victim.get(url), 400, "unusable_state")
    victim.get("/oauth/login")  # with a cookie of its own, too
    refused(world, victim.get(url), 400, "unusable_state")
    assert attacker.get(url).status == 303, "the attempt has not used up the login"


def test_mix_up_the_response_of_one_upstream_at_the_callback_of_another_is_refused(
    world: World,
) -> None:
    """The code of an honest provider would otherwise go to the token endpoint of an attacker's."""
    visitor = world.visitor()
    honest = world.idp.authorize(world.chosen(visitor))
    page = visitor.get(honest.replace("/callback/example", "/callback/other"))
    refused(world, page, 400, "state_of_another_upstream")
    assert world.other.forms == []
    # Nor does it help to say so in the response.
    stolen = altered(world.other.authorize(world.chosen(visitor, "other")), iss=IDP)
    refused(world, visitor.get(stolen), 400, "wrong_iss")


def test_a_login_that_took_too_long_begins_again(world: World) -> None:
    visitor = world.visitor()
    url = world.idp.authorize(world.chosen(visitor))
    world.harness.clock.now += 1801
    refused(world, visitor.get(url), 400, "unusable_state")


def test_a_page_of_another_site_cannot_begin_a_login(world: World) -> None:
    visitor = world.visitor()
    form = hidden_fields(visitor.get("/oauth/login").html)
    for fields, headers in (
        ({**form, "csrf": "x"}, {}),
        ({"request": form["request"]}, {}),
        (form, {"Sec_Fetch_Site": "cross-site"}),
    ):
        page = visitor.post("/oauth/login/upstream/example", fields, **headers)
        refused(world, page, 400, "unusable_form")
    page = world.visitor().post("/oauth/login/upstream/example", form)
    refused(world, page, 400, "unusable_form")
    stale = visitor.post("/oauth/login/upstream/example", {**form, "request": "x"})
    assert stale.status == 400


def test_other_methods_do_not_use_up_the_login(world: World) -> None:
    visitor = world.visitor()
    url = world.idp.authorize(world.chosen(visitor))
    for method in ("HEAD", "POST", "PUT"):
        page = visitor.send(method, url)
        assert (page.status, page.header("Allow")) == (405, "GET")
    assert visitor.get("/oauth/login/upstream/example").status == 303
    assert visitor.get("/oauth/login/callback/unknown").status == 404
    assert visitor.get(url).status == 303


def test_the_code_of_an_attacker_does_not_redeem_in_the_login_of_a_victim(world: World) -> None:
    """PKCE and the nonce bind the code to the login that asked for it."""
    attacker, victim = world.visitor(), world.visitor()
    code = dict(parse_qsl(urlsplit(world.idp.authorize(world.chosen(attacker))).query))["code"]
    url = altered(world.idp.authorize(world.chosen(victim)), code=code)
    refused(world, victim.get(url), 400, "invalid_grant")


def test_an_open_redirect_is_not_possible(world: World) -> None:
    for more in ("next=https://evil.example", "redirect_uri=https://evil.example"):
        visitor = world.visitor()
        page = visitor.get(f"{world.idp.authorize(world.chosen(visitor))}&{more}")
        assert page.header("Location") == "/oauth/login"


# Outages


DOWN: list[tuple[dict[str, Any], str]] = [
    ({"fault": FetchFailed("refused", kind="refused")}, "refused"),
    ({"fault": FetchFailed("too slow", kind="timed_out")}, "timed_out"),
    ({"fault": FetchFailed("a bad certificate", kind="tls")}, "tls"),
    ({"answer": Response(503)}, "token_endpoint_unavailable"),
    ({"answer": Response(200, (), b"<html>Sign in</html>")}, "invalid_response"),
    ({"answer": Response(200, (), b"[]")}, "invalid_response"),
    ({"answer": Response(302, (("Location", "https://evil.example"),))}, "invalid_response"),
    ({"answer": answer({"error": "invalid_client"}, 401)}, "invalid_client"),
]


@pytest.mark.parametrize(("fault", "reason"), DOWN, ids=[reason for _, reason in DOWN])
def test_an_outage_during_the_login_is_a_page_with_a_way_back(
    world: World, fault: dict[str, Any], reason: str
) -> None:
    visitor = world.visitor()
    url = world.idp.authorize(world.chosen(visitor, at=world.harness.link()))
    for name, value in fault.items():
        setattr(world.idp, name, value)
    page = visitor.get(url)
    refused(world, page, 503, reason)
    assert page.header("Retry-After") == "5"
    assert "Example cannot be reached" in page.text
    for name in fault:
        setattr(world.idp, name, None)
    back = page.html.partition('secondary" href="')[2].partition('"')[0]
    world.harness.clock.now += 6
    assert visitor.get(world.idp.authorize(world.chosen(visitor, at=back))).status == 303


@pytest.mark.parametrize("token", [None, 7, "", "x", "a.b.c", "é.é.é", "x" * 100_000], ids=range(7))
def test_a_response_without_a_usable_id_token_is_refused(world: World, token: Any) -> None:
    world.idp.answer = answer({"access_token": "x", "token_type": "Bearer", "id_token": token})
    page = world.sign_in(world.visitor())
    assert page.status == 400
    assert world.reasons()[-1] in {"no_id_token", "malformed_token", "unknown_issuer"}


@pytest.mark.parametrize(
    "published",
    [
        {"issuer": OTHER},
        {"token_endpoint": None},
        {"token_endpoint": "http://idp.example.com/token"},
        {"token_endpoint": "https://127.0.0.1/token"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": ["x"]},
    ],
)
def test_unusable_metadata_are_an_outage(world: World, published: dict[str, Any]) -> None:
    world.idp.published = published
    visitor = world.visitor()
    form = hidden_fields(visitor.get("/oauth/login").html)
    page = visitor.post("/oauth/login/upstream/example", form)
    assert page.status == 503
    assert world.reasons()[-1] == "metadata"


def test_an_upstream_that_is_down_is_asked_now_and_then_and_passwords_work(world: World) -> None:
    world.server.users.add("eve", "correct horse battery")
    world.idp.fault = FetchFailed("refused", kind="refused")
    calls: list[str] = []
    fetch = world.idp.fetch

    def counted(request: Any) -> Response:
        calls.append(request.url)
        return fetch(request)

    world.idp.fetch = counted  # type: ignore[method-assign]
    visitor = world.visitor()
    form = hidden_fields(visitor.get("/oauth/login").html)
    for _ in range(10):
        assert visitor.post("/oauth/login/upstream/example", form).status == 503
    assert len(calls) == 1
    assert (
        visitor.post(
            "/oauth/login", form | {"username": "eve", "password": "correct horse battery"}
        ).status
        == 303
    )
    # With known metadata, a login can begin while the provider is down.
    world.idp.fault = None
    world.harness.clock.now += 6
    world.chosen(world.visitor())
    world.idp.fault = FetchFailed("refused", kind="refused")
    world.harness.clock.now += 4000
    world.chosen(world.visitor())


@pytest.mark.parametrize("off", [-120, 120, 3600])
def test_a_clock_that_is_off_is_a_page_and_an_event(world: World, off: float) -> None:
    visitor = world.visitor()
    url = world.idp.authorize(world.chosen(visitor))
    world.idp.changed = {"iat": NOW + off, "exp": NOW + off + 60}
    page = visitor.get(url)
    if off == 120:
        assert page.status == 303  # within the leeway for what issuers date ahead
    else:
        refused(world, page, 400, "expired" if off < 0 else "not_yet_valid")


def test_no_page_and_no_event_shows_a_secret(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    visitor = world.visitor()
    url = world.idp.authorize(world.chosen(visitor))
    world.idp.changed = {"nonce": "another"}
    page = visitor.get(url)
    shown = page.html + caplog.text + str(world.harness.events)
    form = world.idp.forms[0]
    for secret in (
        form["code"],
        form["code_verifier"],
        form["authorization"],
        "an access token of it",
        world.idp.user["sub"],
        world.idp.user["email"],
        world.idp.requests[0]["nonce"],
    ):
        assert secret not in shown


def test_upstreams_that_are_slow_leave_places_for_others(world: World) -> None:
    """Each waiting request holds a thread: for one upstream, at most half of them do."""
    places = world.server._engine.people.upstreams._places["example"]
    visitor = world.visitor()
    url = world.idp.authorize(world.chosen(visitor))
    held = 0
    while places.acquire(blocking=False):
        held += 1
    assert held == 4
    page = visitor.get(url)
    refused(world, page, 503, "no_place")
    assert "Many people are signing in" in page.text
    other = world.visitor()
    assert other.get(world.other.authorize(world.chosen(other, "other"))).status == 303
    token = {"logout_token": world.idp.logout_token(sub="nobody")}
    assert world.harness.post("/oauth/backchannel_logout/example", token).status == 200
    for _ in range(held):
        places.release()
    assert visitor.get(url).status == 303, "reloading the page is enough"


def test_logout_tokens_whose_keys_are_slow_leave_places_for_logins_and_other_upstreams(
    world: World,
) -> None:
    places = world.server._engine.people.upstreams._places[f"{LOGOUT_TOKENS}example"]
    while places.acquire(blocking=False):
        pass
    token = {"logout_token": world.idp.logout_token()}
    assert world.harness.post("/oauth/backchannel_logout/example", token).status == 503
    assert world.sign_in(world.visitor()).status == 303
    token = {"logout_token": world.other.logout_token()}
    assert world.harness.post("/oauth/backchannel_logout/other", token).status == 200
    # Under ASGI, each of the names has threads of its own.
    assert world.server._engine.upstream_places == {
        *("example", "other"),
        *(f"{LOGOUT_TOKENS}{key}" for key in ("example", "other")),
    }


def test_under_asgi_an_upstream_that_hangs_stops_no_login_at_another(world: World) -> None:
    """It holds a thread for each login that waits for it."""
    there, others = world.visitor(), world.visitor()
    waiting = [world.idp.authorize(world.chosen(there)) for _ in range(4)]
    url = world.other.authorize(world.chosen(others, "other"))
    token = {"logout_token": world.other.logout_token(sub="nobody")}
    gate, hanging, fetch = threading.Event(), threading.Semaphore(0), world.idp.fetch

    def hung(request: Any) -> Response:
        hanging.release()
        assert gate.wait(60)
        return fetch(request)

    world.idp.fetch = hung  # type: ignore[method-assign]
    transport = httpx2.ASGITransport(world.server.asgi_app())
    statuses: list[int] = []

    async def program() -> None:
        async with httpx2.AsyncClient(transport=transport, base_url=ISSUER) as http:

            async def get(url: str, visitor: Visitor) -> None:
                statuses.append((await http.get(url, headers=cookies(visitor))).status_code)

            async with anyio.create_task_group() as group:
                try:
                    for each in waiting:
                        group.start_soon(get, each, there)
                    for _ in waiting:
                        await anyio.to_thread.run_sync(hanging.acquire)
                    with anyio.fail_after(60):
                        await get(url, others)
                        logout = "/oauth/backchannel_logout/other"
                        statuses.append((await http.post(logout, data=token)).status_code)
                finally:
                    gate.set()

    anyio.run(program)
    assert statuses == [303, 200, 303, 303, 303, 303]


# The page


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("upstream_login_failed", "upstream_error"),
        ("upstream_login_refused", "not_admitted"),
        ("login_throttled", None),
    ],
)
def test_a_page_of_a_failure_names_the_app_and_has_the_reference_of_its_event(
    make: Make, code: str, reason: str | None
) -> None:
    world = World(make, per_address=RateLimit(attempts=1, interval=60))
    visitor, link = world.visitor(), world.harness.link()
    if code == "upstream_login_failed":
        world.idp.parameters = {"error": "access_denied", "code": None}
    elif code == "upstream_login_refused":
        world.idp.user |= {"email": "ada@elsewhere.example"}
    else:
        spent = world.idp.authorize(world.chosen(visitor))
        assert visitor.get(altered(spent, code="made up")).status == 400
    page = world.sign_in(visitor, at=link)
    [event] = [each for each in world.harness.named(code) if each.details.get("reason") == reason]
    assert f"Reference for support: {event.details['reference']}" in page.text
    assert "You need to sign in to continue to App." in page.text


def test_a_page_of_a_failure_that_no_app_waits_for_names_none(world: World) -> None:
    world.idp.parameters = {"error": "access_denied", "code": None}
    page = world.sign_in(world.visitor())
    refused(world, page, 403, "upstream_error")
    assert "to continue" not in page.text


# Throttling


def test_who_sends_made_up_codes_is_throttled_before_the_upstream_is_asked(make: Make) -> None:
    world = World(make, per_address=RateLimit(attempts=3, interval=60))
    visitor = world.visitor()
    urls = [world.idp.authorize(world.chosen(visitor)) for _ in range(5)]
    for each in urls[:3]:
        assert visitor.get(altered(each, code="made up")).status == 400
    page = visitor.get(altered(urls[3], code="made up"))
    assert (page.status, page.header("Retry-After")) == (429, "60")
    assert "There were too many attempts. Try again in 1 minute." in page.text
    assert "Start again" in page.text
    assert len(world.idp.forms) == 3
    [event] = world.harness.named("login_throttled")
    reference = event.details["reference"]
    assert event.details == {
        "address": "192.0.2.7",
        "upstream": "example",
        "reference": reference,
    }
    assert str(reference) in page.text
    assert len(world.reasons()) == 3
    # Others go on.
    assert world.sign_in(world.visitor(peer="192.0.2.8")).status == 303
    # The login is not used up: after the wait, reloading the page is enough.
    world.harness.clock.now += 60
    assert visitor.get(urls[3]).status == 303


@pytest.mark.both_engines
def test_passwords_and_logins_elsewhere_use_up_no_limit_of_each_other(make: Make) -> None:
    world = World(make, per_address=RateLimit(attempts=1, interval=60))
    visitor = world.visitor()
    form = hidden_fields(visitor.get("/oauth/login").html)
    guess = form | {"username": "ada", "password": "a wrong password"}
    assert [visitor.post("/oauth/login", guess).status for _ in range(2)] == [403, 429]
    assert world.sign_in(visitor).status == 303
    made_up = altered(world.idp.authorize(world.chosen(world.visitor())), code="made up")
    assert world.visitor().get(made_up).status == 400
    world.harness.clock.now += 60
    assert visitor.post("/oauth/login", guess).status == 403


def unavailable(world: World) -> None:
    world.idp.answer = Response(503)


def not_admitted(world: World) -> None:
    world.idp.user["email"] = "eve@elsewhere.example"


@pytest.mark.both_engines
@pytest.mark.parametrize(
    ("fault", "status"), [(unavailable, 503), (not_admitted, 403)], ids=["down", "not admitted"]
)
def test_an_honest_login_that_fails_uses_up_no_limit(
    make: Make, fault: Callable[[World], None], status: int
) -> None:
    world = World(make, per_address=RateLimit(attempts=1, interval=60))
    user = dict(world.idp.user)
    fault(world)
    for _ in range(3):
        assert world.sign_in(world.visitor()).status == status
    world.idp.answer, world.idp.user = None, user
    visitor = world.visitor()
    url = world.idp.authorize(world.chosen(visitor))
    assert visitor.get(url).status == 303
    assert [visitor.get(url).status for _ in range(3)] == [400] * 3, "it was used"
    assert world.sign_in(world.visitor()).status == 303


@pytest.mark.both_engines
@pytest.mark.parametrize("error", ["access_denied", "temporarily_unavailable", "anything"])
def test_responses_without_a_code_are_counted_apart_and_used_up(make: Make, error: str) -> None:
    world = World(make, per_address=RateLimit(attempts=2, interval=60))
    visitor = world.visitor()
    urls = [world.idp.authorize(world.chosen(visitor)) for _ in range(3)]
    failed = [altered(each, error=error) for each in urls]
    statuses = [visitor.get(each).status for each in failed]
    assert statuses[0] == statuses[1] == {"access_denied": 403, "anything": 400}.get(error, 503)
    assert statuses[2] == 429, "each leaves a row"
    assert visitor.get(urls[0]).status == 400
    assert world.reasons()[-1] == "used_state"
    assert world.idp.forms == []
    assert visitor.get(urls[2]).status == 303


def test_a_made_up_code_that_the_upstream_calls_malformed_is_counted(make: Make) -> None:
    world = World(make, per_address=RateLimit(attempts=1, interval=60))
    world.idp.answer = answer({"error": "invalid_request"}, 400)
    assert world.sign_in(world.visitor()).status == 503
    world.idp.answer = None
    assert world.sign_in(world.visitor()).status == 429


@pytest.mark.both_engines
def test_logins_that_succeed_use_up_no_limit(make: Make) -> None:
    world = World(make, per_address=RateLimit(attempts=1, interval=60))
    for _ in range(4):
        assert world.sign_in(world.visitor()).status == 303


def test_a_response_that_nobody_here_asked_for_reaches_neither_database_nor_upstream(
    make: Make,
) -> None:
    """It costs no more than any other page that is refused, and uses up no limit of others."""
    world = World(make, per_address=RateLimit(attempts=1, interval=60))
    stranger, visitor = world.visitor(), world.visitor()
    url = world.idp.authorize(world.chosen(visitor))
    for _ in range(5):
        assert stranger.get(altered(url, state="made up")).status == 400
        assert stranger.get(url).status == 400
    assert world.harness.store.count("login_attempts") == 0
    assert world.idp.forms == []
    assert visitor.get(url).status == 303


def cookies(visitor: Visitor) -> dict[str, str]:
    return {"Cookie": "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())}


def test_fuzzed_callbacks_never_end_in_500(world: World) -> None:
    visitor = world.visitor()
    url = world.idp.authorize(world.chosen(visitor))
    state = dict(parse_qsl(urlsplit(url).query))["state"]
    for query in (
        "",
        "&&&",
        "%",
        "%zz=1",
        "state=%00",
        f"state={state[:-1]}",
        f"state={state}&code=%ff",
        "\xe9=1",
        "state=" + "%F0%9F%98%80" * 50,
        "&".join(f"p{n}=1" for n in range(200)),
    ):
        request = Request("GET", f"/oauth/login/callback/example?{query}", {})
        assert world.handle(request).status in {400, 403}, query
