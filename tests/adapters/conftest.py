"""An issuer and its guard, a clock, and the adapters in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bearerguard import Guard
from bearerguard.testing import LocalIssuer
from tests.adapters.adapters import ADAPTERS, Send
from tests.conformance.harness import Clock


@pytest.fixture(scope="package")
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


@pytest.fixture(scope="package")
def guard(issuer: LocalIssuer) -> Iterator[Guard]:
    with issuer.guard() as guard:
        guard.warm()
        yield guard


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=ADAPTERS)
def behind(request: pytest.FixtureRequest) -> Callable[..., Send]:
    """Return one of the adapters, in front of an app that responds with given headers."""
    adapter: Callable[..., Send] = request.param
    return adapter


@pytest.fixture(scope="session")
def users() -> Iterator[None]:
    """Django's database with two users; one for the process, as Django's connections are."""
    import tests.django_project  # noqa: F401 - before anything that reads Django's settings

    # isort: split
    from django.contrib.auth.models import User
    from django.test.utils import setup_databases, teardown_databases

    created = setup_databases(verbosity=0, interactive=False)
    User.objects.create_user("ada")
    User.objects.create_user("bob", is_active=False)
    yield
    teardown_databases(created, verbosity=0)
