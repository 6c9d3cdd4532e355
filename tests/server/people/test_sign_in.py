"""Signing in and out, as a visitor without scripts does it."""

from __future__ import annotations

import base64
import re
import threading
from pathlib import Path
from urllib.parse import urlencode

import pytest

from bearerguard.runtime.messages import Request, Response
from bearerguard.runtime.rate_limits import RateLimit
from bearerguard.server.login.accounts import normalized
from tests.server.people.harness import PASSWORD, PeopleHarness
from tests.server.people.visitor import Visitor, path

LOGIN = "/oauth/login"
LOGOUT = "/oauth/logout"


def test_the_right_password_signs_in_and_the_page_says_as_whom(harness: PeopleHarness) -> None:
    visitor = harness.visitor()
    page = visitor.get(LOGIN)
    assert page.status == 200
    assert page.title == "Sign in · api.example.com"
    response = visitor.submit(page, username=" ADA ", password=PASSWORD)
    assert (response.status, path(response)) == (303, LOGIN)
    assert path(visitor.follow(response)) == "/oauth/account"
    assert "as Ada Lovelace" in visitor.get(LOGOUT).text
    assert harness.reported == ["login_succeeded"]


@pytest.mark.parametrize(
    ("username", "password"),
    [("ada", "wrong password"), ("nobody", PASSWORD), ("ada", PASSWORD + " ")],
)
def test_whatever_is_wrong_the_page_says_the_same(
    harness: PeopleHarness, username: str, password: str
) -> None:
    visitor = harness.visitor()
    page = visitor.sign_in(username, password)
    assert page.status == 403
    assert page.title.startswith("Error: ")
    assert "The username or the password is wrong" in page.text
    assert page.fields["username"] == username
    assert password not in page.html
    assert 'role="alert"' in page.html
    assert 'aria-invalid="true" aria-describedby="problem"' in page.html
    assert "as Ada" not in visitor.get(LOGOUT).text
    assert harness.reported == ["login_failed"]


def test_a_login_name_without_an_account_is_not_reported(harness: PeopleHarness) -> None:
    harness.visitor().sign_in("my-secret-password", "typed into the wrong field")
    harness.visitor().sign_in("ada", "wrong password")
    unknown, known = harness.events
    assert dict(unknown.details) == {"address": "192.0.2.7"}
    assert known.details["user_id"] == harness.people.accounts.get("ada").user_id


@pytest.mark.parametrize(
    "username",
    ["a" + "\u0301" * 5_000 + "\u0316" * 5_000, "ada" + "x" * 60_000, "\ufdfa" * 7_000],
)
def test_a_name_beyond_all_bounds_is_nobodys_and_neither_put_in_order_nor_shown(
    harness: PeopleHarness, username: str
) -> None:
    # Marks are put in order in a time that grows with the square of their number.
    assert len(normalized(username)) <= 202
    page = harness.visitor().sign_in(username, PASSWORD)
    assert page.status == 403
    assert username.startswith(page.fields["username"])
    assert len(page.fields["username"]) == 200
    assert harness.reported == ["login_failed"]


def test_a_long_name_that_begins_with_somebodys_is_not_theirs(harness: PeopleHarness) -> None:
    harness.people.accounts.add("a" * 200, PASSWORD)
    assert harness.visitor().sign_in("a" * 801, PASSWORD).status == 403
    assert harness.visitor().sign_in(" " * 9000 + "A" * 200, PASSWORD).status == 303


@pytest.mark.parametrize(("username", "password"), [("", PASSWORD), ("ada", ""), ("  ", "x")])
def test_a_field_left_empty_is_no_attempt(
    harness: PeopleHarness, username: str, password: str
) -> None:
    page = harness.visitor().sign_in(username, password)
    assert page.status == 400
    assert "Enter your username and your password" in page.text
    assert harness.rows("login_attempts") == []


def test_a_disabled_user_is_signed_out_and_stays_out(harness: PeopleHarness) -> None:
    visitor = harness.signed_in_visitor()
    harness.people.accounts.disable("ada")
    assert "as Ada" not in visitor.get(LOGOUT).text
    assert harness.visitor().sign_in("ada", PASSWORD).status == 403
    harness.people.accounts.enable("ada")
    assert harness.visitor().sign_in("ada", PASSWORD).status == 303


