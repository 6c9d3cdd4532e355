"""The state of rate limits in Redis 6.2 or later or Valkey: charged by a script, which is atomic.

Each key is the time, by the clock of Redis, when its limit has recovered fully, and expires then.
Knows nothing of logins: keys are digests before they come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bearerguard.runtime.extras import Extra
from bearerguard.runtime.rate_limits import Charge

with Extra("redis", needed_by="bearerguard.redis"):
    from bearerguard.transports.redis_connections import RedisConnections

# One clock for all machines. Milliseconds with fractions: the interval of a limit may be shorter.
_NOW = """
local time = redis.call("TIME")
local now = time[1] * 1000 + time[2] / 1000
local function keep(key, whole_at)
  if whole_at > now then
    redis.call("SET", key, string.format("%.3f", whole_at), "PX", math.ceil(whole_at - now))
  else
    redis.call("DEL", key)
  end
end
"""
# ARGV: the interval and the span of each limit. A time beyond the span means that the clock was
# set back since. All keys are checked before one is written.
_CHARGE = f"""{_NOW}
local charged = {{}}
for place, key in ipairs(KEYS) do
  local interval, span = tonumber(ARGV[2 * place - 1]), tonumber(ARGV[2 * place])
  local latest = now + span - interval
  local whole_at = tonumber(redis.call("GET", key) or now)
  if whole_at > latest and whole_at <= now + span then
    return math.max(1, math.ceil(whole_at - latest))
  end
  charged[place] = math.min(latest, math.max(now, whole_at)) + interval
end
for place, key in ipairs(KEYS) do
  keep(key, charged[place])
end
return 0
"""
# ARGV: for each key the interval to give back, "" to reset its limit.
_RELEASE = f"""{_NOW}
for place, key in ipairs(KEYS) do
  local whole_at, interval = tonumber(redis.call("GET", key) or now), tonumber(ARGV[place])
  keep(key, interval and whole_at - interval or now)
end
return 0
"""


class RedisThrottle:
    """Where a server counts login attempts, in Redis or Valkey; a `ThrottleStore`.

    While Redis fails, the server counts in its database. A database user with restricted rights
    needs GET, SET, DEL, TIME, EVALSHA and SCRIPT LOAD, on keys that begin with the prefix in
    braces. What is stored are digests that are keyed with the server's secret, and times.

    Args:
        url: such as `redis://127.0.0.1:6379/0`, `rediss://user:password@host` or `unix://…`.
        prefix: what all keys begin with; servers with the same prefix and secret share limits.
        timeout: the seconds within which Redis must reply.

    Raises:
        ConfigurationError: an option is missing or malformed.
    """

    def __init__(self, url: str, *, prefix: str = "bearerguard", timeout: float = 1.0) -> None:
        self._connections = RedisConnections("RedisThrottle", url, prefix=prefix, timeout=timeout)
        self.prefix = prefix
        # In braces: all keys of a script must be in one slot of a cluster.
        self._keys = f"{{{prefix}}}:limit:"
        self._charge = self._connections.unless_paused(self._run_charge)
        self._release = self._connections.unless_paused(self._run_release)

    def __repr__(self) -> str:
        """Show the prefix alone: a URL may hold a password."""
        return f"RedisThrottle(prefix={self.prefix!r})"

    def charge(self, charges: Sequence[Charge]) -> float:
        """Charge all keys, or none if the limit of one is used up; see `ThrottleStore`."""
        return self._charge(charges)

    def release(self, *, reset: Sequence[str] = (), give_back: Sequence[Charge] = ()) -> None:
        """Let limits recover fully, and undo charges; see `ThrottleStore`."""
        intervals = dict.fromkeys(reset, "") | {
            each.key: _milliseconds(each.limit.interval) for each in give_back
        }
        if intervals:
            self._release(intervals)

    def close(self) -> None:
        """Close the connections that are idle; the store can be used again."""
        self._connections.close()

    def _run_charge(self, charges: Sequence[Charge]) -> float:
        limits = [
            _milliseconds(seconds)
            for each in charges
            for seconds in (each.limit.interval, each.limit.span)
        ]
        wait: int = self._run(_CHARGE, [each.key for each in charges], limits)
        return wait / 1000

    def _run_release(self, intervals: dict[str, str]) -> None:
        self._run(_RELEASE, list(intervals), list(intervals.values()))

    def _run(self, script: str, keys: list[str], arguments: list[str]) -> Any:
        names = [self._keys + key for key in keys]
        return self._connections.client().register_script(script)(names, arguments)


def _milliseconds(seconds: float) -> str:
    return repr(seconds * 1000.0)
