"""Earlier pruning: generations of refresh tokens, and a table of tasks that one process does."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the generations, the indexes for pruning, and the table of tasks."""
    op.add_column(
        "grants", sa.Column("generation", sa.Integer(), nullable=False, server_default=sa.text("0"))
    )
    # NULL for existing tokens: their rows stay until they expire, as before.
    op.add_column("refresh_tokens", sa.Column("generation", sa.Integer(), nullable=True))
    op.create_index(
        "ix_grants_revoked",
        "grants",
        ["revoked_at"],
        unique=False,
        sqlite_where=sa.text("revoked_at IS NOT NULL"),
        postgresql_where=sa.text("revoked_at IS NOT NULL"),
    )
    op.create_index(
        "ix_refresh_tokens_spent",
        "refresh_tokens",
        ["used_at"],
        unique=False,
        sqlite_where=sa.text("used_at IS NOT NULL AND generation IS NOT NULL"),
        postgresql_where=sa.text("used_at IS NOT NULL AND generation IS NOT NULL"),
    )
    op.create_table(
        "upkeep",
        sa.Column("task", sa.String(length=32), nullable=False),
        sa.Column("taken_until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("task", name=op.f("pk_upkeep")),
    )
    op.execute("INSERT INTO upkeep (task, taken_until) VALUES ('prune', 0)")
