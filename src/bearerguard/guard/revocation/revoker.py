"""What a guard does about revocations, or that it was given none.

Owns the steps from `guard.revoke(...)` to the store; what a revocation is and how it spreads
is `revocation`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, TypedDict, Unpack

from bearerguard.errors import ConfigurationError
from bearerguard.guard.events import Events
from bearerguard.guard.revocation.back_channel import LogoutReceiver
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.guard.revocation.revocations import SLACK, Revocations
from bearerguard.guard.revocation.revoking import chosen_issuer, revocation, revocation_of
from bearerguard.guard.revocation.store import RevocationStore
from bearerguard.guard.tokens.authenticator import Authenticator
from bearerguard.guard.tokens.jwt_validator import JwtValidator
from bearerguard.guard.tokens.token_cache import octets
from bearerguard.guard.tokens.trust import Trust
from bearerguard.runtime.flow import Flow


class Names(TypedDict, total=False):
    """What can be revoked by name: see `Guard.revoke`."""

    issuer: str | None
    token_id: str | None
    subject: str | None
    client_id: str | None
    session_id: str | None
    key_id: str | None
    issued_before: float | None


class Revoker:
    """Revokes on behalf of a guard; `clock` returns Unix seconds."""

    def __init__(
        self,
        revocations: Revocations | None,
        authenticator: Authenticator,
        trust: Trust,
        clock: Callable[[], float],
        events: Events,
    ) -> None:
        if revocations is not None:
            revocations.attach(clock, events.emit)
        self._revocations = revocations
        self._authenticator = authenticator
        self._trust = trust
        self._clock = clock
        self._events = events

    def revoke(self, token: str | bytes | None, **names: Unpack[Names]) -> Flow[None]:
        """Revoke a token, or what is named."""
        revocations = self._given()
        unknown = names.keys() - Names.__annotations__.keys()
        if unknown:  # ignored, it would revoke something else than was meant
            raise ConfigurationError(f"revoke(): there is no {min(unknown)}=")
        if token is not None and not isinstance(token, str | bytes):
            raise ConfigurationError("revoke(): pass the token as it is sent, or name what it has")
        if token is None:
            made = self._named(revocations, names)
        elif any(value is not None for value in names.values()):
            raise ConfigurationError("revoke(): a token says itself what it is: name nothing else")
        else:
            entry = yield from self._authenticator.identify(octets(token))
            life = revocations.max_token_life
            made = revocation_of(entry.principal, now=self._clock(), max_token_life=life)
        yield from revocations.revoke([made])

    def learn(self, named: Iterable[Mapping[str, Any]]) -> None:
        """Take in what is revoked and in the store: by the server in this process."""
        revocations = self._given()
        # The store says until when the revocation of a token matters; unless that was read by then,
        # nothing is believed any more.
        soon = self._clock() + revocations.max_staleness + SLACK
        made = [self._named(revocations, names) for names in named]
        revocations.learn(
            replace(each, expires_at=min(each.expires_at, soon)) if each.kind == "token" else each
            for each in made
        )

    def fed_by(self, log: RevocationStore) -> bool:
        """Return whether a server's log is the store itself; else what is in it is forwarded."""
        revocations = self._given()
        is_ours = revocations.store is log
        if not is_ours:
            revocations.fed_by(log)
        return is_ours

    def forward(self) -> Flow[None]:
        """Tell all workers what a server in this process has written down."""
        yield from self._given().forward()

    def logout_receiver(
        self, client_id: str | Collection[str], validator: JwtValidator
    ) -> LogoutReceiver:
        """Return what answers back-channel logouts to the client of that id, or of those."""
        return LogoutReceiver(
            client_id, validator, self._revocations, clock=self._clock, events=self._events
        )

    def warm(self) -> Flow[None]:
        """Read what was revoked, if that is due; a store that is down is only reported."""
        if self._revocations is not None:
            yield from self._revocations.warm()

    def health(self, others: dict[str, Any]) -> dict[str, Any]:
        """Return the health of a guard: that of the others, and of the revocations."""
        if self._revocations is None:
            return others
        health = self._revocations.health()
        ok = others["ok"] and health.status in {"local", "fresh"}
        return {**others, "ok": ok, "revocations": asdict(health)}

    def close(self) -> None:
        """Follow no longer what others revoke, until the next request."""
        if self._revocations is not None:
            self._revocations.close()

    def _given(self) -> Revocations:
        if self._revocations is None:
            raise ConfigurationError("revoke(): give the guard revocations=Revocations(...)")
        return self._revocations

    def _named(self, revocations: Revocations, names: Mapping[str, Any]) -> Revocation:
        return revocation(
            issuer=chosen_issuer(names.get("issuer"), self._trust.urls, self._trust.named),
            now=self._clock(),
            max_token_life=revocations.max_token_life,
            token_id=names.get("token_id"),
            subject=names.get("subject"),
            client_id=names.get("client_id"),
            session_id=names.get("session_id"),
            key_id=names.get("key_id"),
            issued_before=names.get("issued_before"),
        )
