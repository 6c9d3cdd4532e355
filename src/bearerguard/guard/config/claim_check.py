"""An application's own checks of the claims of a token: `Issuer(checks=[...])`.

Owns what a check is and what its result means: a token passes only if every check returns None.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Protocol

from bearerguard.errors import (
    REFUSED_BY_CHECK,
    ClaimCheckFailed,
    ConfigurationError,
    TokenError,
    quoted,
)
from bearerguard.principal import Claims

_MAX_REASON = 300


class ClaimCheck(Protocol):
    """Accepts or refuses a token by its claims: any callable that takes them.

    It is called when a token is validated: after the signature, the expiry, the audience and the
    claim mapping, for JWTs and for introspected tokens. The result is cached with the token. It
    must not block: in an event loop, all requests would wait for it.
    """

    def __call__(self, claims: Claims, /) -> str | None:
        """Return None to accept the token, or the reason to refuse it (401 invalid_token).

        The reason is for the operator's log and is never sent: name claims in it, not their
        values. A `TokenError` with a reason of its own may be raised instead. With any other
        exception, or any other result, the request gets 503.
        """
        ...


def check_claim_checks(checks: object) -> None:
    """Raise `ConfigurationError` unless this is a list of sync callables."""
    if not isinstance(checks, list | tuple) or not all(callable(check) for check in checks):
        raise ConfigurationError(
            "checks=: pass a list of callables that take a token's claims and return None, or the"
            " reason to refuse it"
        )
    for check in checks:
        if inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(
            getattr(check, "__call__", None)  # noqa: B004 - an object with an async __call__
        ):
            raise ConfigurationError(
                f"checks=: {name_of(check)} is async, and nothing is awaited when a token is"
                " validated: pass a function"
            )


def run_checks(checks: Sequence[ClaimCheck], issuer: str, claims: Claims) -> None:
    """Run all checks on the claims of a token that has passed all other validation.

    Raises:
        TokenError: a check refused the token.
        ClaimCheckFailed: a check raised something else, or returned neither None nor a str.
    """
    for check in checks:
        try:
            found: object = check(claims)
        except TokenError:
            raise
        except Exception as error:
            # Its text may quote a claim.
            raise ClaimCheckFailed(
                issuer, f"{name_of(check)} raised {type(error).__name__}"
            ) from error
        if isinstance(found, str):
            raise TokenError(REFUSED_BY_CHECK, f"{name_of(check)}: {_one_line(found)}")
        if found is not None:
            raise ClaimCheckFailed(
                issuer,
                f"{name_of(check)} returned {type(found).__name__}: return None to accept a token,"
                " or the reason to refuse it",
            )


def _one_line(reason: str) -> str:
    """Return a reason for one log line, escaped and cut: it may quote a token's claims."""
    fits = len(reason) <= _MAX_REASON and reason.isprintable()
    return reason if fits else quoted(reason)[1:-1]


def name_of(check: object) -> str:
    """Return the name of a check, for operators."""
    name = getattr(check, "__qualname__", None)
    return name if isinstance(name, str) else type(check).__qualname__
