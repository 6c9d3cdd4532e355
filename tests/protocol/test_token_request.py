"""Token requests are read back as they were meant, by another reader of forms."""

from __future__ import annotations

from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st

from bearerguard.protocol import token_request
from bearerguard.protocol.client_authentication import Proof, client_secret_basic

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5), st.lists(st.tuples(TEXT, TEXT), max_size=2))
def test_whatever_is_sent_is_read_back(fields, parameters):
    request = token_request.request(
        "https://id.example/token", fields, Proof(parameters=tuple(parameters))
    )
    read = parse_qsl(request.body.decode("ascii"), keep_blank_values=True)
    assert read == [*fields, *parameters]
    assert (request.method, request.url) == ("POST", "https://id.example/token")


def test_a_request_carries_the_proof_and_asks_for_json_on_a_connection_of_its_own():
    proof = client_secret_basic("c", "s3cret")
    request = token_request.request("https://id/token", [("a", "b")], proof, [("dpop", "p")])
    headers = dict(request.headers)
    assert headers["accept"] == "application/json"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["authorization"].startswith("Basic ")
    assert headers["dpop"] == "p"
    assert request.body == b"a=b"
    assert not request.keep_alive
    assert "s3cret" not in repr(request)


def test_the_audience_names_each_scope_once_and_each_resource():
    assert token_request.audience((), ()) == []
    assert token_request.audience(("b", "a", "b"), ()) == [("scope", "b a")]
    assert token_request.audience((), ("https://a", "https://b")) == [
        ("resource", "https://a"),
        ("resource", "https://b"),
    ]
