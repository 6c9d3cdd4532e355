"""uvicorn that serves what is on its way when it stops; for an app with an authorization server.

DrainingServer(uvicorn.Config(app), on_stop=server.begin_stop).run()
"""

from bearerguard.server.hosting.draining import DrainingServer

__all__ = ["DrainingServer"]
