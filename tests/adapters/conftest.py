"""An issuer and its guard, for the adapters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bearerguard import Guard
from bearerguard.testing import LocalIssuer


@pytest.fixture(scope="package")
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


@pytest.fixture(scope="package")
def guard(issuer: LocalIssuer) -> Iterator[Guard]:
    with issuer.guard() as guard:
        guard.warm()
        yield guard
