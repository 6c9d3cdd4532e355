"""How long an issuer's keys are used, and how often they are fetched."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from bearerguard.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """When an issuer's keys are fetched, and how long they are used. All times are seconds.

    Args:
        refresh: the longest time between two fetches; a shorter Cache-Control `max-age` of the
            response takes precedence.
        max_age: how long keys are used while they cannot be refreshed; after that, requests get
            503.
        cooldown: the time in which unknown key ids may cause one fetch, after a burst of three;
            also the longest backoff after failed fetches.
        token: a bearer token that is sent to `jwks_uri` alone, or a callable that returns one.

    Raises:
        ConfigurationError: an option is malformed.
    """

    refresh: float = 300
    max_age: float = 86_400
    cooldown: float = 30
    token: str | Callable[[], str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("refresh", "max_age", "cooldown"):
            value = getattr(self, name)
            if not _is_number(value) or not value > 0:
                raise ConfigurationError(f"{name}=: pass a positive number of seconds")
        if self.max_age < self.refresh:
            raise ConfigurationError("max_age=: must not be shorter than refresh=")
        if not isinstance(self.token, str | None) and not callable(self.token):
            raise ConfigurationError("token=: pass a token, or a callable that returns one")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
