"""What the receivers of pushed events share: who may post, what is signed, and how one is applied.

Knows no ASGI and no WSGI, and neither format of events.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from bearerguard.errors import (
    UNKNOWN_ISSUER,
    ConfigurationError,
    CredentialsError,
    Reason,
    TokenError,
    quoted,
)
from bearerguard.guard.config.names import names
from bearerguard.guard.events import Events
from bearerguard.guard.revocation.event_subjects import EventSubjects, Named, SubjectOf
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.guard.revocation.revocations import SLACK, GuardRevocations
from bearerguard.principal import Principal
from bearerguard.protocol.http.credentials import bearer_token, is_token68
from bearerguard.protocol.names import JSON
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import Response

# A token of a security event has some 1000 bytes.
MAX_BODY = 65_536
_LEAST_SECRET = 16
NO_STORE = ("Cache-Control", "no-store")


class Posted(NamedTuple):
    """A request as an adapter has read it.

    `body` is None if it was longer than `MAX_BODY` and was not read; a field that is absent or
    repeated is empty.
    """

    method: str
    content_type: str
    authorization: str
    body: bytes | None

    def __repr__(self) -> str:
        """Show the method alone: the others hold secrets."""
        return f"Posted({self.method!r})"

    @property
    def media_type(self) -> str:
        """Its media type without parameters, in lower case."""
        return self.content_type.partition(";")[0].strip().lower()


class Signer(Protocol):
    """An issuer, by its url."""

    @property
    def url(self) -> str:
        """Return it."""
        ...

    @property
    def leeway(self) -> float:
        """Return its leeway for dates, in seconds."""
        ...


class Signed(Protocol):
    """The claims of a JWT whose signature is valid; they are unchecked."""

    @property
    def claims(self) -> Mapping[str, Any]:
        """Return them."""
        ...

    @property
    def issuer(self) -> Signer:
        """Return the issuer that signed it."""
        ...

    @property
    def key_id(self) -> str | None:
        """Return the `kid` of the key that signed it."""
        ...


class SignatureValidator(Protocol):
    """Verifies the signatures of JWTs that are no access tokens."""

    def verify_signature(
        self, octets: bytes, check_type: Callable[[str | None], None], /
    ) -> Flow[Signed]:
        """Return the claims of a JWT of a trusted issuer; raises `TokenError` for another."""
        ...


class EventReceiver:
    """What each receiver works with.

    Args:
        revocations: the guard's; None if it has none.
        validator: verifies what the transmitters sign.
        issuers: those of the guard.
        issuer: whose tokens are revoked; None for those of the issuer that signed.
        is_delegated: whether another than that issuer signs.
        bearer: the secrets by which a transmitter may authenticate, the newest first.
        subject_of: resolves subject identifiers of the application's own.
        clock: returns Unix seconds.
        events: the guard's.

    Raises `ConfigurationError` without revocations.
    """

    def __init__(
        self,
        revocations: GuardRevocations | None,
        *,
        validator: SignatureValidator,
        issuers: Named,
        issuer: str | None,
        is_delegated: bool,
        bearer: str | Iterable[str] | None,
        subject_of: SubjectOf | None,
        clock: Callable[[], float],
        events: Events,
    ) -> None:
        self.revocations: GuardRevocations = required(revocations)
        self.validator = validator
        self.subjects: EventSubjects = EventSubjects(issuers, subject_of)
        self.issuer = issuer
        self._is_delegated = is_delegated
        self.clock: Callable[[], float] = clock
        self.events = events
        self._bearer = _secrets(bearer)

    @property
    def has_bearer(self) -> bool:
        """Whether transmitters authenticate with a secret."""
        return bool(self._bearer)

    def has_secret(self, posted: Posted) -> bool:
        """Whether a request has one of the transmitters' secrets."""
        sent = credentials(posted)
        known = [hmac.compare_digest(sent, each) for each in self._bearer]
        return any(known)

    def issuer_for(self, signed: Signed | None) -> str:
        """Return the issuer whose tokens a caller may revoke, None for one with a secret.

        Raises `TokenError` for an issuer of the guard that speaks of another one's tokens.
        """
        if signed is None or self._is_delegated:
            return self.issuer or ""
        if self.issuer is not None and signed.issuer.url != self.issuer:
            raise TokenError(
                UNKNOWN_ISSUER,
                f"it is signed by {quoted(signed.issuer.url)}, and issuer= is another one",
                issuer=signed.issuer.url,
            )
        return signed.issuer.url

    def check_new(self, signed: Signed, token_id: str | None, reason: Reason) -> Flow[bool]:
        """Do as `check_new` with the revocations of the guard."""
        return (yield from check_new(self.revocations, signed, token_id, reason))

    def received(self, signed: Signed, token_id: str) -> Revocation:
        """Return what notes that a signed JWT was received."""
        # A replay after that does no harm: it revokes what was issued before the event.
        end = self.clock() + self.revocations.shared.max_token_life + SLACK
        return Revocation("token", signed.issuer.url, token_id, None, end)


def required(revocations: GuardRevocations | None) -> GuardRevocations:
    """Return the revocations of a guard; raises `ConfigurationError` if it has none."""
    if revocations is None:
        raise ConfigurationError("guard=: pass Guard(..., revocations=Revocations(...))")
    return revocations


def check_new(
    revocations: GuardRevocations, signed: Signed, token_id: str | None, reason: Reason
) -> Flow[bool]:
    """Return whether a signed JWT was not received before.

    Raises `TokenError` where the key that signed it was withdrawn.
    """
    issuer = signed.issuer.url
    yield from revocations.ensure(issuer)
    revoked = revocations.current
    if revoked.covers(Principal(issuer=issuer), signed.key_id):
        raise TokenError(reason, f"the key {quoted(signed.key_id)} that signed it was withdrawn")
    return token_id is None or not revoked.covers(Principal(issuer=issuer, token_id=token_id))


def credentials(posted: Posted) -> bytes:
    """Return the bearer token of a request, empty without one."""
    sent = posted.authorization.encode("latin-1", "replace")
    try:
        return bearer_token([sent] if sent else []) or b""
    except CredentialsError:
        return b""


def failure(
    status: int, error: str, description: str, headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    """Return a response with an OAuth error as JSON (RFC 6749 §5.2)."""
    body = json.dumps({"error": error, "error_description": description}).encode()
    fields = (("Content-Type", JSON), ("Content-Length", str(len(body))))
    return Response(status, (*fields, NO_STORE, *headers), body)


def unavailable(retry_after: int) -> Response:
    """Return 503: the transmitter may send the same again."""
    retry = ("Retry-After", str(retry_after))
    return Response(503, (("Content-Length", "0"), retry, NO_STORE))


def _secrets(bearer: str | Iterable[str] | None) -> tuple[bytes, ...]:
    if bearer is None:
        return ()
    remedy = "pass the secret that the transmitter sends, or a list of them, the newest first"
    secrets = names("bearer", bearer, remedy)
    found = tuple(each.encode() for each in secrets)
    if not all(len(each) >= _LEAST_SECRET and is_token68(each) for each in found):
        raise ConfigurationError(
            f"bearer=: a secret has at least {_LEAST_SECRET} letters, digits and -._~+/ characters"
        )
    return found
