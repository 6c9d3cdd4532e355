"""The pages for devices: the field for a user code, the consent, and the end (RFC 8628 §3.3).

The consent shows the code once more, because a person must compare it with what the device shows:
whoever got it from somebody else would give that person access (§5.4). Its form contains what was
asked, in a ticket that only this user can send back. This file knows no codes of the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from bearerguard.runtime.messages import Request, Response
from bearerguard.runtime.rate_limits import RateLimit
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.http.parameters import from_form
from bearerguard.server.login.consent import ScopeLine, weight
from bearerguard.server.login.csrf import Csrf
from bearerguard.server.login.session import SignedIn
from bearerguard.server.login.throttle import Attempt, Throttle
from bearerguard.server.login.ticket import TicketError, Tickets
from bearerguard.server.pages import Pages
from bearerguard.server.pages.error_pages import ErrorPages

DEVICE = "/oauth/device"

_PURPOSE = "device"
# The first page's: it says that "Use another account" leads back to a page for devices.
_FIELD_PURPOSE = "device code"
_LIFETIME = 3600
_ANSWERS = {"allow": True, "deny": False}
_MAX_SHOWN = 40  # characters that were typed: no user code has as many

# What is tried against user codes (RFC 8628 §5.1): ten typing errors, then one a minute.
PER_USER = RateLimit(attempts=10, interval=60)
# Many people may share an address.
PER_ADDRESS = RateLimit(attempts=50, interval=20)
# Of all guesses together: at one a second, with a thousand of the 20^8 codes valid at any time, one
# is right in ten months.
IN_ALL = RateLimit(attempts=1000, interval=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """What a device asks the user to allow, as the page shows it.

    Attributes:
        digest: identifies the device code.
        user_code: as the device shows it.
        client_id: the client's id.
        client_name: the client's name.
        scopes: the requested scopes.
        resources: the APIs that the scopes are for; the page lists them unless empty.
        published_at: the host of the client's metadata document, or "".
        is_unknown: whether the client registered itself, so that nobody has checked its name.
    """

    digest: str = field(repr=False)
    user_code: str = field(repr=False)
    client_id: str
    client_name: str
    scopes: Sequence[ScopeLine]
    resources: Sequence[str] = ()
    published_at: str = ""
    is_unknown: bool = False


@dataclass(frozen=True, slots=True)
class DeviceAnswer:
    """The user's decision.

    Attributes:
        allowed: whether the device gets access.
        digest: identifies the device code.
        client_id: the client's id.
        client_name: the client's name.
        scope: the scopes that the page listed, separated by spaces.
    """

    allowed: bool
    digest: str = field(repr=False)
    client_id: str
    client_name: str
    scope: str


class DevicePages:
    """Shows the pages for devices, reads their forms, and limits guesses.

    Args:
        base: the path of the issuer's URL, before `/oauth`.
        pages: renders the pages.
        csrf: protects the forms.
        tickets: seals what was asked.
        throttle: limits what is tried.
        switch_action: the URL that "Use another account" posts to; "" hides the button.
        leads_on: whether the login, to which the forms may redirect, is or may be on another site.
    """

    def __init__(
        self,
        base: str,
        *,
        pages: Pages,
        errors: ErrorPages,
        csrf: Csrf,
        tickets: Tickets,
        throttle: Throttle,
        switch_action: str,
        leads_on: bool,
    ) -> None:
        self._base = base
        self._pages = pages
        self._errors = errors
        self._csrf = csrf
        self._tickets = tickets
        self._throttle = throttle
        self._switch_action = switch_action
        self._leads_on = leads_on

    def charge(self, signed_in: SignedIn, address: str) -> Attempt:
        """Charge a user code that was entered; `wait` is 0 if it may be looked up."""
        return self._throttle.charge_guess(
            "user code",
            signed_in.user_id,
            address,
            by_user=PER_USER,
            by_address=PER_ADDRESS,
            in_all=IN_ALL,
        )

    def take_back(self, attempt: Attempt) -> None:
        """Undo the charges of a user code that was right."""
        self._throttle.take_back(attempt)

    def fields(self, request: Request) -> Mapping[str, str] | Response:
        """Return the fields of a posted form, or an error page for what is no form."""
        try:
            return from_form(request).values
        except OAuthError as error:
            return self._errors.show(error, DEVICE, "request")

    def holds(self, request: Request, fields: Mapping[str, str], user: SignedIn) -> bool:
        """Whether a form comes from a page that was rendered for this browser and user."""
        return self._csrf.holds(request, fields, user.user_id)

    def form(
        self,
        request: Request,
        user: SignedIn,
        user_code: str = "",
        *,
        problem: str = "",
        wait: int = 0,
    ) -> Response:
        """Return the page with the field for the code that a device shows.

        Args:
            request: the request.
            user: who is signed in.
            user_code: what the field contains.
            problem: the name of the text about what was entered before; "" for none.
            wait: the seconds until another code may be entered, if there were too many.
        """
        proof = self._csrf.proof(request, user.user_id)
        waiting = (("Retry-After", str(wait)),) if wait else ()
        values = {"wait": self._pages.texts.wait(wait)} if wait else {}
        shown = user_code[:_MAX_SHOWN]
        return self._pages.page(
            "device",
            status=429 if wait else 400 if problem else 200,
            leads_on=self._leads_on,
            headers=(*proof.headers, *waiting),
            action=self._base + DEVICE,
            switch_action=self._switch_action,
            csrf=proof.value,
            request=self._ticket(_FIELD_PURPOSE, {"user_code": shown}, user),
            name=user.name,
            user_code=shown,
            problem=self._pages.texts(problem, **values) if problem else "",
        )

    def ask(self, request: Request, user: SignedIn, asked: DeviceRequest) -> Response:
        """Return the page that asks whether a device may have access."""
        proof = self._csrf.proof(request, user.user_id)
        content = {
            "digest": asked.digest,
            "user_code": asked.user_code,
            "client_id": asked.client_id,
            "client": asked.client_name,
            "scope": " ".join(each.name for each in asked.scopes),
        }
        return self._pages.page(
            "device_consent",
            leads_on=self._leads_on,
            headers=proof.headers,
            action=self._base + DEVICE,
            switch_action=self._switch_action,
            csrf=proof.value,
            request=self._ticket(_PURPOSE, content, user),
            name=user.name,
            user_code=asked.user_code,
            client_name=asked.client_name,
            scopes=sorted(asked.scopes, key=weight),  # seen without scrolling
            resources=asked.resources,
            published_at=asked.published_at,
            is_unknown=asked.is_unknown,
        )

    def answer(
        self, request: Request, fields: Mapping[str, str], user: SignedIn
    ) -> DeviceAnswer | None:
        """Return the decision of a posted form; None for a form that is not valid."""
        content = self._opened(_PURPOSE, fields, user)
        allowed = _ANSWERS.get(fields.get("decision", ""))
        if content is None or allowed is None or not self.holds(request, fields, user):
            return None
        return DeviceAnswer(
            allowed, content["digest"], content["client_id"], content["client"], content["scope"]
        )

    def again(self, request: Request, fields: Mapping[str, str], user: SignedIn) -> Response:
        """Return the page with the field once more, after a decision whose form is not valid."""
        content = self._opened(_PURPOSE, fields, user)
        user_code = "" if content is None else content["user_code"]
        return self.form(request, user, user_code, problem="login.stale")

    def posted(self, request: Request, user: SignedIn) -> str | None:
        """Return the query of the page that a form for a device came from; None for other forms."""
        posted = self.fields(request)
        fields = {} if isinstance(posted, Response) else posted
        content = self._opened(_PURPOSE, fields, user) or self._opened(_FIELD_PURPOSE, fields, user)
        return None if content is None else device_query(content["user_code"])

    def done(self, answer: DeviceAnswer) -> Response:
        """Return the page after the decision: the person goes back to the device."""
        return self._pages.page(
            "device_done",
            heading=self._text(answer, "heading"),
            text=self._text(answer, "text"),
        )

    def _text(self, answer: DeviceAnswer, name: str) -> str:
        kind = "allowed" if answer.allowed else "denied"
        return self._pages.texts(f"device.{kind}.{name}", client=answer.client_name)

    def _ticket(self, purpose: str, content: Mapping[str, Any], user: SignedIn) -> str:
        return self._tickets.issue(purpose, content, lifetime=_LIFETIME, holder=user.user_id)

    def _opened(
        self, purpose: str, fields: Mapping[str, str], user: SignedIn
    ) -> dict[str, Any] | None:
        try:
            return self._tickets.open(purpose, fields.get("request", ""), holder=user.user_id)
        except TicketError:
            return None


def device_query(user_code: str) -> str:
    """Return the query of the page for devices, with a code that somebody has entered, or ""."""
    return urlencode({"user_code": user_code}) if user_code else ""
