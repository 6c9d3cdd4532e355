"""A login harness: a database of its own, a clock that is set by hand, all reported events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import argon2

from bearerguard.runtime.reporting.events import Event
from bearerguard.server.audit import Audit
from bearerguard.server.login.people import People, PeopleOptions
from bearerguard.server.secret import ServerSecret
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import migrate
from tests.conformance.harness import Clock
from tests.server.people.visitor import Visitor
from tests.server.stores import Store, sqlite_store

ISSUER = "https://api.example.com"
PASSWORD = "correct horse battery"
CHEAP = argon2.profiles.CHEAPEST


class PeopleHarness:
    """A server's people and what surrounds them."""

    def __init__(
        self, folder: Path, store: Store | None = None, *, issuer: str = ISSUER, **options: Any
    ) -> None:
        self.issuer = issuer
        self.clock: Clock = options.pop("clock", None) or Clock()
        self.events: list[Event] = []
        self.disabled: list[str] = []
        self.database = Database((store or sqlite_store(folder)).url, connections=8)
        migrate(self.database)
        options.setdefault("password_parameters", CHEAP)
        self.people = People(
            self.database,
            issuer=issuer,
            secret=ServerSecret("a secret of this test's own, long enough"),
            clock=self.clock,
            audit=Audit(self.events.append, self.clock, by="request"),
            on_disabled=self.disabled.append,
            methods=options.pop("methods", ()),
            further=options.pop("further", ()),
            options=PeopleOptions(**options),
        )

    def visitor(self, **options: Any) -> Visitor:
        return Visitor(self.people.handle, url=self.issuer, **options)

    def signed_in_visitor(self, login: str = "ada") -> Visitor:
        visitor = self.visitor()
        assert visitor.sign_in(login, PASSWORD).status == 303
        return visitor

    @property
    def reported(self) -> list[str]:
        return [event.code for event in self.events]

    def rows(self, table: str) -> list[Any]:
        with self.database.read() as connection:
            return connection.run(f"SELECT * FROM {table}").all()
