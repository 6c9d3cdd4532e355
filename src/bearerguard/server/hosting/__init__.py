"""The server inside another app: ASGI and WSGI apps, threads, upkeep, the guard beside it."""
