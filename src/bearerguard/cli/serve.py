"""`bearerguard serve`: the authorization server by itself, under uvicorn."""

from __future__ import annotations

import logging
from typing import Annotated

import typer
import uvicorn

from bearerguard.cli import output
from bearerguard.cli.server_options import Issuer, Resources, Scopes, Store, described
from bearerguard.server import AuthorizationServer


def serve(
    *,
    issuer: Issuer,
    store: Store,
    scope: Scopes = None,
    resource: Resources = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8000,
) -> None:
    """Run the authorization server by itself; TLS belongs to the proxy in front of it."""
    with output.endings():
        server = AuthorizationServer(
            issuer, store=store, scopes=described(scope), resources=resource
        )
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
        # Addresses may hold what is no business of a log: the server's own events are there.
        uvicorn.run(server.asgi_app(), host=host, port=port, access_log=False)
