"""The conformance table, row by row, through both adapters."""

from __future__ import annotations

import pytest

from tests.conformance import (
    caching_table,
    dpop_table,
    hdr_table,
    introspection_table,
    jwks_table,
    jwt_table,
    mtls_table,
    revoked_table,
    status_table,
    step_up_table,
)
from tests.conformance.drivers import DRIVERS
from tests.conformance.scenario import Scenario

TABLE = [
    *hdr_table.TABLE,
    *jwt_table.TABLE,
    *jwks_table.TABLE,
    *introspection_table.TABLE,
    *caching_table.TABLE,
    *revoked_table.TABLE,
    *mtls_table.TABLE,
    *dpop_table.TABLE,
    *step_up_table.TABLE,
    *status_table.TABLE,
]
IDS = [scenario.id for scenario in TABLE]


@pytest.mark.parametrize("scenario", TABLE, ids=IDS)
def test_both_adapters_respond_alike(scenario: Scenario) -> None:
    asgi, wsgi = (scenario.run(call) for call in DRIVERS.values())
    assert asgi.status == wsgi.status
    assert asgi.body == wsgi.body
    own = {"content-type"}  # of each app; that of a refusal is checked with its body
    assert [field for field in asgi.headers if field[0] not in own] == [
        field for field in wsgi.headers if field[0] not in own
    ]


def test_no_row_is_written_twice() -> None:
    assert len(set(IDS)) == len(IDS)
