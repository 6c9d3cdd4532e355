"""Expiry headers."""

from __future__ import annotations

import pytest

from bearerguard import ConfigurationError
from bearerguard.protocol.http.expiry import (
    GITHUB_EXPIRY,
    ExpiryHeaders,
    seconds_left,
    structured_date,
    utc_text,
)


def test_the_formats_are_those_of_their_sources() -> None:
    assert structured_date(1795450000.9) == "@1795450000"
    assert utc_text(1633633673) == "2021-10-07 19:07:53 UTC"  # GitHub's own example
    assert seconds_left(100.9, 0.0) == "100"
    assert seconds_left(0.0, 100.0) == "0"


def test_the_expiry_of_a_token_may_be_after_the_last_calendar_date() -> None:
    assert utc_text(2**53) == "9999-12-31 23:59:59 UTC"
    assert structured_date(2**53) == "@253402300799"
    assert int(seconds_left(2**53, 0)) > 0


def test_either_header_may_be_left_out() -> None:
    assert GITHUB_EXPIRY.names() == ("GitHub-Authentication-Token-Expiration",)
    assert ExpiryHeaders(None, None).fields(10, 0) == ()
    assert ExpiryHeaders(expires_at=None).fields(10, 0) == (("Access-Token-Expires-In", "10"),)


@pytest.mark.parametrize("name", ["bad name", "x:y", "x\r\ny", 3])
def test_a_malformed_field_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="header field name"):
        ExpiryHeaders(expires_in=name)
