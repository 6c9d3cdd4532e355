"""Records the database that this version leaves, for the tests of later migrations.

Run it before the schema changes: `python -m tests.server.earlier.record` writes a file that has the
name of the schema's revision. Nothing in it is secret outside of the tests.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.server.harness import CALLBACK, ISSUER, SECRET, VERIFIER, Harness, claims

HERE = Path(__file__).parent
JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    "kid": "client-key",
    "use": "sig",
    "alg": "ES256",
}
# By their names, the clients besides the harness's own.
CLIENTS: dict[str, dict[str, Any]] = {
    "API": {"introspects": [ISSUER], "jwks": {"keys": [JWK]}, "scopes": ["read"]},
    "Page": {
        "public": True,
        "redirect_uris": [CALLBACK],
        "scopes": ["read", "write"],
        "origins": ["https://one.example.com", "https://two.example.com"],
        "access_token_lifetime": 60,
        "refresh_token_lifetime": 600.5,
        "refresh_token_max_lifetime": 6000,
    },
    "Old": {
        "redirect_uris": [CALLBACK],
        "scopes": ["read", "write"],
        "grant_types": ["authorization_code"],
        "require_pkce": False,
    },
}
PASSWORD = "a password of some length"


def recorded(folder: Path) -> dict[str, Any]:
    """Use a server in each of its ways, and return what it gave and what is in its database."""
    harness = Harness(folder)
    clients = {"App": harness.app, "Phone": harness.phone}
    clients |= {name: harness.server.clients.add(name, **CLIENTS[name]) for name in CLIENTS}
    harness.server.clients.register(
        "Stranger", redirect_uris=[CALLBACK], expires_at=harness.clock() + 60
    )
    harness.server.users.add("grace@example.com", PASSWORD, name="Grace")
    assert "code" in harness.consent(harness.authorize(clients["Old"]), remember="yes").sent
    given: dict[str, Any] = {
        "good": harness.tokens(),
        "single": harness.tokens(),
        "family": harness.tokens(),
        "own": harness.token(grant_type="client_credentials").json,
        "revoked own": harness.token(grant_type="client_credentials").json,
        "code": harness.code(),
        "redeemed code": harness.code(),
        "first": harness.tokens(),
    }
    given["redeemed"] = harness.redeem(given["redeemed code"]).json
    given["second"] = harness.refresh(given["first"]["refresh_token"]).json
    harness.server.revoke(given["single"]["access_token"])
    harness.server.revoke(given["revoked own"]["access_token"])
    harness.server.revoke_grant(claims(given["family"]["access_token"])["sid"])
    harness.server.close()
    with closing(sqlite3.connect(folder / "auth.db")) as database:
        database.row_factory = sqlite3.Row
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        names = [row[0] for row in database.execute(query)]
        tables = {name: _rows(database.execute(f"SELECT * FROM {name}")) for name in names}
    return {
        "clients": {
            name: {"client_id": each.client_id, "client_secret": each.client_secret}
            for name, each in clients.items()
        },
        "secret": SECRET,
        "verifier": VERIFIER,
        "given": given,
        "tables": tables,
    }


def _rows(found: sqlite3.Cursor) -> list[dict[str, Any]]:
    """Return rows as JSON allows them: octets in hexadecimal."""
    return [
        {
            name: {"hex": value.hex()} if isinstance(value, bytes) else value
            for name, value in zip(row.keys(), row, strict=True)
        }
        for row in found
    ]


def main() -> None:
    with TemporaryDirectory() as folder:
        found = recorded(Path(folder))
    ((version,),) = [row.values() for row in found["tables"]["alembic_version"]]
    (HERE / f"{version}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
