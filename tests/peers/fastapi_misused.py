"""A FastAPI app with a route that cannot work; `AROUND` says what is around it."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import FastAPI, Security

from bearerguard import Principal
from bearerguard.fastapi import BearerMiddleware, BearerSecurity
from bearerguard.testing import LocalIssuer

guard = LocalIssuer(algorithm="ES256").guard()
bearer = BearerSecurity(guard)
app = FastAPI()


@app.get("/recordings")
def recordings(principal: Annotated[Principal, Security(bearer, scopes="read")]) -> None: ...


if os.environ["AROUND"] == "middleware":
    app.add_middleware(BearerMiddleware, guard=guard)
else:
    bearer.init_app(app)