def test_a_new_password_ends_every_session(harness: PeopleHarness) -> None:
    visitor = harness.signed_in_visitor()
    harness.people.accounts.set_password("ada", "another good one")
    assert "as Ada" not in visitor.get(LOGOUT).text
    assert harness.visitor().sign_in("ada", PASSWORD).status == 403
    assert harness.visitor().sign_in("ada", "another good one").status == 303


def test_cookies_with_https_are_bound_to_the_host_and_hidden_from_scripts(
    harness: PeopleHarness,
) -> None:
    visitor = harness.signed_in_visitor()
    assert len(visitor.set_cookies) == 3
    for cookie in visitor.set_cookies:
        name, *attributes = cookie.split("; ")
        assert name.startswith("__Host-")
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
        assert not any(each.startswith("Domain") for each in attributes)


def test_cookies_of_a_loopback_server_work_without_https(tmp_path: Path) -> None:
    harness = PeopleHarness(tmp_path, issuer="http://127.0.0.1:8000")
    harness.people.accounts.add("ada", PASSWORD)
    visitor = harness.signed_in_visitor()
    assert "as ada" in visitor.get(LOGOUT).text
    for cookie in visitor.set_cookies:
        assert "Secure" not in cookie
        assert not cookie.startswith("__Host-")


def test_two_servers_on_one_host_leave_each_others_sign_ins_alone(tmp_path: Path) -> None:
    # Cookies know no ports (RFC 6265 §8.5): the browser sends both servers' to both.
    stages = []
    browser: dict[str, str] = {}
    for port in (8000, 9000):
        (tmp_path / str(port)).mkdir()
        harness = PeopleHarness(tmp_path / str(port), issuer=f"http://127.0.0.1:{port}")
        harness.people.accounts.add("ada", PASSWORD)
        visitor = harness.visitor()
        visitor.cookies = browser
        assert visitor.sign_in("ada", PASSWORD).status == 303
        stages.append(visitor)
    for visitor in stages:
        assert "as ada" in visitor.get(LOGOUT).text


def test_a_session_that_was_planted_before_the_login_is_worth_nothing(
    harness: PeopleHarness,
) -> None:
    attacker = harness.signed_in_visitor()
    planted = {name: value for name, value in attacker.cookies.items() if "session" in name}
    victim = harness.visitor()
    form = victim.get(LOGIN)
    victim.cookies |= planted
    assert victim.submit(form, username="ada", password=PASSWORD).status == 303
    assert planted.items().isdisjoint(victim.cookies.items())
    assert "as Ada" not in attacker.get(LOGOUT).text


def test_a_sign_in_renews_the_session_and_ends_the_one_before(harness: PeopleHarness) -> None:
    harness.people.accounts.add("grace", PASSWORD)
    visitor = harness.visitor()
    first = visitor.get(LOGIN)
    visitor.submit(first, username="ada", password=PASSWORD)
    (before,) = harness.rows("sessions")
    visitor.submit(first, username="grace", password=PASSWORD)
    (after,) = harness.rows("sessions")
    assert after.digest != before.digest
    assert "as grace" in visitor.get(LOGOUT).text


def test_a_session_ends_after_its_lifetime_and_its_row_goes(harness: PeopleHarness) -> None:
    visitor = harness.signed_in_visitor()
    harness.clock.now += 12 * 3600 - 1
    assert "as Ada" in visitor.get(LOGOUT).text
    harness.clock.now += 1
    assert "as Ada" not in visitor.get(LOGOUT).text
    harness.signed_in_visitor()
    assert len(harness.rows("sessions")) == 1


def test_signing_out_ends_the_session_here_and_wherever_its_cookie_went(
    harness: PeopleHarness,
) -> None:
    visitor = harness.signed_in_visitor()
    thief = harness.visitor()
    thief.cookies |= visitor.cookies
    page = visitor.get(LOGOUT)
    assert "as Ada Lovelace" in page.text
    gone = visitor.follow(visitor.submit(page))
    assert "You are signed out" in gone.text
    assert "as Ada" not in thief.get(LOGOUT).text
    assert harness.rows("sessions") == []


