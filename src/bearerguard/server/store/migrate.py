"""Migration of a database to the schema of this version, by Alembic.

The package contains the migrations. They run in one transaction that runs alone: of several
processes that start at once, the first migrates and the others have nothing left to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, column, select, table

from bearerguard.errors import ConfigurationError, StoreUnavailable
from bearerguard.server.store.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

# The newest migration; a test compares it with the files. Importing Alembic takes long, and a
# database that has this revision needs none.
HEAD = "0010"
_VERSION: Select[Any] = select(column("version_num")).select_from(table("alembic_version"))


def migrate(database: Database) -> str | None:
    """Run the missing migrations; return the revision before.

    Returns None if there was nothing to migrate, or the database was empty.

    Raises:
        ConfigurationError: a later version has migrated the database.
        StoreUnavailable: the database is locked or fails.
    """
    database.engine.prepare()
    if revision(database) == HEAD:
        return None
    from alembic import command  # noqa: PLC0415 - only for migrations
    from alembic.migration import MigrationContext  # noqa: PLC0415 - only for migrations
    from alembic.util import CommandError  # noqa: PLC0415 - only for migrations

    config = alembic_config()
    with database.migrating() as connection:
        # Again: another process may have migrated it meanwhile.
        before = MigrationContext.configure(connection).get_current_revision()
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise ConfigurationError(
                f"store=: {database.name} has a schema that this version does not know"
                f" ({error}): install the version that created it, or a later one"
            ) from error
    return None if before == HEAD else before


def alembic_config() -> Config:
    """Return Alembic's configuration; its `attributes` still need the `connection`."""
    from alembic.config import Config  # noqa: PLC0415 - only for migrations

    config = Config()
    config.set_main_option("script_location", "bearerguard.server.store:migrations")
    config.set_main_option("path_separator", "os")
    return config


def revision(database: Database) -> str | None:
    """Return the database's revision; None if it has none, or cannot be read."""
    try:
        found: str | None = database.execute(_VERSION).scalar()
    except StoreUnavailable:
        return None
    return found
