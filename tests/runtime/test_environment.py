"""Misspelled names of settings."""

from __future__ import annotations

import pytest

from bearerguard import ConfigurationError
from bearerguard.runtime.environment import check_names

KNOWN = ("BEARERGUARD_ISSUER", "BEARERGUARD_JWKS_URI", "BEARERGUARD_TOKEN_TYPES")


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("BEARERGUARD_TOKEN_TYPE", "BEARERGUARD_TOKEN_TYPES"),
        ("BEARERGUARD_JWKS_URL", "BEARERGUARD_JWKS_URI"),
        ("BEARERGUARD_ISUER", "BEARERGUARD_ISSUER"),
    ],
)
def test_a_misspelled_name_is_refused_with_the_name_that_was_meant(slip: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{slip}: .*{meant} is meant"):
        check_names(["BEARERGUARD_ISSUER", slip], KNOWN, prefix="BEARERGUARD_")


@pytest.mark.parametrize(
    "name", ["BEARERGUARD_ISSUER", "BEARERGUARD_COLOUR", "BEARERGUARD_SERVER_ISSUER", "ISSUE", ""]
)
def test_all_other_names_are_left_alone(name: str) -> None:
    check_names([name], KNOWN, prefix="BEARERGUARD_", others=("BEARERGUARD_SERVER_",))
