"""The token endpoint (CONFORMANCE TK, RES, ISS): who asks, for what, and what they get."""

from __future__ import annotations

import base64
from typing import Any, get_args
from urllib.parse import urlencode

import pytest

from bearerguard.server import Lifetimes, SigningKeys
from bearerguard.server.settings import SigningAlgorithm
from tests.server.harness import CALLBACK, FORM, ISSUER, Harness, Make, basic, claims, header


def test_the_documented_code_flow_works_as_printed(make: Make) -> None:
    harness = make(signing=SigningKeys(algorithm="RS256"))
    client = harness.add("Server side", require_pkce=False)
    query = (
        f"client_id={client.client_id}&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb"
        "&response_type=code&scope=read%20write"
    )
    code = harness.send("GET", f"/oauth/authorize?{query}").sent["code"]
    body = (
        f"grant_type=authorization_code&code={code}&client_id={client.client_id}"
        f"&client_secret={client.client_secret}&redirect_uri={CALLBACK}"
    )
    response = harness.send("POST", "/oauth/token", body.encode(), content_type=FORM)
    assert response.status == 200
    content = response.json
    assert set(content) == {
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "scope",
    }
    assert (content["token_type"], content["expires_in"]) == ("Bearer", 3600)
    assert content["scope"] == "read write"
    refreshed = harness.send(
        "POST",
        "/oauth/token",
        (
            f"grant_type=refresh_token&refresh_token={content['refresh_token']}"
            f"&client_id={client.client_id}&client_secret={client.client_secret}"
        ).encode(),
        content_type=FORM,
    )
    assert refreshed.status == 200
    assert refreshed.json["refresh_token"] != content["refresh_token"]


def test_documented_client_credentials_work_as_printed(harness: Harness) -> None:
    body = (
        f"grant_type=client_credentials&client_id={harness.app.client_id}"
        f"&client_secret={harness.app.client_secret}&scope=read write"
    )
    response = harness.send("POST", "/oauth/token", body.encode(), content_type=FORM)
    assert response.status == 200
    content = response.json
    assert set(content) == {"access_token", "token_type", "expires_in", "scope"}
    assert (content["expires_in"], content["scope"]) == (3600, "read write")


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/revoke", "/oauth/introspect"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_TK_01_only_post_is_allowed(harness: Harness, path: str, method: str) -> None:
    response = harness.send(method, path)
    assert (response.status, response.header("allow")) == (405, "POST")


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "application/json",
        "text/plain",
        FORM + "; charset=utf-16",
        f"{FORM}, {FORM}",
        FORM + "x",
        "multipart/form-data; boundary=x",
        "",
        FORM + ";" + " " * 60_000 + "; charset=x",
    ],
)
def test_TK_01_only_a_form_is_read(harness: Harness, kind: str | None) -> None:
    headers = {} if kind is None else {"content_type": kind}
    response = harness.send("POST", "/oauth/token", b'{"grant_type": "password"}', **headers)
    assert response.error == (400, "invalid_request")


@pytest.mark.parametrize(
    "parameters",
    [
        "; charset=UTF-8",
        ";charset=utf8",
        ' ; charset = "utf-8" ;',
        ";",
        "; charset=ISO-8859-1",
        "; charset=us-ascii",
        "; version=1",
    ],
)
def test_TK_01_parameters_of_the_forms_media_type_are_ignored(
    harness: Harness, parameters: str
) -> None:
    fields = {**harness.credentials(), "grant_type": "client_credentials"}
    response = harness.post("/oauth/token", fields, content_type=FORM.title() + parameters)
    assert response.status == 200


@pytest.mark.parametrize("around", [b"\n", b"\r\n", b" ", b"\t\r\n"])
def test_what_a_file_or_a_shell_leaves_around_a_form_is_no_part_of_its_last_value(
    harness: Harness, around: bytes
) -> None:
    token = harness.token(grant_type="client_credentials").json["access_token"]
    form = urlencode({**harness.credentials(), "token": token}).encode()
    assert (
        harness.send("POST", "/oauth/revoke", around + form + around, content_type=FORM).status
        == 200
    )
    assert not harness.is_active(token), "revoked, and not taken for another token"
    form = urlencode({**harness.credentials(), "grant_type": "client_credentials"}).encode()
    assert harness.send("POST", "/oauth/token", form + around, content_type=FORM).status == 200


@pytest.mark.parametrize(
    "body",
    [b"a=%", b"a=%f", b"a=%zz", b"a=%ff", b"a=%00", b"&".join(b"a%d=1" % n for n in range(200))],
)
def test_TK_01_a_form_that_is_not_encoded_properly_is_refused(
    harness: Harness, body: bytes
) -> None:
    response = harness.send("POST", "/oauth/token", body, content_type=FORM)
    assert response.error == (400, "invalid_request")


