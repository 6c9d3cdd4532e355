"""The login as steps: identify, prove, prove more, consent.

`next_step` says which step an authorization request needs next, whether or not anybody is signed
in. The first three are done on the login page and beside it, while the request waits as a
`PendingRequest`. A `LoginMethod` proves who the user is; `Logins.proved` is told. Then each
`FurtherProof` says whether the login owes it. A login that does is no session: it is sealed for its
browser, and each check is done anew when it ends in `Logins.proved_more`. Only a login that owes
nothing begins a session and returns to the request, which is asked again for its next step. Knows
neither passwords nor other issuers: those are the first two methods, and others join them in
`People`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from typing import Any, Protocol
from urllib.parse import urlencode

from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.login.csrf import Csrf
from bearerguard.server.login.prompt import Prompt, Prompts, unmarked
from bearerguard.server.login.session import Method, ProofLapsed, Sessions, SignedIn
from bearerguard.server.login.ticket import TicketError, Tickets
from bearerguard.server.secret import ServerSecret
from bearerguard.server.store import clients as rows
from bearerguard.server.store.connection import Connection

LOGIN = "/oauth/login"
AUTHORIZE = "/oauth/authorize"
_PURPOSE = "sign in"
_LIFETIME = 3600  # leaves time to look up a password
_UNFINISHED = "prove more"
_UNFINISHED_LIFETIME = 900  # leaves time to fetch a phone
# Seconds for which a used login is remembered beyond its end: clocks differ.
_SLACK = 600


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

    Attributes:
        user_id: the user.
        by: the name of the login method that the user was authenticated by.
        method: what the session says of it.
        evidence: what `LoginMethod.check` reads; JSON values.
        upstream: the key of where the user logged in, None for here.
    """

    user_id: str
    by: str
    method: Method
    evidence: tuple[Any, ...] = field(default=(), repr=False)
    upstream: str | None = None

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Proof:
        """Return what `stored` was made of."""
        how = stored["method"]
        return cls(
            stored["user_id"],
            stored["by"],
            Method(
                how["acr"],
                tuple(how["amr"]),
                how["upstream"],
                how["upstream_sid"],
                how["auth_time"],
            ),
            tuple(stored["evidence"]),
            stored["upstream"],
        )

    @property
    def stored(self) -> dict[str, Any]:
        """The proof as a ticket contains it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class UnfinishedLogin:
    """A login that owes a further proof. It is no session: it is sealed, for one browser.

    Attributes:
        name: a random name, by which it is used up.
        pending: the request that waits for it.
        proof: the proofs so far, as one.
        headers: the header fields to send when the session begins.
        done: the names of the further proofs so far.
        ticket: seals the others; a further proof's form contains it.
    """

    name: str
    pending: PendingRequest
    proof: Proof
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    done: tuple[str, ...] = ()
    ticket: str = field(default="", repr=False)

    @classmethod
    def read(cls, stored: Mapping[str, Any], ticket: str) -> UnfinishedLogin:
        """Return what `stored` was made of."""
        return cls(
            stored["name"],
            PendingRequest.read(stored["request"]),
            Proof.read(stored["proof"]),
            tuple((name, value) for name, value in stored["headers"]),
            tuple(stored["done"]),
            ticket,
        )

    @property
    def stored(self) -> dict[str, Any]:
        """The login as a ticket contains it."""
        return {
            "name": self.name,
            "request": self.pending.stored,
            "proof": self.proof.stored,
            "headers": self.headers,
            "done": self.done,
        }


@dataclass(frozen=True, slots=True)
class Offer:
    """What the login page offers.

    Attributes:
        action: the URL that its form is posted to, with the fields `csrf` and `request`.
        name: the name on its button, "" for the fields of a password.
        begin: begins a login on another site, and without the page if that offers nothing else;
            None for a login here.
    """

    action: str
    name: str = ""
    begin: Callable[[Request, PendingRequest], Response] | None = None


class LoginMethod(Protocol):
    """A way to prove who one is, such as a password; it ends in `Logins.proved`."""

    @property
    def name(self) -> str:
        """Its name among the methods, which its proofs have as `by`."""
        ...

    @property
    def paths(self) -> Collection[str]:
        """The paths that it handles, relative to the issuer's path."""
        ...

    @property
    def offers(self) -> Sequence[Offer]:
        """What the login page offers for it."""
        ...

    @property
    def acr_values(self) -> Collection[str]:
        """The authentication contexts that its logins can have."""
        ...

    def handle(self, request: Request) -> Response:
        """Return the response to a request to one of `paths`."""
        ...

    def check(self, connection: Connection, proof: Proof) -> None:
        """Raise `ProofLapsed` if a proof counts no more, in the transaction that begins a session.

        Time may have passed since, and the password have changed.
        """
        ...


