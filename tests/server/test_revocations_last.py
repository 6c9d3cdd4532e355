"""What was revoked stays revoked: after a restart, and in every process over one database."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from typing import Any

import pytest

from bearerguard import FetchFailed, Guard, Response, RevocationFailed, Revocations, TokenError
from bearerguard.errors import IssuerUnavailable
from bearerguard.runtime.flow import Fetch
from bearerguard.server.administration import Administration
from bearerguard.server.hosting.embedded_log import EmbeddedLog
from bearerguard.server.login.people import User
from bearerguard.testing import LocalIssuer
from tests.server.serving import ROOT
from tests.server.stage import ISSUER, SECRET, Make, Stage, claims
from tests.warm import recalled

Revoke = Callable[[Stage, dict[str, Any]], object]

REVOKING: dict[str, Revoke] = {
    "token": lambda stage, tokens: stage.server.revoke(tokens["access_token"]),
    "refresh token": lambda stage, tokens: stage.server.revoke(tokens["refresh_token"]),
    "grant": lambda stage, tokens: stage.server.revoke_grant(claims(tokens["access_token"])["sid"]),
    "user": lambda stage, tokens: stage.server.revoke_user(user_id=_subject(tokens)),
    "user at a client": lambda stage, tokens: stage.server.revoke_user(
        user_id=_subject(tokens), client_id=stage.app.client_id
    ),
    "disabled user": lambda stage, _: stage.server.disable_user("grace@example.com"),
    "client": lambda stage, _: stage.server.clients.remove(stage.app.client_id),
    "command line": lambda stage, tokens: _by_command(stage, tokens["access_token"]),
    "guard": lambda stage, tokens: _by_guard(stage, tokens["access_token"]),
}


class NoNetwork:
    """A transport that a test must not need."""

    def fetch(self, request: Fetch) -> Response:
        raise FetchFailed(request.url)

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


class Worker:
    """A server and a guard of its own over a stage's database, as another process has them."""

    def __init__(self, stage: Stage, *, events: list[str] | None = None, **options: Any) -> None:
        told = [] if events is None else events
        self.server = stage.another(on_event=lambda event: told.append(event.name))
        given: dict[str, Any] = {"clock": stage.clock, "transport": NoNetwork()}
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
def worker(stage: Stage) -> Generator[Callable[..., Worker]]:
    with ExitStack() as stack:

        def working(**options: Any) -> Worker:
            made = Worker(stage, **options)
            stack.callback(made.close)
            return made

        yield working


def _subject(tokens: dict[str, Any]) -> str:
    subject: str = claims(tokens["access_token"])["sub"]
    return subject


def _by_command(stage: Stage, token: str) -> None:
    store = f"sqlite:///{stage.folder}/auth.db"
    with Administration(store, secret=SECRET, clock=stage.clock) as administration:
        assert administration.revoke_token(token)


def _by_guard(stage: Stage, token: str) -> None:
    other = Worker(stage)
    other.guard.revoke(token)
    other.close()


def _tokens(stage: Stage) -> dict[str, Any]:
    account = stage.server.users.add("grace@example.com", "a password of some length")
    stage.user = User(account.user_id, "Grace", stage.clock.now)
    return stage.tokens()


def _rename(stage: Stage, table: str, to: str) -> None:
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        database.execute(f"ALTER TABLE {table} RENAME TO {to}")
        database.commit()


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.mark.parametrize("how", REVOKING)
def test_a_new_process_refuses_what_was_revoked_before_it_started(
    stage: Stage, worker: Callable[..., Worker], how: str
) -> None:
    tokens = _tokens(stage)
    before = worker()
    assert before.accepts(tokens["access_token"])
    before.close()
    REVOKING[how](stage, tokens)
    stage.server.close()
    assert not worker().accepts(tokens["access_token"])


@pytest.mark.parametrize("how", REVOKING)
def test_another_process_that_has_accepted_it_learns_of_it(
    stage: Stage, worker: Callable[..., Worker], how: str
) -> None:
    tokens = _tokens(stage)
    token, other = tokens["access_token"], worker()
    assert other.accepts(token)
    assert recalled(other.guard, f"Bearer {token}") is not None
    REVOKING[how](stage, tokens)
    _until(lambda: recalled(other.guard, f"Bearer {token}") is None)
    assert not other.accepts(token)


@pytest.mark.parametrize("how", ["user", "user at a client", "grant"])
def test_what_is_issued_afterwards_passes(
    stage: Stage, worker: Callable[..., Worker], how: str
) -> None:
    tokens = _tokens(stage)
    stage.clock.now += 0.9
    REVOKING[how](stage, tokens)
    stage.clock.now += 0.1  # the next whole second, in which tokens say they were issued
    later = stage.tokens()["access_token"]
    fresh = worker()
    assert fresh.accepts(later)
    assert not fresh.accepts(tokens["access_token"])


