"""The conformance table, row by row, through both faces."""

from __future__ import annotations

import pytest

from tests.conformance import (
    caching_table,
    hdr_table,
    introspection_table,
    jwks_table,
    jwt_table,
    revoked_table,
)
from tests.conformance.scenario import Scenario
from tests.conformance.worlds import WORLDS

TABLE = [
    *hdr_table.TABLE,
    *jwt_table.TABLE,
    *jwks_table.TABLE,
    *introspection_table.TABLE,
    *caching_table.TABLE,
    *revoked_table.TABLE,
]
IDS = [scenario.id for scenario in TABLE]


@pytest.mark.parametrize("scenario", TABLE, ids=IDS)
def test_both_faces_answer_alike(scenario: Scenario) -> None:
    asgi, wsgi = (scenario.play(call) for call in WORLDS.values())
    assert asgi.status == wsgi.status
    assert asgi.body == wsgi.body
    own = {"content-type"}  # of the app in each world; a refusal's is checked with its body
    assert [line for line in asgi.headers if line[0] not in own] == [
        line for line in wsgi.headers if line[0] not in own
    ]


def test_no_row_is_written_twice() -> None:
    assert len(set(IDS)) == len(IDS)
