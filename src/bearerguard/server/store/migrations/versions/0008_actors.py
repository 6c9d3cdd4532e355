"""The actors of exchanged tokens that are opaque (RFC 8693 §4.1)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the claim `act` to the access tokens that have rows."""
    op.add_column("access_tokens", sa.Column("act", sa.Text(), nullable=True))
