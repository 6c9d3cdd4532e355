"""How Alembic runs here: over the connection, and in the transaction, that it is given."""

from __future__ import annotations

from alembic import context

from bearerguard.server.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
