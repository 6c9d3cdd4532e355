"""`prompt`, `max_age` and `acr_values` (OIDC Core §3.1.2.1, RFC 9470).

Decides whether a login is recent enough. A user who is sent to the login page returns with the same
authorization request. A mark in its query records when the user was sent, so that the login page is
not shown twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.login.session import SignedIn
from bearerguard.server.login.ticket import TicketError, Tickets

# The query parameter that contains the mark.
MARK = "bearerguard_asked"

_VALUES = frozenset({"none", "login", "consent", "select_account"})
_MAX_DIGITS = 10
_PURPOSE = "sign in again"
_LIFETIME = 3600  # as long as the login page's form
# Seconds. The clock of an app's own login may differ from ours, or count whole seconds.
_SKEW = 5
# Seconds after the login during which the mark counts.
_MOMENT = 300


@dataclass(frozen=True, slots=True)
class Prompt:
    """What an authorization request requires of the login.

    Attributes:
        values: the values of `prompt`.
        max_age: the maximum age of the login, in seconds; None for any.
        asked_at: when the user was sent to log in for this request, in Unix seconds; None if the
            user was not.
    """

    values: frozenset[str] = frozenset()
    max_age: int | None = None
    asked_at: float | None = None

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
        return "login" if "login" in self.values or self.max_age is not None else ""

    def was_asked(self, signed_in: SignedIn) -> bool:
        """Whether the user has logged in since being sent to log in."""
        at = signed_in.auth_time
        return self.asked_at is not None and at is not None and at + _SKEW >= self.asked_at

    def is_met(self, signed_in: SignedIn, now: float) -> bool:
        """Whether the user's login satisfies the request."""
        at = signed_in.auth_time
        since_asked = self.was_asked(signed_in) and at is not None and now - at <= _MOMENT
        if "login" in self.values or self.max_age == 0:  # the same (OIDC Core §3.1.2.1)
            return since_asked
        if "select_account" in self.values and self.asked_at is None:
            return False
        if self.max_age is None:
            return True
        return since_asked or (at is not None and now - at <= self.max_age)


class Prompts:
    """Reads `prompt` and its companions, and marks requests whose users are sent to log in."""

    def __init__(self, tickets: Tickets, clock: Callable[[], float]) -> None:
        self._tickets = tickets
        self._clock = clock

    def read(self, parameters: Parameters) -> Prompt:
        """Return what a request requires of the login.

        Raises:
            OAuthError: a parameter is malformed or not supported.
        """
        values = frozenset(filter(None, (parameters.get("prompt") or "").split(" ")))
        if not values <= _VALUES or ("none" in values and len(values) > 1):
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
        if parameters.get("acr_values") is not None:
            # Our tokens have no acr claim, so the API would refuse the new token too (RFC 9470 §5).
            raise OAuthError(
                "unmet_authentication_requirements",
                "The server has no authentication context classes (acr_values)",
                acr_values=parameters.get("acr_values"),
            )
        return Prompt(
            values,
            None if max_age is None else int(max_age),
            self._asked_at(parameters.get(MARK) or ""),
        )

    def is_met(self, prompt: Prompt, signed_in: SignedIn) -> bool:
        """Whether the user's login satisfies the request."""
        return prompt.is_met(signed_in, self._clock())

    def check(self, prompt: Prompt, signed_in: SignedIn) -> None:
        """Raise `OAuthError` if a new login is needed and is impossible.

        It is impossible with `prompt=none`, or if the user has returned without a new login.
        """
        if self.is_met(prompt, signed_in):
            return
        in_vain = prompt.asked_at is not None and not prompt.was_asked(signed_in)
        if prompt.silent or in_vain:
            raise OAuthError("login_required", "The user did not sign in recently enough")

    def marked(self, query: str) -> str:
        """Return a request's query with the mark that the user is sent to log in now."""
        ticket = self._tickets.issue(_PURPOSE, {"at": self._clock()}, lifetime=_LIFETIME)
        return f"{unmarked(query)}&{MARK}={ticket}"

    def _asked_at(self, ticket: str) -> float | None:
        try:
            at: float = self._tickets.open(_PURPOSE, ticket)["at"]
        except TicketError:
            return None
        return at


def is_silent(parameters: Parameters) -> bool:
    """Whether a request has `prompt=none`."""
    return "none" in (parameters.get("prompt") or "").split(" ")


def unmarked(query: str) -> str:
    """Return a request's query without the mark."""
    return "&".join(each for each in query.split("&") if not each.startswith(f"{MARK}="))
