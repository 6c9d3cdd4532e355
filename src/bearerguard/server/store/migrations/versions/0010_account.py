"""What the account page shows of sessions, and the indexes that list grants in pages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_PAGE = ["created_at", "grant_id"]


def upgrade() -> None:
    """Add the columns of sessions; let the indexes of grants contain the order of lists."""
    op.add_column("sessions", sa.Column("browser", sa.String(length=32), nullable=True))
    op.add_column("sessions", sa.Column("system", sa.String(length=32), nullable=True))
    op.add_column("sessions", sa.Column("address", sa.String(length=64), nullable=True))
    op.create_index("ix_grants_newest", "grants", _PAGE)
    # Each begins with the column of the index that it replaces, and is used for the same queries.
    for owner in ("client", "user"):
        op.create_index(f"ix_grants_{owner}_newest", "grants", [f"{owner}_id", *_PAGE])
        op.drop_index(op.f(f"ix_grants_{owner}_id"), "grants")
