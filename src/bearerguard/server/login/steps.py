"""The login as steps: identify, prove, prove more, consent.

`next_step` says which step an authorization request needs next, whether or not anybody is signed
in. The first three are done on the login page, with a password or elsewhere. Meanwhile the request
waits as a `PendingRequest`. `Logins.proved` begins the session and returns to the request, which is
asked again for its next step. Knows neither passwords nor other issuers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlencode

from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.login.prompt import Prompt, Prompts, unmarked
from bearerguard.server.login.session import Method, Sessions, SignedIn
from bearerguard.server.login.ticket import TicketError, Tickets
from bearerguard.server.store.connection import Connection

LOGIN = "/oauth/login"
AUTHORIZE = "/oauth/authorize"
_PURPOSE = "sign in"
_LIFETIME = 3600  # leaves time to look up a password


class Step(Enum):
    """What an authorization request needs next of its user."""

    IDENTIFY = "identify"  # nobody is signed in
    PROVE = "prove"  # who is signed in must prove it anew: the login is too old
    PROVE_MORE = "prove more"  # the login is in another authentication context
    CONSENT = "consent"
    DONE = "done"


# Those that are done on the login page.
LOGIN_STEPS = frozenset({Step.IDENTIFY, Step.PROVE, Step.PROVE_MORE})


def next_step(
    prompts: Prompts,
    prompt: Prompt,
    signed_in: SignedIn | None,
    needs_consent: Callable[[SignedIn], bool],
) -> Step:
    """Return the next step of a request; `needs_consent` is asked after all others are done."""
    if signed_in is None:
        return Step.IDENTIFY
    if not prompt.is_strong_enough(signed_in):
        return Step.PROVE_MORE
    if not prompts.is_met(prompt, signed_in):
        return Step.PROVE
    return Step.CONSENT if needs_consent(signed_in) else Step.DONE


@dataclass(frozen=True, slots=True)
class Demands:
    """What a request demands of the login that it waits for (OIDC Core §3.1.2.1).

    Attributes:
        prompt: "login", "select_account", both with a space between, or "".
        max_age: the maximum age of the login in seconds, None for any.
        acr_values: the authentication contexts of which it must be one, empty for any.
    """

    prompt: str = ""
    max_age: int | None = None
    acr_values: tuple[str, ...] = ()

    @classmethod
    def of(cls, prompt: Prompt) -> Demands:
        """Return what an authorization request demands."""
        return cls(prompt.for_login, prompt.max_age, prompt.acr_values)

    @classmethod
    def read(cls, stored: Sequence[Any]) -> Demands:
        """Return what `stored` was made of."""
        prompt, max_age, acr_values = stored
        return cls(prompt, max_age, tuple(acr_values))

    @property
    def stored(self) -> list[Any]:
        """The demands as a ticket contains them."""
        return [self.prompt, self.max_age, list(self.acr_values)]


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """The authorization request that waits for the login; all fields are empty if there is none.

    `path`: where it continues, below the issuer's path. `again`: whether it demands a login of
    those who are signed in, too.
    """

    ticket: str = field(default="", repr=False)
    path: str = AUTHORIZE
    query: str = field(default="", repr=False)
    client_name: str = ""
    redirect_uri: str = ""
    again: bool = False
    demands: Demands = Demands()

    @classmethod
    def read(cls, stored: Mapping[str, Any], ticket: str = "") -> PendingRequest:
        """Return what `stored` was made of; an earlier version did not store all of it."""
        return cls(
            ticket,
            stored.get("path", AUTHORIZE),
            stored["query"],
            stored["client"],
            stored["redirect"],
            stored.get("again", False),
            Demands.read(stored.get("demands", Demands().stored)),
        )

    @property
    def stored(self) -> dict[str, Any]:
        """The request as a ticket contains it."""
        return {
            "path": self.path,
            "query": self.query,
            "client": self.client_name,
            "redirect": self.redirect_uri,
            "again": self.again,
            "demands": self.demands.stored,
        }

    @property
    def is_empty(self) -> bool:
        """Whether nobody but the user has asked for the login."""
        return not self.query and self.path == AUTHORIZE


@dataclass(frozen=True, slots=True)
class Proof:
    """That a user was authenticated just now, and how.

    `password_hash` is what a password was compared with, None for another method.
    """

    user_id: str
    method: Method
    password_hash: str | None = field(default=None, repr=False)


class Logins:
    """Requests that wait for a login, and what follows from a proof.

    Args:
        base: the path of the issuer's URL, before `/oauth`.
        tickets: seals the pending authorization requests.
        sessions: begins sessions.
        audit: receives the events.
    """

    def __init__(self, base: str, *, tickets: Tickets, sessions: Sessions, audit: Audit) -> None:
        self._base = base
        self._tickets = tickets
        self._sessions = sessions
        self._audit = audit

    def location(self, pending: PendingRequest) -> str:
        """Return the URL of the login page that continues a request; its ticket is made here."""
        ticket = self._tickets.issue(_PURPOSE, pending.stored, lifetime=_LIFETIME)
        return f"{self._base}{LOGIN}?{urlencode({'request': ticket})}"

    def pending(self, ticket: str) -> PendingRequest | None:
        """Return the request in a ticket; None if the ticket is not valid or has expired."""
        if not ticket:
            return PendingRequest()
        try:
            return PendingRequest.read(self._tickets.open(_PURPOSE, ticket), ticket)
        except TicketError:
            return None

    def expired(self, ticket: str) -> PendingRequest | None:
        """Return the request in a ticket that may have expired; None unless it is one of ours."""
        content = self._tickets.content(_PURPOSE, ticket)
        if content is None:
            return None
        return PendingRequest.read(content | {"query": unmarked(content["query"])})

    def proved(
        self,
        request: Request,
        pending: PendingRequest,
        proof: Proof,
        *headers: tuple[str, str],
        upstream: str | None = None,
        check: Callable[[Connection], object] | None = None,
    ) -> Response | None:
        """Begin a session and return to the pending request; `headers` are sent besides.

        Returns None if the user may not log in any more: the account was disabled meanwhile, or
        got another password. `upstream` is the key of where the user logged in, None for here.
        `check` is done in the transaction that begins the session, and raises if it may not.
        """
        session = self._sessions.begin(
            request, proof.user_id, proof.password_hash, method=proof.method, check=check
        )
        if session is None:
            return None
        self._audit.emit(
            "login_succeeded",
            user_id=proof.user_id,
            address=request.peer or None,
            upstream=upstream,
        )
        return see_other(self.after(pending), session, *headers)

    def after(self, pending: PendingRequest) -> str:
        """Return the path to go on with once the user is signed in."""
        if pending.is_empty:
            return self._base + LOGIN
        query = f"?{pending.query}" if pending.query else ""
        return f"{self._base}{pending.path}{query}"


def see_other(location: str, *headers: tuple[str, str]) -> Response:
    """Return a redirect that is followed with GET (RFC 9110 §15.4.4) and never cached."""
    fields = (("Location", location), ("Cache-Control", "no-store"), *headers)
    return Response(303, (*fields, ("Referrer-Policy", "no-referrer")))
