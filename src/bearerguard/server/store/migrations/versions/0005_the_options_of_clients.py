"""A client's options in one JSON object; only options that queries need have columns."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TEXTS = ("grant_types", "redirect_uris", "scopes", "jwks")
_PLAIN = ("auth_method", "require_pkce", "require_consent")
_RENAMED = {
    "access_lifetime": "access_token_lifetime",
    "refresh_idle_lifetime": "refresh_token_lifetime",
    "refresh_absolute_lifetime": "refresh_token_max_lifetime",
}
_DROPPED = (*_TEXTS, *_PLAIN, "serves", "refresh_idle_lifetime", "refresh_absolute_lifetime")

_types: dict[str, Any] = {
    **dict.fromkeys(("client_id", "auth_method", "serves", *_TEXTS), sa.Text),
    **dict.fromkeys(("require_pkce", "require_consent"), sa.Boolean),
    **dict.fromkeys(_RENAMED, sa.Double),
    "options": sa.Text,
}
_clients = sa.table("clients", *(sa.column(name, kind) for name, kind in _types.items()))
_origins = sa.table("client_origins", sa.column("client_id", sa.Text), sa.column("origin", sa.Text))


def upgrade() -> None:
    """Move the options of each client into its JSON object, and drop their columns."""
    op.add_column(
        "clients",
        sa.Column("options", sa.Text(), nullable=False, server_default=sa.text("'{}'")),
    )
    connection = op.get_bind()
    origins: dict[str, list[str]] = {}
    for client_id, origin in connection.execute(sa.select(_origins)):
        origins.setdefault(client_id, []).append(origin)
    for row in connection.execute(sa.select(_clients)).mappings().all():
        texts = {**{name: row[name] for name in _TEXTS}, "introspects": row["serves"]}
        options = {
            **{name: row[name] for name in _PLAIN},
            **{name: None if text is None else json.loads(text) for name, text in texts.items()},
            **{name: row[column] for column, name in _RENAMED.items()},
            "origins": origins.get(row["client_id"], []),
        }
        connection.execute(
            sa.update(_clients)
            .where(_clients.c.client_id == row["client_id"])
            .values(options=json.dumps(options))
        )
    for name in _DROPPED:
        op.drop_column("clients", name)
