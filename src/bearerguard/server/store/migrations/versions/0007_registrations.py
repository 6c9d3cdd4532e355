"""Which clients no operator registered, and until when each is kept without being used."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table; the clients that there are were registered by an operator."""
    op.create_table(
        "registrations",
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("registered_by", sa.String(length=16), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["clients.client_id"],
            name=op.f("fk_registrations_client_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_registrations")),
    )
    op.create_index(op.f("ix_registrations_expires_at"), "registrations", ["expires_at"])
