"""The conformance table through a FastAPI app whose `BearerSecurity` stands alone.

Left out are rows whose options only a middleware has (paths that are optional or excluded,
preflights), those that check the body before the app reads it, and those whose app sets headers
that the middleware would see on their way out.
"""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse

from bearerguard import Principal
from bearerguard.fastapi import BearerSecurity
from tests.conformance.drivers import DRIVERS, Protected, Received, Sent, through_asgi
from tests.conformance.scenario import Scenario
from tests.conformance.test_table import TABLE

METHODS = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"]


def is_for_a_dependency(scenario: Scenario) -> bool:
    options = dict(scenario.adapter)
    options.pop("require", None)
    if "dpop_content_digest" in scenario.guard:
        return False
    return not scenario.app_headers and options in ({}, {"optional": True})


def call_fastapi(protected: Protected, request: Sent) -> Received:
    bearer = BearerSecurity(protected.guard, **protected.options)
    app = FastAPI(openapi_url=None)

    @app.api_route("/{path:path}", methods=METHODS, response_class=PlainTextResponse)
    async def anything(request: Request, principal: Annotated[Principal, Depends(bearer)]) -> Any:
        return "" if request.method == "HEAD" else principal.identity

    return through_asgi(app, request)


ROWS = [scenario for scenario in TABLE if is_for_a_dependency(scenario)]


@pytest.mark.parametrize("scenario", ROWS, ids=[scenario.id for scenario in ROWS])
def test_fastapi_alone_responds_as_the_adapters_do(scenario: Scenario) -> None:
    alone, adapter = scenario.run(call_fastapi), scenario.run(DRIVERS["asgi"])
    assert (alone.status, alone.body) == (adapter.status, adapter.body)
    own = {"content-type", "content-length", "vary"}  # of each app; a list of names has no order
    assert sorted(each for each in alone.headers if each[0] not in own) == sorted(
        each for each in adapter.headers if each[0] not in own
    )


def test_most_of_the_conformance_table_applies_to_a_dependency() -> None:
    assert len(ROWS) > 0.8 * len(TABLE)
