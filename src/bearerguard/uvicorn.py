"""uvicorn that stops without losing a request; for an ASGI app with an authorization server in it.

DrainingServer(uvicorn.Config(app), on_stop=server.begin_stop).run()
"""

from bearerguard.server.hosting.draining import DrainingServer

__all__ = ["DrainingServer"]
