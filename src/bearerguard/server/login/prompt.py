"""`prompt`, `max_age` and `acr_values` (OIDC Core §3.1.2.1, RFC 9470).

Decides whether a login is recent and strong enough. A user who is sent to the login page returns
with the same authorization request. A sealed mark in its query records when the user was sent, so
that the login page is not shown twice. It counts for this request in this browser alone, and once:
a mark of another request, or of an earlier return, would let an old login pass. Equally a login
counts once for the requests that demand one: of two such requests, each has the user log in.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from hashlib import sha256

from bearerguard.errors import BearerGuardError
from bearerguard.protocol import names
from bearerguard.protocol.jose.jwt import MAX_FUTURE
from bearerguard.runtime.messages import Request
from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.login.csrf import Csrf
from bearerguard.server.login.session import SignedIn
from bearerguard.server.login.ticket import TicketError, Tickets
from bearerguard.server.secret import ServerSecret
from bearerguard.server.store import clients as rows
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database

UNMET = "unmet_authentication_requirements"  # OpenID Connect Core Error Code UAR 1.0 §2
#: The values of `prompt`.
VALUES = ("none", "login", "consent", "select_account")
# The query parameter that contains the mark.
MARK = "bearerguard_asked"

_MAX_DIGITS = 10
_PURPOSE = "sign in again"
_LIFETIME = 3600  # as long as the login page's form
# Seconds. The clock of an app's own login may differ from ours, or count whole seconds.
_SKEW = 5
# Seconds after the login during which the mark counts.
_MOMENT = 300
# Seconds for which it is stored what was used: longer than a mark counts, also on a machine whose
# clock is behind that of the one which removes the row.
_STORED = _LIFETIME + 600


class LoginUsed(BearerGuardError):
    """Another response has used up the mark or the login: the user must log in again.

    Internal: the authorization endpoint handles it.
    """


@dataclass(frozen=True, slots=True)
class _Mark:
    """That a user was sent to log in.

    Attributes:
        name: a random name of the mark.
        at: when, in Unix seconds.
        browser: the random name of the browser that was sent.
        earlier: when the user who was signed in then had logged in, None if unknown.
    """

    name: str
    at: float
    browser: str
    earlier: float | None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an authorization request requires of the login.

    Attributes:
        values: the values of `prompt`.
        max_age: the maximum age of the login, in seconds; None for any.
        acr_values: the authentication contexts of which the login must be one; empty for any.
        mark: that the user was sent to log in for this request; None if the user was not, or if
            that was used up.
        is_same_browser: whether it was this browser that was sent.
    """

    values: frozenset[str] = frozenset()
    max_age: int | None = None
    acr_values: tuple[str, ...] = ()
    mark: _Mark | None = None
    is_same_browser: bool = False

    @property
    def silent(self) -> bool:
        """Whether no page may be shown to the user (`prompt=none`)."""
        return "none" in self.values

    @property
    def consent(self) -> bool:
        """Whether the user must be asked for consent (`prompt=consent`)."""
        return "consent" in self.values

    @property
    def sign_in(self) -> str:
        """The prompt for the login: "login", "select_account", or "" for none."""
        if "select_account" in self.values:
            return "select_account"
        is_demanded = "login" in self.values or self.max_age is not None or self.acr_values
        return "login" if is_demanded else ""

    @property
    def for_login(self) -> str:
        """The values of `prompt` that concern the login itself, separated by spaces."""
        return " ".join(name for name in ("login", "select_account") if name in self.values)

    def was_asked(self, signed_in: SignedIn) -> bool:
        """Whether the user has logged in since being sent to log in."""
        at, mark = signed_in.auth_time, self.mark
        if mark is None or at is None or not self.is_same_browser or at == mark.earlier:
            return False
        return at + _SKEW >= mark.at

    def is_strong_enough(self, signed_in: SignedIn) -> bool:
        """Whether the login is in one of the authentication contexts."""
        return not self.acr_values or signed_in.acr in self.acr_values

    def is_met(self, signed_in: SignedIn, now: float) -> bool:
        """Whether the user's login satisfies the request."""
        if not self.is_strong_enough(signed_in):
            return False
        if "select_account" in self.values and self.mark is None:
            return False
        at = signed_in.auth_time
        return not self._needs_login(signed_in, now) or (
            self.was_asked(signed_in) and at is not None and now - at <= _MOMENT
        )

    def uses(self, signed_in: SignedIn, now: float) -> tuple[str, ...]:
        """Return the names of what a code for this request uses up, nothing without a mark.

        It is the mark, and the login if the request demands one: with the name of the browser,
        since an app may know the second alone in which its user logged in.
        """
        mark, at = self.mark, signed_in.auth_time
        if mark is None:
            return ()
        if at is not None and self._needs_login(signed_in, now):
            return mark.name, f"{mark.browser} {float(at)!r} {signed_in.user_id}"
        return (mark.name,) if "select_account" in self.values else ()

    def _needs_login(self, signed_in: SignedIn, now: float) -> bool:
        """Whether the user's login is too old, unless it was for this request."""
        if "login" in self.values or self.max_age == 0:  # the same (OIDC Core §3.1.2.1)
            return True
        if self.max_age is None:
            return False
        at = signed_in.auth_time
        return at is None or now - at > self.max_age