def test_TK_01_a_form_that_is_too_large_is_refused(harness: Harness) -> None:
    response = harness.send("POST", "/oauth/token", b"a=" + b"x" * 70_000, content_type=FORM)
    assert response.status == 413


def test_TK_01_a_repeated_parameter_is_refused(harness: Harness) -> None:
    fields = [*harness.credentials().items(), ("grant_type", "client_credentials")]
    response = harness.post("/oauth/token", [*fields, ("scope", "read"), ("scope", "read")])
    assert response.error == (400, "invalid_request")


def test_TK_01_a_response_is_not_cached_and_names_the_scope(harness: Harness) -> None:
    response = harness.token(grant_type="client_credentials")
    assert response.header("cache-control") == "no-store"
    assert response.header("pragma") == "no-cache"
    assert response.header("content-type") == "application/json"
    assert response.json["scope"] == "read write"
    assert harness.token(grant_type="client_credentials", scope="write").json["scope"] == "write"


def test_TK_02_an_unknown_client_is_401_and_has_a_challenge_only_where_it_used_one(
    harness: Harness,
) -> None:
    posted = harness.token(client_secret="wrong", grant_type="client_credentials")
    assert posted.error == (401, "invalid_client")
    assert posted.header("www-authenticate") is None
    assert posted.header("cache-control") == "no-store"
    sent = harness.post(
        "/oauth/token",
        {"grant_type": "client_credentials"},
        authorization=basic(harness.app.client_id, "wrong"),
    )
    assert sent.error == (401, "invalid_client")
    assert (sent.header("www-authenticate") or "").startswith("Basic realm=")


def test_TK_02_a_missing_grant_type_is_invalid_request(harness: Harness) -> None:
    response = harness.token()
    assert response.error == (400, "invalid_request")
    assert response.header("cache-control") == "no-store"
    assert response.header("content-type") == "application/json"


def test_TK_03_basic_is_split_at_the_first_colon_and_form_decoded(harness: Harness) -> None:
    secret = "it is: 100% + secret, and long enough"
    client = harness.add("Odd", client_id="odd:client", client_secret=secret)
    response = harness.post(
        "/oauth/token",
        {"grant_type": "client_credentials"},
        authorization=basic("odd:client", secret),
    )
    assert response.status == 200
    assert harness.token(client, grant_type="client_credentials").status == 200


@pytest.mark.parametrize(
    "value",
    [
        "Bearer abc",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b":empty").decode(),
        "Basic " + base64.b64encode(b"unknown:secret").decode(),
    ],
)
def test_TK_03_other_credentials_are_invalid_client(harness: Harness, value: str) -> None:
    response = harness.post(
        "/oauth/token", {"grant_type": "client_credentials"}, authorization=value
    )
    assert response.error == (401, "invalid_client")
    assert response.header("www-authenticate") is not None


def test_TK_03_two_methods_at_once_are_refused(harness: Harness) -> None:
    response = harness.post(
        "/oauth/token",
        {**harness.credentials(), "grant_type": "client_credentials"},
        authorization=basic(harness.app.client_id, harness.app.client_secret),
    )
    assert response.error == (400, "invalid_request")
    other = harness.post(
        "/oauth/token",
        {"client_id": harness.phone.client_id, "grant_type": "client_credentials"},
        authorization=basic(harness.app.client_id, harness.app.client_secret),
    )
    assert other.error == (400, "invalid_request")


def test_TK_03_a_repeated_authorization_field_is_refused(harness: Harness) -> None:
    from bearerguard import Request

    line = ("authorization", basic(harness.app.client_id, harness.app.client_secret))
    request = Request("POST", "/oauth/token", [("content-type", FORM), line, line], b"grant_type=x")
    assert harness.server.handle(request).status == 400


@pytest.mark.parametrize(
    ("registered", "used", "good"),
    [
        ("client_secret", "basic", True),
        ("client_secret", "post", True),
        ("client_secret_basic", "basic", True),
        ("client_secret_basic", "post", False),
        ("client_secret_post", "post", True),
        ("client_secret_post", "basic", False),
        ("client_secret", "none", False),
    ],
)
def test_TK_03_another_method_than_the_registered_one_is_invalid_client(
    harness: Harness, registered: str, used: str, good: bool
) -> None:
    client = harness.add("Method", auth_method=registered)
    fields: dict[str, Any] = {"grant_type": "client_credentials"}
    headers = {}
    if used == "basic":
        headers["authorization"] = basic(client.client_id, client.client_secret)
    else:
        fields["client_id"] = client.client_id
        fields["client_secret"] = client.client_secret if used == "post" else None
    response = harness.post("/oauth/token", fields, **headers)
    assert response.status == (200 if good else 401)


