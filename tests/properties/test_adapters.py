"""Both adapters refuse any malformed Authorization alike, and raise nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bearerguard.testing import LocalIssuer
from tests.conformance.drivers import DRIVERS, Protected, Sent

GUARD = LocalIssuer(algorithm="ES256").guard()
# A server hands over no CR, LF or NUL within a field (RFC 9110 §5.5).
FIELD = st.binary().map(lambda octets: octets.translate(None, b"\r\n\0"))
# The scheme is the whole token before what no token can hold (RFC 9110 §5.6.2).
_BEARER_SCHEME = re.compile(rb"bearer(?![!#$%&'*+.^_`|~0-9a-z-])", re.IGNORECASE)
BEARER = st.sampled_from([b"Bearer ", b"bearer ", b"Bearer", b"BEARER  "])


@pytest.mark.parametrize("optional", [False, True])
@given(FIELD | st.builds(bytes.__add__, BEARER, FIELD))
@example(b"Bearer eyJhbGciOiJub25lIn0.e30.")
@example(b"Bearer " + b"a" * 100_000)
@example(b"Bearer " + b"." * 5000)
def test_any_octets_get_400_or_401(optional: bool, field: bytes) -> None:
    app = Protected(GUARD, {"optional": optional}, ())
    sent = Sent([("Authorization", field)])
    asgi, wsgi = (call(app, sent) for call in DRIVERS.values())
    assert asgi.status == wsgi.status
    is_bearer = _BEARER_SCHEME.match(field.strip(b" \t"))
    # Another scheme is no bearer credential: an optional route takes it for none.
    assert asgi.status in ({400, 401} if is_bearer or not optional else {200, 400, 401})
    assert asgi.body == wsgi.body
