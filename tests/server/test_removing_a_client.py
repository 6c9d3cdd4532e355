"""A client that is removed is refused at once; its rows go a few at a time."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import Guard, TokenError
from bearerguard.errors import BearerGuardError
from bearerguard.server import ClientError, Resource, StoreUnavailable
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.http.parameters import parse
from bearerguard.server.store import clients as rows
from bearerguard.server.store import pruning
from bearerguard.server.store.schema import metadata
from tests.server.harness import CALLBACK, ISSUER, VERIFIER, Harness, Make

pytestmark = pytest.mark.both_engines

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


def left(harness: Harness, client_id: str) -> dict[str, int]:
    """How many rows are there of a client, or of its grants."""
    found = {}
    for table in TABLES:
        column = "client_id"
        if table == "refresh_tokens":
            column = "(SELECT client_id FROM grants WHERE grants.grant_id = t.grant_id)"
        query = f"SELECT count(*) FROM {table} AS t WHERE {column} = :client_id"
        ((found[table],),) = harness.store.run(query, {"client_id": client_id})
    return {table: count for table, count in found.items() if count}


def interrupted(harness: Harness, client_id: str) -> None:
    """Remove a client in a process that ends as soon as the removal is reported."""
    registry = harness.server._engine.clients
    finish, registry._finish_removals = registry._finish_removals, lambda: None
    registry.remove(client_id)
    registry._finish_removals = finish


def test_a_client_is_removed_with_all_it_was_given_and_nobody_elses(harness: Harness) -> None:
    other = harness.add("Other")
    theirs = harness.tokens(other)
    for _ in range(5):
        harness.tokens()
    harness.code()
    harness.token(grant_type="client_credentials")
    before = left(harness, other.client_id)
    harness.server.clients.remove(harness.app.client_id)
    assert left(harness, harness.app.client_id) == {}
    assert left(harness, other.client_id) == before
    assert harness.server.introspect(theirs["access_token"])["active"]


def test_before_its_rows_are_gone_it_is_a_client_no_more(harness: Harness) -> None:
    app = harness.app
    tokens, code = harness.tokens(), harness.code()
    own = harness.token(grant_type="client_credentials").json["access_token"]
    interrupted(harness, app.client_id)
    assert left(harness, app.client_id)["grants"] == 1
    assert harness.server.clients.find(app.client_id) is None
    assert app.client_id not in [each.client_id for each in harness.server.clients.all()]
    for token in (own, tokens["access_token"]):
        assert not harness.server.introspect(token)["active"]
    assert harness.token(grant_type="client_credentials").error == (401, "invalid_client")
    assert harness.redeem(code).error == (401, "invalid_client")
    assert harness.refresh(tokens["refresh_token"]).error == (401, "invalid_client")
    assert harness.authorize().status == 400
    with pytest.raises(ClientError, match="There is no client"):
        harness.server.clients.remove(app.client_id)
    with pytest.raises(ClientError, match="is being removed: try again"):
        harness.add("Another", client_id=app.client_id)
    assert harness.server.prune() > 0
    assert left(harness, app.client_id) == {}
    harness.clock.now += 1
    harness.app = harness.add("Another", client_id=app.client_id)
    assert not harness.server.introspect(own)["active"]
    assert harness.token(grant_type="client_credentials").status == 200


def test_a_request_that_was_under_way_gets_nothing(harness: Harness) -> None:
    """It authenticated its client before that was removed."""
    client = harness.server.clients.get(harness.app.client_id)
    code, tokens = harness.code(), harness.tokens()
    interrupted(harness, client.client_id)
    engine = harness.server._engine
    redemption = f"code={code}&code_verifier={VERIFIER}&redirect_uri={CALLBACK}"
    with pytest.raises(OAuthError, match="invalid_grant"):
        engine.grants["authorization_code"].handle(client, parse(redemption.encode()))
    refresh = f"refresh_token={tokens['refresh_token']}"
    with pytest.raises(OAuthError, match="invalid_grant"):
        engine.grants["refresh_token"].handle(client, parse(refresh.encode()))


def test_a_token_that_is_signed_while_its_client_is_removed_is_refused(harness: Harness) -> None:
    """Its request had authenticated the client, and took its time."""
    engine = harness.server._engine
    client = harness.server.clients.get(harness.app.client_id)
    registry = engine.clients
    finish, signed = registry._finish_removals, []

    def meanwhile() -> None:
        harness.clock.now += 3
        form = parse(b"grant_type=client_credentials")
        signed.append(engine.grants["client_credentials"].handle(client, form).access_token)
        finish()

    registry._finish_removals = meanwhile
    registry.remove(client.client_id)
    (token,) = signed
    assert not harness.server.introspect(token)["active"]
    with (
        Guard(harness.server.issuer(), clock=harness.clock) as guard,
        pytest.raises(TokenError, match="revoked"),
    ):
        guard.verify(token)
    harness.clock.now += 2
    anew = harness.add("Anew", client_id=client.client_id)
    token = harness.token(anew, grant_type="client_credentials").json["access_token"]
    with Guard(harness.server.issuer(), clock=harness.clock) as guard:
        assert guard.verify(token).client_id == client.client_id


def test_no_transaction_removes_many_rows(make: Make) -> None:
    harness = make(resources=[Resource(ISSUER, tokens="opaque")])
    for _ in range(3):
        harness.tokens()
    client_id = harness.app.client_id
    for table, key, more in (
        ("grants", "grant_id", 130),
        ("refresh_tokens", "digest", 900),
        ("access_tokens", "token_key", 900),
        ("codes", "digest", 400),
    ):
        others = [column.name for column in metadata.tables[table].columns if column.name != key]
        harness.store.run(
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {more})"
            # A digest is as long as its column.
            f" INSERT INTO {table} ({', '.join([key, *others])})"
            f" SELECT substr(t.{key}, 9) || n.i, {', '.join(f't.{name}' for name in others)}"
            f" FROM n, (SELECT * FROM {table} LIMIT 1) AS t"
        )
    with harness.server.database.write() as connection:
        rows.remove(connection, client_id)
    removed = []
    while True:
        with harness.server.database.read() as connection:
            found = pruning.removed_clients(connection, 0.0, 0.0, 100)
        if found is None:
            break
        with harness.server.database.write() as connection:
            removed.append(found.remove(connection))
    assert left(harness, client_id) == {}
    assert sum(removed) > 1400
    assert max(removed) <= 150


def test_a_store_that_is_lost_meanwhile_leaves_the_rest_to_the_next_pruning(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    harness.tokens()

    def lost(*_: Any) -> BearerGuardError:
        raise StoreUnavailable("the disk is full")

    upkeep = harness.server._engine.upkeep
    with monkeypatch.context() as patch:
        patch.setattr(upkeep, "_next_slice", lost)
        harness.server.clients.remove(harness.app.client_id)
    assert "upkeep_failed" in caplog.text
    assert harness.server.clients.find(harness.app.client_id) is None
    harness.server.prune()
    assert left(harness, harness.app.client_id) == {}
