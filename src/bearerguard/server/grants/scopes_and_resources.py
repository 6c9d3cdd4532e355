"""The scopes and resources that a request gets (RFC 6749 §3.3, RFC 8707 §2).

Without a `scope` a client gets all scopes that it may have; without a `resource`, the server's
first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bearerguard.protocol import scope
from bearerguard.protocol.http import uri
from bearerguard.server.http.oauth_error import OAuthError, invalid_scope, invalid_target, named
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.settings import Settings, is_resource_identifier

# OpenID's scopes that clients add to any request, and no API's. A refresh token is what the one
# asks for, and it comes without; an ID token, which the other asks for, never comes. They are in a
# token's scope only where they are registered.
_OFFLINE = "offline_access"
UNDERSTOOD = frozenset({_OFFLINE, "openid"})


@dataclass(frozen=True, slots=True)
class Scopes:
    """What a request gets, in the order it is listed in, and what of it was left out."""

    granted: tuple[str, ...]
    ignored: tuple[str, ...] = ()

    @property
    def left_out(self) -> str | None:
        """The scopes that were left out, for the log; None for none."""
        return named(self.ignored) or None


def requested_scopes(parameters: Parameters, allowed: Iterable[str], settings: Settings) -> Scopes:
    """Return the scopes that a request of a client is to get; raises `OAuthError`.

    What the server or the client does not know is left out as long as something remains, or
    is refused with `unknown_scopes="refuse"`. A client may have been registered for a scope that
    the server has no longer, or, by command, never had.
    """
    registered = tuple(allowed)
    known = registered if settings.scopes is None else settings.scopes
    possible = tuple(name for name in registered if name in known)
    if _asked(parameters) is None:
        return Scopes(possible, tuple(name for name in registered if name not in known))
    return _measured(parameters, possible, settings, reason="unknown_scope")


def narrowed_scopes(
    parameters: Parameters, granted: Iterable[str], known: Iterable[str], settings: Settings
) -> Scopes:
    """Return the scopes of what was granted that a refresh is to get; raises `OAuthError`.

    A scope that the client might have had, and was not granted, is refused (RFC 6749 §6).
    """
    possible = tuple(granted)
    withheld = set(known).difference(possible)
    beyond = [name for name in _asked(parameters) or () if name in withheld]
    if beyond:
        raise _refused("The scope was not granted", "scope_beyond_grant", beyond)
    return _measured(parameters, possible, settings, reason="scope_beyond_grant")


def _measured(
    parameters: Parameters, possible: tuple[str, ...], settings: Settings, *, reason: str
) -> Scopes:
    asked = _asked(parameters)
    if asked is None:
        return Scopes(possible)
    malformed = [name for name in asked if not scope.is_scope_token(name)]
    if malformed:
        raise _refused("The scope is malformed", "malformed_scope", malformed)
    granted = tuple(name for name in possible if name in asked)
    had = frozenset(possible)
    ignored = tuple(name for name in asked if name not in had)
    unknown = [name for name in ignored if name not in UNDERSTOOD]
    if unknown and settings.unknown_scopes == "refuse":
        raise _refused("The scope has more than this client may have", reason, unknown)
    # Who may have no scope at all loses nothing when what is no API's is left out, and who asks
    # for a refresh token alone gets it.
    harmless = not unknown and (_OFFLINE in ignored or not possible)
    if ignored and not granted and not harmless:
        raise _refused("The scope has nothing that this client may have", reason, ignored)
    return Scopes(granted, ignored)


def _asked(parameters: Parameters) -> dict[str, None] | None:
    """Return the scopes asked for, each once and in order; None for no scope parameter."""
    text = parameters.get("scope")
    return None if text is None else dict.fromkeys(filter(None, text.split(" ")))


def _refused(description: str, reason: str, names: Iterable[str]) -> OAuthError:
    shown = named(names)
    return invalid_scope(f"{description}: {shown}", reason, scope=shown)


def requested_resources(parameters: Parameters, settings: Settings) -> tuple[str, ...]:
    """Return the resources that a request is for."""
    asked = parameters.resources
    if not asked:
        return (settings.resources[0].identifier,)
    return narrowed_resources(asked, [each.identifier for each in settings.resources])


def narrowed_resources(asked: tuple[str, ...], allowed: Iterable[str]) -> tuple[str, ...]:
    """Return the resources asked for, all of `allowed` if none; raises `OAuthError`.

    Another spelling of the same URI names the same resource, which keeps its own.
    """
    possible = tuple(allowed)
    if not asked:
        return possible
    malformed = [name for name in asked if not is_resource_identifier(name)]
    if malformed:
        raise _not_had(
            "The resource is no absolute URI without a fragment", "malformed_resource", malformed
        )
    spelling = {uri.normalized(name): name for name in possible}
    unknown = [name for name in asked if uri.normalized(name) not in spelling]
    if unknown:
        raise _not_had(
            "The resource is unknown, or more than was granted", "unknown_resource", unknown
        )
    return tuple(dict.fromkeys(spelling[uri.normalized(name)] for name in asked))


def _not_had(description: str, reason: str, names: Iterable[str]) -> OAuthError:
    shown = named(names)
    return invalid_target(f"{description}: {shown}", reason, resource=shown)
