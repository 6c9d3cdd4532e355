"""Challenges are parsed by the grammar of RFC 9110 §11.6.1, and what we build parses back."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard.protocol.http import received_challenge
from bearerguard.protocol.http.challenge import Challenge
from bearerguard.protocol.http.received_challenge import ReceivedChallenge

TOKEN = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True)
VALUE = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=20)
PARAMETERS = st.dictionaries(TOKEN.map(str.lower), VALUE, max_size=4)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
# RFC 9110 §11.6.1 and §5.6.4: auth-param = token "=" quoted-string
PARAMETER = re.compile(r'([a-z_]+)="((?:[\x20\x21\x23-\x5B\x5D-\x7E]|\\["\\])*)"')


def parsed(*fields: str) -> list[tuple[str, dict[str, str]]]:
    return [(each.scheme, dict(each.parameters)) for each in received_challenge.parse(fields)]


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
        # parsing ends at the first text that is no challenge
        (['Bearer a="open, Basic b=c'], [("bearer", {})]),
        (['Bearer a="x" b="y"'], [("bearer", {})]),
        (["Bearer a=b, =c, d=e"], [("bearer", {"a": "b"})]),
        (["=, Bearer"], []),
        (['"Bearer a=b"'], []),
        (["a=b, Bearer"], []),
    ],
)
def test_challenges_are_parsed(fields, expected):
    assert parsed(*fields) == expected


def test_a_field_is_parsed_up_to_a_bound():
    assert (
        parsed("Bearer " + ", ".join(f"p{number}=x" for number in range(2000)))[0][1]["p9"] == "x"
    )
    assert len(parsed("A," * 100_000)) == 4096


def test_find_prefers_the_challenge_with_an_error():
    found = received_challenge.parse(
        ['Basic error=a, Bearer realm=x, DPoP error="b", Bearer error=c']
    )
    assert received_challenge.find(found, "bearer", "dpop") == ReceivedChallenge(
        "dpop", {"error": "b"}
    )
    assert received_challenge.find(found[:2], "bearer", "dpop") == found[1]
    assert received_challenge.find(found, "digest") is None
    assert received_challenge.find([], "bearer") is None


def written(scheme: str, parameters: dict[str, str]) -> str:
    quoted = {
        name: value.replace("\\", "\\\\").replace('"', '\\"') for name, value in parameters.items()
    }
    return f"{scheme} " + ", ".join(f'{name}="{value}"' for name, value in quoted.items())


@given(st.lists(st.tuples(TOKEN, PARAMETERS), max_size=4))
def test_every_list_of_challenges_parses_back(challenges):
    expected = [(scheme.lower(), parameters) for scheme, parameters in challenges]
    fields = [written(*each) for each in challenges]
    assert parsed(*fields) == expected
    assert parsed(", ".join(fields)) == expected


@given(realm=VALUE, error=VALUE, scope=VALUE)
def test_built_challenges_parse_back(realm, error, scope):
    ((scheme, parameters),) = parsed(Challenge(realm, error, None, scope).build())
    assert scheme == "bearer"
    assert parameters["realm"] == "".join(each for each in realm if " " <= each <= "~")
    assert set(parameters) == {"realm", "error", "scope"}


@given(st.lists(st.text(max_size=200) | st.text('Bearer ,="\\a', max_size=80), max_size=3))
def test_no_field_makes_the_parser_fail(fields):
    for each in received_challenge.parse(fields):
        assert each.scheme == each.scheme.lower()
        assert each.scheme
        assert all(name and name == name.lower() for name in each.parameters)


@given(TEXT, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT)
def test_a_built_challenge_has_legal_characters_and_no_parameter_twice(
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
