"""By what names an issuer goes: one url, other spellings of it, or a pattern for its tenants.

Checks what is configured; which tenants are held is not its business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import TypeAlias

from bearerguard.errors import ConfigurationError

# What stands for the tenant in the url of an issuer that has many.
TENANT = "{tenant}"
# One segment of a path or one label of a host: a tenant never changes whose server is asked.
TENANT_NAME = r"[A-Za-z0-9_-]{1,128}"

Allowed: TypeAlias = Collection[str] | Callable[[str], bool]


def check_aliases(aliases: object) -> None:
    """Raise `ConfigurationError` unless these are names."""
    if not isinstance(aliases, list | tuple) or not all(
        isinstance(alias, str) and alias for alias in aliases
    ):
        raise ConfigurationError("aliases=: pass a list of other spellings of the issuer's url")


def check_pattern_is_alone(introspection: object, aliases: Collection[str]) -> None:
    """Raise `ConfigurationError` for options that a pattern for tenants cannot have."""
    if introspection is not None:
        raise ConfigurationError(
            "tenants=: not together with introspection=: an opaque token does not say whose it is,"
            " and asking several would show one tenant's token to another; give each tenant that"
            " introspects an Issuer of its own, and the guard route_opaque="
        )
    if aliases:
        raise ConfigurationError(
            "tenants=: not together with aliases=: pass another Issuer with the other spelling"
        )


def check_tenants(url: str, allowed: object, most: object) -> None:
    """Raise `ConfigurationError` unless a pattern says which tenants are allowed, and only it."""
    count = url.count(TENANT)
    if count == 0:
        if allowed is not None:
            raise ConfigurationError(f"tenants=: the issuer's url has no {TENANT}")
        return
    if count > 1:
        raise ConfigurationError(f"Issuer(url): pass {TENANT} once")
    is_list = (
        isinstance(allowed, list | tuple | set | frozenset)
        and len(allowed) > 0
        and all(isinstance(each, str) and re.fullmatch(TENANT_NAME, each) for each in allowed)
    )
    if not callable(allowed) and not is_list:
        raise ConfigurationError(
            f"tenants=: pass the list of tenants that {TENANT} may stand for, or a callable that"
            " takes one and returns True; without it every customer of the provider would pass"
        )
    if not isinstance(most, int) or most < 1:
        raise ConfigurationError("max_tenants=: hold at least one tenant")
