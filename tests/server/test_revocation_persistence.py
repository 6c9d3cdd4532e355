"""Revocations persist: after a restart, and in every process over one database."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack
from typing import Any

import pytest

from bearerguard import FetchFailed, Guard, Response, RevocationFailed, Revocations, TokenError
from bearerguard.errors import IssuerUnavailable
from bearerguard.guard.revocation.revocation_list import decode
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.shared_log import LogPage, ReadLog
from bearerguard.server import Lifetimes
from bearerguard.server.administration import Administration
from bearerguard.server.hosting.revocation_store import DatabaseRevocationStore
from bearerguard.server.login.people import User
from bearerguard.testing import LocalIssuer
from tests.server.harness import ISSUER, SECRET, Harness, Make, claims
from tests.server.serving import ROOT
from tests.warm import recalled

Revoke = Callable[[Harness, dict[str, Any]], object]

REVOKING: dict[str, Revoke] = {
    "token": lambda harness, tokens: harness.server.revoke(tokens["access_token"]),
    "refresh token": lambda harness, tokens: harness.server.revoke(tokens["refresh_token"]),
    "grant": lambda harness, tokens: harness.server.revoke_grant(
        claims(tokens["access_token"])["sid"]
    ),
    "user": lambda harness, tokens: harness.server.revoke_user(user_id=_subject(tokens)),
    "user at a client": lambda harness, tokens: harness.server.revoke_user(
        user_id=_subject(tokens), client_id=harness.app.client_id
    ),
    "disabled user": lambda harness, _: harness.server.disable_user("grace@example.com"),
    "client": lambda harness, _: harness.server.clients.remove(harness.app.client_id),
    "command line": lambda harness, tokens: _by_command(harness, tokens["access_token"]),
    "guard": lambda harness, tokens: _by_guard(harness, tokens["access_token"]),
}


class NoNetwork:
    """A transport that a test must not need."""

    def fetch(self, request: Fetch) -> Response:
        raise FetchFailed(request.url)

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


class Worker:
    """A server and a guard of its own over a harness's database, as another process has them."""

    def __init__(
        self, harness: Harness, *, events: list[str] | None = None, **options: Any
    ) -> None:
        codes = [] if events is None else events
        self.server = harness.another(on_event=lambda event: codes.append(event.code))
        given: dict[str, Any] = {"clock": harness.clock, "transport": NoNetwork()}
        self.guard = Guard(self.server.issuer(), **(given | options))

    def accepts(self, token: str) -> bool:
        try:
            self.guard.verify(token)
        except TokenError as refusal:
            if refusal.reason.code != "revoked":
                raise
            return False
        return True

    def close(self) -> None:
        self.guard.close()
        self.server.close()


@pytest.fixture
def worker(harness: Harness) -> Generator[Callable[..., Worker]]:
    with ExitStack() as stack:

        def working(**options: Any) -> Worker:
            made = Worker(harness, **options)
            stack.callback(made.close)
            return made

        yield working


def _subject(tokens: dict[str, Any]) -> str:
    subject: str = claims(tokens["access_token"])["sub"]
    return subject


def _by_command(harness: Harness, token: str) -> None:
    store = harness.store.url
    with Administration(store, secret=SECRET, clock=harness.clock) as administration:
        assert administration.revoke(token)


def _by_guard(harness: Harness, token: str) -> None:
    other = Worker(harness)
    other.guard.revoke(token)
    other.close()


def _tokens(harness: Harness) -> dict[str, Any]:
    account = harness.server.users.add("grace@example.com", "a password of some length")
    harness.user = User(account.user_id, "Grace", harness.clock.now)
    return harness.tokens()


def _revoke_others(harness: Harness, count: int) -> None:
    harness.store.run(
        "INSERT INTO revocations (kind, value, expires_at) VALUES ('token', :value, :expires_at)",
        [
            {"value": f"jti-{each}", "expires_at": harness.clock.now + 9_000}
            for each in range(count)
        ],
    )


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.mark.parametrize("how", REVOKING)
def test_a_new_process_refuses_what_was_revoked_before_it_started(
    harness: Harness, worker: Callable[..., Worker], how: str
) -> None:
    tokens = _tokens(harness)
    before = worker()
    assert before.accepts(tokens["access_token"])
    before.close()
    REVOKING[how](harness, tokens)
    harness.server.close()
    assert not worker().accepts(tokens["access_token"])