def test_another_site_can_neither_sign_in_nor_out(harness: PeopleHarness) -> None:
    """A form of another site carries the cookies, but no proof, or a proof for its own browser."""
    victim = harness.signed_in_visitor()
    attacker = harness.visitor()
    theirs = attacker.get(LOGIN).fields
    fields = {**theirs, "username": "ada", "password": PASSWORD}
    for sent in (fields, {**fields, "csrf": ""}, {**fields, "csrf": "a.b"}):
        response = victim.post(LOGIN, sent)
        assert response.status == 400
        assert "Please try again" in response.text
        assert path(victim.post(LOGOUT, sent)) == LOGOUT
    assert "as Ada" in victim.get(LOGOUT).text


def test_a_form_that_a_browser_says_comes_from_elsewhere_is_refused(harness: PeopleHarness) -> None:
    visitor = harness.visitor()
    fields = {**visitor.get(LOGIN).fields, "username": "ada", "password": PASSWORD}
    for site in ("cross-site", "same-site"):
        assert visitor.post(LOGIN, fields, Sec_Fetch_Site=site).status == 400
    assert visitor.post(LOGIN, fields, Sec_Fetch_Site="same-origin").status == 303


def test_a_page_that_was_open_for_hours_asks_again(harness: PeopleHarness) -> None:
    visitor = harness.visitor()
    page = visitor.get(LOGIN)
    harness.clock.now += 7200
    again = visitor.submit(page, username="ada", password=PASSWORD)
    assert again.status == 400
    assert "open for too long" in again.text
    assert again.fields["username"] == "ada"
    assert visitor.submit(again, password=PASSWORD).status == 303


def test_a_browser_without_cookies_is_told_so(harness: PeopleHarness) -> None:
    visitor = harness.visitor()
    page = visitor.get(LOGIN)
    visitor.cookies.clear()
    assert "keeps no cookies" in visitor.submit(page, username="ada", password=PASSWORD).text


