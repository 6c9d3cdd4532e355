"""`bearerguard store`: the server's database, as a whole."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import Annotated

import typer

from bearerguard.cli import output
from bearerguard.cli.help import Application
from bearerguard.cli.server.server_options import Store, audited
from bearerguard.errors import ConfigurationError
from bearerguard.runtime.sealing import SealError
from bearerguard.server.audit import Audit
from bearerguard.server.secret import VARIABLE, find_secret
from bearerguard.server.store import copying, keys
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import HEAD, migrate, revision
from bearerguard.server.tokens import signing_key

app: typer.Typer = Application(help="Copy and migrate the server's database.")

_CONNECTIONS = 2

Source = Annotated[
    str, typer.Argument(help="The database to copy, which no server uses.", metavar="FROM")
]
Target = Annotated[
    str,
    typer.Argument(
        envvar="BEARERGUARD_SERVER_STORE",
        help="An empty database, or a new file.",
        metavar="TO",
        show_default=False,
    ),
]


@app.command()
def copy(source: Source, target: Target, *, json: output.Json = False) -> None:
    """Copy the database FROM into the empty database TO, and check the copy.

    Stop all servers on FROM first: the command refuses while one has it open, and FROM can be used
    by nobody else until it ends. FROM is not changed. If the copy fails or differs, TO stays
    empty.
    """
    with output.endings(json=json), audited(), ExitStack() as opened:
        with output.naming({"store=": "FROM"}):
            origin = Database(source, connections=_CONNECTIONS, create=False)
            opened.callback(origin.close)
            copying.check_source(origin)
            _check_secret(origin)
        with output.naming({"store=": "TO"}):
            copied = Database(target, connections=_CONNECTIONS)
            opened.callback(copied.close)
        tables = copying.copy(origin, copied, output.note)
        rows = sum(each.rows for each in tables)
        _audit().emit("store_copied", source=origin.name, target=copied.name, rows=rows)
    if json:
        listed = [{"table": each.name, "rows": each.rows, "sha256": each.digest} for each in tables]
        output.as_json({"from": origin.name, "to": copied.name, "rows": rows, "tables": listed})
        return
    output.table(
        ["table", "rows", "SHA-256 of the rows in both"],
        [[each.name, each.rows, each.digest] for each in tables],
        "",
    )
    output.say(f"{copied.name} has the {rows} rows of {origin.name}.")
    if origin.path is not None and copied.path is None:
        output.say(f"Set {VARIABLE}, to the secret of before, in every process that uses it.")


@app.command("migrate")
def migrate_store(*, store: Store, json: output.Json = False) -> None:
    """Bring the database to the schema of this version, as every start of a server does."""
    with output.endings(json=json), audited(), output.naming({"store=": "--store"}):
        database = Database(store, connections=_CONNECTIONS, create=False)
        with closing(database):
            before = migrate(database)
            if before is not None:
                _audit().emit("store_migrated", before=before, after=HEAD)
            found = revision(database)
    if json:
        output.as_json({"store": database.name, "before": before or found, "schema": found})
    elif before is None:
        output.say(f"{database.name} has the schema of this version already ({found}).")
    else:
        output.say(f"{database.name} had the schema {before}, and has {found} now.")


def _check_secret(database: Database) -> None:
    """Raise `ConfigurationError` if the server's secret is not the one of its newest key."""
    secret = find_secret(None, database, create=False)
    for row in keys.all_keys(database)[-1:]:
        try:
            key = signing_key.SigningKey.from_row(row)
            signing_key.open_private(key, secret.sealer(signing_key.PURPOSE))
        except SealError:
            raise ConfigurationError(
                f"{VARIABLE}: the keys in {database.name} were sealed with another secret: set the"
                " one of the servers that used it"
            ) from None


def _audit() -> Audit:
    return Audit(None, time.time, by="command")
