"""Accounts and passwords."""

from __future__ import annotations

import os
import threading

import argon2
import pytest

from bearerguard.errors import AccountError, ConfigurationError, PasswordRejected, PasswordsBusy
from bearerguard.server.audit import Audit
from bearerguard.server.login.accounts import Accounts
from bearerguard.server.login.passwords import Passwords, Verdict
from tests.server.people.harness import CHEAP, PASSWORD, PeopleHarness


def test_an_account_is_made_listed_and_found_however_its_name_is_typed(
    harness: PeopleHarness,
) -> None:
    accounts = harness.people.accounts
    ada = accounts.get(" ADA ")
    assert (ada.login, ada.name, ada.disabled) == ("ada", "Ada Lovelace", False)
    assert ada.user_id.startswith("user-")
    accounts.add("Étienne@example.com", PASSWORD)
    assert accounts.get("E\u0301TIENNE@example.com").name == "Étienne@example.com"
    assert [account.login for account in accounts.all()] == ["ada", "étienne@example.com"]


@pytest.mark.parametrize(
    ("login", "password", "name", "complaint"),
    [
        ("Ada", PASSWORD, "", "'ada' is taken"),
        ("", PASSWORD, "", "A login name has"),
        ("a b", PASSWORD, "", "A login name has"),
        ("a\x07b", PASSWORD, "", "A login name has"),
        ("x" * 201, PASSWORD, "", "A login name has"),
        ("eve", PASSWORD, "\x00", "A name has"),
        ("eve", PASSWORD, "n" * 201, "A name has"),
        ("eve", "short", "", "at least 12"),
        ("eve", "p" * 1025, "", "at most 1024"),
        ("eve", "ababababababab", "", "repeat a few characters"),
        ("eve.smith", "Eve.Smith.1990", "", "must not contain the login name"),
    ],
)
def test_an_account_that_cannot_be_is_refused(
    harness: PeopleHarness, login: str, password: str, name: str, complaint: str
) -> None:
    with pytest.raises((AccountError, PasswordRejected), match=complaint):
        harness.people.accounts.add(login, password, name=name)
    assert len(harness.people.accounts.all()) == 1


@pytest.mark.parametrize("method", ["get", "disable", "enable"])
def test_an_account_that_is_not_there_is_said_to_be_missing(
    harness: PeopleHarness, method: str
) -> None:
    with pytest.raises(AccountError, match="There is no user 'eve'"):
        getattr(harness.people.accounts, method)("eve")
    with pytest.raises(AccountError, match="There is no user 'eve'"):
        harness.people.accounts.set_password("eve", PASSWORD)


def test_a_hash_of_weaker_parameters_is_renewed_when_its_password_comes(
    harness: PeopleHarness,
) -> None:
    stronger = argon2.Parameters(argon2.Type.ID, 19, 16, 32, 2, 16, 1)
    accounts = Accounts(
        harness.database,
        Passwords(stronger),
        harness.clock,
        audit=Audit(harness.events.append, harness.clock),
        on_disabled=harness.disabled.append,
        on_unlinked=lambda *_: None,
    )
    before = harness.rows("users")[0].password_hash
    assert accounts.check("ada", "wrong password") is None
    assert harness.rows("users")[0].password_hash == before
    assert accounts.check("ada", PASSWORD) is not None
    after = harness.rows("users")[0].password_hash
    assert "t=2" in after
    user_id = accounts.get("ada").user_id
    assert harness.events[-1].code == "password_upgraded"
    assert harness.events[-1].details["user_id"] == user_id
    assert accounts.check("ada", PASSWORD) is not None
    assert harness.rows("users")[0].password_hash == after


def test_a_composed_and_a_decomposed_letter_are_the_same_password() -> None:
    passwords = Passwords(CHEAP)
    stored = passwords.hash("un café à Étretat")
    assert passwords.check(stored, "un cafe\u0301 a\u0300 E\u0301tretat").right


def test_the_password_of_an_unknown_user_costs_as_much_to_check() -> None:
    """Argon2's own parameters say what a check costs: those of the stand-in are the same."""
    passwords = Passwords(CHEAP)
    real = argon2.extract_parameters(passwords.hash(PASSWORD))
    assert argon2.extract_parameters(passwords._unknown_hash) == real
    assert not passwords.check(None, PASSWORD).right


def test_a_password_beyond_all_bounds_is_wrong_and_costs_no_more() -> None:
    passwords = Passwords(CHEAP)
    stored = passwords.hash("p" * 1024)
    assert passwords.check(stored, "p" * 1024).right
    assert not passwords.check(stored, "p" * 10_000).right


def test_only_argon2id_is_accepted() -> None:
    with pytest.raises(ConfigurationError, match="argon2id"):
        Passwords(argon2.Parameters(argon2.Type.I, 19, 16, 32, 1, 8, 1))


def test_a_herd_of_checks_is_bounded_and_the_rest_is_told_to_wait() -> None:
    passwords = Passwords(CHEAP)
    pool = passwords._pool
    gate, outcomes = threading.Event(), list[str]()

    def check() -> None:
        try:
            pool.run(gate.wait)
            outcomes.append("ran")
        except PasswordsBusy:
            outcomes.append("busy")

    threads = [threading.Thread(target=check) for _ in range(50)]
    for thread in threads:
        thread.start()
    while outcomes.count("busy") < 46:
        threading.Event().wait(0.01)
    gate.set()
    for thread in threads:
        thread.join()
    assert (outcomes.count("ran"), outcomes.count("busy")) == (4, 46)


def test_a_login_that_meets_a_full_queue_is_told_when_to_come_again(harness: PeopleHarness) -> None:
    pool = harness.people.accounts._passwords._pool
    places = pool._workers.places
    while places.acquire(blocking=False):
        pass
    page = harness.visitor().sign_in("ada", PASSWORD)
    assert (page.status, page.header("Retry-After")) == (503, "5")
    assert "Many people are signing in" in page.text


def test_passwords_are_checked_in_a_forked_child_too() -> None:
    passwords = Passwords(CHEAP)
    stored = passwords.hash(PASSWORD)
    child = os.fork()
    if child == 0:
        try:
            right = passwords.check(stored, PASSWORD).right
        finally:
            os._exit(0 if right else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0


@pytest.mark.parametrize("change", ["password", "disabled"])
def test_a_login_that_a_change_of_the_user_overtakes_begins_no_session(
    harness: PeopleHarness, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    accounts = harness.people.accounts
    check = Passwords.check

    def overtaken(self: Passwords, stored: str | None, password: str) -> Verdict:
        verdict = check(self, stored, password)
        if change == "password":
            accounts.set_password("ada", "another long password")
        else:
            accounts.disable("ada")
        return verdict

    visitor = harness.visitor()
    monkeypatch.setattr(Passwords, "check", overtaken)
    assert visitor.sign_in("ada", PASSWORD).status == 403
    assert harness.rows("sessions") == []