@pytest.mark.parametrize(
    "body",
    [
        b"username=ada&username=eve",
        b"username=%zz",
        b"username=%ff",
        b"username=" + b"a" * 70_000,
        b"&".join(b"f%d=1" % number for number in range(101)),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_and_not_shown(
    harness: PeopleHarness, body: bytes
) -> None:
    kind = "application/x-www-form-urlencoded"
    for target in (LOGIN, LOGOUT):
        page = harness.visitor().send("POST", target, body, Content_Type=kind)
        assert page.status in {400, 413}
        assert "This request cannot be read" in page.text
    page = harness.visitor().send("POST", LOGIN, b"{}", Content_Type="application/json")
    assert page.status == 400


def test_other_methods_and_other_paths_are_refused(harness: PeopleHarness) -> None:
    visitor = harness.visitor()
    page = visitor.send("PUT", LOGIN)
    assert (page.status, page.header("Allow")) == (405, "GET, HEAD, POST")
    assert visitor.get("/oauth/elsewhere").status == 404
    assert visitor.send("HEAD", LOGIN).status == 200


def test_ten_wrong_guesses_and_then_one_in_five_minutes(harness: PeopleHarness) -> None:
    guesser = harness.visitor()
    statuses = [guesser.sign_in("ada", f"guess number {number}").status for number in range(12)]
    assert statuses == [403] * 10 + [429] * 2
    page = guesser.sign_in("ada", PASSWORD)
    assert page.status == 429
    assert page.header("Retry-After") == "300"
    assert "There were too many attempts. Try again in 5 minutes." in page.text
    assert harness.reported.count("login_throttled") == 3
    harness.clock.now += 299
    assert "Try again in 1 seconds" not in guesser.get(LOGIN).text
    assert guesser.sign_in("ada", PASSWORD).header("Retry-After") == "1"
    harness.clock.now += 1
    assert guesser.sign_in("ada", PASSWORD).status == 303


def test_a_login_name_without_an_account_is_throttled_as_well(harness: PeopleHarness) -> None:
    guesser = harness.visitor()
    known = [guesser.sign_in("ada", "wrong password").status for _ in range(12)]
    unknown = [guesser.sign_in("eve", "wrong password").status for _ in range(12)]
    assert known == unknown


def test_the_right_password_makes_the_allowance_whole(harness: PeopleHarness) -> None:
    for _ in range(3):
        visitor = harness.visitor()
        assert [visitor.sign_in("ada", "wrong one").status for _ in range(9)] == [403] * 9
        assert visitor.sign_in("ada", PASSWORD).status == 303


def test_an_address_that_tries_many_names_is_throttled(tmp_path: Path) -> None:
    harness = PeopleHarness(tmp_path, per_address=RateLimit(attempts=3, interval=60))
    harness.people.accounts.add("ada", PASSWORD)
    prober = harness.visitor(peer="2001:db8:1:2::1")
    assert [prober.sign_in(f"name{n}", "wrong one").status for n in range(4)] == [403] * 3 + [429]
    neighbour = harness.visitor(peer="2001:db8:1:2:ffff::9")
    assert neighbour.sign_in("ada", PASSWORD).status == 429
    assert harness.visitor(peer="2001:db8:1:3::1").sign_in("ada", PASSWORD).status == 303
    for network in ("10", "11", "12"):
        other = harness.visitor(peer=f"2001:db8:1:{network}::1")
        assert [other.sign_in(f"name{n}", "wrong one").status for n in range(3)] == [403] * 3
    assert harness.visitor(peer="2001:db8:1:13::1").sign_in("ada", PASSWORD).status == 429
    assert harness.visitor(peer="2001:db8:1:100::1").sign_in("ada", PASSWORD).status == 303
    assert harness.visitor(peer="").sign_in("ada", PASSWORD).status == 303
    assert harness.visitor(peer="unix:socket").sign_in("ada", PASSWORD).status == 303
    mapped = harness.visitor(peer="::ffff:192.0.2.9")
    assert [mapped.sign_in(f"name{n}", "wrong one").status for n in range(3)] == [403] * 3
    assert harness.visitor(peer="192.0.2.9").sign_in("ada", PASSWORD).status == 429


def test_an_address_that_is_throttled_locks_nobody_out_and_fills_no_table(tmp_path: Path) -> None:
    harness = PeopleHarness(tmp_path, per_address=RateLimit(attempts=3, interval=60))
    harness.people.accounts.add("ada", PASSWORD)
    prober = harness.visitor(peer="192.0.2.66")
    for number in range(3):
        prober.sign_in(f"name{number}", "wrong one")
    rows = len(harness.rows("login_attempts"))
    assert {prober.sign_in("ada", "wrong one").status for _ in range(12)} == {429}
    assert {prober.sign_in(f"other{n}", "wrong one").status for n in range(5)} == {429}
    assert len(harness.rows("login_attempts")) == rows
    assert harness.visitor(peer="192.0.2.1").sign_in("ada", PASSWORD).status == 303


def test_A6_one_address_that_tries_for_ever_does_not_lock_the_owner_out(
    harness: PeopleHarness,
) -> None:
    stranger = harness.visitor(peer="203.0.113.9")
    for _ in range(200):
        stranger.sign_in("ada", "wrong one")
        harness.clock.now += 20
    assert stranger.sign_in("ada", "wrong one").status == 429
    assert harness.visitor(peer="198.51.100.7").sign_in("ada", PASSWORD).status == 303


def again(visitor: Visitor, login: str, password: str) -> int:
    """Sign in with a browser whose session has expired."""
    visitor.cookies = {
        name: value for name, value in visitor.cookies.items() if "session" not in name
    }
    return visitor.sign_in(login, password).status


def lock_out(harness: PeopleHarness, login: str = "ada") -> None:
    """Use up what all addresses together have of an account."""
    for number in range(40):
        harness.visitor(peer=f"203.0.113.{number}").sign_in(login, "wrong one")
    assert harness.visitor(peer="198.51.100.7").sign_in(login, PASSWORD).status == 429


def test_A6_many_addresses_lock_nobody_out_of_a_browser_that_was_signed_in_before(
    harness: PeopleHarness,
) -> None:
    harness.people.accounts.add("grace", PASSWORD)
    owner = harness.signed_in_visitor()
    lock_out(harness)
    lock_out(harness, "grace")
    assert again(owner, "grace", PASSWORD) == 429, "it is not a browser that she has used"
    for _ in range(3):
        assert again(owner, "ada", PASSWORD) == 303
    statuses = [again(owner, "ada", "wrong one") for _ in range(11)]
    assert statuses == [403] * 10 + [429]
    harness.clock.now += 300
    assert again(owner, "ada", PASSWORD) == 303


@pytest.mark.parametrize("known", [False, True], ids=["a new browser", "a known one"])
def test_A6_whom_a_busy_server_turns_away_has_made_no_attempt(
    harness: PeopleHarness, *, known: bool
) -> None:
    owner = harness.signed_in_visitor() if known else harness.visitor()
    assert again(owner, "ada", "wrong one") == 403
    before = sorted(harness.rows("login_attempts"))
    places = harness.people.accounts._passwords._pool._workers.places
    held = 0
    while places.acquire(blocking=False):
        held += 1
    assert {again(owner, "ada", PASSWORD) for _ in range(60)} == {503}
    assert sorted(harness.rows("login_attempts")) == before
    places.release(held)
    assert again(owner, "ada", PASSWORD) == 303


def test_A6_the_cookie_of_a_known_browser_names_nobody_and_works_only_as_it_was_made(
    harness: PeopleHarness, tmp_path: Path
) -> None:
    owner = harness.signed_in_visitor()
    ((name, value),) = [each for each in owner.cookies.items() if "device" in each[0]]
    (line,) = [each for each in owner.set_cookies if each.startswith(name)]
    assert name.startswith("__Host-")
    assert "; Secure; HttpOnly; SameSite=Lax" in line
    user_id = harness.people.accounts.get("ada").user_id
    content = base64.urlsafe_b64decode(value + "==")
    assert b"ada" not in content
    assert user_id.encode() not in content
    lock_out(harness)
    for changed in (value[:-4] + "AAAA", "", "x" * 50_000, owner.cookies[name] + "."):
        other = harness.visitor()
        other.cookies[name] = changed
        assert other.sign_in("ada", PASSWORD).status == 429
    harness.clock.now += 181 * 86_400
    lock_out(harness)
    assert again(owner, "ada", PASSWORD) == 429


def test_A6_a_login_with_a_known_browser_gives_its_address_nothing_back(
    tmp_path: Path,
) -> None:
    harness = PeopleHarness(tmp_path, per_address=RateLimit(attempts=3, interval=60))
    harness.people.accounts.add("ada", PASSWORD)
    prober = harness.signed_in_visitor()
    for number in range(3):
        assert again(prober, f"name{number}", "wrong one") == 403
        assert again(prober, "ada", PASSWORD) == 303
    assert again(prober, "name3", "wrong one") == 429


def test_a_new_password_makes_all_browsers_unknown_again(harness: PeopleHarness) -> None:
    accounts = harness.people.accounts
    accounts.add("grace", PASSWORD)
    thief, grace = harness.signed_in_visitor(), harness.signed_in_visitor("grace")
    accounts.set_password("ada", "another horse battery")
    owner = harness.visitor(peer="198.51.100.9")
    assert owner.sign_in("ada", "another horse battery").status == 303
    lock_out(harness)
    lock_out(harness, "grace")
    assert again(thief, "ada", "a guess of it") == 429
    assert again(owner, "ada", "another horse battery") == 303
    assert again(grace, "grace", PASSWORD) == 303, "hers was not changed"


def test_a_browser_of_a_removed_account_is_unknown(harness: PeopleHarness) -> None:
    owner = harness.signed_in_visitor()
    with harness.database.write() as connection:
        connection.run("DELETE FROM users")
    assert again(owner, "ada", PASSWORD) == 403
    harness.people.accounts.add("ada", PASSWORD)
    lock_out(harness)
    assert again(owner, "ada", PASSWORD) == 429


@pytest.mark.parametrize("peer", ["", "unix:", "127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_A6_where_no_address_is_known_all_share_a_larger_allowance(
    tmp_path: Path, peer: str
) -> None:
    harness = PeopleHarness(tmp_path, per_address=RateLimit(attempts=3, interval=60))
    harness.people.accounts.add("ada", PASSWORD)
    prober = harness.visitor(peer=peer)
    statuses = [prober.sign_in(f"name{n}", "wrong one").status for n in range(16)]
    assert statuses == [403] * 15 + [429]
    assert harness.visitor(peer=peer).sign_in("ada", PASSWORD).status == 429
    harness.clock.now += 12
    assert harness.visitor(peer=peer).sign_in("ada", PASSWORD).status == 303


def test_a_hundred_guesses_at_once_are_ten_guesses(harness: PeopleHarness) -> None:
    statuses: list[int] = []
    forms = [(visitor := harness.visitor(), visitor.get(LOGIN)) for _ in range(100)]

    def guess(visitor: Visitor, number: int) -> None:
        page = visitor.submit(forms[number][1], username="ada", password=f"guess {number}")
        statuses.append(page.status)

    threads = [
        threading.Thread(target=guess, args=(visitor, number))
        for number, (visitor, _) in enumerate(forms)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Some may meet a full queue of password checks; they were charged, and guessed nothing.
    assert statuses.count(403) + statuses.count(503) == 10
    assert statuses.count(429) == 90


def test_the_store_holds_no_token_and_the_address_of_a_session_alone(
    harness: PeopleHarness,
) -> None:
    """Its user sees on the account page from where it was begun."""
    visitor = harness.signed_in_visitor()
    (session,) = harness.rows("sessions")
    assert session.address == "192.0.2.7"
    harness.visitor().sign_in("eve", "wrong one")
    kept = repr([*map(tuple, harness.rows("login_attempts")), session.digest])
    (token,) = (value for name, value in visitor.cookies.items() if "session" in name)
    assert token not in kept
    assert "eve" not in kept
    assert "192.0.2.7" not in kept
    passwords = repr([*map(tuple, harness.rows("users"))])
    assert PASSWORD not in passwords
    assert "$argon2id$" in passwords


def test_attempts_are_forgotten_when_the_allowance_is_whole(harness: PeopleHarness) -> None:
    harness.visitor().sign_in("eve", "wrong one")
    assert len(harness.rows("login_attempts")) == 3
    harness.clock.now += 3600
    harness.visitor().sign_in("mallory", "wrong one")
    assert len(harness.rows("login_attempts")) == 3


def test_a_link_with_an_altered_or_old_request_leads_nowhere(harness: PeopleHarness) -> None:
    visitor = harness.visitor()
    sent = _ask_to_sign_in(harness, "client_id=notes")
    location = sent.header("Location") or ""
    assert "to continue to Field Notes" in visitor.get(location).text
    altered = re.sub(r"(request=.{9}).", r"\g<1>~", location)
    for bad in (altered, location + "&request=x", f"{LOGIN}?request=x"):
        page = visitor.get(bad)
        assert page.status == 400
        assert "This link has expired" in page.text
    page = visitor.get(location)
    harness.clock.now += 3600
    assert visitor.get(location).status == 400
    assert visitor.submit(page, username="ada", password=PASSWORD).status == 400


def test_the_apps_request_is_taken_up_after_the_login(harness: PeopleHarness) -> None:
    visitor = harness.visitor()
    query = urlencode({"client_id": "notes", "state": "a&b=c ü", "scope": "read write"})
    asked = _ask_to_sign_in(harness, query)
    page = visitor.get(asked.header("Location") or "")
    wrong = visitor.submit(page, username="ada", password="wrong one")
    assert "to continue to Field Notes" in wrong.text
    response = visitor.submit(wrong, password=PASSWORD)
    assert response.header("Location") == f"/oauth/authorize?{query}"


def test_below_a_path_the_pages_lead_to_that_path(tmp_path: Path) -> None:
    harness = PeopleHarness(tmp_path, issuer="https://api.example.com/tenant")
    harness.people.accounts.add("ada", PASSWORD)
    visitor = harness.visitor()
    asked = _ask_to_sign_in(harness, "x=1")
    page = visitor.get(asked.header("Location") or "")
    assert page.action == "/tenant/oauth/login"
    response = visitor.submit(page, username="ada", password=PASSWORD)
    assert response.header("Location") == "/tenant/oauth/authorize?x=1"


def _ask_to_sign_in(harness: PeopleHarness, query: str) -> Response:
    request = Request("GET", f"https://api.example.com/oauth/authorize?{query}")
    return harness.people.ask_to_sign_in(request, query=query, client_name="Field Notes")