def test_TK_03_a_public_client_with_a_secret_is_invalid_client(harness: Harness) -> None:
    response = harness.token(
        harness.phone, grant_type="refresh_token", refresh_token="x", client_secret="y"
    )
    assert response.error == (401, "invalid_client")


def test_TK_03_guesses_are_bounded_and_never_lock_the_client_out(harness: Harness) -> None:
    def guess() -> int:
        return harness.token(client_secret="guess", grant_type="client_credentials").status

    assert [guess() for _ in range(20)] == [401] * 20
    refused = harness.token(client_secret="guess", grant_type="client_credentials")
    assert refused.error == (429, "invalid_client")
    assert refused.header("retry-after") == "60"
    assert harness.token(grant_type="client_credentials").status == 200
    harness.clock.now += 61
    assert guess() == 401


def test_TK_05_a_code_of_another_client_or_an_unknown_one_is_invalid_grant(
    harness: Harness,
) -> None:
    code = harness.code()
    assert harness.redeem(code, harness.add("Other")).error == (400, "invalid_grant")
    assert harness.redeem("made-up").error == (400, "invalid_grant")
    assert harness.token(grant_type="authorization_code").error == (400, "invalid_request")


def test_TK_05_a_verifier_without_a_challenge_is_invalid_request(harness: Harness) -> None:
    client = harness.add("Server side", require_pkce=False)
    code = harness.code(client, code_challenge=None, code_challenge_method=None)
    assert harness.redeem(code, client).error == (400, "invalid_request")
    assert harness.redeem(code, client, code_verifier=None).status == 200


@pytest.mark.parametrize("verifier", ["", "short", "x" * 129, "ü" * 43, "wrong" * 10])
def test_TK_05_a_wrong_verifier_is_invalid_grant(harness: Harness, verifier: str) -> None:
    assert harness.redeem(harness.code(), code_verifier=verifier).error == (400, "invalid_grant")


def test_TK_05_the_redirect_uri_may_be_left_out_and_must_match_when_sent(harness: Harness) -> None:
    code = harness.code()
    assert harness.redeem(code, redirect_uri=CALLBACK + "?").error == (400, "invalid_grant")
    assert harness.redeem(code, redirect_uri=None).status == 200


def test_TK_06_a_second_redemption_revokes_what_the_first_issued_once(harness: Harness) -> None:
    code = harness.code()
    tokens = harness.redeem(code).json
    assert harness.is_active(tokens["access_token"])
    for _ in range(3):
        assert harness.redeem(code).error == (400, "invalid_grant")
    assert not harness.is_active(tokens["access_token"])
    assert harness.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
    assert len(harness.named("code_replayed")) == 1


def test_TK_06_a_replay_is_recognised_after_the_code_has_expired(harness: Harness) -> None:
    code = harness.code()
    tokens = harness.redeem(code).json
    harness.clock.now += 300
    assert harness.redeem(code).error == (400, "invalid_grant")
    assert not harness.is_active(tokens["access_token"])


@pytest.mark.parametrize(
    "wrong",
    [{"code_verifier": "v" * 43}, {"redirect_uri": CALLBACK + "/"}, {"client_secret": "wrong"}],
)
def test_TK_06_a_replay_that_fails_otherwise_revokes_nothing(
    harness: Harness, wrong: dict[str, Any]
) -> None:
    code = harness.code()
    tokens = harness.redeem(code).json
    assert harness.redeem(code, **wrong).status in {400, 401}
    assert harness.redeem(code, harness.add("Other")).error == (400, "invalid_grant")
    assert harness.is_active(tokens["access_token"])


def test_TK_07_client_credentials_are_for_confidential_clients_without_a_refresh_token(
    harness: Harness,
) -> None:
    response = harness.token(harness.phone, grant_type="client_credentials")
    assert response.error == (400, "unauthorized_client")
    assert "refresh_token" not in harness.token(grant_type="client_credentials").json


@pytest.mark.parametrize("grant_type", ["password", "implicit", "x" * 500, "ü"])
def test_TK_07_other_grants_are_unsupported(harness: Harness, grant_type: str) -> None:
    response = harness.token(grant_type=grant_type, username="ada", password="secret")
    assert response.error == (400, "unsupported_grant_type")


