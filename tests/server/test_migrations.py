"""A database of an earlier version is migrated with all its rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from bearerguard import Guard, TokenError
from bearerguard.server.store.schema import metadata
from bearerguard.testing import SigningKey
from tests.server.harness import ISSUER, Harness, claims

SAME = (
    *("auth_method", "grant_types", "redirect_uris", "scopes"),
    *("require_pkce", "require_consent", "jwks"),
)
# The tables whose changes are counted: the name of their version, and a column.
COUNTED = {
    "clients": ("clients", "name"),
    "client_secrets": ("clients", "created_at"),
    "client_origins": ("clients", "origin"),
    "signing_keys": ("keys", "created_at"),
}
# What each migration after the first made, to be taken away again.
MADE = {
    "0005": (
        *(
            f"DROP TRIGGER changes_{table}_{event}"
            for table in COUNTED
            for event in ("insert", "update", "delete")
        ),
        "DROP TABLE changes",
        # Those versions stored each token of a grant.
        (
            "INSERT INTO access_tokens (token_key, client_id, grant_id, subject, scope, audience,"
            " issued_at, expires_at) SELECT 'of ' || grant_id, client_id, grant_id, user_id, scope,"
            " resources, created_at, access_expires_at FROM grants"
        ),
        "ALTER TABLE grants DROP COLUMN access_expires_at",
    ),
    "0004": (
        "ALTER TABLE clients ADD COLUMN auth_method VARCHAR(32) NOT NULL DEFAULT ''",
        *(
            f"ALTER TABLE clients ADD COLUMN {name} TEXT NOT NULL DEFAULT ''"
            for name in ("grant_types", "redirect_uris", "scopes", "serves")
        ),
        "ALTER TABLE clients ADD COLUMN require_pkce BOOLEAN NOT NULL DEFAULT 1",
        "ALTER TABLE clients ADD COLUMN require_consent BOOLEAN NOT NULL DEFAULT 1",
        "ALTER TABLE clients ADD COLUMN jwks TEXT",
        "ALTER TABLE clients ADD COLUMN refresh_idle_lifetime DOUBLE",
        "ALTER TABLE clients ADD COLUMN refresh_absolute_lifetime DOUBLE",
        "UPDATE clients SET " + ", ".join(f"{name} = options ->> '$.{name}'" for name in SAME),
        (
            "UPDATE clients SET serves = options ->> '$.introspects',"
            " refresh_idle_lifetime = options ->> '$.refresh_token_lifetime',"
            " refresh_absolute_lifetime = options ->> '$.refresh_token_max_lifetime'"
        ),
        "ALTER TABLE clients DROP COLUMN options",
    ),
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


@pytest.mark.parametrize("version", ["0001", "0002", "0003", "0004", "0005"])
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
    with harness.server.database.migrating() as connection:
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


def test_a_store_of_the_version_before_is_upgraded_with_all_that_is_in_it(harness: Harness) -> None:
    tokens, revoked = harness.tokens(), harness.tokens()
    harness.server.revoke(revoked["refresh_token"])
    put_back(harness, "0002")
    harness.server = harness.another()
    assert harness.is_active(tokens["access_token"])
    assert not harness.is_active(revoked["access_token"])
    successor = harness.refresh(tokens["refresh_token"]).json
    assert harness.is_active(successor["access_token"])
    assert harness.server.revoke(successor["refresh_token"])
    assert not harness.is_active(successor["access_token"])


def test_a_client_keeps_every_option_that_it_was_registered_with(harness: Harness) -> None:
    keys = {"keys": [SigningKey.generate("ES256", "client-key").jwk()]}
    added = [
        harness.app,
        harness.phone,
        harness.add("API", redirect_uris=[], introspects=[ISSUER], jwks=keys),
        harness.add(
            "Page",
            public=True,
            origins=["https://one.example.com", "https://two.example.com"],
            access_token_lifetime=60,
            refresh_token_lifetime=600.5,
            refresh_token_max_lifetime=6000,
        ),
        harness.add("Old", grant_types=["authorization_code"], require_pkce=False),
    ]
    put_back(harness, "0004")
    harness.server = harness.another(people=harness.people)
    for each in added:
        assert harness.server.clients.get(each.client_id) == each.client
    assert harness.token(grant_type="client_credentials").status == 200


def test_a_grant_of_an_earlier_version_ends_with_the_last_of_its_access_tokens(
    harness: Harness,
) -> None:
    once, twice, none = (claims(harness.tokens()["access_token"]) for _ in range(3))
    put_back(harness, "0005")
    with closing(sqlite3.connect(harness.folder / "auth.db")) as database:
        database.execute("DELETE FROM access_tokens WHERE grant_id = ?", (none["sid"],))
        later = "INSERT INTO access_tokens SELECT 'later', client_id, grant_id, subject, scope,"
        database.execute(
            f"{later} audience, auth_time, issued_at, expires_at + 60, revoked_at"
            " FROM access_tokens WHERE grant_id = ?",
            (twice["sid"],),
        )
        database.commit()
    harness.server = harness.another(people=harness.people)
    with harness.server.database.read() as connection:
        ends = {
            each["sid"]: connection.run(
                "SELECT access_expires_at FROM grants WHERE grant_id = ?", (each["sid"],)
            ).scalar()
            for each in (once, twice, none)
        }
    assert ends == {once["sid"]: once["exp"], twice["sid"]: twice["exp"] + 60, none["sid"]: None}


@pytest.mark.parametrize("table", COUNTED)
def test_each_change_by_sql_alone_makes_a_new_version(harness: Harness, table: str) -> None:
    name, column = COUNTED[table]
    page = harness.add("Page", public=True, origins=["https://one.example.com"])
    assert page.client.origins
    with closing(sqlite3.connect(harness.folder / "auth.db")) as database:

        def version() -> int:
            query = "SELECT version FROM changes WHERE name = ?"
            found: int = database.execute(query, (name,)).fetchone()[0]
            return found

        seen = [version()]
        for statement in (
            f"CREATE TEMPORARY TABLE kept AS SELECT * FROM {table} LIMIT 1",
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"INSERT INTO {table} SELECT * FROM kept",
        ):
            database.execute(statement)
            seen.append(version())
    assert seen[1] == seen[0]
    assert seen[1:] == sorted(set(seen[1:])), "each change counts"
