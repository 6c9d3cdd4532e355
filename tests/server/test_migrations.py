"""A database of an earlier version is migrated with all its rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bearerguard import Guard, TokenError
from bearerguard.server.store.schema import metadata
from tests.server.harness import Harness, claims

# What each migration after the first made, to be taken away again.
MADE = {
    "0003": (
        "DROP TABLE upkeep",
        "DROP INDEX ix_grants_revoked",
        "DROP INDEX ix_refresh_tokens_spent",
        "ALTER TABLE grants DROP COLUMN generation",
        "ALTER TABLE refresh_tokens DROP COLUMN generation",
    ),
    "0002": ("DROP TABLE revocations", "DROP INDEX ix_clients_access_lifetime"),
    "0001": tuple(
        f"DROP TABLE {name}" for name in ("consents", "sessions", "users", "login_attempts")
    ),
}


def put_back(harness: Harness, version: str) -> None:
    """Make the harness's database what an earlier version would have left."""
    harness.server.close()
    with closing(sqlite3.connect(harness.folder / "auth.db")) as database:
        for at, undoing in MADE.items():
            if at >= version:
                for statement in undoing:
                    database.execute(statement)
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
        database.commit()


@pytest.mark.parametrize("version", ["0001", "0002", "0003"])
def test_what_an_earlier_version_gave_and_revoked_stays_given_and_revoked(
    harness: Harness, version: str
) -> None:
    good, single, family = harness.tokens(), harness.tokens(), harness.tokens()
    own = harness.token(grant_type="client_credentials").json["access_token"]
    code = harness.code()
    harness.server.revoke(single["access_token"])
    harness.server.revoke(own)
    harness.server.revoke_grant(claims(family["access_token"])["sid"])
    put_back(harness, version)
    harness.server = harness.another(people=harness.people)
    with harness.server.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    with Guard(harness.server.issuer(), clock=harness.clock) as guard:
        assert guard.verify(good["access_token"]).subject == "ada"
        for token in (single["access_token"], own, family["access_token"]):
            with pytest.raises(TokenError, match="revoked"):
                guard.verify(token)
    assert harness.refresh(good["refresh_token"]).status == 200
    assert harness.refresh(family["refresh_token"]).error == (400, "invalid_grant")
    assert harness.redeem(code).status == 200
