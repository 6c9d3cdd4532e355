"""An app as its authors write it, with postponed annotations and everything at module level.

The types that its authors see are checked where all files are, by mypy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, assert_type

from fastapi import APIRouter, Depends, FastAPI, Security, WebSocket

from bearerguard import Principal, role
from bearerguard.fastapi import BearerSecurity
from bearerguard.testing import LocalIssuer

issuer = LocalIssuer(algorithm="ES256")
bearer = BearerSecurity(issuer.guard(), scopes={"read": "Read recordings"})
admin = bearer.require(role("admin"))
assert_type(admin, Callable[..., Awaitable[Principal]])
assert_type(bearer.responses, dict[int | str, dict[str, Any]])
app = FastAPI()
bearer.init_app(app)
router = APIRouter(prefix="/admin", dependencies=[Depends(admin)])


@app.get("/recordings")
async def recordings(
    principal: Annotated[Principal, Security(bearer, scopes=["read"])],
) -> dict[str, str]:
    assert_type(principal, Principal)  # never None
    return {"for": principal.identity}


@app.websocket("/live")
async def live(websocket: WebSocket, principal: Annotated[Principal, Depends(bearer)]) -> None:
    await websocket.accept()
    await websocket.send_text(principal.identity)
    await websocket.close()


@router.get("/name")
def name(principal: Annotated[Principal, Security(admin, scopes=["read"])]) -> str:
    return principal.display_name


app.include_router(router)


def unreadable(app: FastAPI, own: BearerSecurity) -> None:
    """Add a route whose annotation FastAPI cannot read: `own` is no name of this module."""

    @app.get("/x")
    def x(principal: Annotated[Principal, Depends(own)]) -> None: ...
