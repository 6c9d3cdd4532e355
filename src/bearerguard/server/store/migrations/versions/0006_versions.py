"""Versions of what processes keep in memory; when the access tokens of a grant expire."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_TABLES = {
    "clients": "clients",
    "client_secrets": "clients",
    "client_origins": "clients",
    "signing_keys": "keys",
}
# Not counted: after a backup is restored, a number must not mean another content than before.
_RANDOM = {"sqlite": "random()", "postgresql": "floor(random() * 9007199254740992)::bigint"}
_EVENTS = ("INSERT", "UPDATE", "DELETE")


def upgrade() -> None:
    """Add the versions with their triggers, and the column of grants."""
    op.create_table(
        "changes",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_changes")),
    )
    op.execute("INSERT INTO changes (name, version) VALUES ('clients', 0), ('keys', 0)")
    if op.get_bind().dialect.name == "sqlite":
        _add_triggers_of_sqlite()
    else:
        _add_triggers_of_postgresql()
    op.add_column("grants", sa.Column("access_expires_at", sa.Double(), nullable=True))
    op.execute(
        "UPDATE grants SET access_expires_at = (SELECT MAX(expires_at) FROM access_tokens"
        " WHERE access_tokens.grant_id = grants.grant_id)"
    )


def _add_triggers_of_sqlite() -> None:
    for table, name in _TABLES.items():
        for event in _EVENTS:
            op.execute(
                f"CREATE TRIGGER changes_{table}_{event.lower()} AFTER {event} ON {table} BEGIN"  # noqa: S608 - names of our own
                f" UPDATE changes SET version = {_RANDOM['sqlite']} WHERE name = '{name}'; END"
            )


def _add_triggers_of_postgresql() -> None:
    # In the table's schema: a restore, or an administrator, may have another search path.
    op.execute(
        "CREATE FUNCTION bearerguard_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"  # noqa: S608 - names of our own
        " EXECUTE format('UPDATE %I.changes SET version = "
        f"{_RANDOM['postgresql']} WHERE name = $1', TG_TABLE_SCHEMA) USING TG_ARGV[0];"
        " RETURN NULL; END $$"
    )
    for table, name in _TABLES.items():
        op.execute(
            f"CREATE TRIGGER changes_{table} AFTER {' OR '.join(_EVENTS)} OR TRUNCATE ON {table}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION bearerguard_changed('{name}')"
        )
