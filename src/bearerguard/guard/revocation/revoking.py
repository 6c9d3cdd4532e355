"""What `guard.revoke(...)` means: from the names given to the revocation that is kept.

Checks whatever callers may get wrong, before anything is sent to other workers. Knows no
store; the time is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.issuer import TENANT
from bearerguard.guard.revocation.revocation_list import Kind, Revocation
from bearerguard.guard.revocation.revocations import SLACK
from bearerguard.principal import Principal

# Clocks drift; what is further ahead would lock someone out without saying so.
_MAX_FUTURE = 300


def revocation(
    *,
    issuer: str,
    now: float,
    max_token_life: float,
    token_id: str | None = None,
    subject: str | None = None,
    client_id: str | None = None,
    session_id: str | None = None,
    key_id: str | None = None,
    issued_before: float | None = None,
) -> Revocation:
    """Return the revocation of a token, or of all that a subject, client, session or key has.

    Raises `ConfigurationError` unless exactly one is named.
    """
    kinds: dict[Kind, str | None] = {
        "token": token_id,
        "subject": subject,
        "client": client_id,
        "session": session_id,
        "signing_key": key_id,
    }
    named: list[tuple[Kind, str]] = [
        (kind, value) for kind, value in kinds.items() if value is not None
    ]
    if len(named) != 1:
        raise ConfigurationError(
            "revoke(): name one thing: a token, token_id=, subject=, client_id=, session_id= or"
            " key_id="
        )
    ((kind, value),) = named
    if not isinstance(value, str) or not value or not _is_unicode(value):
        raise ConfigurationError("revoke(): pass the name as the token has it, a non-empty text")
    if kind in {"token", "signing_key"}:
        if issued_before is not None:
            raise ConfigurationError(
                "issued_before=: a token, or a key, is revoked whenever it was issued"
            )
        return Revocation(kind, issuer, value, None, now + max_token_life + SLACK)
    before = _checked_date(issued_before, now)
    expires_at = max(before, now) + max_token_life + SLACK
    return Revocation(kind, issuer, value, before, expires_at)


def revocation_of(principal: Principal, *, now: float, max_token_life: float) -> Revocation:
    """Return the revocation of the token that a principal came with."""
    if principal.issuer is None or principal.token_id is None:
        raise ConfigurationError(
            "revoke(): this token has no jti to revoke it by: pass subject= or client_id="
        )
    longest = now + max_token_life
    expires_at = longest if principal.expires_at is None else min(longest, principal.expires_at)
    return Revocation("token", principal.issuer, principal.token_id, None, expires_at + SLACK)


def chosen_issuer(
    issuer: str | None, urls: Sequence[str], named: Callable[[str], str | None]
) -> str:
    """Return whose tokens are meant: the guard's one issuer, or the one named.

    `urls` are those of the guard's issuers, patterns among them; `named` returns the url of
    the issuer, or the allowed tenant, that goes by a name.
    """
    if issuer is None:
        if len(urls) != 1:
            raise ConfigurationError("issuer=: this guard has several: say whose tokens you mean")
        issuer = urls[0]
    if not isinstance(issuer, str):
        raise ConfigurationError("issuer=: pass the issuer's url, as tokens have it in iss")
    url = named(issuer)
    if url is None:
        if TENANT in issuer and issuer in urls:
            raise ConfigurationError(
                f"issuer=: {quoted(issuer)} has many tenants: pass the url of the one you mean"
            )
        raise ConfigurationError(
            f"issuer=: {quoted(issuer)} is no issuer of this guard, nor an allowed tenant"
        )
    return url


def _checked_date(issued_before: float | None, now: float) -> float:
    if issued_before is None:
        # Dates in tokens are whole seconds: what was issued in this one is meant too.
        return math.floor(now) + 1.0
    if isinstance(issued_before, bool) or not isinstance(issued_before, int | float):
        raise ConfigurationError("issued_before=: pass a time in Unix seconds")
    if not 0 <= issued_before <= now + _MAX_FUTURE:
        raise ConfigurationError("issued_before=: pass a time in Unix seconds that is not to come")
    return float(issued_before)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
