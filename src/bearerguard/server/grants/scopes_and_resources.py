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

# Scopes of OpenID Connect that clients add to any request. `offline_access` asks for a refresh
# token, which this server issues anyway; `openid` for an ID token, which it never issues. A token's
# scope contains them only if they are registered.
_OFFLINE = "offline_access"
UNDERSTOOD = frozenset({_OFFLINE, "openid"})


@dataclass(frozen=True, slots=True)
class Scopes:
    """The granted scopes in the registered order, and those requested that are left out."""

    granted: tuple[str, ...]
    ignored: tuple[str, ...] = ()

    @property
    def left_out(self) -> str | None:
        """The scopes that were left out, for the log, or None."""
        return named(self.ignored) or None


def requested_scopes(parameters: Parameters, allowed: Iterable[str], settings: Settings) -> Scopes:
    """Return the scopes that a request gets; raises `OAuthError`.

    Scopes that the server or the client does not have are left out as long as one remains; with
    `unknown_scopes="refuse"` they are refused. A client may be registered for a scope that the
    server no longer has, or never had if it was registered by a command.
    """
    registered = tuple(allowed)
    known = registered if settings.scopes is None else settings.scopes
    possible = tuple(name for name in registered if name in known)
    if _requested(parameters) is None:
        return Scopes(possible, tuple(name for name in registered if name not in known))
    return _narrowed(parameters, possible, settings, reason="unknown_scope")


def narrowed_scopes(
    parameters: Parameters, granted: Iterable[str], known: Iterable[str], settings: Settings
) -> Scopes:
    """Return which of the granted scopes a refresh gets; raises `OAuthError`.

    A scope that the client may have, but that was not granted, is refused (RFC 6749 §6).
    """
    possible = tuple(granted)
    withheld = set(known).difference(possible)
    beyond = [name for name in _requested(parameters) or () if name in withheld]
    if beyond:
        raise _refused("The scope was not granted", "scope_beyond_grant", beyond)
    return _narrowed(parameters, possible, settings, reason="scope_beyond_grant")


def _narrowed(
    parameters: Parameters, possible: tuple[str, ...], settings: Settings, *, reason: str
) -> Scopes:
    requested = _requested(parameters)
    if requested is None:
        return Scopes(possible)
    malformed = [name for name in requested if not scope.is_scope_token(name)]
    if malformed:
        raise _refused("The scope is malformed", "malformed_scope", malformed)
    granted = tuple(name for name in possible if name in requested)
    possible_set = frozenset(possible)
    ignored = tuple(name for name in requested if name not in possible_set)
    unknown = [name for name in ignored if name not in UNDERSTOOD]
    if unknown and settings.unknown_scopes == "refuse":
        raise _refused("The scope has more than this client may have", reason, unknown)
    # A client without scopes may ask for OpenID's alone, and any client for a refresh token alone.
    harmless = not unknown and (_OFFLINE in ignored or not possible)
    if ignored and not granted and not harmless:
        raise _refused("The scope has nothing that this client may have", reason, ignored)
    return Scopes(granted, ignored)


def _requested(parameters: Parameters) -> dict[str, None] | None:
    """Return the requested scopes, each once and in order, or None without the parameter."""
    text = parameters.get("scope")
    return None if text is None else dict.fromkeys(filter(None, text.split(" ")))


def _refused(description: str, reason: str, names: Iterable[str]) -> OAuthError:
    shown = named(names)
    return invalid_scope(f"{description}: {shown}", reason, scope=shown)


def requested_resources(parameters: Parameters, settings: Settings) -> tuple[str, ...]:
    """Return the resources that a request is for; raises `OAuthError`."""
    requested = parameters.resources
    if not requested:
        return (settings.resources[0].identifier,)
    return narrowed_resources(requested, [each.identifier for each in settings.resources])


def narrowed_resources(requested: tuple[str, ...], allowed: Iterable[str]) -> tuple[str, ...]:
    """Return the requested ones of the `allowed` resources, or all of them; raises `OAuthError`.

    Other spellings of a URI name the same resource (RFC 3986 §6.2); the allowed one is returned.
    """
    possible = tuple(allowed)
    if not requested:
        return possible
    malformed = [name for name in requested if not is_resource_identifier(name)]
    if malformed:
        raise _invalid_target(
            "The resource is no absolute URI without a fragment", "malformed_resource", malformed
        )
    spelling = {uri.normalized(name): name for name in possible}
    unknown = [name for name in requested if uri.normalized(name) not in spelling]
    if unknown:
        raise _invalid_target(
            "The resource is unknown, or more than was granted", "unknown_resource", unknown
        )
    return tuple(dict.fromkeys(spelling[uri.normalized(name)] for name in requested))


def _invalid_target(description: str, reason: str, names: Iterable[str]) -> OAuthError:
    shown = named(names)
    return invalid_target(f"{description}: {shown}", reason, resource=shown)
