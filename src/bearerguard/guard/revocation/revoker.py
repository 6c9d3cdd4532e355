"""What `guard.revoke(...)` does: from its arguments to a revocation in the store.

Checks the arguments before anything is sent to other workers. `revocation_list` says what a
revocation is, and `revocations` how it reaches other workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol, TypedDict, Unpack

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.issuer import TENANT
from bearerguard.guard.events import Events
from bearerguard.guard.revocation.backchannel_logout import LogoutReceiver
from bearerguard.guard.revocation.event_subjects import SubjectOf
from bearerguard.guard.revocation.posted_events import EventReceiver, SignatureValidator
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.guard.revocation.revocations import SLACK, GuardRevocations
from bearerguard.principal import Principal
from bearerguard.protocol.jose.jwt import MAX_FUTURE
from bearerguard.protocol.revocation import REVOCABLE, Kind
from bearerguard.runtime.flow import Flow


class Names(TypedDict, total=False):
    """What `Guard.revoke` can revoke by name."""

    issuer: str | None
    token_id: str | None
    subject: str | None
    client_id: str | None
    session_id: str | None
    key_id: str | None
    issued_before: float | None


class Issuers(Protocol):
    """The issuers of a guard, by their names."""

    @property
    def urls(self) -> Sequence[str]:
        """Their urls, multi-tenant patterns included."""
        ...

    def named(self, name: str) -> str | None:
        """Return the url of the issuer, or of the allowed tenant, that is called `name`."""
        ...


class Revoker:
    """Revokes on behalf of a guard.

    Args:
        revocations: the guard's; None if it has none.
        identify: returns the principal of a token, revoked or not.
        issuers: the guard's issuers.
        clock: returns Unix seconds.
        events: the guard's.
    """

    def __init__(
        self,
        revocations: GuardRevocations | None,
        *,
        identify: Callable[[str | bytes], Flow[Principal]],
        issuers: Issuers,
        clock: Callable[[], float],
        events: Events,
    ) -> None:
        self._revocations = revocations
        self._identify = identify
        self._issuers = issuers
        self._clock = clock
        self._events = events

    def revoke(self, token: str | bytes | None, **names: Unpack[Names]) -> Flow[None]:
        """Revoke a token, or what `names` name.

        Raises `ConfigurationError` for a mistake in the arguments, and `RevocationFailed` when
        the store did not acknowledge it.
        """
        revocations = self._given()
        unknown = names.keys() - Names.__annotations__.keys()
        if unknown:  # ignoring it would revoke something else
            raise ConfigurationError(f"revoke(): there is no {min(unknown)}=")
        if token is not None and not isinstance(token, str | bytes):
            raise ConfigurationError("revoke(): pass the token as it is sent, or a name")
        if token is None:
            made = self._named(revocations, names)
        elif any(value is not None for value in names.values()):
            raise ConfigurationError("revoke(): pass a token or a name, not both")
        else:
            principal = yield from self._identify(token)
            life = revocations.shared.max_token_life
            made = revocation_of(principal, now=self._clock(), max_token_life=life)
        yield from revocations.revoke([made])

    def add(self, named: Iterable[Mapping[str, Any]]) -> None:
        """Add revocations that an embedded server has written to the store already."""
        revocations = self._given()
        revocations.shared.add(
            # As long as the store has it, which is no longer than what it revokes.
            replace(self._named(revocations, names), expires_at=names["expires_at"])
            for names in named
        )

    def forward(self) -> Flow[None]:
        """Publish to all workers what an embedded server has written to its database."""
        yield from self._given().forward()

    def logout_receiver(
        self, client_id: str | Collection[str], validator: SignatureValidator
    ) -> LogoutReceiver:
        """Return the receiver of back-channel logouts for the client, or the clients, named."""
        return LogoutReceiver(
            client_id, validator, self._revocations, clock=self._clock, events=self._events
        )

    def event_receiver(
        self,
        validator: SignatureValidator,
        *,
        issuer: str | None,
        is_delegated: bool,
        bearer: str | Iterable[str] | None,
        subject_of: SubjectOf | None,
    ) -> EventReceiver:
        """Return what a receiver of events works with; `issuer` is one of the guard's."""
        return EventReceiver(
            self._revocations,
            validator=validator,
            issuers=self._issuers,
            issuer=None if issuer is None else chosen_issuer(issuer, self._issuers),
            is_delegated=is_delegated,
            bearer=bearer,
            subject_of=subject_of,
            clock=self._clock,
            events=self._events,
        )

    def health(self, others: dict[str, Any]) -> dict[str, Any]:
        """Return `others`, the health of a guard's issuers, with that of its revocations."""
        health = self._given().health()
        return {
            **others,
            "ready": others["ready"] and health.ready,
            "fresh": others["fresh"] and health.fresh,
            "revocations": asdict(health),
        }

    def _given(self) -> GuardRevocations:
        if self._revocations is None:
            raise ConfigurationError("revoke(): give the guard revocations=Revocations(...)")
        return self._revocations

    def _named(self, revocations: GuardRevocations, names: Mapping[str, Any]) -> Revocation:
        given = {
            name: value for name, value in names.items() if name not in {"issuer", "expires_at"}
        }
        return revocation(
            issuer=chosen_issuer(names.get("issuer"), self._issuers),
            now=self._clock(),
            max_token_life=revocations.shared.max_token_life,
            **given,
        )


