"""A database that is deleted, replaced or emptied while it is open: 503, and no new one is made."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sqlite3
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bearerguard import ConfigurationError, Guard
from bearerguard.errors import IssuerUnavailable
from bearerguard.server import AuthorizationServer, StoreUnavailable
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import migrate
from tests.server.harness import ISSUER, SECRET, Harness, Reply

pytestmark = pytest.mark.sqlite_only


def ask(harness: Harness) -> Reply:
    return harness.token(grant_type="client_credentials")


def refused(response: Reply) -> bool:
    return response.status == 503 and response.header("retry-after") is not None


def delete(path: Path) -> None:
    path.unlink()


def replace_by_a_copy(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


def replace_by_nothing(path: Path) -> None:
    other = path.with_name("other")
    other.touch()
    other.replace(path)


def replace_by_another_server(path: Path) -> None:
    other = path.with_name("other.db")
    AuthorizationServer(ISSUER, store=f"sqlite:///{other}", secret=SECRET).close()
    other.replace(path)


def lead_elsewhere(path: Path) -> None:
    moved = path.with_name("moved")
    path.replace(moved)
    path.symlink_to(path.with_name("nowhere"))


def empty(path: Path) -> None:
    os.truncate(path, 0)


LOSING: dict[str, Callable[[Path], None]] = {
    each.__name__: each
    for each in (
        delete,
        replace_by_a_copy,
        replace_by_nothing,
        replace_by_another_server,
        lead_elsewhere,
    )
}


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
@pytest.mark.parametrize("how", LOSING)
def test_a_file_that_is_lost_is_noticed_and_nothing_new_is_begun(
    harness: Harness, how: str, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    refresh = harness.tokens()["refresh_token"]
    path = harness.folder / f"auth.db{suffix}"
    assert path.exists()
    LOSING[how](path)
    before = sorted(harness.folder.iterdir())
    with caplog.at_level(logging.ERROR, "bearerguard.server"):
        for _ in range(3):
            assert refused(ask(harness))
            assert refused(harness.refresh(refresh))
            assert refused(harness.send("GET", "/oauth/jwks"))
    assert sorted(harness.folder.iterdir()) == before
    lost = [record for record in caplog.records if record.getMessage().startswith("store_lost")]
    assert len(lost) == 1, "once"
    assert str(path) in lost[0].getMessage()
    assert "restart" in lost[0].getMessage()
    assert all(str(path) in str(event.details) for event in harness.named("store_unavailable"))


def test_a_database_that_is_emptied_is_noticed(harness: Harness) -> None:
    ask(harness)
    empty(harness.folder / "auth.db")
    assert refused(ask(harness))
    assert "emptied" in str(harness.named("store_unavailable"))


def test_a_file_that_is_gone_when_the_first_connection_opens_is_not_made_anew(
    harness: Harness,
) -> None:
    harness.server.close()
    (harness.folder / "auth.db").unlink()
    assert refused(ask(harness))
    assert not (harness.folder / "auth.db").exists()


def test_another_file_is_not_opened_in_its_place_by_a_later_connection(harness: Harness) -> None:
    harness.server.close()
    path = harness.folder / "auth.db"
    shutil.copy(path, harness.folder / "copy")
    path.rename(harness.folder / "kept")
    (harness.folder / "copy").rename(path)
    assert refused(ask(harness))
    (harness.folder / "kept").replace(path)
    assert ask(harness).status == 200


def test_a_file_that_is_put_back_is_used_again(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = harness.tokens()
    path, aside = harness.folder / "auth.db", harness.folder / "aside"
    path.rename(aside)
    assert refused(ask(harness))
    aside.rename(path)
    assert harness.refresh(tokens["refresh_token"]).status == 200
    assert "back in its place" in caplog.text


def test_a_write_is_not_confirmed_when_the_file_is_deleted_during_it(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/auth.db", connections=2)
    migrate(database)

    def write() -> None:
        with database.write() as connection:
            connection.run("UPDATE upkeep SET taken_until = 5")
            (tmp_path / "auth.db").unlink()

    with pytest.raises(StoreUnavailable, match="was deleted"):
        write()
    database.close()


def test_a_guard_does_not_take_a_lost_database_for_an_empty_list(harness: Harness) -> None:
    token = ask(harness).json["access_token"]
    (harness.folder / "auth.db").unlink()
    with (
        Guard(harness.server.issuer(), clock=harness.clock) as guard,
        pytest.raises(IssuerUnavailable),
    ):
        guard.verify(token)


def test_a_process_that_changes_its_directory_stays_with_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = AuthorizationServer(ISSUER, store="sqlite:///auth.db", secret=SECRET)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert server.keys.all()
    server.close()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_server_that_starts_where_a_database_was_says_so_or_does_not_start(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.tokens()
    for suffix in ("-shm", "-queue", "-turn", ""):
        (harness.folder / f"auth.db{suffix}").unlink()
    with pytest.raises(ConfigurationError, match=r"auth\.db is missing.*auth\.db-wal"):
        harness.another()
    assert not (harness.folder / "auth.db").exists()
    (harness.folder / "auth.db-wal").unlink()
    with caplog.at_level(logging.INFO, "bearerguard.server"):
        harness.another().close()
    assert "an empty one was created" in caplog.text


@pytest.mark.parametrize("beside", ["auth.db.secret", "auth.db-shm"])
def test_where_something_is_left_of_a_database_beginning_another_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, beside: str
) -> None:
    (tmp_path / beside).touch(mode=0o600)
    Database(f"sqlite:///{tmp_path}/auth.db", connections=1)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_database_that_nobody_holds_is_forgotten_with_its_connections(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/auth.db", connections=2)
    migrate(database)
    held = weakref.ref(database)
    del database
    gc.collect()
    assert held() is None


def test_connections_in_a_child_are_checked_too(harness: Harness) -> None:
    ask(harness)
    (harness.folder / "auth.db").unlink()
    child = os.fork()
    if not child:
        os._exit(0 if refused(ask(harness)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# A file that is no database of ours


def garbage(path: Path) -> None:
    path.write_bytes(b"something else entirely, of some length" * 100)


def short(path: Path) -> None:
    path.write_bytes(b"hello")


def text_that_begins_alike(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"and no more than that" * 300)


def other_application(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE users (id INTEGER)")
        database.execute("INSERT INTO users VALUES (1)")
        database.commit()


def other_application_with_a_log(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    other_application(path)


def other_migrations(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('ab12')")
        database.commit()


FOREIGN = {
    each.__name__: each
    for each in (
        garbage,
        short,
        text_that_begins_alike,
        other_application,
        other_application_with_a_log,
        other_migrations,
    )
}


def seen(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    return {
        each.name: (each.read_bytes(), each.stat().st_mode, each.stat().st_mtime_ns)
        for each in folder.iterdir()
    }


@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_that_is_something_else_is_left_as_it_is(
    tmp_path: Path, what: str, mode: int
) -> None:
    path = tmp_path / "auth.db"
    FOREIGN[what](path)
    path.chmod(mode)
    before = seen(tmp_path)
    with pytest.raises(ConfigurationError, match=r"^store=: .*auth\.db.*name another file"):
        AuthorizationServer(ISSUER, store=f"sqlite:///{path}", environ={})
    assert seen(tmp_path) == before


def test_a_database_that_somebody_else_works_on_is_taken_for_one(harness: Harness) -> None:
    harness.server.close()
    with closing(sqlite3.connect(harness.folder / "auth.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE upkeep SET taken_until = 1")
        database = Database(f"sqlite:///{harness.folder}/auth.db", connections=1, create=False)
        with database.read() as connection:
            assert connection.run("SELECT count(*) FROM signing_keys").scalar() == 1
        database.close()


def test_a_directory_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"store=: .* is not a file"):
        AuthorizationServer(ISSUER, store=f"sqlite:///{tmp_path}", environ={})
    assert not list(tmp_path.iterdir())


def test_a_database_of_an_app_is_shared_where_no_table_is_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE recordings (id INTEGER)")
        database.commit()
    server = AuthorizationServer(ISSUER, store=f"sqlite:///{path}", secret=SECRET)
    assert server.keys.all()
    server.close()