def test_a_client_of_the_same_id_begins_anew(stage: Stage, worker: Callable[..., Worker]) -> None:
    own = stage.token(grant_type="client_credentials").json["access_token"]
    stage.server.clients.remove(stage.app.client_id)
    stage.clock.now += 1
    stage.app = stage.add("App", client_id=stage.app.client_id)
    fresh = worker()
    assert fresh.accepts(stage.token(grant_type="client_credentials").json["access_token"])
    assert not fresh.accepts(own)


def test_a_token_that_is_accepted_after_its_expiry_stays_revoked_until_then(
    make: Make,
) -> None:
    stage = make(access_token_lifetime=3 * 86_400)
    token = stage.tokens()["access_token"]
    _by_command(stage, token)  # which does not know how long tokens live
    stage.clock.now += 3 * 86_400 + 20
    stage.server.prune()
    fresh = Worker(stage, revocations=Revocations(max_token_life=4 * 86_400))
    assert not fresh.accepts(token)
    fresh.close()


def test_what_is_over_is_pruned_and_its_place_is_not_given_again(
    stage: Stage, worker: Callable[..., Worker]
) -> None:
    for _ in range(3):
        stage.server.revoke(stage.token(grant_type="client_credentials").json["access_token"])
    other = worker()
    assert other.accepts(stage.tokens()["access_token"])
    assert _positions(stage) == [1, 2, 3]
    stage.clock.now += 86_400 + 602
    stage.server.prune()
    assert _positions(stage) == []
    token = stage.tokens()["access_token"]
    assert other.accepts(token)
    stage.server.revoke(token)
    assert _positions(stage) == [4]
    _until(lambda: not other.accepts(token))


def test_thousands_of_revocations_are_all_read(stage: Stage, worker: Callable[..., Worker]) -> None:
    first = stage.token(grant_type="client_credentials").json["access_token"]
    last = stage.token(grant_type="client_credentials").json["access_token"]
    good = stage.token(grant_type="client_credentials").json["access_token"]
    stage.server.revoke(first)
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        many = [("token", f"jti-{each}", stage.clock.now + 9_000) for each in range(4_000)]
        database.executemany(
            "INSERT INTO revocations (kind, value, expires_at) VALUES (?, ?, ?)", many
        )
        database.commit()
    stage.server.revoke(last)
    fresh = worker()
    assert [fresh.accepts(token) for token in (first, last, good)] == [False, False, True]
    assert fresh.guard.health()["revocations"]["entries"] == 4_002


def test_a_revocation_that_is_not_committed_is_in_no_log(stage: Stage) -> None:
    tokens = stage.tokens()
    _rename(stage, "revocations", "elsewhere")
    refused = stage.post("/oauth/revoke", stage.credentials() | {"token": tokens["refresh_token"]})
    assert refused.status == 503
    assert stage.is_active(tokens["access_token"]), "neither is revoked without the other"


def test_without_the_log_nothing_is_believed_and_nothing_can_be_revoked(
    stage: Stage, worker: Callable[..., Worker]
) -> None:
    token, fresh = stage.tokens()["access_token"], worker()
    _rename(stage, "revocations", "elsewhere")
    with pytest.raises(IssuerUnavailable):
        fresh.guard.verify(token)
    with pytest.raises(RevocationFailed):
        fresh.guard.revoke(subject="ada")
    _rename(stage, "elsewhere", "revocations")
    assert fresh.accepts(token)
    _rename(stage, "revocations", "elsewhere")
    with pytest.raises(RevocationFailed):
        fresh.guard.revoke(subject="ada")


def test_what_a_guard_revokes_of_another_issuer_is_remembered_as_that_ones(stage: Stage) -> None:
    other = LocalIssuer("https://other.example.com", audience=ISSUER, clock=stage.clock)
    server = stage.server
    token = other.token(sub="ada", sid="s")
    own = stage.tokens()["access_token"]

    def guard() -> Guard:
        return Guard(
            server.issuer(), other.issuer(), clock=stage.clock, transport=other.transport()
        )

    with guard() as first:
        first.revoke(subject="ada", issuer=other.url)
    with guard() as second:
        with pytest.raises(TokenError, match="revoked"):
            second.verify(token)
        assert second.verify(own).subject == "ada"


def test_a_store_that_was_given_keeps_what_the_server_revokes(
    stage: Stage, make: Make, worker: Callable[..., Worker]
) -> None:
    elsewhere = make(issuer="https://elsewhere.example.com")
    token = stage.tokens()["access_token"]

    def given() -> Revocations:
        return Revocations(EmbeddedLog(elsewhere.server.database, "https://elsewhere.example.com"))

    first = worker(revocations=given())
    assert first.accepts(token)
    first.server.revoke(token)
    assert not first.accepts(token)
    assert len(_positions(elsewhere)) == 1
    assert not worker(revocations=given()).accepts(token)