def revocation(
    *,
    issuer: str,
    now: float,
    max_token_life: float,
    issued_before: float | None = None,
    **names: object,
) -> Revocation:
    """Return the revocation of a token, or of all tokens of a subject, client, session or key.

    `names` are arguments of `Guard.revoke`, and `now` is in Unix seconds. Raises
    `ConfigurationError` unless exactly one name is given.
    """
    named: list[tuple[Kind, object]] = [
        (each.kind, value) for each in REVOCABLE if (value := names.get(each.argument)) is not None
    ]
    if len(named) != 1:
        raise ConfigurationError(
            "revoke(): pass exactly one of a token, token_id=, subject=, client_id=, session_id= or"
            " key_id="
        )
    ((kind, value),) = named
    if not isinstance(value, str) or not value or not _is_unicode(value):
        raise ConfigurationError("revoke(): pass the name as the token has it, a non-empty text")
    if kind in {"token", "signing_key"}:
        if issued_before is not None:
            raise ConfigurationError(
                "issued_before=: a token, or a key, is revoked whenever it was issued: leave it out"
            )
        return Revocation(kind, issuer, value, None, now + max_token_life + SLACK)
    before = _checked_date(issued_before, now)
    expires_at = max(before, now) + max_token_life + SLACK
    return Revocation(kind, issuer, value, before, expires_at)


def revocation_of(principal: Principal, *, now: float, max_token_life: float) -> Revocation:
    """Return the revocation of the token of `principal`."""
    if principal.issuer is None or principal.token_id is None:
        raise ConfigurationError(
            "revoke(): this token has no jti to revoke it by: pass subject= or client_id="
        )
    longest = now + max_token_life
    expires_at = longest if principal.expires_at is None else min(longest, principal.expires_at)
    return Revocation("token", principal.issuer, principal.token_id, None, expires_at + SLACK)


def chosen_issuer(issuer: str | None, issuers: Issuers) -> str:
    """Return the issuer whose tokens are revoked: the guard's only one, or the one named.

    Raises `ConfigurationError` if it is not clear which one, or `issuer` is not the guard's.
    """
    if issuer is None:
        if len(issuers.urls) != 1:
            raise ConfigurationError("issuer=: this guard has several: pass the url of one")
        issuer = issuers.urls[0]
    if not isinstance(issuer, str):
        raise ConfigurationError("issuer=: pass the issuer's url, as tokens have it in iss")
    url = issuers.named(issuer)
    if url is None:
        if TENANT in issuer and issuer in issuers.urls:
            raise ConfigurationError(
                f"issuer=: {quoted(issuer)} has many tenants: pass the url of the one you mean"
            )
        raise ConfigurationError(
            f"issuer=: {quoted(issuer)} is not an issuer of this guard, nor an allowed tenant"
        )
    return url


def _checked_date(issued_before: float | None, now: float) -> float:
    if issued_before is None:
        # Dates in tokens are whole seconds: tokens issued in the present one are revoked too.
        return math.floor(now) + 1.0
    if isinstance(issued_before, bool) or not isinstance(issued_before, int | float):
        raise ConfigurationError("issued_before=: pass a time in Unix seconds")
    # A date further ahead would also refuse tokens that are yet to be issued.
    if not 0 <= issued_before <= now + MAX_FUTURE:
        raise ConfigurationError(
            "issued_before=: pass a time in Unix seconds that is not in the future"
        )
    return float(issued_before)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
