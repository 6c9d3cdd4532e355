"""The log of revocations, which guards read when they start and follow from then on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create the log, and an index for the longest token lifetime, which an entry outlives."""
    op.create_table(
        "revocations",
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("issuer", sa.Text(), nullable=True),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("before", sa.Double(), nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_revocations")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_revocations_expires_at"), "revocations", ["expires_at"], unique=False)
    op.create_index(
        op.f("ix_clients_access_lifetime"), "clients", ["access_lifetime"], unique=False
    )
    # Earlier revocations of tokens that may still be valid. 600 s cover a guard's leeway
    # after a token's expiry, 300 s at most, with a margin.
    op.execute(
        "INSERT INTO revocations (kind, value, expires_at)"
        " SELECT 'token', token_key, expires_at + 600 FROM access_tokens"
        " WHERE revoked_at IS NOT NULL ORDER BY revoked_at"
    )
    op.execute(
        "INSERT INTO revocations (kind, value, expires_at)"
        " SELECT 'session', grants.grant_id, max(access_tokens.expires_at) + 600"
        " FROM grants JOIN access_tokens ON access_tokens.grant_id = grants.grant_id"
        " WHERE grants.revoked_at IS NOT NULL GROUP BY grants.grant_id"
    )
