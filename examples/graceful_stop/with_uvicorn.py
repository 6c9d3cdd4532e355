"""uvicorn for an ASGI app in front of which a bearerguard server stands.

For five seconds after SIGTERM readiness is 503 and responses close their connections; then hardly
a connection is open that uvicorn could close while a request is on its way.
"""

import asyncio

import uvicorn
from app import app, port, server  # yours


class Server(uvicorn.Server):
    async def shutdown(self, sockets=None):
        server.begin_stop()
        await asyncio.sleep(5)  # uvicorn's keep-alive timeout
        await super().shutdown(sockets)


Server(uvicorn.Config(app, port=port, access_log=False)).run()