@pytest.mark.parametrize("how", REVOKING)
def test_another_process_that_has_accepted_it_learns_of_it(
    harness: Harness, worker: Callable[..., Worker], how: str
) -> None:
    tokens = _tokens(harness)
    token, other = tokens["access_token"], worker()
    assert other.accepts(token)
    assert recalled(other.guard, f"Bearer {token}") is not None
    REVOKING[how](harness, tokens)
    _until(lambda: recalled(other.guard, f"Bearer {token}") is None)
    assert not other.accepts(token)


@pytest.mark.parametrize("how", ["user", "user at a client", "grant"])
def test_what_is_issued_afterwards_passes(
    harness: Harness, worker: Callable[..., Worker], how: str
) -> None:
    tokens = _tokens(harness)
    harness.clock.now += 0.9
    REVOKING[how](harness, tokens)
    harness.clock.now += 0.1  # the next whole second, in which tokens say they were issued
    later = harness.tokens()["access_token"]
    fresh = worker()
    assert fresh.accepts(later)
    assert not fresh.accepts(tokens["access_token"])


def test_a_client_of_the_same_id_begins_anew(
    harness: Harness, worker: Callable[..., Worker]
) -> None:
    own = harness.token(grant_type="client_credentials").json["access_token"]
    harness.server.clients.remove(harness.app.client_id)
    harness.clock.now += 1
    harness.app = harness.add("App", client_id=harness.app.client_id)
    fresh = worker()
    assert fresh.accepts(harness.token(grant_type="client_credentials").json["access_token"])
    assert not fresh.accepts(own)


def test_a_token_that_is_accepted_after_its_expiry_stays_revoked_until_then(
    make: Make,
) -> None:
    harness = make(lifetimes=Lifetimes(access_token=3 * 86_400))
    token = harness.tokens()["access_token"]
    _by_command(harness, token)  # which does not know how long tokens live
    harness.clock.now += 3 * 86_400 + 20
    harness.server.prune()
    fresh = Worker(harness, revocations=Revocations(max_token_life=4 * 86_400))
    assert not fresh.accepts(token)
    fresh.close()


def test_what_is_over_is_pruned_and_its_place_is_not_given_again(
    harness: Harness, worker: Callable[..., Worker]
) -> None:
    for _ in range(3):
        harness.server.revoke(harness.token(grant_type="client_credentials").json["access_token"])
    other = worker()
    assert other.accepts(harness.tokens()["access_token"])
    assert _positions(harness) == [1, 2, 3]
    harness.clock.now += 86_400 + 602
    harness.server.prune()
    assert _positions(harness) == []
    token = harness.tokens()["access_token"]
    assert other.accepts(token)
    harness.server.revoke(token)
    assert _positions(harness) == [4]
    _until(lambda: not other.accepts(token))


@pytest.mark.parametrize("lost", [1, 2])
def test_a_follower_misses_nothing_after_the_database_was_restored_from_a_backup(
    harness: Harness, lost: int
) -> None:
    store = DatabaseRevocationStore(harness.server.database, ISSUER)
    read = store.handlers()[ReadLog]

    def values(page: LogPage) -> list[str]:
        return [each.value for _, content in page.entries for each in decode(content)]

    for user in ("ada", "ben", "eve"):
        harness.server.revoke_user(user_id=user)
    first = read(ReadLog(None))
    assert values(first) == ["ada", "ben", "eve"]
    position = first.entries[-1][0]
    assert values(read(ReadLog(position))) == []
    harness.store.run("DELETE FROM revocations WHERE position > :kept", {"kept": 3 - lost})
    if harness.store.engine_name == "sqlite":
        harness.store.run("UPDATE sqlite_sequence SET seq = :kept", {"kept": 3 - lost})
    else:
        harness.store.run(
            "SELECT setval(pg_get_serial_sequence('revocations', 'position'), :kept)",
            {"kept": 3 - lost},
        )
    harness.server.revoke_user(user_id="new")
    again = read(ReadLog(position))
    assert values(again) == [*["ada", "ben", "eve"][: 3 - lost], "new"]
    assert values(read(ReadLog(again.entries[-1][0]))) == []


