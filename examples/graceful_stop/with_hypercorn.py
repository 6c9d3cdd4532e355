"""hypercorn for an ASGI app in front of which a bearerguard server stands.

For five seconds after SIGTERM readiness is 503 and responses close their connections. In one
process: the parent of hypercorn's workers keeps its listeners open while they stop, and the kernel
resets what has come meanwhile.
"""

import asyncio
import signal

from app import app, port, server  # yours
from hypercorn.asyncio import serve
from hypercorn.config import Config


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def stopped():
        await stop.wait()
        server.begin_stop()
        await asyncio.sleep(config.keep_alive_timeout)

    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.graceful_timeout = 20
    await serve(app, config, shutdown_trigger=stopped)


asyncio.run(main())
