"""Consent: the page that asks a user whether a client may have scopes, and the user's decision.

The page's form contains the authorization request in a ticket that only this user, in this
browser, can send back. This file issues no codes and knows no clients.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import bindparam, delete, select
from sqlalchemy.dialects import postgresql

from bearerguard.runtime.messages import Request, Response
from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.http.parameters import from_form
from bearerguard.server.login.csrf import Csrf
from bearerguard.server.login.prompt import unmarked
from bearerguard.server.login.session import SignedIn
from bearerguard.server.login.steps import Demands
from bearerguard.server.login.ticket import TicketError, Tickets
from bearerguard.server.pages import Link, Pages
from bearerguard.server.pages.error_pages import ErrorPages
from bearerguard.server.pages.texts import Texts
from bearerguard.server.settings import Settings
from bearerguard.server.store.connection import Connection, Executes, Prepared
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import consents

CONSENT = "/oauth/consent"

_PURPOSE = "consent"
_LIFETIME = 3600
_ANSWERS = {"allow": True, "deny": False}


@dataclass(frozen=True, slots=True)
class ScopeLine:
    """A scope as the page shows it.

    Attributes:
        name: its name.
        description: what it allows, in words; its name if nobody described it.
        powerful: whether the page marks it.
        is_known: whether the user has allowed it to the client before.
    """

    name: str
    description: str
    powerful: bool = False
    is_known: bool = False


def scope_line(name: str, settings: Settings, texts: Texts) -> ScopeLine:
    """Return how pages show a scope."""
    description = texts.scope(name, settings.describe(name))
    return ScopeLine(name, description, settings.is_powerful(name))


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """What a client asks the user to allow, as the consent page shows it.

    Attributes:
        client_id: the client's id.
        client_name: the client's name.
        scopes: the requested scopes.
        redirect_uri: the client's redirect URI.
        query: the query of the authorization request, which continues after the decision.
        resources: the APIs that the scopes are for.
        names_resources: whether the page lists `resources`; False if they are the default.
        rememberable: whether the page offers to remember the decision; False for a client that
            others can impersonate (RFC 8252 §8.6).
        published_at: the host of the client's metadata document, or "".
        is_unknown: whether the client registered itself, so that nobody has checked its name.
        is_local: whether all of its redirect URIs are on this device.
        demands: what the request demands of the login, for "Use another account".
    """

    client_id: str
    client_name: str
    scopes: tuple[ScopeLine, ...]
    redirect_uri: str
    query: str = field(repr=False)
    resources: tuple[str, ...]
    names_resources: bool = False
    rememberable: bool = True
    published_at: str = ""
    is_unknown: bool = False
    is_local: bool = False
    demands: Demands = field(default_factory=Demands)


@dataclass(frozen=True, slots=True)
class ConsentAnswer:
    """The user's decision.

    Attributes:
        allowed: whether the client may have the scopes.
        scopes: the scopes that the page listed.
        resources: the APIs that the scopes are for.
        query: the query of the authorization request.
        remember: whether the user wants the decision to be remembered.
    """

    allowed: bool
    scopes: frozenset[str]
    resources: frozenset[str]
    query: str = field(repr=False)
    remember: bool


class ConsentForgotten(Exception):
    """Stored consent is gone since it was read: what would be written by it must be undone."""


class Consent:
    """Shows the consent page, reads the decision, and stores consent for later requests."""

    def __init__(
        self,
        base: str,
        database: Database,
        *,
        pages: Pages,
        errors: ErrorPages,
        csrf: Csrf,
        tickets: Tickets,
        clock: Callable[[], float],
    ) -> None:
        self._base = base
        self._database = database
        self._pages = pages
        self._errors = errors
        self._csrf = csrf
        self._tickets = tickets
        self._clock = clock

    def ask(
        self, request: Request, user: SignedIn, asked: ConsentRequest, *, switch_action: str
    ) -> Response:
        """Return the consent page.

        `switch_action` is the URL that "Use another account" posts to; "" hides the button.
        """
        proof = self._csrf.proof(request, user.user_id)
        content = {
            "query": asked.query,
            "scopes": [scope.name for scope in asked.scopes],
            "resources": asked.resources,
            "client": asked.client_name,
            "redirect": asked.redirect_uri,
            "demands": asked.demands.stored,
        }
        ticket = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME, holder=user.user_id)
        kind, shown = destination(asked.redirect_uri)
        # What matters most comes first: it is seen without scrolling.
        scopes = [self._named(each) for each in sorted(asked.scopes, key=weight)]
        return self._pages.page(
            "consent",
            leads_on=True,
            headers=proof.headers,
            action=self._base + CONSENT,
            switch_action=switch_action,
            csrf=proof.value,
            request=ticket,
            client_name=asked.client_name,
            name=user.name,
            scopes=scopes,
            new_scopes=[each for each in scopes if not each.is_known],
            known_scopes=[each for each in scopes if each.is_known],
            resources=asked.resources if asked.names_resources else (),
            redirect_kind=kind,
            redirect_host=shown,
            rememberable=asked.rememberable,
            published_at=asked.published_at,
            is_unknown=asked.is_unknown,
            is_local=asked.is_local,
        )

    def answer(self, request: Request, user: SignedIn) -> ConsentAnswer | Response:
        """Return the decision of a posted consent form, or an error page for an invalid form.

        The page is reported.
        """
        try:
            fields = from_form(request).values
        except OAuthError as error:
            error.note(user_id=user.user_id)
            return self._errors.show(error, CONSENT, "request")
        ticket = fields.get("request", "")
        try:
            content = self._tickets.open(_PURPOSE, ticket, holder=user.user_id)
        except TicketError:
            content = {}
        allowed = _ANSWERS.get(fields.get("decision", ""))
        if not content or allowed is None or not self._csrf.holds(request, fields, user.user_id):
            return self._unusable(ticket, user)
        remember = allowed and fields.get("remember") == "yes"
        # A form that an earlier version rendered has no resources.
        resources = frozenset(content.get("resources", ()))
        scopes = frozenset(content["scopes"])
        return ConsentAnswer(allowed, scopes, resources, content["query"], remember)

    def _named(self, scope: ScopeLine) -> ScopeLine:
        return replace(scope, description=self._pages.texts.scope(scope.name, scope.description))

    def _unusable(self, ticket: str, user: SignedIn) -> Response:
        """Return the page for a form that is not valid. From one of ours, users can begin again."""
        error = invalid_request("The form is invalid or has expired", "unusable_form")
        error.note(user_id=user.user_id, status=error.status)
        content = self._tickets.content(_PURPOSE, ticket, holder=user.user_id)
        again = None if content is None else start_again(self._base, content["query"], self._pages)
        client_name = "" if content is None else content["client"]
        return self._errors.show(error, CONSENT, "form", client_name=client_name, back=again)

    def posted(self, request: Request, user: SignedIn) -> dict[str, Any] | None:
        """Return the content of the ticket in a posted consent form; None if it is not valid."""
        try:
            fields = from_form(request).values
            return self._tickets.open(_PURPOSE, fields.get("request", ""), holder=user.user_id)
        except (OAuthError, TicketError):
            return None

    def remembered(
        self,
        user_id: str,
        client_id: str,
        resources: Collection[str],
        connection: Connection | None = None,
    ) -> frozenset[str]:
        """Return the scopes that stored consent allows a client at every one of `resources`.

        In the transaction of a `connection`, that consent then stands until the commit.
        """
        statement = _FIND if connection is None else _HOLD
        known = _remembered(connection or self._database, user_id, client_id, statement)
        return frozenset.intersection(*(known.get(each, frozenset()) for each in resources))

    def remember(
        self,
        connection: Connection,
        user_id: str,
        client_id: str,
        scopes: frozenset[str],
        resources: Collection[str],
    ) -> None:
        """Add scopes to the stored consent, for each of `resources`."""
        known = _remembered(connection, user_id, client_id)
        known |= {each: known.get(each, frozenset()) | scopes for each in resources}
        scope = json.dumps({each: sorted(known[each]) for each in sorted(known)})
        connection.execute(
            _KEEP,
            {"user": user_id, "client": client_id, "scope": scope, "now": self._clock()},
        )

    def forget(self, user_id: str, client_id: str | None = None) -> int:
        """Remove a user's stored consent: for one client, or for all; return for how many."""
        statement = delete(consents).where(consents.c.user_id == user_id)
        if client_id is not None:
            statement = statement.where(consents.c.client_id == client_id)
        with self._database.write() as connection:
            return connection.execute(statement).rowcount


