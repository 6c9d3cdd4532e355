"""Migration of a database to the schema of this version, by Alembic.

The package contains the migrations. They run in one transaction that holds the write lock: of
several processes that start at once, the first migrates and the others have nothing left to do.
"""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from bearerguard.errors import ConfigurationError
from bearerguard.server.store.database import Database


def migrate(database: Database) -> None:
    """Run the missing migrations.

    Raises:
        ConfigurationError: a later version has migrated the database.
        StoreUnavailable: the database is locked or fails.
    """
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
                f" ({error}): install the version that created it, or a later one"
            ) from error
