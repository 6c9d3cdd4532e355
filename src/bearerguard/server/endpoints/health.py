"""The health of a server, for probes: whether it can issue tokens now.

Anybody may request it, so the response has no secret, no path and no version, and the database is
queried once a second at most.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from threading import Lock
from typing import Any

from bearerguard.errors import ConfigurationError, StoreUnavailable
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.http import responses
from bearerguard.server.tokens.key_ring import KeyRing

# The path of the liveness probe, below that of the readiness probe.
LIVE = "/live"
_SECONDS = 1.0


class Probe(Enum):
    """What a probe asks."""

    READINESS = "readiness"
    LIVENESS = "liveness"


class Health:
    """Reports whether the database can be reached, and whether there is a usable signing key.

    `elapsed` returns monotonic seconds.
    """

    def __init__(self, keys: KeyRing, elapsed: Callable[[], float]) -> None:
        self._keys = keys
        self._elapsed = elapsed
        self._known: tuple[float, dict[str, Any]] | None = None
        self._reading = Lock()
        self.is_stopping = False

    def state(self) -> dict[str, Any]:
        """Return the state, which is a second old at most.

        Concurrent calls share one read: a slow database is not asked again meanwhile.
        """
        state = self._recent()
        return state | {"ready": False, "stopping": True} if self.is_stopping else state

    def _recent(self) -> dict[str, Any]:
        known = self._known
        if known is None or not self._is_new(known):
            with self._reading:
                known = self._known
                if known is None or not self._is_new(known):
                    state = self._read()
                    known = self._known = (self._elapsed(), state)
        return dict(known[1])

    def _is_new(self, known: tuple[float, dict[str, Any]]) -> bool:
        return 0 <= self._elapsed() - known[0] < _SECONDS

    def _read(self) -> dict[str, Any]:
        database, key = "reachable", "present"
        try:
            if not self._keys.can_sign():
                key = "missing"
        except StoreUnavailable:
            database, key = "unreachable", "unknown"
        except ConfigurationError:  # sealed with another secret; this is logged at the start
            key = "unusable"
        ready = (database, key) == ("reachable", "present")
        return {"ready": ready, "database": database, "signing_key": key}

    def handle(self, request: Request) -> Response:
        """Respond to a probe of readiness: 200, or 503."""
        responses.check_method(request, "GET", "HEAD")
        state = self.state()
        if state["ready"]:
            return responses.private(state)
        return responses.private(state, ("Retry-After", responses.RETRY_SECONDS), status=503)

    def live(self, request: Request) -> Response:
        """Respond to a probe of liveness: 200 as long as the process responds at all."""
        responses.check_method(request, "GET", "HEAD")
        return responses.private({"live": True})


def paths(health: str | None, ready: str | None, taken: frozenset[str]) -> dict[str, Probe]:
    """Return the kind of probe that each path is for.

    Raises:
        ConfigurationError: the health cannot be served on a path.
    """
    probes: dict[str, Probe] = {}
    for option, path in (("health_path", health), ("ready_path", ready)):
        if path is None:
            continue
        if not isinstance(path, str) or not path.startswith("/") or len(path) == 1:
            raise ConfigurationError(f'{option}=: pass a path such as "/health", or None')
        if path.endswith("/") or any(each in path for each in "?#*% "):
            raise ConfigurationError(f'{option}=: pass an exact path such as "/health"')
        probes[path] = Probe.READINESS
        if option == "health_path":
            probes[path + LIVE] = Probe.LIVENESS
        for each in probes:
            if each in taken:
                raise ConfigurationError(f"{option}=: {each} is another endpoint of this server")
    return probes
