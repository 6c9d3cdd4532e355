"""The token endpoint (CONFORMANCE TK, RES, ISS): who asks, for what, and what they get."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.server.stage import CALLBACK, FORM, ISSUER, Make, Stage, basic, claims, header


def test_the_documented_code_flow_works_as_printed(make: Make) -> None:
    stage = make(algorithm="RS256")
    client = stage.add("Server side", require_pkce=False)
    query = (
        f"client_id={client.client_id}&redirect_uri=https%3A%2F%2Fapp.example.com%2Fcb"
        "&response_type=code&scope=read%20write"
    )
    code = stage.send("GET", f"/oauth/authorize?{query}").sent["code"]
    body = (
        f"grant_type=authorization_code&code={code}&client_id={client.client_id}"
        f"&client_secret={client.client_secret}&redirect_uri={CALLBACK}"
    )
    answer = stage.send("POST", "/oauth/token", body.encode(), content_type=FORM)
    assert answer.status == 200
    content = answer.json
    assert set(content) == {
        "access_token",
        "token_type",
        "expires_in",
        "refresh_token",
        "scope",
    }
    assert (content["token_type"], content["expires_in"]) == ("Bearer", 3600)
    assert content["scope"] == "read write"
    refreshed = stage.send(
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


def test_documented_client_credentials_work_as_printed(stage: Stage) -> None:
    body = (
        f"grant_type=client_credentials&client_id={stage.app.client_id}"
        f"&client_secret={stage.app.client_secret}&scope=read write"
    )
    answer = stage.send("POST", "/oauth/token", body.encode(), content_type=FORM)
    assert answer.status == 200
    content = answer.json
    assert set(content) == {"access_token", "token_type", "expires_in", "scope"}
    assert (content["expires_in"], content["scope"]) == (3600, "read write")


@pytest.mark.parametrize("path", ["/oauth/token", "/oauth/revoke", "/oauth/introspect"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_TK_01_only_post_is_answered(stage: Stage, path: str, method: str) -> None:
    answer = stage.send(method, path)
    assert (answer.status, answer.header("allow")) == (405, "POST")


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
def test_TK_01_only_a_form_is_read(stage: Stage, kind: str | None) -> None:
    headers = {} if kind is None else {"content_type": kind}
    answer = stage.send("POST", "/oauth/token", b'{"grant_type": "password"}', **headers)
    assert answer.error == (400, "invalid_request")


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
def test_TK_01_a_form_is_one_whatever_its_media_type_says_besides(
    stage: Stage, parameters: str
) -> None:
    fields = {**stage.credentials(), "grant_type": "client_credentials"}
    answer = stage.post("/oauth/token", fields, content_type=FORM.title() + parameters)
    assert answer.status == 200


@pytest.mark.parametrize("around", [b"\n", b"\r\n", b" ", b"\t\r\n"])
def test_what_a_file_or_a_shell_leaves_around_a_form_is_no_part_of_its_last_value(
    stage: Stage, around: bytes
) -> None:
    token = stage.token(grant_type="client_credentials").json["access_token"]
    form = urlencode({**stage.credentials(), "token": token}).encode()
    assert (
        stage.send("POST", "/oauth/revoke", around + form + around, content_type=FORM).status == 200
    )
    assert not stage.is_active(token), "revoked, and not taken for another token"
    form = urlencode({**stage.credentials(), "grant_type": "client_credentials"}).encode()
    assert stage.send("POST", "/oauth/token", form + around, content_type=FORM).status == 200


@pytest.mark.parametrize(
    "body",
    [b"a=%", b"a=%f", b"a=%zz", b"a=%ff", b"a=%00", b"&".join(b"a%d=1" % n for n in range(200))],
)
def test_TK_01_a_form_that_is_not_encoded_properly_is_refused(stage: Stage, body: bytes) -> None:
    answer = stage.send("POST", "/oauth/token", body, content_type=FORM)
    assert answer.error == (400, "invalid_request")


def test_TK_01_a_form_that_is_too_large_is_refused(stage: Stage) -> None:
    answer = stage.send("POST", "/oauth/token", b"a=" + b"x" * 70_000, content_type=FORM)
    assert answer.status == 413


def test_TK_01_a_repeated_parameter_is_refused(stage: Stage) -> None:
    fields = [*stage.credentials().items(), ("grant_type", "client_credentials")]
    answer = stage.post("/oauth/token", [*fields, ("scope", "read"), ("scope", "read")])
    assert answer.error == (400, "invalid_request")


def test_TK_01_an_answer_is_stored_by_nobody_and_names_the_scope(stage: Stage) -> None:
    answer = stage.token(grant_type="client_credentials")
    assert answer.header("cache-control") == "no-store"
    assert answer.header("pragma") == "no-cache"
    assert answer.header("content-type") == "application/json"
    assert answer.json["scope"] == "read write"
    assert stage.token(grant_type="client_credentials", scope="write").json["scope"] == "write"


def test_TK_02_an_unknown_client_is_401_and_has_a_challenge_only_where_it_used_one(
    stage: Stage,
) -> None:
    posted = stage.token(client_secret="wrong", grant_type="client_credentials")
    assert posted.error == (401, "invalid_client")
    assert posted.header("www-authenticate") is None
    assert posted.header("cache-control") == "no-store"
    sent = stage.post(
        "/oauth/token",
        {"grant_type": "client_credentials"},
        authorization=basic(stage.app.client_id, "wrong"),
    )
    assert sent.error == (401, "invalid_client")
    assert (sent.header("www-authenticate") or "").startswith("Basic realm=")


def test_TK_02_a_missing_grant_type_is_invalid_request(stage: Stage) -> None:
    answer = stage.token()
    assert answer.error == (400, "invalid_request")
    assert answer.header("cache-control") == "no-store"
    assert answer.header("content-type") == "application/json"


def test_TK_03_basic_is_split_at_the_first_colon_and_form_decoded(stage: Stage) -> None:
    secret = "it is: 100% + secret, and long enough"
    client = stage.add("Odd", client_id="odd:client", client_secret=secret)
    answer = stage.post(
        "/oauth/token",
        {"grant_type": "client_credentials"},
        authorization=basic("odd:client", secret),
    )
    assert answer.status == 200
    assert stage.token(client, grant_type="client_credentials").status == 200


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
def test_TK_03_other_credentials_are_invalid_client(stage: Stage, value: str) -> None:
    answer = stage.post("/oauth/token", {"grant_type": "client_credentials"}, authorization=value)
    assert answer.error == (401, "invalid_client")
    assert answer.header("www-authenticate") is not None


def test_TK_03_two_methods_at_once_are_refused(stage: Stage) -> None:
    answer = stage.post(
        "/oauth/token",
        {**stage.credentials(), "grant_type": "client_credentials"},
        authorization=basic(stage.app.client_id, stage.app.client_secret),
    )
    assert answer.error == (400, "invalid_request")
    other = stage.post(
        "/oauth/token",
        {"client_id": stage.phone.client_id, "grant_type": "client_credentials"},
        authorization=basic(stage.app.client_id, stage.app.client_secret),
    )
    assert other.error == (400, "invalid_request")


def test_TK_03_a_repeated_authorization_line_is_refused(stage: Stage) -> None:
    from bearerguard import Request

    line = ("authorization", basic(stage.app.client_id, stage.app.client_secret))
    request = Request("POST", "/oauth/token", [("content-type", FORM), line, line], b"grant_type=x")
    assert stage.server.handle(request).status == 400


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
    stage: Stage, registered: str, used: str, good: bool
) -> None:
    client = stage.add("Method", auth_method=registered)
    fields: dict[str, Any] = {"grant_type": "client_credentials"}
    headers = {}
    if used == "basic":
        headers["authorization"] = basic(client.client_id, client.client_secret)
    else:
        fields["client_id"] = client.client_id
        fields["client_secret"] = client.client_secret if used == "post" else None
    answer = stage.post("/oauth/token", fields, **headers)
    assert answer.status == (200 if good else 401)


def test_TK_03_a_public_client_with_a_secret_is_invalid_client(stage: Stage) -> None:
    answer = stage.token(
        stage.phone, grant_type="refresh_token", refresh_token="x", client_secret="y"
    )
    assert answer.error == (401, "invalid_client")


def test_TK_03_guesses_are_bounded_and_never_lock_the_client_out(stage: Stage) -> None:
    def guess() -> int:
        return stage.token(client_secret="guess", grant_type="client_credentials").status

    assert [guess() for _ in range(20)] == [401] * 20
    refused = stage.token(client_secret="guess", grant_type="client_credentials")
    assert refused.error == (429, "invalid_client")
    assert refused.header("retry-after") == "60"
    assert stage.token(grant_type="client_credentials").status == 200
    stage.clock.now += 61
    assert guess() == 401


def test_TK_05_a_code_of_another_client_or_none_at_all_is_invalid_grant(stage: Stage) -> None:
    code = stage.code()
    assert stage.redeem(code, stage.add("Other")).error == (400, "invalid_grant")
    assert stage.redeem("made-up").error == (400, "invalid_grant")
    assert stage.token(grant_type="authorization_code").error == (400, "invalid_request")


def test_TK_05_a_verifier_without_a_challenge_is_invalid_request(stage: Stage) -> None:
    client = stage.add("Server side", require_pkce=False)
    code = stage.code(client, code_challenge=None, code_challenge_method=None)
    assert stage.redeem(code, client).error == (400, "invalid_request")
    assert stage.redeem(code, client, code_verifier=None).status == 200


@pytest.mark.parametrize("verifier", ["", "short", "x" * 129, "ü" * 43, "wrong" * 10])
def test_TK_05_a_wrong_verifier_is_invalid_grant(stage: Stage, verifier: str) -> None:
    assert stage.redeem(stage.code(), code_verifier=verifier).error == (400, "invalid_grant")


def test_TK_05_the_redirect_uri_may_be_left_out_and_must_match_when_sent(stage: Stage) -> None:
    code = stage.code()
    assert stage.redeem(code, redirect_uri=CALLBACK + "?").error == (400, "invalid_grant")
    assert stage.redeem(code, redirect_uri=None).status == 200


def test_TK_06_a_second_redemption_revokes_what_the_first_issued_once(stage: Stage) -> None:
    code = stage.code()
    tokens = stage.redeem(code).json
    assert stage.is_active(tokens["access_token"])
    for _ in range(3):
        assert stage.redeem(code).error == (400, "invalid_grant")
    assert not stage.is_active(tokens["access_token"])
    assert stage.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
    assert len(stage.named("code_replayed")) == 1


def test_TK_06_a_replay_is_known_after_the_code_is_over_too(stage: Stage) -> None:
    code = stage.code()
    tokens = stage.redeem(code).json
    stage.clock.now += 300
    assert stage.redeem(code).error == (400, "invalid_grant")
    assert not stage.is_active(tokens["access_token"])


@pytest.mark.parametrize(
    "wrong",
    [{"code_verifier": "v" * 43}, {"redirect_uri": CALLBACK + "/"}, {"client_secret": "wrong"}],
)
def test_TK_06_a_replay_that_fails_otherwise_revokes_nothing(
    stage: Stage, wrong: dict[str, Any]
) -> None:
    code = stage.code()
    tokens = stage.redeem(code).json
    assert stage.redeem(code, **wrong).status in {400, 401}
    assert stage.redeem(code, stage.add("Other")).error == (400, "invalid_grant")
    assert stage.is_active(tokens["access_token"])


def test_TK_07_client_credentials_are_for_confidential_clients_without_a_refresh_token(
    stage: Stage,
) -> None:
    answer = stage.token(stage.phone, grant_type="client_credentials")
    assert answer.error == (400, "unauthorized_client")
    assert "refresh_token" not in stage.token(grant_type="client_credentials").json


@pytest.mark.parametrize("grant_type", ["password", "implicit", "x" * 500, "ü"])
def test_TK_07_other_grants_are_unsupported(stage: Stage, grant_type: str) -> None:
    answer = stage.token(grant_type=grant_type, username="ada", password="secret")
    assert answer.error == (400, "unsupported_grant_type")


def test_TK_08_a_refresh_may_ask_for_less_and_never_for_more(stage: Stage) -> None:
    token = stage.tokens(scope="read")["refresh_token"]
    assert stage.refresh(token, scope="read write").error == (400, "invalid_scope")
    everything = stage.tokens()["refresh_token"]
    narrowed = stage.refresh(everything, scope="read").json
    assert narrowed["scope"] == "read"
    assert claims(narrowed["access_token"])["scope"] == "read"
    again = stage.refresh(narrowed["refresh_token"]).json
    assert again["scope"] == "read write"


def test_RES_01_the_audience_is_the_resource_and_has_a_default(make: Make) -> None:
    a, b = "https://a.example.com", "https://b.example.com/v1"
    stage = make(resources=[a, b])

    def audience(**fields: Any) -> Any:
        answer = stage.token(grant_type="client_credentials", **fields)
        return claims(answer.json["access_token"])["aud"]

    assert audience() == a
    assert audience(resource=b) == b
    fields = [*stage.credentials().items(), ("grant_type", "client_credentials")]
    both = stage.post("/oauth/token", [*fields, ("resource", a), ("resource", b)])
    assert claims(both.json["access_token"])["aud"] == [a, b]


@pytest.mark.parametrize(
    "resource", ["https://c.example.com", "relative", "https://a.example.com#x", "https://[", "é:"]
)
def test_RES_01_an_unknown_or_malformed_resource_is_invalid_target(
    stage: Stage, resource: str
) -> None:
    answer = stage.token(grant_type="client_credentials", resource=resource)
    assert answer.error == (400, "invalid_target")


def test_RES_01_a_resource_beyond_the_grant_is_invalid_target(make: Make) -> None:
    a, b = "https://a.example.com", "https://b.example.com"
    stage = make(resources=[a, b])
    token = stage.tokens(resource=a)["refresh_token"]
    assert stage.refresh(token, resource=b).error == (400, "invalid_target")
    both = stage.tokens(resource=[a, b])
    assert claims(both["access_token"])["aud"] == [a, b]
    narrowed = stage.refresh(both["refresh_token"], resource=b).json
    assert claims(narrowed["access_token"])["aud"] == b


def test_RES_01_opaque_tokens_are_for_resources_that_want_them(make: Make) -> None:
    from bearerguard.server import Resource

    a = Resource("https://a.example.com", tokens="opaque", access_token_lifetime=600)
    stage = make(resources=[a, ISSUER])
    answer = stage.token(grant_type="client_credentials").json
    assert "." not in answer["access_token"]
    assert answer["expires_in"] == 600
    known = stage.introspect(answer["access_token"])
    assert (known["active"], known["aud"], known["scope"]) == (True, a.identifier, "read write")
    fields = [*stage.credentials().items(), ("grant_type", "client_credentials")]
    mixed = [("resource", a.identifier), ("resource", ISSUER)]
    assert stage.post("/oauth/token", [*fields, *mixed]).error == (400, "invalid_target")
    of_user = stage.tokens()
    known = stage.introspect(of_user["access_token"])
    assert (known["sub"], known["auth_time"]) == ("ada", 1_699_999_000)


def test_ISS_01_a_token_is_rfc_9068s(make: Make) -> None:
    stage = make(algorithm="RS256")
    tokens = [stage.token(grant_type="client_credentials").json["access_token"] for _ in range(2)]
    assert header(tokens[0])["typ"] == "at+jwt"
    assert header(tokens[0])["alg"] == "RS256"
    content = claims(tokens[0])
    assert content["iss"] == ISSUER
    assert content["sub"] == content["client_id"] == stage.app.client_id
    assert content["exp"] - content["iat"] == 3600
    assert content["jti"] != claims(tokens[1])["jti"]
    of_user = claims(stage.tokens()["access_token"])
    assert (of_user["sub"], of_user["client_id"]) == ("ada", stage.app.client_id)
    assert of_user["auth_time"] == 1_699_999_000


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_ISS_01_each_algorithm_signs_what_a_guard_accepts(make: Make, algorithm: str) -> None:
    from bearerguard import Guard, Issuer

    stage = make(algorithm=algorithm)
    token = stage.token(grant_type="client_credentials").json["access_token"]
    guard = Guard(
        Issuer(ISSUER, audience=ISSUER, keys=stage.server.keys.jwks(), strict=True),
        clock=stage.clock,
    )
    assert guard.verify(token).subject_kind == "client"


def test_lifetimes_are_the_servers_or_the_clients_own(make: Make) -> None:
    stage = make(access_token_lifetime=900)
    assert stage.token(grant_type="client_credentials").json["expires_in"] == 900
    client = stage.add("Short", access_token_lifetime=60)
    assert stage.token(client, grant_type="client_credentials").json["expires_in"] == 60