def start_again(base: str, query: str, pages: Pages) -> Link:
    """Return the link that repeats an authorization request."""
    url = f"{base}/oauth/authorize?{unmarked(query)}"
    return Link(url, pages.texts("error.back.again"))


def weight(scope: ScopeLine) -> tuple[bool, bool]:
    """Return the key by which pages sort scopes: what is new and powerful comes first."""
    return scope.is_known, not scope.powerful


def destination(redirect_uri: str) -> tuple[str, str]:
    """Return what the page shows of a redirect URI: its kind (host, device or app) and its name."""
    parts = urlsplit(redirect_uri)
    if parts.scheme == "https":
        return "host", parts.netloc.lower()
    if parts.scheme == "http":
        return "device", parts.netloc.lower()
    return "app", f"{parts.scheme}:"


_FIND = Prepared(
    _stored := select(consents.c.scope).where(
        consents.c.user_id == bindparam("user"), consents.c.client_id == bindparam("client")
    )
)
# Others remove it after this transaction. SQLite has no locks of rows.
_HOLD = Prepared(_stored.with_for_update(read=True, key_share=True))
# SQLite has the same clause.
_KEEP = Prepared(
    (_new := postgresql.insert(consents))
    .values(
        user_id=bindparam("user"),
        client_id=bindparam("client"),
        scope=bindparam("scope"),
        given_at=bindparam("now"),
    )
    .on_conflict_do_update(
        index_elements=["user_id", "client_id"],
        set_={"scope": _new.excluded.scope, "given_at": _new.excluded.given_at},
    )
)


def _remembered(
    connection: Executes, user_id: str, client_id: str, statement: Prepared = _FIND
) -> dict[str, frozenset[str]]:
    """Return the scopes of the stored consent, by resource.

    Consent that an earlier version stored names no resource. It is ignored, and the user is asked
    again, because the server's default resource may have changed since.
    """
    scope = connection.execute(statement, {"user": user_id, "client": client_id}).scalar()
    if scope is None or not scope.startswith("{"):
        return {}
    return {resource: frozenset(scopes) for resource, scopes in json.loads(scope).items()}
