"""How flows fetch: transports, the handlers that every driver has, and what watches a fetch.

`handlers` makes them, `single_flight` has one caller fetch for all, and `watch` is for observers.
"""

from __future__ import annotations

from bearerguard.runtime.fetching.handlers import Table, Transport, tables

__all__ = ["Table", "Transport", "tables"]
