"""What the login needs of any issuer elsewhere, and how a login there can fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from bearerguard.errors import BearerGuardError
from bearerguard.protocol.events.logout_token import Logout
from bearerguard.protocol.http import document
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.server.store.schema import MAX_ID
from bearerguard.server.upstream.options import Admission, UpstreamIdentity

RETRY_SECONDS = 5
# What a page says of a failure; the names are those of texts.
Outcome: TypeAlias = Literal[
    "unavailable", "invalid", "stale", "refused", "cancelled", "busy", "unmet", "throttled"
]
STATUS: dict[Outcome, int] = {
    "unavailable": 503,
    "busy": 503,
    "invalid": 400,
    "stale": 400,
    "refused": 403,
    "cancelled": 403,
    "unmet": 403,
    "throttled": 429,
}


class UpstreamError(BearerGuardError):
    """A login elsewhere failed. Internal: the endpoint shows a page and reports the cause.

    Attributes:
        outcome: what the page says.
        reason: what exactly was wrong, as a stable name for the log.
        cause: the same in words, without secrets, tokens and subjects.
    """

    def __init__(self, outcome: Outcome, reason: str, cause: str = "") -> None:
        super().__init__(f"{reason}: {cause}")
        self.outcome: Outcome = outcome
        self.reason = reason
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Asked:
    """A login elsewhere that was begun.

    Attributes:
        redirect_uri: where the user returns to.
        nonce: what the ID token must contain (OIDC Core §3.1.2.1).
        verifier: the PKCE verifier (RFC 7636).
        begun_at: when, in Unix seconds.
        prompt: the values of `prompt` that are passed on, or "".
        max_age: the maximum age of the login in seconds, None for any.
        acr_values: the authentication contexts that are asked for, by their names here.
    """

    redirect_uri: str
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    begun_at: float
    prompt: str = ""
    max_age: int | None = None
    acr_values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Authenticated:
    """Who has logged in elsewhere, and how.

    Attributes:
        identity: who.
        acr: the authentication context, by its name here; None if unknown.
        amr: the authentication methods (RFC 8176), empty if unknown.
        auth_time: when the user was authenticated, in Unix seconds; None if unknown.
        session: the session there, which a logout token may name; None if unknown.
        issued_at: when the ID token says so, in Unix seconds by the clock there; None without one.
    """

    identity: UpstreamIdentity
    acr: str | None = None
    amr: tuple[str, ...] = ()
    auth_time: float | None = None
    session: str | None = field(default=None, repr=False)
    issued_at: float | None = None


class Provider(Protocol):
    """An issuer elsewhere. Its calls block for as long as the transport's timeout allows."""

    @property
    def key(self) -> str:
        """Its name in URLs."""
        ...

    @property
    def name(self) -> str:
        """Its name on pages."""
        ...

    @property
    def issuer(self) -> str:
        """What identities there are linked by."""
        ...

    @property
    def acr_values(self) -> tuple[str, ...]:
        """The authentication contexts that its logins are known to have, by their names here."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether `authorization_url` returns without a request."""
        ...

    def authorization_url(self, asked: Asked, state: str) -> str:
        """Return where the user logs in; raises `UpstreamError`."""
        ...

    def authenticate(self, code: str, issuer: str | None, asked: Asked) -> Authenticated:
        """Return who has logged in, by the code of a response; raises `UpstreamError`.

        `issuer` is the parameter `iss` of the response (RFC 9207).
        """
        ...

    def admission(self, identity: UpstreamIdentity) -> Admission | None:
        """Return whether a user may sign in here; raises what the operator's function raises."""
        ...

    def logout(self, token: str) -> Logout:
        """Return who is logged out by a logout token.

        Raises:
            TokenError: the token is not valid.
            IssuerUnavailable: the keys of the issuer cannot be fetched at the moment.
        """
        ...

    def close(self) -> None:
        """Close connections, and stop refreshing keys."""
        ...


def fetched(transport: Transport, request: Fetch) -> Response:
    """Return a response, whatever its status; raises `UpstreamError` for none."""
    try:
        return transport.fetch(request)
    except FetchFailed as error:
        raise UpstreamError("unavailable", error.kind or "fetch_failed", str(error)) from error


def read_json(transport: Transport, url: str, headers: tuple[tuple[str, str], ...] = ()) -> Any:
    """Return the JSON value at a URL; raises `UpstreamError`."""
    request = Fetch("GET", url, (("accept", "application/json"), *headers))
    return json_value(url, fetched(transport, request))


def json_value(url: str, response: Response) -> Any:
    """Return the JSON value of a response from a URL; raises `UpstreamError`."""
    fault = document.unserved(url, response)
    if fault is not None:
        raise UpstreamError("unavailable", fault.kind or "status", str(fault))
    try:
        return document.loads(response.body)
    except ValueError as error:
        raise UpstreamError("unavailable", "not_json", f"{url}: {error}") from error


def text(value: object) -> str:
    """Return a claim that is a text, "" for any other."""
    return value if isinstance(value, str) else ""


def checked_subject(value: object) -> str:
    """Return the subject of an identity; raises `UpstreamError` unless it is usable."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_ID or not value.isprintable():
        raise UpstreamError(
            "invalid", "unusable_subject", f"its sub is no text of 1 to {MAX_ID} characters"
        )
    return value
