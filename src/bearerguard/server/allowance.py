"""What a client asks for, measured against what it may have: scopes and resources.

RFC 6749 §3.3, RFC 8707 §2. What is not asked for defaults to all that may be had, or, for
resources, to the server's first.
"""

from __future__ import annotations

from collections.abc import Iterable

from bearerguard.protocol import scope
from bearerguard.server.oauth_error import invalid_scope, invalid_target
from bearerguard.server.parameters import Parameters
from bearerguard.server.settings import Settings, is_resource_identifier


def scopes(parameters: Parameters, allowed: Iterable[str]) -> tuple[str, ...]:
    """Return the scopes that a request is to get, in the order of `allowed`."""
    possible = tuple(allowed)
    asked = parameters.get("scope")
    if asked is None:
        return possible
    wanted = scope.parse(asked)
    if not all(scope.is_scope_token(name) for name in wanted):
        raise invalid_scope("The scope is malformed")
    if not wanted <= set(possible):
        raise invalid_scope("The scope has more than this client may have")
    return tuple(name for name in possible if name in wanted)


def resources(parameters: Parameters, settings: Settings) -> tuple[str, ...]:
    """Return the resources that a request is for."""
    asked = parameters.resources
    if not asked:
        return (settings.resources[0].identifier,)
    return within(asked, [each.identifier for each in settings.resources])


def within(asked: tuple[str, ...], allowed: Iterable[str]) -> tuple[str, ...]:
    """Return the resources asked for, all of `allowed` if none; raises `OAuthError`."""
    possible = tuple(allowed)
    if not all(is_resource_identifier(name) for name in asked):
        raise invalid_target("The resource is no absolute URI without a fragment")
    if not set(asked) <= set(possible):
        raise invalid_target("The resource is unknown, or more than was granted")
    return asked or possible
