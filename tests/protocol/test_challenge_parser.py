"""Challenges are read as RFC 9110 writes them, and nothing else is guessed at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard.protocol.http import challenge_parser
from bearerguard.protocol.http.challenge import Challenge
from bearerguard.protocol.http.challenge_parser import ReceivedChallenge

TOKEN = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True)
VALUE = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=20)
PARAMETERS = st.dictionaries(TOKEN.map(str.lower), VALUE, max_size=4)


def read(*fields: str) -> list[tuple[str, dict[str, str]]]:
    return [(each.scheme, dict(each.parameters)) for each in challenge_parser.parse(fields)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], []),
        ([""], []),
        ([" , ,, "], []),
        (["Bearer"], [("bearer", {})]),
        (["Basic, Bearer"], [("basic", {}), ("bearer", {})]),
        (["Basic", "Bearer realm=x"], [("basic", {}), ("bearer", {"realm": "x"})]),
        # RFC 9110 §11.6.1
        (
            ['Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""'],
            [
                ("basic", {"realm": "simple"}),
                ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
            ],
        ),
        # RFC 6750 §3
        (
            ['Bearer realm="example",\n error="invalid_token"'.replace("\n", "")],
            [("bearer", {"realm": "example", "error": "invalid_token"})],
        ),
        (["Negotiate YWJj==, Bearer a=b"], [("negotiate", {}), ("bearer", {"a": "b"})]),
        (["Negotiate abc , Bearer"], [("negotiate", {}), ("bearer", {})]),
        (['BEARER Error="x", ERROR="y", error=z'], [("bearer", {"error": "x"})]),
        (["Bearer a = b ,, c\t=\td"], [("bearer", {"a": "b", "c": "d"})]),
        (['Bearer a="x, y=z", b="Basic q=1"'], [("bearer", {"a": "x, y=z", "b": "Basic q=1"})]),
        (['Bearer a=""'], [("bearer", {"a": ""})]),
        # what cannot be read ends it
        (['Bearer a="open, Basic b=c'], [("bearer", {})]),
        (['Bearer a="x" b="y"'], [("bearer", {})]),
        (["Bearer a=b, =c, d=e"], [("bearer", {"a": "b"})]),
        (["=, Bearer"], []),
        (['"Bearer a=b"'], []),
        (["a=b, Bearer"], []),
    ],
)
def test_challenges_are_read(fields, expected):
    assert read(*fields) == expected


def test_a_field_is_read_to_a_bound():
    assert read("Bearer " + ", ".join(f"p{number}=x" for number in range(2000)))[0][1]["p9"] == "x"
    assert len(read("A," * 100_000)) == 4096


def test_the_challenge_that_says_what_is_wrong_is_found():
    found = challenge_parser.parse(
        ['Basic error=a, Bearer realm=x, DPoP error="b", Bearer error=c']
    )
    assert challenge_parser.named(found, "bearer", "dpop") == ReceivedChallenge(
        "dpop", {"error": "b"}
    )
    assert challenge_parser.named(found[:2], "bearer", "dpop") == found[1]
    assert challenge_parser.named(found, "digest") is None
    assert challenge_parser.named([], "bearer") is None


def written(scheme: str, parameters: dict[str, str]) -> str:
    quoted = {
        name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in parameters.items()
    }
    return f"{scheme} " + ", ".join(f'{name}="{value}"' for name, value in quoted.items())


@given(st.lists(st.tuples(TOKEN, PARAMETERS), max_size=4))
def test_whatever_is_written_is_read_back(challenges):
    expected = [(scheme.lower(), parameters) for scheme, parameters in challenges]
    fields = [written(*each) for each in challenges]
    assert read(*fields) == expected
    assert read(", ".join(fields)) == expected


@given(realm=VALUE, error=VALUE, scope=VALUE)
def test_our_own_challenges_are_read_back(realm, error, scope):
    ((scheme, parameters),) = read(Challenge(realm, error, None, scope).build())
    assert scheme == "bearer"
    assert parameters["realm"] == "".join(each for each in realm if " " <= each <= "~")
    assert set(parameters) == {"realm", "error", "scope"}


@given(st.lists(st.text(max_size=200) | st.text('Bearer ,="\\a', max_size=80), max_size=3))
def test_nothing_that_comes_is_more_than_can_be_read(fields):
    for each in challenge_parser.parse(fields):
        assert each.scheme == each.scheme.lower()
        assert each.scheme
        assert all(name and name == name.lower() for name in each.parameters)
