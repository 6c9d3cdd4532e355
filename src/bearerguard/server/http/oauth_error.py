"""The OAuth error of a refused request (RFC 6749 §5.2, RFC 8707 §2).

An error has two readers. The client gets the code and the description, which are safe to send.
The operator's log also gets `reason` and `found`: what exactly was wrong, and the value.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from urllib.parse import quote

from bearerguard.errors import BearerGuardError
from bearerguard.protocol import names
from bearerguard.server.audit import REFUSED, Audit, Detail
from bearerguard.server.observers import note_error

# An error_description contains printable ASCII without `"` and `\` (RFC 6749 §5.2). A space would
# split a name in two.
_UNSAFE = re.compile(r"[^\x21\x23-\x5B\x5D-\x7E]+")
_MAX_NAME = 60
_MAX_NAMES = 5
_MAX_EVIDENCE = 200


class OAuthError(BearerGuardError):
    """A request is refused.

    Args:
        error: the RFC's error code.
        description: a text for the client: printable ASCII. Of the request it may contain scopes
            and resources only, escaped by `named`.
        reason: what exactly was wrong, as a stable name for the log; `error` by default.
        status: of the response, unless the error is sent by a redirect.
        headers: further header fields of the response.
        event: the code of the event that reports it.
        **found: what was found, for the log; never a secret, a code or a token.
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
        **found: Detail,
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.headers = headers
        self.reason: str = error if reason is None else reason
        self.event = event
        self.found: dict[str, Detail] = {}
        self.note(**found)

    def note(self, **found: Detail) -> None:
        """Add to `found`; existing values stay."""
        for name, value in found.items():
            cut = value[:_MAX_EVIDENCE] if isinstance(value, str) else value
            self.found.setdefault(name, cut)

    def report(self, audit: Audit, endpoint: str) -> None:
        """Report that a request to the path `endpoint` was refused."""
        note_error(self.error)
        known: dict[str, Detail] = {
            "endpoint": endpoint,
            "error": self.error,
            "reason": self.reason,
        }
        audit.emit(self.event, **{**self.found, **known})


@contextmanager
def noting(**found: Detail) -> Generator[None]:
    """Add what is known of a request to an error raised inside."""
    try:
        yield
    except OAuthError as error:
        error.note(**found)
        raise


def named(sent: Iterable[str]) -> str:
    """Return names that a client sent, escaped and cut for a description."""
    listed = list(sent)
    shown = [_escaped(name) for name in listed[:_MAX_NAMES]]
    if len(listed) > _MAX_NAMES:
        shown.append(f"and {len(listed) - _MAX_NAMES} more")
    return " ".join(shown)


def _escaped(name: str) -> str:
    cut = name[: _MAX_NAME + 1]
    safe = _UNSAFE.sub(lambda found: quote(found[0], safe="", errors="replace"), cut)
    return safe if len(safe) <= _MAX_NAME else safe[: _MAX_NAME - 3] + "..."


def described(text: str) -> str:
    """Return a text as a description may have it: what it quotes is escaped (RFC 6749 §5.2)."""
    words = text.replace('"', "'").split()
    return " ".join(
        _UNSAFE.sub(lambda found: quote(found[0], safe="", errors="replace"), each)
        for each in words
    )[:_MAX_EVIDENCE]


def _error(
    error: str, description: str, reason: str | None, found: Mapping[str, Detail]
) -> OAuthError:
    refusal = OAuthError(error, description, reason=reason)
    refusal.note(**found)
    return refusal


def invalid_request(description: str, reason: str | None = None, **found: Detail) -> OAuthError:
    """The request is malformed (RFC 6749 §5.2)."""
    return _error(names.INVALID_REQUEST, description, reason, found)


def too_many_requests(what: str, reason: str, wait: int, **found: Detail) -> OAuthError:
    """There were too many requests, such as "pushed requests"; the next one may come in `wait` s.

    The response has the status 429 (RFC 6585 §4).
    """
    refusal = OAuthError(
        names.TEMPORARILY_UNAVAILABLE,
        f"Too many {what}: try again later",
        reason=reason,
        status=429,
        headers=((names.RETRY_AFTER, str(wait)),),
    )
    refusal.note(**found)
    return refusal


def invalid_grant(description: str, reason: str | None = None, **found: Detail) -> OAuthError:
    """The code, refresh token or assertion is not valid (RFC 6749 §5.2)."""
    return _error(names.INVALID_GRANT, description, reason, found)


def invalid_scope(description: str, reason: str | None = None, **found: Detail) -> OAuthError:
    """The scope is unknown, malformed, or exceeds what may be granted (RFC 6749 §5.2)."""
    return _error(names.INVALID_SCOPE, description, reason, found)


def invalid_target(description: str, reason: str | None = None, **found: Detail) -> OAuthError:
    """The resource is unknown, malformed, or exceeds what may be granted (RFC 8707 §2)."""
    return _error(names.INVALID_TARGET, description, reason, found)


def unauthorized_client(description: str, reason: str | None = None, **found: Detail) -> OAuthError:
    """The client is not authorized to do this (RFC 6749 §5.2)."""
    return _error(names.UNAUTHORIZED_CLIENT, description, reason, found)