def test_thousands_of_revocations_are_all_read(
    harness: Harness, worker: Callable[..., Worker]
) -> None:
    first = harness.token(grant_type="client_credentials").json["access_token"]
    last = harness.token(grant_type="client_credentials").json["access_token"]
    good = harness.token(grant_type="client_credentials").json["access_token"]
    harness.server.revoke(first)
    _revoke_others(harness, 4_000)
    harness.server.revoke(last)
    fresh = worker()
    assert [fresh.accepts(token) for token in (first, last, good)] == [False, False, True]
    assert fresh.guard.health()["revocations"]["entries"] == 4_002


def test_a_revocation_that_is_not_committed_is_in_no_log(harness: Harness) -> None:
    tokens = harness.tokens()
    harness.store.rename("revocations", "elsewhere")
    refused = harness.post(
        "/oauth/revoke", harness.credentials() | {"token": tokens["refresh_token"]}
    )
    assert refused.status == 503
    assert harness.is_active(tokens["access_token"]), "neither is revoked without the other"


def test_without_the_log_no_token_is_accepted_and_none_can_be_revoked(
    harness: Harness, worker: Callable[..., Worker]
) -> None:
    token, fresh = harness.tokens()["access_token"], worker()
    harness.store.rename("revocations", "elsewhere")
    with pytest.raises(IssuerUnavailable):
        fresh.guard.verify(token)
    with pytest.raises(RevocationFailed):
        fresh.guard.revoke(subject="ada")
    harness.store.rename("elsewhere", "revocations")
    assert fresh.accepts(token)
    harness.store.rename("revocations", "elsewhere")
    with pytest.raises(RevocationFailed):
        fresh.guard.revoke(subject="ada")


def test_what_a_guard_revokes_of_another_issuer_is_remembered_as_that_ones(
    harness: Harness,
) -> None:
    other = LocalIssuer("https://other.example.com", audience=ISSUER, clock=harness.clock)
    server = harness.server
    token = other.token(subject="ada", claims={"sid": "s"})
    own = harness.tokens()["access_token"]

    def guard() -> Guard:
        return Guard(
            server.issuer(), other.issuer(), clock=harness.clock, transport=other.transport()
        )

    with guard() as first:
        first.revoke(subject="ada", issuer=other.url)
    with guard() as second:
        with pytest.raises(TokenError, match="revoked"):
            second.verify(token)
        assert second.verify(own).subject == "ada"


def test_a_store_that_was_given_keeps_what_the_server_revokes(
    harness: Harness, make: Make, worker: Callable[..., Worker]
) -> None:
    elsewhere = make(issuer="https://elsewhere.example.com")
    token = harness.tokens()["access_token"]

    def given() -> Revocations:
        return Revocations(
            DatabaseRevocationStore(elsewhere.server.database, "https://elsewhere.example.com")
        )

    first = worker(revocations=given())
    assert first.accepts(token)
    first.server.revoke(token)
    assert not first.accepts(token)
    assert len(_positions(elsewhere)) == 1
    assert not worker(revocations=given()).accepts(token)


def test_a_given_store_gets_what_commands_and_other_processes_revoke(
    harness: Harness, make: Make, worker: Callable[..., Worker]
) -> None:
    elsewhere = make(issuer="https://elsewhere.example.com")
    store = DatabaseRevocationStore(elsewhere.server.database, "https://elsewhere.example.com")
    codes: list[str] = []
    token, kept = harness.tokens()["access_token"], harness.tokens()["access_token"]
    here = worker(revocations=Revocations(store), on_event=lambda event: codes.append(event.code))
    assert here.accepts(token)
    _by_command(harness, token)
    _until(lambda: not here.accepts(token))
    assert here.accepts(kept)
    assert len(_positions(elsewhere)) == 1
    harness.store.rename("revocations", "gone")
    _until(lambda: "revocations_not_forwarded" in codes)
    assert here.accepts(kept), "the revocations that were read so far count"
    harness.store.rename("gone", "revocations")
    _revoke_others(harness, 2_500)
    _by_command(harness, kept)
    _until(lambda: not here.accepts(kept))
    assert len(_positions(elsewhere)) == 2_502
    time.sleep(1.2)  # two more rounds
    assert len(_positions(elsewhere)) == 2_502, "nothing is read twice"
    assert codes.count("revocations_not_forwarded") == 1


