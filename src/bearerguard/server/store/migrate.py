"""Bringing a database to the schema of this version, once, however many processes start.

The migrations are shipped in the package. They run in one transaction that holds the write
lock from its beginning: whoever comes second finds the work done.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from bearerguard.errors import ConfigurationError
from bearerguard.server.store.database import Database


def migrate(database: Database) -> None:
    """Run what is missing; raises `ConfigurationError` for a database of a later version."""
    database.prepare()
    config = Config()
    config.set_main_option("script_location", "bearerguard.server.store:migrations")
    config.set_main_option("path_separator", "os")
    with database.write() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigurationError(
                f"store=: {database.path} has a schema that this version does not know"
                f" ({error}): install the version that made it, or a later one"
            ) from error