def test_TK_08_a_refresh_may_ask_for_less_and_never_for_more(harness: Harness) -> None:
    token = harness.tokens(scope="read")["refresh_token"]
    assert harness.refresh(token, scope="read write").error == (400, "invalid_scope")
    everything = harness.tokens()["refresh_token"]
    narrowed = harness.refresh(everything, scope="read").json
    assert narrowed["scope"] == "read"
    assert claims(narrowed["access_token"])["scope"] == "read"
    again = harness.refresh(narrowed["refresh_token"]).json
    assert again["scope"] == "read write"


def test_RES_01_the_audience_is_the_resource_and_has_a_default(make: Make) -> None:
    a, b = "https://a.example.com", "https://b.example.com/v1"
    harness = make(resources=[a, b])

    def audience(**fields: Any) -> Any:
        response = harness.token(grant_type="client_credentials", **fields)
        return claims(response.json["access_token"])["aud"]

    assert audience() == a
    assert audience(resource=b) == b
    fields = [*harness.credentials().items(), ("grant_type", "client_credentials")]
    both = harness.post("/oauth/token", [*fields, ("resource", a), ("resource", b)])
    assert claims(both.json["access_token"])["aud"] == [a, b]


@pytest.mark.parametrize(
    "resource", ["https://c.example.com", "relative", "https://a.example.com#x", "https://[", "é:"]
)
def test_RES_01_an_unknown_or_malformed_resource_is_invalid_target(
    harness: Harness, resource: str
) -> None:
    response = harness.token(grant_type="client_credentials", resource=resource)
    assert response.error == (400, "invalid_target")


def test_RES_01_a_resource_beyond_the_grant_is_invalid_target(make: Make) -> None:
    a, b = "https://a.example.com", "https://b.example.com"
    harness = make(resources=[a, b])
    token = harness.tokens(resource=a)["refresh_token"]
    assert harness.refresh(token, resource=b).error == (400, "invalid_target")
    both = harness.tokens(resource=[a, b])
    assert claims(both["access_token"])["aud"] == [a, b]
    narrowed = harness.refresh(both["refresh_token"], resource=b).json
    assert claims(narrowed["access_token"])["aud"] == b


def test_RES_01_opaque_tokens_are_for_resources_that_want_them(make: Make) -> None:
    from bearerguard.server import Resource

    a = Resource("https://a.example.com", tokens="opaque", access_token_lifetime=600)
    harness = make(resources=[a, ISSUER])
    response = harness.token(grant_type="client_credentials").json
    assert "." not in response["access_token"]
    assert response["expires_in"] == 600
    known = harness.introspect(response["access_token"])
    assert (known["active"], known["aud"], known["scope"]) == (True, a.identifier, "read write")
    fields = [*harness.credentials().items(), ("grant_type", "client_credentials")]
    mixed = [("resource", a.identifier), ("resource", ISSUER)]
    assert harness.post("/oauth/token", [*fields, *mixed]).error == (400, "invalid_target")
    of_user = harness.tokens()
    known = harness.introspect(of_user["access_token"])
    assert (known["sub"], known["auth_time"]) == ("ada", 1_699_999_000)


def test_ISS_01_a_token_is_rfc_9068s(make: Make) -> None:
    harness = make(signing=SigningKeys(algorithm="RS256"))
    tokens = [harness.token(grant_type="client_credentials").json["access_token"] for _ in range(2)]
    assert header(tokens[0])["typ"] == "at+jwt"
    assert header(tokens[0])["alg"] == "RS256"
    content = claims(tokens[0])
    assert content["iss"] == ISSUER
    assert content["sub"] == content["client_id"] == harness.app.client_id
    assert content["exp"] - content["iat"] == 3600
    assert content["jti"] != claims(tokens[1])["jti"]
    of_user = claims(harness.tokens()["access_token"])
    assert (of_user["sub"], of_user["client_id"]) == ("ada", harness.app.client_id)
    assert of_user["auth_time"] == 1_699_999_000


@pytest.mark.parametrize("algorithm", get_args(SigningAlgorithm))
def test_ISS_01_each_algorithm_signs_what_a_guard_accepts(make: Make, algorithm: Any) -> None:
    from bearerguard import Guard, Issuer

    harness = make(signing=SigningKeys(algorithm=algorithm))
    token = harness.token(grant_type="client_credentials").json["access_token"]
    guard = Guard(
        Issuer(ISSUER, audience=ISSUER, keys=harness.server.keys.jwks(), strict=True),
        clock=harness.clock,
    )
    assert guard.verify(token).subject_kind == "client"


def test_lifetimes_are_the_servers_or_the_clients_own(make: Make) -> None:
    harness = make(lifetimes=Lifetimes(access_token=900))
    assert harness.token(grant_type="client_credentials").json["expires_in"] == 900
    client = harness.add("Short", access_token_lifetime=60)
    assert harness.token(client, grant_type="client_credentials").json["expires_in"] == 60