class Prompts:
    """Reads `prompt` and its companions, and marks requests whose users are sent to log in.

    Args:
        database: records what was used up.
        tickets: seals the marks.
        csrf: names the browsers.
        secret: keys the digests of what was used up.
        clock: returns Unix seconds.
        acr_values: the authentication contexts that a login can have.
    """

    def __init__(
        self,
        *,
        database: Database,
        tickets: Tickets,
        csrf: Csrf,
        secret: ServerSecret,
        clock: Callable[[], float],
        acr_values: Collection[str],
    ) -> None:
        self._database = database
        self._secret = secret
        self._tickets = tickets
        self._csrf = csrf
        self._clock = clock
        self._acr_values = acr_values

    def read(self, request: Request, parameters: Parameters, query: str) -> Prompt:
        """Return what an authorization request requires of the login of this browser's user.

        `parameters` are those of its `query`.

        Raises:
            OAuthError: a parameter is malformed or not supported.
        """
        values = frozenset(filter(None, (parameters.get("prompt") or "").split(" ")))
        if not values.issubset(VALUES) or ("none" in values and len(values) > 1):
            raise invalid_request(
                "prompt must be none, or be of login, consent and select_account",
                "unusable_prompt",
                prompt=parameters.get("prompt"),
            )
        max_age = parameters.get("max_age")
        if max_age is not None and not (
            max_age.isascii() and max_age.isdecimal() and len(max_age) <= _MAX_DIGITS
        ):
            raise invalid_request(
                "max_age must be a number of seconds", "malformed_max_age", max_age=max_age
            )
        mark = self._mark(parameters.get(MARK) or "", query)
        return Prompt(
            values,
            None if max_age is None else int(max_age),
            tuple(dict.fromkeys((parameters.get("acr_values") or "").split())),
            mark,
            mark is not None and mark.browser == self._csrf.known_browser(request),
        )

    def possible(self, prompt: Prompt) -> list[str]:
        """Return the authentication contexts of a request that a new login may have."""
        return [each for each in prompt.acr_values if each in self._acr_values]

    def is_met(self, prompt: Prompt, signed_in: SignedIn) -> bool:
        """Whether the user's login satisfies the request."""
        return prompt.is_met(self._dated(signed_in), self._clock())

    def unused(self, prompt: Prompt, signed_in: SignedIn | None) -> Prompt:
        """Return a request without its mark, if that or the user's login was used up."""
        if signed_in is None or not self.is_met(prompt, signed_in):
            return prompt  # the mark is needed to tell a return without a new login
        names = prompt.uses(self._dated(signed_in), self._clock())
        if any(rows.is_used(self._database, self._digests(name)) for name in names):
            return replace(prompt, mark=None)
        return prompt

    def use(self, connection: Connection, prompt: Prompt, signed_in: SignedIn) -> None:
        """Use up the mark, and the login, of a request that gets a code.

        Raises:
            LoginUsed: another request has used one of them; the transaction must be undone.
        """
        now = self._clock()
        for name in prompt.uses(self._dated(signed_in), now):
            if not rows.use_once(connection, self._digests(name), now + _STORED):
                raise LoginUsed("the login was for another request")

    def check(self, prompt: Prompt, signed_in: SignedIn | None) -> None:
        """Raise `OAuthError` if a login is needed and is impossible.

        It is impossible with `prompt=none`, if no login is strong enough, or if the user has
        returned without such a login.
        """
        if signed_in is None:
            if prompt.silent:
                raise OAuthError(names.LOGIN_REQUIRED, "The user is not signed in")
            return
        if self.is_met(prompt, signed_in):
            return
        if not prompt.is_strong_enough(signed_in) and (
            prompt.mark is not None or not self.possible(prompt)
        ):
            # The API would refuse the new token too (RFC 9470 §5).
            raise OAuthError(
                UNMET,
                "The user's login is in none of these authentication contexts (acr_values)",
                acr_values=" ".join(prompt.acr_values),
                acr=signed_in.acr,
            )
        in_vain = prompt.mark is not None and not prompt.was_asked(self._dated(signed_in))
        if prompt.silent or in_vain:
            raise OAuthError(names.LOGIN_REQUIRED, "The user must sign in again")

    def marked(self, query: str, browser: str, signed_in: SignedIn | None) -> str:
        """Return a request's query with the mark that this browser is sent to log in now.

        `signed_in` is who is signed in, None for nobody.
        """
        plain = unmarked(query)
        content = {
            "id": secrets.token_urlsafe(16),
            "at": self._clock(),
            "for": _digest(plain),
            "by": browser,
            "after": None if signed_in is None else signed_in.auth_time,
        }
        ticket = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME)
        return f"{plain}&{MARK}={ticket}"

    def _dated(self, signed_in: SignedIn) -> SignedIn:
        """Leave out a time in the future: such a login would stay recent for as long as it is."""
        at = signed_in.auth_time
        if at is None or at <= self._clock() + MAX_FUTURE:
            return signed_in
        return replace(signed_in, auth_time=None)

    def _mark(self, ticket: str, query: str) -> _Mark | None:
        """Return the mark of a request, None if it has none, or another request's."""
        try:
            content = self._tickets.open(_PURPOSE, ticket)
        except TicketError:
            return None
        # A mark of an earlier version has no name.
        if content.get("for") != _digest(unmarked(query)) or "id" not in content:
            return None
        return _Mark(content["id"], content["at"], content["by"], content["after"])

    def _digests(self, name: str) -> tuple[str, ...]:
        return self._secret.digests("login", name)


def _digest(query: str) -> str:
    return sha256(query.encode()).hexdigest()


def is_silent(parameters: Parameters) -> bool:
    """Whether a request has `prompt=none`."""
    return "none" in (parameters.get("prompt") or "").split(" ")


def unmarked(query: str) -> str:
    """Return a request's query without the mark."""
    return "&".join(each for each in query.split("&") if not each.startswith(f"{MARK}="))
