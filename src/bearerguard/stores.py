"""The interfaces of shared stores, for stores that are implemented outside this package.

`RevocationStore` is what `Revocations(store)` takes, `SharedStore` what
`IntrospectionCache(store, secret=...)` takes, `ReplayStore` what `Guard(replay=...)` takes; one
object may be all of them. A store returns tables of
handlers: each maps the type of an effect, such as `ReadLog`, to a callable that performs it.
`ThrottleStore` is what `PeopleOptions(throttle=...)` takes; its methods are called.
`docs/extending/stores.md` has a complete example.
"""

from bearerguard.guard.stores import ReplayStore, RevocationStore, SharedStore
from bearerguard.runtime.effects import Insert, Load, Store, Take
from bearerguard.runtime.flow import AsyncHandlers, Effect, Handlers
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.rate_limits import Charge, RateLimit, ThrottleStore
from bearerguard.runtime.shared_log import (
    AppendLog,
    CutLog,
    ListenLog,
    LogPage,
    MarkLog,
    NotifyLog,
    ReadLog,
)

__all__ = [
    "AppendLog",
    "AsyncHandlers",
    "Charge",
    "CutLog",
    "Effect",
    "Handlers",
    "Insert",
    "ListenLog",
    "Load",
    "LogPage",
    "MarkLog",
    "NotifyLog",
    "RateLimit",
    "ReadLog",
    "ReplayStore",
    "RevocationStore",
    "SharedStore",
    "Store",
    "StoreFailed",
    "Take",
    "ThrottleStore",
]
