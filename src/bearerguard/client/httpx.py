"""`BearerAuth` for httpx, for its synchronous and its asynchronous clients."""

from __future__ import annotations

from bearerguard.client.bearer_auth import FlowingAuth
from bearerguard.runtime.extras import Extra

with Extra("client", needed_by=__name__):
    import httpx


class BearerAuth(FlowingAuth, httpx.Auth):
    """Sends a token that is always fresh: `httpx.Client(auth=BearerAuth(manager))`.

    Its options, and what is raised, are those of `BoundAuth`.
    """

    _library = "httpx"
    _not_read = httpx.RequestNotRead
