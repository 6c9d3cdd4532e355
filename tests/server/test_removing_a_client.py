"""A client that is removed is refused at once; its rows go a few at a time."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard.errors import BearerGuardError
from bearerguard.server import ClientError
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.http.parameters import parse
from bearerguard.server.store import clients as rows
from bearerguard.server.store import pruning
from bearerguard.server.store.database import StoreUnavailable
from tests.server.stage import CALLBACK, VERIFIER, Stage

TABLES = [
    "clients",
    "client_secrets",
    "client_origins",
    "grants",
    "refresh_tokens",
    "access_tokens",
    "codes",
    "consents",
]


def left(stage: Stage, client_id: str) -> dict[str, int]:
    """How many rows are there of a client, or of its grants."""
    found = {}
    with stage.server.database.read() as connection:
        for table in TABLES:
            column = "client_id"
            if table == "refresh_tokens":
                column = "(SELECT client_id FROM grants WHERE grants.grant_id = t.grant_id)"
            query = f"SELECT count(*) FROM {table} AS t WHERE {column} = ?"
            found[table] = connection.exec_driver_sql(query, (client_id,)).scalar_one()
    return {table: count for table, count in found.items() if count}


def interrupted(stage: Stage, client_id: str) -> None:
    """Remove a client by a process that ends as soon as that is said."""
    registry = stage.server._engine.clients
    finish, registry._finish_removals = registry._finish_removals, lambda: None
    registry.remove(client_id)
    registry._finish_removals = finish


def test_a_client_is_removed_with_all_it_was_given_and_nobody_elses(stage: Stage) -> None:
    other = stage.add("Other")
    theirs = stage.tokens(other)
    for _ in range(5):
        stage.tokens()
    stage.code()
    stage.token(grant_type="client_credentials")
    before = left(stage, other.client_id)
    stage.server.clients.remove(stage.app.client_id)
    assert left(stage, stage.app.client_id) == {}
    assert left(stage, other.client_id) == before
    assert stage.server.introspect(theirs["access_token"])["active"]


def test_before_its_rows_are_gone_it_is_a_client_no_more(stage: Stage) -> None:
    app = stage.app
    tokens, code = stage.tokens(), stage.code()
    own = stage.token(grant_type="client_credentials").json["access_token"]
    interrupted(stage, app.client_id)
    assert left(stage, app.client_id)["grants"] == 1
    assert stage.server.clients.find(app.client_id) is None
    assert app.client_id not in [each.client_id for each in stage.server.clients.all()]
    for token in (own, tokens["access_token"]):
        assert not stage.server.introspect(token)["active"]
    assert stage.token(grant_type="client_credentials").error == (401, "invalid_client")
    assert stage.redeem(code).error == (401, "invalid_client")
    assert stage.refresh(tokens["refresh_token"]).error == (401, "invalid_client")
    assert stage.authorize().status == 400
    with pytest.raises(ClientError, match="There is no client"):
        stage.server.clients.remove(app.client_id)
    with pytest.raises(ClientError, match="is being removed: try again"):
        stage.add("Another", client_id=app.client_id)
    assert stage.server.prune() > 0
    assert left(stage, app.client_id) == {}
    stage.clock.now += 1
    stage.app = stage.add("Another", client_id=app.client_id)
    assert not stage.server.introspect(own)["active"]
    assert stage.token(grant_type="client_credentials").status == 200


def test_a_request_that_was_under_way_gets_nothing(stage: Stage) -> None:
    """It authenticated its client before that was removed."""
    client = stage.server.clients.get(stage.app.client_id)
    code, tokens = stage.code(), stage.tokens()
    interrupted(stage, client.client_id)
    engine = stage.server._engine
    redemption = f"code={code}&code_verifier={VERIFIER}&redirect_uri={CALLBACK}"
    with pytest.raises(OAuthError, match="invalid_grant"):
        engine.codes.redeem(client, parse(redemption.encode()))
    refresh = f"refresh_token={tokens['refresh_token']}"
    with pytest.raises(OAuthError, match="invalid_grant"):
        engine._token._grants["refresh_token"](client, parse(refresh.encode()))


def test_no_transaction_removes_many_rows(stage: Stage) -> None:
    for _ in range(3):
        stage.tokens()
    client_id = stage.app.client_id
    with stage.server.database.write() as connection:
        for table, key, more in (
            ("grants", "grant_id", 130),
            ("refresh_tokens", "digest", 900),
            ("access_tokens", "token_key", 900),
            ("codes", "digest", 400),
        ):
            columns = [row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")]
            others = ", ".join(f't."{name}"' for name in columns if name != key)
            names = ", ".join(f'"{name}"' for name in columns if name != key)
            connection.exec_driver_sql(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {more})"
                f" INSERT INTO {table} ({key}, {names}) SELECT t.{key} || n.i, {others}"
                f" FROM n, (SELECT * FROM {table} LIMIT 1) AS t"
            )
        rows.remove(connection, client_id)
    removed = []
    while True:
        with stage.server.database.read() as connection:
            found = pruning.removed_clients(connection, 0.0, 0.0, 100)
        if found is None:
            break
        with stage.server.database.write() as connection:
            removed.append(found.remove(connection))
    assert left(stage, client_id) == {}
    assert sum(removed) > 2300
    assert max(removed) <= 150


def test_a_store_that_is_lost_meanwhile_leaves_the_rest_to_the_next_pruning(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stage.tokens()

    def lost(*_: Any) -> BearerGuardError:
        raise StoreUnavailable("the disk is full")

    upkeep = stage.server._engine.upkeep
    with monkeypatch.context() as patch:
        patch.setattr(upkeep, "_look", lost)
        stage.server.clients.remove(stage.app.client_id)
    assert "upkeep_failed" in caplog.text
    assert stage.server.clients.find(stage.app.client_id) is None
    stage.server.prune()
    assert left(stage, stage.app.client_id) == {}
