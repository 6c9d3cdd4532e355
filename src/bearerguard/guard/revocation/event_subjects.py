"""Whose tokens an event revokes: from the subject of an event to revocations.

Owns the options that a receiver of events has besides its own. Knows no HTTP and no JWT.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol, TypeAlias

from bearerguard.errors import ConfigurationError, RevocationFailed
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.guard.revocation.revocations import SLACK
from bearerguard.protocol.events import subject_identifier
from bearerguard.protocol.events.subject_identifier import SubjectIdentifier
from bearerguard.protocol.revocation import Kind

SubjectOf: TypeAlias = Callable[[Mapping[str, Any]], str | Collection[str] | None]
"""Returns the `sub` of the user whom a subject identifier (RFC 9493) means, or None."""


class Named(Protocol):
    """Knows the issuers of a guard by their names."""

    def named(self, name: str) -> str | None:
        """Return the url of the issuer that is called `name`."""
        ...


class EventSubjects:
    """Resolves the subjects of events.

    Args:
        issuers: those of the guard.
        subject_of: resolves identifiers of other formats, such as `email`.
    """

    def __init__(self, issuers: Named, subject_of: SubjectOf | None) -> None:
        if subject_of is not None and not callable(subject_of):
            raise ConfigurationError(
                "subject_of=: pass a callable that takes a subject identifier and returns a sub"
            )
        self._issuers = issuers
        self._subject_of = subject_of

    def resolve(
        self,
        identifiers: Iterable[SubjectIdentifier],
        issuer: str,
        *,
        transmitter: str,
        may_be_session: bool = False,
    ) -> list[tuple[Kind, str]]:
        """Return what to revoke of the tokens of `issuer`; nothing for a subject unknown here.

        `transmitter` is the issuer that speaks of the subject. A simple identifier may be that of
        a session if `may_be_session`. Raises `RevocationFailed` if `subject_of` fails.
        """
        users: list[str] = []
        sessions: list[str] = []
        clients: list[str] = []
        tokens: list[str] = []
        for each in identifiers:
            if each.format in {subject_identifier.ISS_SUB, subject_identifier.JWT_ID}:
                # An issuer speaks of its own subjects alone.
                if each["iss"] != transmitter and self._issuers.named(each["iss"]) != issuer:
                    continue
                is_token = each.format == subject_identifier.JWT_ID
                (tokens if is_token else users).append(each["jti" if is_token else "sub"])
            elif each.format == subject_identifier.OPAQUE and each.part == "session":
                sessions.append(each["id"])
            elif each.format == subject_identifier.OPAQUE and each.part == "application":
                clients.append(each["id"])
            elif each.part in {subject_identifier.SIMPLE, "user"}:
                if each.format == subject_identifier.OPAQUE:
                    users.append(each["id"])
                    if may_be_session and each.part == subject_identifier.SIMPLE:
                        sessions.append(each["id"])
                users += self._asked(each)
        return _what_to_revoke(users, sessions, clients, tokens)

    def _asked(self, identifier: SubjectIdentifier) -> list[str]:
        if self._subject_of is None or identifier.format == subject_identifier.OPAQUE:
            return []
        try:
            found = self._subject_of(identifier.members)
            several = [] if found is None else [found] if isinstance(found, str) else list(found)
        except Exception as error:
            raise RevocationFailed(f"subject_of= raised {type(error).__name__}") from error
        if not all(isinstance(each, str) and each for each in several):
            raise RevocationFailed("subject_of= returned no text, no list of texts and not None")
        return several


def revocations(
    named: Iterable[tuple[Kind, str]],
    issuer: str,
    *,
    occurred_at: float,
    now: float,
    max_token_life: float,
) -> list[Revocation]:
    """Return the revocations of tokens issued until `occurred_at`, which is in Unix seconds."""
    # By the issuer's clock, like the dates of its access tokens, which are whole seconds.
    before = math.floor(occurred_at) + 1.0
    expires_at = max(before, now) + max_token_life + SLACK
    return [
        Revocation(kind, issuer, value, None if kind == "token" else before, expires_at)
        for kind, value in named
    ]


def _what_to_revoke(
    users: list[str], sessions: list[str], clients: list[str], tokens: list[str]
) -> list[tuple[Kind, str]]:
    is_session_of_user = sessions and not set(users) & set(sessions)
    # Tokens that name no session may belong to the session that ended.
    of_users: Kind = "sessionless" if is_session_of_user else "subject"
    named: list[tuple[Kind, list[str]]] = [
        ("token", tokens),
        ("session", sessions),
        (of_users, users),
        # Beside a user, the tokens of that user in the application are meant.
        ("client", [] if users or sessions else clients),
    ]
    return list(dict.fromkeys((kind, each) for kind, values in named for each in values))