def test_a_store_that_was_given_is_told_what_commands_and_other_processes_revoke(
    stage: Stage, make: Make, worker: Callable[..., Worker]
) -> None:
    elsewhere = make(issuer="https://elsewhere.example.com")
    store = EmbeddedLog(elsewhere.server.database, "https://elsewhere.example.com")
    codes: list[str] = []
    token, kept = stage.tokens()["access_token"], stage.tokens()["access_token"]
    here = worker(revocations=Revocations(store), on_event=lambda event: codes.append(event.code))
    assert here.accepts(token)
    _by_command(stage, token)
    _until(lambda: not here.accepts(token))
    assert here.accepts(kept)
    assert len(_positions(elsewhere)) == 1
    _rename(stage, "revocations", "gone")
    _until(lambda: "revocations_not_forwarded" in codes)
    assert here.accepts(kept), "what it was told so far is believed"
    _rename(stage, "gone", "revocations")
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        many = [("token", f"jti-{each}", stage.clock.now + 9_000) for each in range(2_500)]
        database.executemany(
            "INSERT INTO revocations (kind, value, expires_at) VALUES (?, ?, ?)", many
        )
        database.commit()
    _by_command(stage, kept)
    _until(lambda: not here.accepts(kept))
    assert len(_positions(elsewhere)) == 2_502
    time.sleep(1.2)  # two more rounds
    assert len(_positions(elsewhere)) == 2_502, "nothing is told twice"
    assert codes.count("revocations_not_forwarded") == 1


def test_what_a_server_cannot_tell_is_no_failure_of_its_own(
    stage: Stage, make: Make, worker: Callable[..., Worker]
) -> None:
    elsewhere = make(issuer="https://elsewhere.example.com")
    store = EmbeddedLog(elsewhere.server.database, "https://elsewhere.example.com")
    events: list[str] = []
    token = stage.tokens()["access_token"]
    here = worker(revocations=Revocations(store), events=events)
    _rename(elsewhere, "revocations", "gone")
    assert here.server.revoke(token)
    assert "revocation_not_told" in events
    _rename(elsewhere, "gone", "revocations")
    _until(lambda: len(_positions(elsewhere)) == 1)
    assert not here.accepts(token)


def test_in_an_event_loop_the_log_is_read_and_written_too(
    stage: Stage, worker: Callable[..., Worker]
) -> None:
    token, kept = stage.tokens()["access_token"], stage.tokens()["access_token"]

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
    stage: Stage, worker: Callable[..., Worker]
) -> None:
    token, parent = stage.tokens()["access_token"], worker()
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
    stage.server.revoke(token)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("ending", ["guard.close(); server.close()", ""])
def test_a_program_ends_without_a_warning(stage: Stage, ending: str) -> None:
    token = stage.token(grant_type="client_credentials").json["access_token"]
    code = f"""
from bearerguard import Guard
from bearerguard.server import AuthorizationServer
server = AuthorizationServer(
    {ISSUER!r}, store="sqlite:///{stage.folder}/auth.db", secret={SECRET!r}, algorithm="ES256",
    clock=lambda: {stage.clock.now!r},
)
guard = Guard(server.issuer(), clock=lambda: {stage.clock.now!r})
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
    assert ended.stdout.strip() == stage.app.client_id


def test_closing_a_guard_leaves_the_servers_database_closed(
    stage: Stage, worker: Callable[..., Worker]
) -> None:
    import threading

    other = worker()
    assert other.accepts(stage.tokens()["access_token"])
    other.close()
    stage.server.close()
    _until(lambda: all(each.name != "bearerguard-revocations" for each in threading.enumerate()))
    assert [path.name for path in stage.folder.iterdir()] == ["auth.db"]


def _positions(stage: Stage) -> list[int]:
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        rows = database.execute("SELECT position FROM revocations ORDER BY position").fetchall()
    return [position for (position,) in rows]


@pytest.mark.parametrize("beside", [True, False], ids=["in the server's process", "in another"])
def test_a_client_that_revokes_its_own_tokens_fills_no_list_for_longer_than_they_live(
    stage: Stage, worker: Callable[..., Worker], beside: bool
) -> None:
    robot = stage.add("Robot", access_token_lifetime=60)
    tokens = [
        stage.token(robot, grant_type="client_credentials").json["access_token"] for _ in range(3)
    ]
    server = stage.server if beside else worker().server
    with Guard(server.issuer(), clock=stage.clock, transport=NoNetwork()) as guard:
        guard.verify(tokens[0])
        for token in tokens:
            assert stage.server.revoke(token)
        _until(lambda: guard.health()["revocations"]["entries"] == 3)
        stage.clock.now += 60 + 901
        stage.server.revoke_user(user_id="somebody")  # what is over goes at the next change
        _until(lambda: guard.health()["revocations"]["entries"] == 1)
    stage.server.prune()
    assert len(_positions(stage)) == 1