def test_a_revocation_succeeds_although_the_other_store_is_down(
    harness: Harness, make: Make, worker: Callable[..., Worker]
) -> None:
    elsewhere = make(issuer="https://elsewhere.example.com")
    store = DatabaseRevocationStore(elsewhere.server.database, "https://elsewhere.example.com")
    events: list[str] = []
    token = harness.tokens()["access_token"]
    here = worker(revocations=Revocations(store), events=events)
    elsewhere.store.rename("revocations", "gone")
    assert here.server.revoke(token)
    assert "revocation_not_notified" in events
    elsewhere.store.rename("gone", "revocations")
    _until(lambda: len(_positions(elsewhere)) == 1)
    assert not here.accepts(token)


def test_in_an_event_loop_the_log_is_read_and_written_too(
    harness: Harness, worker: Callable[..., Worker]
) -> None:
    token, kept = harness.tokens()["access_token"], harness.tokens()["access_token"]

    async def revoking(guard: Guard) -> str | None:
        principal = await guard.averify(token)
        await guard.arevoke(token)
        with pytest.raises(TokenError, match="revoked"):
            await guard.averify(token)
        assert (await guard.averify(kept)).subject == "ada"
        return principal.subject

    assert asyncio.run(revoking(worker().guard)) == "ada"
    assert not worker().accepts(token)


def test_a_child_of_a_process_that_has_followed_follows_too(
    harness: Harness, worker: Callable[..., Worker]
) -> None:
    token, parent = harness.tokens()["access_token"], worker()
    assert parent.accepts(token)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        outcome = 1
        try:
            assert parent.accepts(token)
            os.write(writing, b"x")
            _until(lambda: not parent.accepts(token))
            outcome = 0
        finally:
            os._exit(outcome)
    os.read(reading, 1)
    harness.server.revoke(token)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("ending", ["guard.close(); server.close()", ""])
def test_a_program_ends_without_a_warning(harness: Harness, ending: str) -> None:
    token = harness.token(grant_type="client_credentials").json["access_token"]
    code = f"""
from bearerguard import Guard
from bearerguard.server import AuthorizationServer, SigningKeys
server = AuthorizationServer(
    {ISSUER!r}, store={harness.store.url!r}, secret={SECRET!r},
    signing=SigningKeys(algorithm="ES256"),
    clock=lambda: {harness.clock.now!r},
)
guard = Guard(server.issuer(), clock=lambda: {harness.clock.now!r})
print(guard.verify({token!r}).client_id)
{ending}
"""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.strip() == harness.app.client_id


@pytest.mark.sqlite_only
def test_closing_a_guard_leaves_the_servers_database_closed(
    harness: Harness, worker: Callable[..., Worker]
) -> None:
    import threading

    other = worker()
    assert other.accepts(harness.tokens()["access_token"])
    other.close()
    harness.server.close()
    _until(lambda: all(each.name != "bearerguard-revocations" for each in threading.enumerate()))
    assert sorted(path.name for path in harness.folder.iterdir()) == [
        *("auth.db", "auth.db-queue", "auth.db-turn")
    ]


def _positions(harness: Harness) -> list[int]:
    rows = harness.store.run("SELECT position FROM revocations ORDER BY position")
    return [position for (position,) in rows]


@pytest.mark.parametrize("beside", [True, False], ids=["in the server's process", "in another"])
def test_a_client_that_revokes_its_own_tokens_fills_no_list_for_longer_than_they_live(
    harness: Harness, worker: Callable[..., Worker], beside: bool
) -> None:
    robot = harness.add("Robot", access_token_lifetime=60)
    tokens = [
        harness.token(robot, grant_type="client_credentials").json["access_token"] for _ in range(3)
    ]
    server = harness.server if beside else worker().server
    with Guard(server.issuer(), clock=harness.clock, transport=NoNetwork()) as guard:
        guard.verify(tokens[0])
        for token in tokens:
            assert harness.server.revoke(token)
        _until(lambda: guard.health()["revocations"]["entries"] == 3)
        harness.clock.now += 60 + 901
        harness.server.revoke_user(user_id="somebody")  # a change removes expired entries
        _until(lambda: guard.health()["revocations"]["entries"] == 1)
    harness.server.prune()
    assert len(_positions(harness)) == 1
