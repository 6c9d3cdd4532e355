"""PostgreSQL fails in each of its ways, under load: 503 until it is back, nothing given twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests import postgresql_server as postgresql
from tests.faults.sessions import Redeemer, Refresher, Session, busy, forked, outcomes, problems
from tests.faults.size import FULL, size
from tests.postgresql_server import PASSWORD, PostgreSQLServer, wait_until
from tests.server.leaks import found
from tests.server.serving import GUNICORN, UVICORN, Served, served
from tests.server.stores import Store, postgresql_store

COMMANDS = {"asgi": (*UVICORN, "--workers", "2"), "wsgi": (*GUNICORN, "--workers", "2")}
TIMES = size(5, 1)


class Under:
    """A server under load, and what a fault needs of it."""

    def __init__(self, running: Served, store: Store, sessions: list[Session]) -> None:
        self.running, self.store, self.sessions = running, store, sessions

    def refused(self) -> int:
        return outcomes(self.sessions).get("503", 0)

    def until_refused(self) -> None:
        before = self.refused()
        wait_until(lambda: self.refused() > before, self._explained)

    def until_served(self) -> float:
        """Wait until each session has done something, and return the seconds."""
        began, before = time.monotonic(), [each.done for each in self.sessions]
        wait_until(
            lambda: (
                all(
                    each.done > known + 1 for each, known in zip(self.sessions, before, strict=True)
                )
                or bool(problems(self.sessions))
            ),
            self._explained,
        )
        return time.monotonic() - began

    def _explained(self) -> str:
        return f"{outcomes(self.sessions)}\n{self.running.program.output}"


Fault = Callable[[Under, PostgreSQLServer], None]


def restart(_: Under, server: PostgreSQLServer) -> None:
    server.restart()


def be_killed(under: Under, server: PostgreSQLServer) -> None:
    server.kill()
    under.until_refused()
    server.start()


def be_gone_for_seconds(under: Under, server: PostgreSQLServer) -> None:
    server.stop()
    under.until_refused()
    time.sleep(3)
    server.start()


def pause(_: Under, server: PostgreSQLServer) -> None:
    server.pause()
    time.sleep(2)
    server.resume()


def hang(under: Under, server: PostgreSQLServer) -> None:
    server.pause()
    under.until_refused()
    server.resume()


def lock_a_table(under: Under, server: PostgreSQLServer) -> None:
    """As a careless `ALTER TABLE` or a `VACUUM FULL` does; in the order of a redemption."""
    with closing(server.connect(_name(under))) as other, other.transaction():
        other.execute("LOCK TABLE codes, refresh_tokens IN ACCESS EXCLUSIVE MODE")
        under.until_refused()


def end_connections(_: Under, server: PostgreSQLServer) -> None:
    with closing(server.connect()) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bearerguard'"
        )


def use_up_connections(under: Under, server: PostgreSQLServer) -> None:
    """Others take each connection that becomes free, until there is none for the server."""
    with ExitStack() as stack, closing(server.connect()) as superuser:
        before = under.refused()
        while under.refused() == before:
            superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'bearerguard' AND application_name != 'other'"
            )
            try:
                while True:
                    url = server.url(_name(under), application_name="other")
                    stack.enter_context(closing(psycopg.connect(url)))
            except psycopg.OperationalError:
                time.sleep(0.01)


def _name(under: Under) -> str:
    return under.store.url.rpartition("/")[2]


FAULTS: tuple[Fault, ...] = (
    restart,
    be_killed,
    be_gone_for_seconds,
    pause,
    hang,
    lock_a_table,
    end_connections,
    use_up_connections,
)


@contextmanager
def loaded(folder: Path, kind: str, store: Store) -> Generator[Under]:
    """Run a server with two processes, with clients that refresh and clients that redeem codes."""
    with served(folder, COMMANDS[kind], store, GRACE="60", ALGORITHM="ES256") as running:
        client = running.add()
        sessions: list[Session] = [Refresher(running, client, f"user{n}") for n in range(4)]
        sessions += [Redeemer(running, client, f"other{n}") for n in range(2)]
        under = Under(running, store, sessions)
        with busy(sessions):
            under.until_served()
            yield under
        assert problems(sessions) == []
        assert set(outcomes(sessions)) <= EXPECTED, outcomes(sessions)
        output = running.program.output
        assert PASSWORD not in output
        assert "p%40ss" not in output
        secrets = [secret for each in sessions for secret in each.secrets]
        assert found(store, output, secrets) == []
    assert forked(store) == (0, 0)
    assert store.count("grants", "user_id LIKE 'user%' AND revoked_at IS NOT NULL") == 0


# 400: a code that was redeemed before.
EXPECTED = {"200", "400", "503", "temporarily_unavailable"}


@pytest.mark.parametrize("kind", COMMANDS if FULL else ["asgi"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.replace("_", " "))
def test_the_server_recovers_by_itself_and_gives_nothing_twice(
    tmp_path: Path, fault: Fault, kind: str
) -> None:
    with (
        postgresql.running(durable=True, max_connections="40") as server,
        postgresql_store(server) as store,
        loaded(tmp_path, kind, store) as under,
    ):
        took = []
        for _ in range(TIMES):
            fault(under, server)
            took.append(under.until_served())
    print(f"\n{fault.__name__}, {TIMES} times: {outcomes(under.sessions)};", end=" ")
    print(f"all served {max(took):.1f} s after the end of it at the latest")


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_standby_takes_over_and_nothing_that_was_acknowledged_is_lost(
    tmp_path: Path, kind: str
) -> None:
    with postgresql.replicated() as pair:
        name = pair.primary.create_database()
        store = Store(pair.url(name), pair.standby.written)
        with loaded(tmp_path, kind, store) as under:
            time.sleep(size(5, 1))
            began = time.monotonic()
            pair.primary.kill()
            under.until_refused()
            pair.promote()
            promoted = time.monotonic()
            took = under.until_served()
    print(f"\npromoted {promoted - began:.1f} s after the primary was killed,", end=" ")
    print(f"all served {took:.1f} s later: {outcomes(under.sessions)}")


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_server_that_starts_before_postgresql_serves_as_soon_as_it_is_there(
    tmp_path: Path, kind: str
) -> None:
    with postgresql.running() as server, postgresql_store(server) as store:
        server.stop()
        with served(tmp_path, COMMANDS[kind], store) as running:
            refused = [httpx2.get(f"{running.url}/oauth/jwks", timeout=30) for _ in range(3)]
            server.start()
            client = running.add()
            tokens = [running.redeem(client, running.code(client)) for _ in range(4)]
            output = running.program.output
    assert [each.status_code for each in refused] == [503] * 3
    assert all(each.headers["retry-after"] for each in refused)
    assert [each.status_code for each in tokens] == [200] * 4
    assert "p%40ss" not in output
    assert PASSWORD not in output
