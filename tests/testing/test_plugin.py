"""The fixtures of the pytest plugin. Whole projects are in tests/peers/test_pytest_plugin.py."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from bearerguard import ConfigurationError, Guard, Issuer, TokenError
from bearerguard.asgi import BearerMiddleware
from bearerguard.testing import LocalIssuer, acting_as
from bearerguard.testing.plugin import _named

GUARD = Guard(Issuer("https://id.example.com", audience="https://api.example.com"))


class Client:
    """The least that `acting_as` takes."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def token(self) -> str:
        return self.headers["Authorization"].removeprefix("Bearer ")


def test_each_test_has_an_issuer_and_a_guard_that_trusts_it(
    bearerguard_issuer: LocalIssuer, bearerguard_guard: Guard
) -> None:
    with acting_as(Client(), scopes=["read"]) as client:
        assert bearerguard_guard.verify(client.token()).scopes == {"read"}
    assert bearerguard_issuer.key.algorithm == "ES256"


@pytest.mark.bearerguard(audience="https://other.example.com", algorithm="RS256")
class TestMarked:
    @pytest.mark.bearerguard(algorithm="EdDSA")
    def test_a_marker_sets_options_and_the_closest_counts(
        self, bearerguard_issuer: LocalIssuer
    ) -> None:
        assert bearerguard_issuer.audience == "https://other.example.com"
        assert bearerguard_issuer.key.algorithm == "EdDSA"


class TestTheGuardOfAnApp:
    @pytest.fixture
    def bearerguard_options(self) -> dict[str, object]:
        return {"guard": GUARD}

    def test_the_issuer_stands_in_for_that_of_the_guard(
        self, bearerguard_issuer: LocalIssuer, bearerguard_guard: Guard
    ) -> None:
        assert bearerguard_guard is GUARD
        assert bearerguard_issuer.url == "https://id.example.com"
        with acting_as(Client()) as client:
            assert GUARD.verify(client.token()).subject == "user"

    def test_its_state_is_fresh_for_each_test(self, bearerguard_issuer: LocalIssuer) -> None:
        assert GUARD.health()["cached_tokens"] == 0
        with pytest.raises(TokenError):
            GUARD.verify(LocalIssuer(bearerguard_issuer.url, algorithm="ES256").token())

    @pytest.mark.bearerguard(tenant="acme")
    def test_a_wrong_option_is_refused(self, request: pytest.FixtureRequest) -> None:
        with pytest.raises(ConfigurationError, match="has no tenants"):
            request.getfixturevalue("bearerguard_issuer")


def guard() -> Guard:
    return GUARD


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An app without a framework."""


MIDDLEWARE = BearerMiddleware(app, guard=GUARD)


@pytest.mark.parametrize("name", ["GUARD", "guard()", "MIDDLEWARE"])
def test_the_ini_option_names_a_guard_an_app_or_a_function_that_returns_one(name: str) -> None:
    assert _named(f"{__name__}:{name}") is GUARD


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing.there:guard", "there is no module 'nothing'"),
        (f"{__name__}:nothing", "has no 'nothing'"),
        ("no name", "there is no module 'no name'"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_with_the_remedy(name: str, words: str) -> None:
    with pytest.raises(
        pytest.UsageError, match=rf"^bearerguard_guard = .*{words}.*pythonpath = \."
    ):
        _named(name)


def test_the_plugin_is_light_to_import() -> None:
    """It is imported by every run of pytest where bearerguard is installed."""
    code = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import bearerguard.testing.plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [name for name in done.stdout.split() if name != "pkgutil"]
    assert loaded == [
        "bearerguard",
        "bearerguard.runtime",
        "bearerguard.runtime.lazy_names",
        "bearerguard.testing",
        "bearerguard.testing.plugin",
    ]
