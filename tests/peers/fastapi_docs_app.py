"""A FastAPI app whose docs sign in at its issuer; served by uvicorn.

`API` is its origin, `ISSUER` its issuer: on the same origin it is our own server, around the app,
unless `AUDIENCE` says that it is another one behind the same reverse proxy. `START` is "started"
where the app discovers the issuer's endpoints, else the docs do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Security
from fastapi.openapi.docs import get_swagger_ui_html, get_swagger_ui_oauth2_redirect_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from bearerguard import Guard, Issuer, Principal
from bearerguard.asgi import ASGIApp
from bearerguard.fastapi import BearerSecurity

API, ISSUER = os.environ["API"], os.environ["ISSUER"]
AUDIENCE = os.environ.get("AUDIENCE", API)
IS_EMBEDDED = ISSUER == API == AUDIENCE
_ASSETS = Path(__file__).parent / "node_modules" / "swagger-ui-dist"

if IS_EMBEDDED:
    from tests.peers.fastapi_docs_issuer import server

    guard = Guard(server.issuer())
else:
    guard = Guard(Issuer(ISSUER, audience=AUDIENCE))
bearer = BearerSecurity(guard, scopes={"read": "See your recordings"})
api = FastAPI(title="Recordings", docs_url=None)
if os.environ["START"] == "started":
    bearer.init_app(api)


@api.get("/api/recordings")
async def recordings(
    principal: Annotated[Principal, Security(bearer, scopes=["read"])],
) -> dict[str, object]:
    return {"recordings": ["Dawn chorus"], "scopes": sorted(principal.scopes)}


# As FastAPI serves them itself, with the assets from this machine.
@api.get("/docs", include_in_schema=False)
def docs() -> HTMLResponse:
    init_oauth: dict[str, object] = {
        "clientId": "swagger",
        "usePkceWithAuthorizationCodeGrant": True,
        "scopes": "read",
        "additionalQueryStringParams": {"resource": AUDIENCE},
    }
    return get_swagger_ui_html(
        openapi_url="/openapi.json",
        title="Recordings",
        swagger_js_url="/assets/swagger-ui-bundle.js",
        swagger_css_url="/assets/swagger-ui.css",
        swagger_favicon_url="/assets/favicon-32x32.png",
        oauth2_redirect_url=api.swagger_ui_oauth2_redirect_url,
        init_oauth=init_oauth,
    )


@api.get("/docs/oauth2-redirect", include_in_schema=False)
def back() -> HTMLResponse:
    return get_swagger_ui_oauth2_redirect_html()


api.mount("/assets", StaticFiles(directory=_ASSETS))
app: ASGIApp = server.asgi_app(api) if IS_EMBEDDED else api
