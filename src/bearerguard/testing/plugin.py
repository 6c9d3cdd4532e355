"""The pytest plugin: an issuer and a guard for each test, as fixtures.

Every run of pytest where bearerguard is installed imports this file, so it imports nothing but
pytest; a fixture imports what it needs when a test uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bearerguard.guard.guard import Guard
    from bearerguard.testing.local_issuer import LocalIssuer

_INI = "bearerguard_guard"
_MARKER = "bearerguard"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini option that names the guard of the app under test."""
    parser.addini(_INI, "the guard of the app under test, such as app:guard", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(**options): options of the fixture bearerguard_options, for these tests",
    )


@pytest.fixture
def bearerguard_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The options of `bearerguard_issuer`; override this fixture to set them.

    `guard` is the guard of the app under test: by default the one that the ini option
    `bearerguard_guard` names, or in a Django project that of `settings.BEARERGUARD`. With a guard,
    the other options are the arguments of `trusted`: `issuer`, `tenant`. Without one, or with None,
    they are those of `LocalIssuer`: `url`, `audience`, `algorithm`, …. The marker `bearerguard`
    sets options for one test.
    """
    named = request.config.getini(_INI)
    return {"guard": _named(named)} if named else {}


@pytest.fixture
def bearerguard_issuer(
    request: pytest.FixtureRequest, bearerguard_options: Mapping[str, Any]
) -> Iterator[LocalIssuer]:
    """A fresh `LocalIssuer`, which the guard of the app under test trusts during this test."""
    from bearerguard.testing.acting import in_use  # noqa: PLC0415 - see above
    from bearerguard.testing.impersonation import trusted  # noqa: PLC0415 - see above
    from bearerguard.testing.local_issuer import LocalIssuer  # noqa: PLC0415 - see above

    options = _chosen(request, bearerguard_options)
    guard = options.pop("guard")
    if guard is not None:
        with trusted(guard, **options) as issuer:
            yield issuer
        return
    options.setdefault("algorithm", "ES256")
    issuer = LocalIssuer(**options)
    with in_use(issuer):
        yield issuer
    issuer.close()


@pytest.fixture
def bearerguard_guard(
    request: pytest.FixtureRequest,
    bearerguard_options: Mapping[str, Any],
    bearerguard_issuer: LocalIssuer,
) -> Iterator[Guard]:
    """The guard of the app under test, or a new one; it trusts `bearerguard_issuer`."""
    from bearerguard.testing.impersonation import guard_of  # noqa: PLC0415 - see above

    guard = _chosen(request, bearerguard_options)["guard"]
    if guard is not None:
        yield guard_of(guard)
        return
    with bearerguard_issuer.guard() as guard:
        yield guard


def _named(path: str) -> Guard:
    from bearerguard.errors import ConfigurationError  # noqa: PLC0415 - see above
    from bearerguard.middleware.app_guard import guard_at  # noqa: PLC0415 - see above

    try:
        return guard_at(path).guard
    except ConfigurationError as error:
        raise pytest.UsageError(
            f"{_INI} = {error} (with pythonpath = ., the modules beside pyproject.toml can be"
            " imported)"
        ) from error


def _chosen(request: pytest.FixtureRequest, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with those of the test's markers, the closest last, and the guard."""
    from bearerguard.middleware.app_guard import guards_of_django  # noqa: PLC0415 - see above

    chosen = dict(options)
    for marker in reversed(list(request.node.iter_markers(_MARKER))):
        chosen |= marker.kwargs
    if "guard" not in chosen:
        chosen["guard"] = next((each.guard for each in guards_of_django()), None)
    return chosen
