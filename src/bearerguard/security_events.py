"""Endpoints at which an identity provider pushes what ends tokens, for ASGI and WSGI.

    events = SecurityEvents(guard, audience="https://api.example.com/events")
    # mount events.asgi or events.wsgi outside the guard's middleware, or exclude= its path

`SecurityEvents` receives security event tokens (RFC 8935): CAEP and RISC of the Shared Signals
Framework. `GlobalTokenRevocation` receives the requests of Okta's Universal Logout.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.guard import Guard
from bearerguard.guard.revocation.event_subjects import SubjectOf
from bearerguard.guard.revocation.global_revocation import GlobalRevocationReceiver
from bearerguard.guard.revocation.posted_events import EventReceiver
from bearerguard.guard.revocation.security_events import SecurityEventReceiver
from bearerguard.middleware.receiver_app import ReceiverApp

__all__ = ["GlobalTokenRevocation", "SecurityEvents", "SubjectOf"]


class _EventApp(ReceiverApp):
    """What both endpoints have: the transmitter, and whose tokens its events revoke."""

    def __init__(
        self,
        guard: Guard,
        *,
        transmitter: Issuer | None,
        issuer: str | None,
        bearer: str | Sequence[str] | None,
        subject_of: SubjectOf | None,
    ) -> None:
        if transmitter is not None and not isinstance(transmitter, Issuer):
            raise ConfigurationError("transmitter=: pass an Issuer, with the transmitter's url")
        self._transmitter = transmitter
        self._issuer = issuer
        self._bearer = bearer
        self._subject_of = subject_of
        super().__init__(guard)

    def _event_receiver(self) -> EventReceiver:
        guard, issuer, transmitter = self._guard, self._issuer, self._transmitter
        validator = None
        only = guard.issuers[0] if len(guard.issuers) == 1 else None
        if issuer is None and only is not None and only.tenants is None:
            issuer = only.url
        if transmitter is not None:
            if issuer is None:
                raise ConfigurationError(
                    "issuer=: this guard has several, or one with tenants: pass the url of the one"
                    " whose tokens the transmitter's events revoke"
                )
            options = guard.options
            validator = Guard(
                transmitter,
                transport=options.get("transport"),
                on_event=options.get("on_event"),
                clock=guard.clock,
                monotonic=options.get("monotonic"),
            )
        return guard.event_receiver(
            validator, issuer=issuer, bearer=self._bearer, subject_of=self._subject_of
        )


class SecurityEvents(_EventApp):
    """Accepts security event tokens (RFC 8417) that are pushed (RFC 8935), and revokes accordingly.

    These events revoke the tokens of their subject that were issued before the event: of CAEP
    session-revoked, credential-change (but not `create`) and token-claims-change; of RISC
    account-disabled, account-purged, account-credential-change-required, credential-compromise and
    sessions-revoked. All others are acknowledged and reported.

    Responds with 202 when every worker will refuse those tokens, also to a token that was received
    before; with 400 and an error code (RFC 8935 §2.4) to one that is not genuine; with 401 without
    the credentials of `bearer`; and with 503 and `Retry-After` when tokens could not be revoked.

    Args:
        guard: a guard with `revocations=`.
        audience: the name of this receiver, the `aud` of security event tokens; or a list.
        transmitter: who signs them, if that is none of the guard's issuers; its `audience` is
            not used.
        issuer: the issuer whose tokens are revoked, by its url; by default the guard's only one,
            or the one that signed. Without `transmitter` it must have signed.
        bearer: the secret that the transmitter sends as `Authorization: Bearer`, or a list, the
            newest first; by default the signature alone is required.
        subject_of: called with a subject identifier (RFC 9493) of a format such as `email`; returns
            the `sub` that the issuer's tokens have for it, several of them, or None. It is called
            in the thread or event loop of the request, so it must be quick.
        also: URIs of further events that revoke.

    Raises:
        ConfigurationError: the guard has no revocations, or an option is malformed.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        audience: str | Collection[str],
        transmitter: Issuer | None = None,
        issuer: str | None = None,
        bearer: str | Sequence[str] | None = None,
        subject_of: SubjectOf | None = None,
        also: Collection[str] = (),
    ) -> None:
        self._audience = audience
        self._also = also
        super().__init__(
            guard, transmitter=transmitter, issuer=issuer, bearer=bearer, subject_of=subject_of
        )

    def _prepare(self) -> None:
        receiver = SecurityEventReceiver(self._event_receiver(), self._audience, self._also)
        self._receive = receiver.receive


class GlobalTokenRevocation(_EventApp):
    """Accepts requests to revoke all tokens of a user, such as those of Okta's Universal Logout.

    The protocol is draft-parecki-oauth-global-token-revocation. Responds with 204 when every worker
    will refuse the tokens issued until now, with 400 to a malformed request, with 401 to a caller
    that is not authenticated, with 404 where `subject_of` knows no such user, and with 503 and
    `Retry-After` when tokens could not be revoked.

    Args:
        guard: a guard with `revocations=`.
        audience: the URL of this endpoint, the `aud` of the JWT with which a caller authenticates;
            or a list. None if callers send a secret.
        transmitter: who signs those JWTs, if that is none of the guard's issuers; its `audience` is
            not used.
        issuer: the issuer whose tokens are revoked, by its url; by default the guard's only one,
            or the one that signed. Without `transmitter` it must have signed.
        bearer: a secret that a caller may send as `Authorization: Bearer` instead of a JWT; or a
            list, the newest first.
        subject_of: as for `SecurityEvents`.

    Raises:
        ConfigurationError: the guard has no revocations, or an option is malformed.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        audience: str | Collection[str] | None = None,
        transmitter: Issuer | None = None,
        issuer: str | None = None,
        bearer: str | Sequence[str] | None = None,
        subject_of: SubjectOf | None = None,
    ) -> None:
        self._audience = audience
        super().__init__(
            guard, transmitter=transmitter, issuer=issuer, bearer=bearer, subject_of=subject_of
        )

    def _prepare(self) -> None:
        receiver = GlobalRevocationReceiver(self._event_receiver(), self._audience)
        self._receive = receiver.receive
