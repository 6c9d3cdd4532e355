"""The pages of an app that signs in by Swagger UI and by oidc-client-ts; served by uvicorn.

`API` is the origin of the API and its authorization server, `PAGES` the origin of these pages.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

API = os.environ["API"]
_PACKAGES = Path(__file__).parent / "node_modules"
_DESCRIPTION = {
    "openapi": "3.1.0",
    "info": {"title": "Recordings", "version": "1"},
    "servers": [{"url": API}],
    "paths": {
        "/api/recordings": {
            "get": {
                "operationId": "recordings",
                "security": [{"login": ["read"]}],
                "responses": {"200": {"description": "The recordings"}},
            }
        }
    },
    "components": {
        "securitySchemes": {
            "login": {
                "type": "oauth2",
                "flows": {
                    "authorizationCode": {
                        "authorizationUrl": f"{API}/oauth/authorize",
                        "tokenUrl": f"{API}/oauth/token",
                        "scopes": {"read": "See your recordings"},
                    }
                },
            }
        }
    },
}
_SWAGGER = """<!doctype html><title>Recordings</title>
<link rel="stylesheet" href="/ui/swagger/swagger-ui.css"><div id="ui"></div>
<script src="/ui/swagger/swagger-ui-bundle.js"></script>
<script>
const ui = SwaggerUIBundle({
  url: "/ui/openapi.json", dom_id: "#ui",
  oauth2RedirectUrl: location.origin + "/ui/swagger/oauth2-redirect.html",
  // What tracing libraries add to every request of a page.
  requestInterceptor: (request) => {
    request.headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    return request;
  },
});
ui.initOAuth({clientId: "swagger", usePkceWithAuthorizationCodeGrant: true, scopes: ["read"]});
</script>
"""
_SETTINGS = """
const settings = (scope) => ({
  authority: %s, client_id: "spa", scope,
  redirect_uri: location.origin + "/ui/back",
  silent_redirect_uri: location.origin + "/ui/back",
  extraHeaders: {"X-Requested-With": "oidc-client-ts"},
});
const manager = (scope) => new oidc.UserManager(settings(scope));
"""
_HEAD = '<!doctype html><title>app</title><script src="/ui/oidc/oidc-client-ts.js"></script>'


def _script(text: str) -> HTMLResponse:
    settings = _SETTINGS % json.dumps(API)
    return HTMLResponse(f"{_HEAD}<p></p><script>{settings}{text}</script>")


def openapi(_: Request) -> JSONResponse:
    return JSONResponse(_DESCRIPTION)


def swagger(_: Request) -> HTMLResponse:
    return HTMLResponse(_SWAGGER)


def spa(_: Request) -> HTMLResponse:
    return _script("")


def back(_: Request) -> HTMLResponse:
    """Where the browser comes back to: of a popup, of a redirect, and of an invisible frame."""
    return _script(
        "window.came = manager('openid').signinCallback()"
        ".catch((error) => { window.failed = String(error); });"
    )


pages = Starlette(
    routes=[
        Route("/ui/openapi.json", openapi),
        Route("/ui/docs", swagger),
        Route("/ui/app", spa),
        Route("/ui/back", back),
        Mount("/ui/swagger", StaticFiles(directory=_PACKAGES / "swagger-ui-dist")),
        Mount("/ui/oidc", StaticFiles(directory=_PACKAGES / "oidc-client-ts/dist/browser")),
    ]
)
