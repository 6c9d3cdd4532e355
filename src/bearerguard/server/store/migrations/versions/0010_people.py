"""People: where they log in, what they see of it, their devices and tokens, pushed requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_PAGE = ["created_at", "grant_id"]


def upgrade() -> None:
    """Add the tables, columns and indexes; each function says what they are for."""
    _add_logins()
    _change_lists()
    _add_device_codes()
    _add_pushed_requests()
    _add_personal_tokens()


def _add_logins() -> None:
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
    for table in ("sessions", "codes", "grants"):
        _add_sid_index(table)


def _add_sid_index(table: str) -> None:
    op.create_index(
        f"ix_{table}_upstream_sid",
        table,
        ["upstream_sid"],
        sqlite_where=sa.text("upstream_sid IS NOT NULL"),
        postgresql_where=sa.text("upstream_sid IS NOT NULL"),
    )


def _change_lists() -> None:
    """Add the columns of sessions; let the indexes of grants contain the order of lists."""
    op.add_column("sessions", sa.Column("browser", sa.String(length=32), nullable=True))
    op.add_column("sessions", sa.Column("system", sa.String(length=32), nullable=True))
    op.add_column("sessions", sa.Column("address", sa.String(length=64), nullable=True))
    op.create_index("ix_grants_newest", "grants", _PAGE)
    # Each begins with the column of the index that it replaces, and is used for the same queries.
    for owner in ("client", "user"):
        op.create_index(f"ix_grants_{owner}_newest", "grants", [f"{owner}_id", *_PAGE])
        op.drop_index(op.f(f"ix_grants_{owner}_id"), "grants")


def _add_device_codes() -> None:
    """Add the table of device codes."""
    op.create_table(
        "device_codes",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_code", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("resources", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("poll_interval", sa.Double(), nullable=False),
        sa.Column("polled_at", sa.Double(), nullable=True),
        sa.Column("decided_at", sa.Double(), nullable=True),
        sa.Column("user_id", sa.String(length=255), nullable=True),
        sa.Column("auth_time", sa.Double(), nullable=True),
        sa.Column("acr", sa.Text(), nullable=True),
        sa.Column("amr", sa.Text(), nullable=True),
        sa.Column("upstream", sa.String(length=255), nullable=True),
        sa.Column("upstream_sid", sa.String(length=255), nullable=True),
        sa.Column("redeemed_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_device_codes")),
        sa.UniqueConstraint("user_code", name=op.f("uq_device_codes_user_code")),
    )
    for column in ("client_id", "user_id", "expires_at"):
        op.create_index(op.f(f"ix_device_codes_{column}"), "device_codes", [column])
    _add_sid_index("device_codes")


def _add_pushed_requests() -> None:
    """Add the table of authorization requests that clients have pushed (RFC 9126)."""
    op.create_table(
        "pushed_requests",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_pushed_requests")),
    )
    op.create_index(op.f("ix_pushed_requests_expires_at"), "pushed_requests", ["expires_at"])


def _add_personal_tokens() -> None:
    """Add the table of personal access tokens."""
    op.create_table(
        "personal_tokens",
        sa.Column("token_id", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=255), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=True),
        sa.Column("grant_id", sa.String(length=255), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("last_used_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["client_id"],
            ["clients.client_id"],
            name=op.f("fk_personal_tokens_client_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_personal_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_personal_tokens_digest")),
    )
    op.create_index(op.f("ix_personal_tokens_user_id"), "personal_tokens", ["user_id"])
    for column in ("client_id", "grant_id"):
        op.create_index(
            op.f(f"ix_personal_tokens_{column}"),
            "personal_tokens",
            [column],
            sqlite_where=sa.text(f"{column} IS NOT NULL"),
            postgresql_where=sa.text(f"{column} IS NOT NULL"),
        )
    op.create_index(op.f("ix_personal_tokens_expires_at"), "personal_tokens", ["expires_at"])
