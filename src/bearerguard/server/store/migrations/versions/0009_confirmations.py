"""The keys that tokens are bound to (RFC 7800, RFC 9449), and the context of logins (RFC 9470)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the claims `cnf` and `acr` to what tokens are made of, and the key to codes."""
    op.add_column("grants", sa.Column("cnf", sa.Text(), nullable=True))
    op.add_column("access_tokens", sa.Column("cnf", sa.Text(), nullable=True))
    op.add_column("codes", sa.Column("dpop_jkt", sa.String(length=64), nullable=True))
    for table in ("codes", "grants", "access_tokens"):
        op.add_column(table, sa.Column("acr", sa.Text(), nullable=True))