class FurtherProof(Protocol):
    """A step of "prove more", such as a second factor; it ends in `Logins.proved_more`.

    It limits guesses by itself, by user: a right password resets the limit of passwords.
    """

    @property
    def name(self) -> str:
        """Its name among the further proofs."""
        ...

    @property
    def paths(self) -> Collection[str]:
        """The paths that it handles, relative to the issuer's path."""
        ...

    @property
    def acr_values(self) -> Collection[str]:
        """The authentication contexts of logins with it."""
        ...

    def is_owed(self, proof: Proof, demands: Demands) -> bool:
        """Whether a login owes it: because of its user, or of what the request demands."""
        ...

    def ask(self, request: Request, login: UnfinishedLogin) -> Response:
        """Return the page that asks for it; the form contains the login's ticket."""
        ...

    def handle(self, request: Request) -> Response:
        """Return the response to a request to one of `paths`; may raise `ProofLapsed`."""
        ...


class Logins:
    """Requests that wait for a login, and what follows from a proof.

    Args:
        base: the path of the issuer's URL, before `/oauth`.
        tickets: seals the pending authorization requests, and the unfinished logins.
        csrf: names the browsers.
        sessions: begins sessions.
        secret: keys the digests of what was used.
        clock: returns Unix seconds.
        audit: receives the events.
    """

    def __init__(
        self,
        base: str,
        *,
        tickets: Tickets,
        csrf: Csrf,
        sessions: Sessions,
        secret: ServerSecret,
        clock: Callable[[], float],
        audit: Audit,
    ) -> None:
        self._base = base
        self._tickets = tickets
        self._csrf = csrf
        self._sessions = sessions
        self._secret = secret
        self._clock = clock
        self._audit = audit
        self._methods: Mapping[str, LoginMethod] = {}
        self._further: Sequence[FurtherProof] = ()

    def join(self, methods: Sequence[LoginMethod], further: Sequence[FurtherProof]) -> None:
        """Set the login methods, in the order of the page, and the further proofs, in theirs."""
        self._methods = {each.name: each for each in methods}
        self._further = further

    @property
    def offers(self) -> list[Offer]:
        """What the login page offers."""
        return [offer for each in self._methods.values() for offer in each.offers]

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
        self, request: Request, pending: PendingRequest, proof: Proof, *headers: tuple[str, str]
    ) -> Response:
        """Ask for the next proof that the login owes, or begin the session and go on.

        `headers` are sent when the session begins. The page that led here has named the browser.

        Raises:
            ProofLapsed: the user may not log in any more, or the method says so.
        """
        name = secrets.token_urlsafe(16)
        return self._continued(request, UnfinishedLogin(name, pending, proof, headers))

    def unfinished(self, request: Request, ticket: str) -> UnfinishedLogin:
        """Return the login in a ticket.

        Raises:
            ProofLapsed: the ticket is not valid, has expired, or is another browser's.
        """
        browser = self._csrf.known_browser(request)
        if browser is None:
            raise ProofLapsed("unusable_login")
        try:
            content = self._tickets.open(_UNFINISHED, ticket, holder=browser)
        except TicketError:
            raise ProofLapsed("unusable_login") from None
        return UnfinishedLogin.read(content, ticket)

    def proved_more(
        self,
        request: Request,
        login: UnfinishedLogin,
        further: FurtherProof,
        *,
        amr: Collection[str],
        acr: str | None = None,
    ) -> Response:
        """Go on with a login as `proved` does, after a further proof.

        `amr` are the methods that this adds (RFC 8176); `acr` is the context of the whole login,
        None for that of the proofs so far.

        Raises:
            ProofLapsed: the user may not log in any more, the first proof counts no more, or the
                login was used before.
        """
        method = login.proof.method
        more = tuple(dict.fromkeys((*method.amr, *amr)))
        method = replace(method, amr=more, acr=acr or method.acr)
        proof = replace(login.proof, method=method)
        done = (*login.done, further.name)
        return self._continued(request, replace(login, proof=proof, done=done))

    def _continued(self, request: Request, login: UnfinishedLogin) -> Response:
        for further in self._further:
            is_done = further.name in login.done
            if not is_done and further.is_owed(login.proof, login.pending.demands):
                return further.ask(request, self._sealed(request, login))
        proof = login.proof
        session = self._sessions.begin(
            request,
            proof.user_id,
            method=proof.method,
            check=lambda connection: self._check(connection, login),
        )
        self._audit.emit(
            "login_succeeded",
            user_id=proof.user_id,
            address=request.peer or None,
            upstream=proof.upstream,
        )
        return see_other(self.after(login.pending), session, *login.headers)

    def _sealed(self, request: Request, login: UnfinishedLogin) -> UnfinishedLogin:
        browser = self._csrf.known_browser(request) or ""  # nobody's: `unfinished` refuses it
        ticket = self._tickets.issue(
            _UNFINISHED, login.stored, lifetime=_UNFINISHED_LIFETIME, holder=browser
        )
        return replace(login, ticket=ticket)

    def _check(self, connection: Connection, login: UnfinishedLogin) -> None:
        """Raise `ProofLapsed` if no session may begin; use up a login that has waited."""
        self._methods[login.proof.by].check(connection, login.proof)
        if login.done:
            digests = self._secret.digests("unfinished login", login.name)
            end = self._clock() + _UNFINISHED_LIFETIME + _SLACK
            if not rows.use_once(connection, digests, end):
                raise ProofLapsed("used_login")

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
