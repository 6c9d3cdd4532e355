"""What an endpoint refuses, in the words of the RFCs (RFC 6749 §5.2, RFC 8707 §2).

An error has two readers. The client gets the code and the description, which are safe to send.
The operator's log gets `reason` and `found` too: what exactly was wrong, and the value.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from bearerguard.errors import BearerGuardError

# The event of a refusal, unless an audit looks for it by a name of its own.
REFUSED = "request_refused"

# Of the printable characters, an error_description has neither `"` nor `\` (RFC 6749 §5.2). A
# space would make two names of one.
_UNSAFE = re.compile(r"[^\x21\x23-\x5B\x5D-\x7E]+")
_MAX_NAME = 60
_MAX_NAMES = 5
# The log line is cut shorter; an event's receiver need not keep more either.
_MAX_EVIDENCE = 200


class OAuthError(BearerGuardError):
    """The request is refused.

    Attributes:
        error: the RFC's code.
        description: a text that is safe to send: printable ASCII. It names no more of the
            request than scopes and resources, by `named`.
        status: of a direct answer; a redirect has none.
        headers: lines that a direct answer carries besides.
        reason: what exactly was wrong, as a stable name for the log.
        event: the name of the event that reports it.
        found: what was found, for the log; never a secret, a code or a token.
    """

    def __init__(
        self,
        error: str,
        description: str,
        *,
        reason: str | None = None,
        status: int = 400,
        headers: tuple[tuple[str, str], ...] = (),
        event: str = REFUSED,
        **found: str | float | bool | None,
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers
        self.reason = error if reason is None else reason
        self.event = event
        self.found: dict[str, Any] = {}
        self.note(**found)

    def note(self, **found: str | float | bool | None) -> None:
        """Add to what was found; what is there already stays."""
        for name, value in found.items():
            cut = value[:_MAX_EVIDENCE] if isinstance(value, str) else value
            self.found.setdefault(name, cut)


@contextmanager
def noting(**found: str | float | bool | None) -> Generator[None]:
    """Add what is known of a request to the error that it ends in."""
    try:
        yield
    except OAuthError as error:
        error.note(**found)
        raise


def named(names: Iterable[str]) -> str:
    """Return names that a client sent, fit for a description: escaped, and not too long."""
    listed = list(names)
    shown = [_escaped(name) for name in listed[:_MAX_NAMES]]
    if len(listed) > _MAX_NAMES:
        shown.append(f"and {len(listed) - _MAX_NAMES} more")
    return " ".join(shown)


def _escaped(name: str) -> str:
    # Cut first: what is long is not worth escaping.
    cut = name[: _MAX_NAME + 1]
    safe = _UNSAFE.sub(lambda found: quote(found[0], safe="", errors="replace"), cut)
    return safe if len(safe) <= _MAX_NAME else safe[: _MAX_NAME - 3] + "..."


def invalid_request(description: str, reason: str | None = None, **found: Any) -> OAuthError:
    """Say that the request is malformed."""
    return OAuthError("invalid_request", description, reason=reason, **found)


def invalid_grant(description: str, reason: str | None = None, **found: Any) -> OAuthError:
    """Say that a code or a refresh token is not, or no longer, good for this."""
    return OAuthError("invalid_grant", description, reason=reason, **found)


def invalid_scope(description: str, reason: str | None = None, **found: Any) -> OAuthError:
    """Say that a scope is unknown, or more than may be had."""
    return OAuthError("invalid_scope", description, reason=reason, **found)


def invalid_target(description: str, reason: str | None = None, **found: Any) -> OAuthError:
    """Say that a resource is unknown, or more than may be had."""
    return OAuthError("invalid_target", description, reason=reason, **found)


def unauthorized_client(description: str, reason: str | None = None, **found: Any) -> OAuthError:
    """Say that this client may not do this."""
    return OAuthError("unauthorized_client", description, reason=reason, **found)
