"""Handlers of the effects that use the network: HTTP and Redis.

PostgreSQL is not an effect: `server/store` talks to it.
"""
