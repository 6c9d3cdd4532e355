"""uvicorn for an ASGI app in front of which a bearerguard server stands.

uvicorn's own stop closes idle connections while a request may be on its way, and forgets those that
wait to be accepted.
"""

import uvicorn
from app import app, port, server  # yours

from bearerguard.uvicorn import DrainingServer

config = uvicorn.Config(app, port=port, access_log=False)
DrainingServer(config, on_stop=server.begin_stop).run()
