"""`BearerAuth` for httpx2, for its synchronous and its asynchronous clients."""

from __future__ import annotations

import httpx2

from bearerguard.client.bearer_auth import FlowingAuth


class BearerAuth(FlowingAuth, httpx2.Auth):
    """Sends a token that is always fresh: `httpx2.Client(auth=BearerAuth(manager))`.

    Its options, and what is raised, are those of `BoundAuth`.
    """

    _library = "httpx2"
    _not_read = httpx2.RequestNotRead
