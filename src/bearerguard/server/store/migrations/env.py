"""Alembic's environment: migrations run in the transaction of the connection that is passed in."""

from __future__ import annotations

from alembic import context

from bearerguard.server.store import people

context.configure(
    connection=context.config.attributes["connection"],
    # The metadata of all tables: importing `people` has added those of the login.
    target_metadata=people.users.metadata,
)
context.run_migrations()
