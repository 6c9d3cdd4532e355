"""How Alembic runs here: over the connection, and in the transaction, that it is given."""

from __future__ import annotations

from alembic import context

from bearerguard.server.store import people

context.configure(
    connection=context.config.attributes["connection"],
    # That of the whole schema: the tables about people come on top of the engine's.
    target_metadata=people.users.metadata,
)
context.run_migrations()
