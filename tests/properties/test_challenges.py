"""Challenges parse back, whatever went in, and never hold what RFC 6750 §3 forbids."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from bearerguard.protocol.http.challenge import Challenge

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
# RFC 9110 §11.6.1 and §5.6.4: auth-param = token "=" quoted-string
PARAMETER = re.compile(r'([a-z_]+)="((?:[\x20\x21\x23-\x5B\x5D-\x7E]|\\["\\])*)"')


@given(TEXT, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT)
def test_a_challenge_parses_back(
    realm: str, error: str | None, description: str | None, scope: str | None
) -> None:
    value = Challenge(realm, error, description, scope).build()
    scheme, _, rest = value.partition(" ")
    assert scheme == "Bearer"
    parameters = PARAMETER.findall(rest)
    assert ", ".join(f'{name}="{text}"' for name, text in parameters) == rest
    names = [name for name, _ in parameters]
    assert names[0] == "realm"
    assert len(set(names)) == len(names)
    found = dict(parameters)
    legal = "".join(letter for letter in realm if " " <= letter <= "~")
    assert re.sub(r"\\(.)", r"\1", found["realm"]) == legal
    for name, given_text in (("error", error), ("error_description", description)):
        assert (name in found) is (given_text is not None)
        assert not re.search(r'["\\]', found.get(name, ""))
