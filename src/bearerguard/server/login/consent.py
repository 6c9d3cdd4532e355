"""Consent: what a client asks for, put to the user, and the user's answer.

The page's form carries the authorization request in a ticket that only this user, in this
browser, can send back. Issues no codes and knows no clients.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, delete, insert, select, update

from bearerguard.runtime.messages import Request, Response
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.http.parameters import from_form
from bearerguard.server.login.csrf import Csrf
from bearerguard.server.login.session import SignedIn
from bearerguard.server.login.ticket import TicketError, Tickets
from bearerguard.server.pages import Pages
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import consents

CONSENT = "/oauth/consent"

_PURPOSE = "consent"
_LIFETIME = 3600
_ANSWERS = {"allow": True, "deny": False}


@dataclass(frozen=True, slots=True)
class ScopeLine:
    """A scope, and what it lets a client do, in words."""

    name: str
    description: str


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """What to ask a user.

    Attributes:
        client_id: the client's id.
        client_name: what people know it by.
        scopes: what it asks for.
        redirect_uri: where its answer goes.
        query: the authorization request's query string, to take it up again.
        resources: the APIs that it asks for.
        names_resources: whether the page names them, as they are others than usual.
        rememberable: whether the user may be offered not to be asked again; not for clients
            that cannot prove who they are (RFC 8252 §8.6).
    """

    client_id: str
    client_name: str
    scopes: tuple[ScopeLine, ...]
    redirect_uri: str
    query: str = field(repr=False)
    resources: tuple[str, ...]
    names_resources: bool = False
    rememberable: bool = True


@dataclass(frozen=True, slots=True)
class ConsentAnswer:
    """What the user answered.

    Attributes:
        allowed: whether the client may have the scopes.
        scopes: those that were shown.
        resources: the APIs that the page was about.
        query: the authorization request's query string.
        remember: whether the user does not want to be asked again.
    """

    allowed: bool
    scopes: frozenset[str]
    resources: frozenset[str]
    query: str = field(repr=False)
    remember: bool


class Consent:
    """Asks for consent, and remembers what was given for good."""

    def __init__(
        self,
        base: str,
        database: Database,
        *,
        pages: Pages,
        csrf: Csrf,
        tickets: Tickets,
        clock: Callable[[], float],
    ) -> None:
        self._base = base
        self._database = database
        self._pages = pages
        self._csrf = csrf
        self._tickets = tickets
        self._clock = clock

    def ask(
        self, request: Request, user: SignedIn, asked: ConsentRequest, *, switch_action: str
    ) -> Response:
        """Return the consent page; `switch_action` is where another account is chosen, or ""."""
        proof = self._csrf.proof(request, user.user_id)
        content = {
            "query": asked.query,
            "scopes": [scope.name for scope in asked.scopes],
            "resources": asked.resources,
            "client": asked.client_name,
            "redirect": asked.redirect_uri,
        }
        ticket = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME, holder=user.user_id)
        kind, shown = destination(asked.redirect_uri)
        return self._pages.page(
            "consent",
            leads_to=asked.redirect_uri,
            headers=proof.headers,
            action=self._base + CONSENT,
            switch_action=switch_action,
            csrf=proof.value,
            request=ticket,
            client_name=asked.client_name,
            name=user.name,
            scopes=asked.scopes,
            resources=asked.resources if asked.names_resources else (),
            redirect_kind=kind,
            redirect_host=shown,
            rememberable=asked.rememberable,
        )

    def answer(self, request: Request, user: SignedIn) -> ConsentAnswer | Response:
        """Return what a posted consent form says, or the page that refuses it."""
        try:
            fields = from_form(request).values
        except OAuthError as error:
            return self._pages.unreadable(error)
        try:
            content = self._tickets.open(_PURPOSE, fields.get("request", ""), holder=user.user_id)
        except TicketError:
            content = {}
        allowed = _ANSWERS.get(fields.get("decision", ""))
        if not content or allowed is None or not self._csrf.holds(request, fields, user.user_id):
            return self._pages.error(400, "form")
        remember = allowed and fields.get("remember") == "yes"
        # Nobody saw an API on a page of an earlier version.
        resources = frozenset(content.get("resources", ()))
        scopes = frozenset(content["scopes"])
        return ConsentAnswer(allowed, scopes, resources, content["query"], remember)

    def posted(self, request: Request, user: SignedIn) -> dict[str, Any] | None:
        """Return what the ticket of a posted consent form holds, if there is a good one."""
        try:
            fields = from_form(request).values
            return self._tickets.open(_PURPOSE, fields.get("request", ""), holder=user.user_id)
        except (OAuthError, TicketError):
            return None

    def remembered(
        self, user_id: str, client_id: str, resources: Collection[str]
    ) -> frozenset[str]:
        """Return the scopes that a user allowed a client for good, at every one of `resources`."""
        with self._database.read() as connection:
            known = _remembered(connection, user_id, client_id)
        return frozenset.intersection(*(known.get(each, frozenset()) for each in resources))

    def remember(
        self, user_id: str, client_id: str, scopes: frozenset[str], resources: Collection[str]
    ) -> None:
        """Remember scopes at `resources`, besides those remembered already."""
        with self._database.write() as connection:
            known = _remembered(connection, user_id, client_id)
            known |= {each: known.get(each, frozenset()) | scopes for each in resources}
            scope = json.dumps({each: sorted(known[each]) for each in sorted(known)})
            row = {"scope": scope, "given_at": self._clock()}
            changed = connection.execute(
                update(consents)
                .where(consents.c.user_id == user_id, consents.c.client_id == client_id)
                .values(row)
            )
            if not changed.rowcount:
                connection.execute(
                    insert(consents).values(user_id=user_id, client_id=client_id, **row)
                )

    def forget(self, user_id: str, client_id: str | None = None) -> None:
        """Ask this user again, about one client or about all."""
        statement = delete(consents).where(consents.c.user_id == user_id)
        if client_id is not None:
            statement = statement.where(consents.c.client_id == client_id)
        with self._database.write() as connection:
            connection.execute(statement)


def destination(redirect_uri: str) -> tuple[str, str]:
    """Return what kind of place a redirect URI leads to, and its name for people."""
    parts = urlsplit(redirect_uri)
    if parts.scheme == "https":
        return "host", parts.netloc.lower()
    if parts.scheme == "http":
        return "device", parts.netloc.lower()
    return "app", f"{parts.scheme}:"


def _remembered(connection: Connection, user_id: str, client_id: str) -> dict[str, frozenset[str]]:
    """Return the scopes by the resource that they were allowed at.

    What an earlier version wrote names no resource. Which one was meant is not known any more,
    as the server's first may have changed: the user is asked again.
    """
    scope = connection.execute(
        select(consents.c.scope).where(
            consents.c.user_id == user_id, consents.c.client_id == client_id
        )
    ).scalar_one_or_none()
    if scope is None or not scope.startswith("{"):
        return {}
    return {resource: frozenset(scopes) for resource, scopes in json.loads(scope).items()}
