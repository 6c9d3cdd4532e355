"""A database that an earlier version made is brought up to date with all that stands in it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bearerguard import Guard, TokenError
from bearerguard.server.store.schema import metadata
from tests.server.stage import Stage, claims

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


def put_back(stage: Stage, version: str) -> None:
    """Make the stage's database what an earlier version would have left."""
    stage.server.close()
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        for at, undoing in MADE.items():
            if at >= version:
                for statement in undoing:
                    database.execute(statement)
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
        database.commit()


@pytest.mark.parametrize("version", ["0001", "0002", "0003"])
def test_what_an_earlier_version_gave_and_revoked_stays_given_and_revoked(
    stage: Stage, version: str
) -> None:
    good, single, family = stage.tokens(), stage.tokens(), stage.tokens()
    own = stage.token(grant_type="client_credentials").json["access_token"]
    code = stage.code()
    stage.server.revoke(single["access_token"])
    stage.server.revoke(own)
    stage.server.revoke_grant(claims(family["access_token"])["sid"])
    put_back(stage, version)
    stage.server = stage.another(people=stage.people)
    with stage.server.database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    with Guard(stage.server.issuer(), clock=stage.clock) as guard:
        assert guard.verify(good["access_token"]).subject == "ada"
        for token in (single["access_token"], own, family["access_token"]):
            with pytest.raises(TokenError, match="revoked"):
                guard.verify(token)
    assert stage.refresh(good["refresh_token"]).status == 200
    assert stage.refresh(family["refresh_token"]).error == (400, "invalid_grant")
    assert stage.redeem(code).status == 200
