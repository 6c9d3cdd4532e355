"""A response of a token endpoint is a token, a refusal, or the server's own trouble."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard.errors import TokenRefused, TokenUnavailable
from bearerguard.protocol import token_endpoint
from bearerguard.protocol.client_authentication import Proof, client_secret_basic
from bearerguard.runtime.messages import Response

GOOD = {"access_token": "abc", "token_type": "Bearer"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["access_token", "token_type", "expires_in", "refresh_token", "scope", "error"]
)


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


def answer(members, status=200, **headers):
    body = members if isinstance(members, bytes) else json.dumps(members).encode()
    return Response(status, tuple(headers.items()), body)


def test_a_full_response_is_read():
    members = GOOD | {"expires_in": 3600, "refresh_token": "r", "scope": "a  b", "other": 1}
    found = token_endpoint.read(answer(members))
    assert (found.access_token, found.token_type, found.expires_in) == ("abc", "Bearer", 3600.0)
    assert (found.refresh_token, found.scopes) == ("r", ("a", "b"))
    assert "abc" not in repr(found)
    assert "'r'" not in repr(found)


def test_all_members_but_the_token_and_its_type_may_be_missing():
    found = token_endpoint.read(answer(GOOD))
    assert (found.expires_in, found.refresh_token, found.scopes) == (None, None, None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (1, 1.0),
        (0.5, 0.5),
        ("3600", 3600.0),
        ("3599.5", 3599.5),
        (0, None),
        (-5, None),
        ("-5", None),
        ("soon", None),
        ("\u00b2", None),
        ("", None),
        (True, None),
        ([], None),
        (None, None),
        (10**400, None),
        ("9" * 400, None),
        (1e300, None),
        (3_155_760_000, 3_155_760_000.0),
        (3_155_760_001, None),
    ],
)
def test_CL_01_a_useless_lifetime_is_ignored(given, expected):
    assert token_endpoint.read(answer(GOOD | {"expires_in": given})).expires_in == expected


@pytest.mark.parametrize("given", ["", "a b", "a\n", "\u00e9", 7, None, [], {}, "a\x7f"])
def test_a_token_that_no_header_can_have_is_refused(given):
    with pytest.raises(TokenRefused, match="no access token") as error:
        token_endpoint.read(answer(GOOD | {"access_token": given}))
    assert error.value.error == "invalid_response"


@pytest.mark.parametrize("given", ["", "mac", "DPoP", 7, [], "Bearer "])
def test_CL_08_a_token_of_another_type_is_not_used(given):
    with pytest.raises(TokenRefused, match="it is not used") as error:
        token_endpoint.read(answer(GOOD | {"token_type": given}), assumed_type="Bearer")
    assert error.value.error == "unsupported_token_type"


@pytest.mark.parametrize("body", [GOOD | {"token_type": None}, {"access_token": "t"}])
def test_CL_09_a_token_without_a_type_is_used_only_with_assume_token_type(body):
    with pytest.raises(TokenRefused, match="assume_token_type") as error:
        token_endpoint.read(answer(body))
    assert error.value.error == "unsupported_token_type"
    assert token_endpoint.read(answer(body), assumed_type="Bearer").token_type == "Bearer"
    with pytest.raises(TokenRefused, match="not DPoP"):
        token_endpoint.read(answer(body), token_type="DPoP", assumed_type="Bearer")


@pytest.mark.parametrize(
    ("status", "body", "headers", "message"),
    [
        (
            400,
            {"error": {"message": "Bad code", "code": 100}},
            {},
            "response was 400 with 'Bad code'",
        ),
        (200, {"error": {"code": 400, "message": "TOKEN_EXPIRED"}}, {}, "200 with 'TOKEN_EXPIRED'"),
        (401, {"errorCode": "E11", "errorSummary": "Bad token"}, {}, "401 with 'Bad token'"),
        (404, {"message": "no such path"}, {}, "response was 404 with 'no such path'"),
        (400, {"errors": [1], "message": ""}, {}, "response was 400 without an error code"),
        (403, b"<html><h1>Blocked", {}, "response was 403: not JSON but HTML"),
        (405, b"", {}, "response was 405: not JSON: the body is empty"),
        (404, {}, {}, "response was 404 without an error code"),
        (301, b"", {"Location": "https://b.test/t?code=x"}, "301, a redirect to 'https://b.test':"),
        (302, b"", {"Location": "/login"}, "302, a redirect: it is not followed"),
        (307, b"", {}, "307, a redirect: it is not followed"),
    ],
)
def test_CL_09_a_response_without_an_error_code_is_described(status, body, headers, message):
    with pytest.raises(TokenRefused) as refused:
        token_endpoint.read(answer(body, status, **headers))
    assert refused.value.error == "invalid_response"
    assert message in str(refused.value)
    assert "code=x" not in str(refused.value)


@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_CL_09_every_2xx_status_is_a_success(status):
    assert token_endpoint.read(answer(GOOD, status)).access_token == GOOD["access_token"]


def form(body: bytes) -> Response:
    kind = "application/x-www-form-urlencoded; charset=utf-8"
    return Response(200, (("Content-Type", kind),), body)


def test_CL_09_a_body_whose_media_type_is_form_is_read_as_a_form():
    found = token_endpoint.read(form(b"access_token=abc&token_type=bearer&expires_in=60&scope=a+b"))
    assert (found.access_token, found.expires_in, found.scopes) == ("abc", 60.0, ("a", "b"))
    with pytest.raises(TokenRefused) as refused:
        token_endpoint.read(form(b"error=bad_refresh_token&error_description=no"))
    assert refused.value.error == "bad_refresh_token"


@pytest.mark.parametrize("body", [b"access_token=a&access_token=b", b"a=\xff", b"a&" * 101])
def test_CL_09_a_form_with_a_repeated_parameter_is_refused(body):
    with pytest.raises(TokenRefused, match="unusable"):
        token_endpoint.read(form(body))


def test_CL_09_a_success_without_a_body_is_described():
    with pytest.raises(TokenRefused, match="unusable: 204 without a body"):
        token_endpoint.read(answer(b"", 204))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("authorization_pending", "authorization_pending"),
        ("bad_refresh_token", "bad_refresh_token"),
        ({"code": 400}, "invalid_response"),
        (True, "invalid_response"),
    ],
)
@pytest.mark.parametrize("status", [200, 201, 400])
def test_CL_09_a_body_with_an_error_is_an_error_whatever_its_status(error, code, status):
    with pytest.raises(TokenRefused) as refused:
        token_endpoint.read(answer(GOOD | {"error": error}, status))
    assert refused.value.error == code


def test_CL_09_temporarily_unavailable_is_token_unavailable_with_any_status():
    with pytest.raises(TokenUnavailable):
        token_endpoint.read(answer({"error": "temporarily_unavailable"}, 200))


@pytest.mark.parametrize("nothing", [None, ""])
def test_an_empty_error_is_ignored(nothing):
    assert token_endpoint.read(answer(GOOD | {"error": nothing})).token_type == "Bearer"


def test_a_scope_may_come_as_a_list():
    assert token_endpoint.read(answer(GOOD | {"scope": ["a", "b c"]})).scopes == ("a", "b", "c")
    assert token_endpoint.read(answer(GOOD | {"scope": ["a", 7]})).scopes is None


def test_CL_08_types_are_compared_in_any_case_and_dpop_is_not_bearer():
    assert token_endpoint.read(answer(GOOD | {"token_type": "bearer"})).token_type == "Bearer"
    bound = answer(GOOD | {"token_type": "dpop"})
    assert token_endpoint.read(bound, token_type="DPoP").token_type == "DPoP"
    with pytest.raises(TokenRefused):
        token_endpoint.read(answer(GOOD), token_type="DPoP")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b"\xff", b'{"a":1,"a":2}', b"NaN"])
def test_a_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(TokenRefused, match="unusable"):
        token_endpoint.read(answer(body))


@pytest.mark.parametrize(
    ("status", "members", "error"),
    [
        (400, {"error": "invalid_grant"}, "invalid_grant"),
        (401, {"error": "invalid_client", "error_description": "no"}, "invalid_client"),
        (403, {"error": "odd \x1b[2J\u2028"}, "odd \x1b[2J\u2028"),
        (400, {}, "invalid_response"),
        (400, {"error": ""}, "invalid_response"),
        (400, {"error": 7}, "invalid_response"),
        (400, {"error": ["invalid_grant"]}, "invalid_response"),
        (400, {"error": {"a": 1}}, "invalid_response"),
        (404, b"<html>", "invalid_response"),
        (302, b"", "invalid_response"),
    ],
)
def test_CL_05_a_refusal_has_the_servers_code(status, members, error):
    with pytest.raises(TokenRefused) as refused:
        token_endpoint.read(answer(members, status))
    assert refused.value.error == error
    assert str(refused.value).isprintable()
    assert str(refused.value).isascii()


@pytest.mark.parametrize(
    ("status", "members"),
    [
        (500, b""),
        (503, {"error": "invalid_grant"}),
        (429, {"error": "invalid_grant"}),
        (400, {"error": "temporarily_unavailable"}),
        (400, {"error": "server_error"}),
    ],
)
def test_CL_05_a_server_in_trouble_says_nothing_of_the_grant(status, members):
    with pytest.raises(TokenUnavailable, match="the server's response was"):
        token_endpoint.read(answer(members, status))


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (None, 1),
        ("7", 7),
        (" 7 ", 7),
        ("0", 1),
        ("-1", 1),
        ("1.5", 1),
        ("9" * 5000, 3600),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 1),
        ("\u00b2", 1),
        ("", 1),
    ],
)
def test_retry_after_is_bounded(line, seconds):
    headers = {} if line is None else {"Retry-After": line}
    with pytest.raises(TokenUnavailable) as error:
        token_endpoint.read(answer(b"", 503, **headers))
    assert error.value.retry_after == seconds


@given(
    token=st.from_regex(r"[\x21-\x7e]{1,40}", fullmatch=True),
    seconds=st.none() | st.integers(1, 10**9),
    refresh=st.none() | st.text(min_size=1, max_size=20),
    scope=st.none() | st.lists(st.from_regex(r"[a-z:]{1,9}", fullmatch=True), max_size=4),
)
def test_every_token_response_reads_back(token, seconds, refresh, scope):
    members = {"access_token": token, "token_type": "Bearer"}
    members |= {} if seconds is None else {"expires_in": seconds}
    members |= {} if refresh is None else {"refresh_token": refresh}
    members |= {} if scope is None else {"scope": " ".join(scope)}
    found = token_endpoint.read(answer(members))
    assert (found.access_token, found.expires_in, found.refresh_token) == (token, seconds, refresh)
    assert found.scopes == (None if scope is None else tuple(scope))


@given(
    status=st.sampled_from([200, 200, 200, 201, 302, 400, 401, 429, 500]),
    body=st.binary(max_size=60)
    | st.dictionaries(NAMES, JSON, max_size=6)
    | JSON.map(lambda value: GOOD | {"expires_in": value, "scope": value}),
    kind=st.sampled_from(["Bearer", "DPoP"]),
    retry=st.text(max_size=8),
)
def test_every_response_is_a_token_refused_or_unavailable(status, body, kind, retry):
    try:
        found = token_endpoint.read(answer(body, status, **{"retry-after": retry}), token_type=kind)
    except TokenRefused as error:
        assert isinstance(error.error, str)  # noqa: PT017 - one of three
    except TokenUnavailable as error:
        assert 1 <= error.retry_after <= 3600  # noqa: PT017 - likewise
    else:
        assert 200 <= status < 300
        assert found.access_token.isascii()
        assert found.expires_in is None or found.expires_in > 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<!doctype html><html>", "not JSON but HTML"),
        (b"", "body"),
        (b"[]", "not a JSON object"),
        (b"access_token=s3cret&token_type=bearer", "not JSON but text"),
    ],
)
def test_FETCH_01_the_error_for_a_token_response_that_is_not_json_says_what_came(
    body: bytes, message: str
) -> None:
    with pytest.raises(TokenRefused, match=message) as error:
        token_endpoint.read(Response(200, (), body))
    assert "s3cret" not in str(error.value)


def test_E41_a_token_may_follow_a_byte_order_mark() -> None:
    body = b'\xef\xbb\xbf{"access_token":"t","token_type":"Bearer"}'
    assert token_endpoint.read(Response(200, (), body)).access_token == "t"


@pytest.mark.parametrize(
    ("status", "body", "done"),
    [
        (200, b"", True),
        (204, b"", True),
        (200, b"revoked", True),
        (200, {"ok": True, "error": None}, True),
        (200, {"error": "invalid_request"}, False),
        (200, {"ok": False, "error": "token_revoked"}, False),
        (400, b"", False),
        (503, {}, False),
    ],
)
def test_CL_09_a_request_without_a_response_body_is_done_unless_there_is_an_error(
    status, body, done
):
    assert token_endpoint.is_done(answer(body, status)) is done


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5), st.lists(st.tuples(TEXT, TEXT), max_size=2))
def test_a_request_reads_back_as_it_was_built(fields, parameters):
    request = token_endpoint.request(
        "https://id.example/token", fields, Proof(parameters=tuple(parameters))
    )
    read = parse_qsl(request.body.decode("ascii"), keep_blank_values=True)
    # What both name is sent once: a pushed request names its client, as some proofs do.
    assert read == [*(each for each in fields if each not in parameters), *parameters]
    assert (request.method, request.url) == ("POST", "https://id.example/token")


def test_a_request_carries_the_proof_and_asks_for_json_on_a_connection_of_its_own():
    proof = client_secret_basic("c", "s3cret")
    request = token_endpoint.request("https://id/token", [("a", "b")], proof, [("dpop", "p")])
    headers = dict(request.headers)
    assert headers["accept"] == "application/json"
    assert headers["content-type"] == "application/x-www-form-urlencoded"
    assert headers["authorization"].startswith("Basic ")
    assert headers["dpop"] == "p"
    assert request.body == b"a=b"
    assert not request.keep_alive
    assert "s3cret" not in repr(request)


def test_scope_and_resource_name_each_scope_once_and_each_resource():
    assert token_endpoint.scope_and_resource((), ()) == []
    assert token_endpoint.scope_and_resource(("b", "a", "b"), ()) == [("scope", "b a")]
    assert token_endpoint.scope_and_resource((), ("https://a", "https://b")) == [
        ("resource", "https://a"),
        ("resource", "https://b"),
    ]
