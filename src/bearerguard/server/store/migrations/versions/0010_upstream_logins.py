"""Users who sign in elsewhere: their identities there, and what each login really was."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the identities, and the login to sessions, codes, grants and access tokens."""
    op.create_table(
        "identities",
        sa.Column("issuer", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("linked_at", sa.Double(), nullable=False),
        sa.Column("last_login_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["users.user_id"],
            name=op.f("fk_identities_user_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_identities")),
    )
    op.create_index(op.f("ix_identities_user_id"), "identities", ["user_id"])
    op.add_column("sessions", sa.Column("auth_time", sa.Double(), nullable=True))
    op.add_column("sessions", sa.Column("acr", sa.Text(), nullable=True))
    for table in ("sessions", "codes", "grants", "access_tokens"):
        op.add_column(table, sa.Column("amr", sa.Text(), nullable=True))
    for table in ("sessions", "codes", "grants"):
        op.add_column(table, sa.Column("upstream", sa.String(length=255), nullable=True))
        op.add_column(table, sa.Column("upstream_sid", sa.String(length=255), nullable=True))
    for table in ("sessions", "grants"):
        op.create_index(
            f"ix_{table}_upstream_sid",
            table,
            ["upstream_sid"],
            sqlite_where=sa.text("upstream_sid IS NOT NULL"),
            postgresql_where=sa.text("upstream_sid IS NOT NULL"),
        )
