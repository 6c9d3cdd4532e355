"""How real clients write their credentials (TK-03, TK-04): Basic raw or encoded, and empty."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from tests.server.harness import VERIFIER, Harness, Make, Reply

SECRETS = [
    "WiMwbPYlqiI+7pQ117wi3p9R078d1mDe/WM3GZt=",
    "p%rcent-secret-p%rcent-secret-p%rcent",
    "looks-encoded-%41%2B-looks-encoded-%41%2B",
    "with: colon, space + plus 100% and more",
    "a%00b-a%00b-a%00b-a%00b-a%00b-a%00b-a%00b",
    "a%ffb-a%ffb-a%ffb-a%ffb-a%ffb-a%ffb-a%ffb",
]
WRITTEN: list[Any] = [str, quote_plus, lambda text: quote(text, safe="")]


def header(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


def own(harness: Harness, authorization: str, **fields: Any) -> Reply:
    fields = {"grant_type": "client_credentials"} | fields
    return harness.post("/oauth/token", fields, authorization=authorization)


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("secret", SECRETS)
def test_TK_03_a_secret_in_basic_may_be_raw_or_form_encoded(
    harness: Harness, secret: str, written: Any
) -> None:
    client = harness.add("Robot", client_secret=secret)
    assert own(harness, header(client.client_id, written(secret))).status == 200
    for wrong in (written(secret) + "x", written(secret)[1:], written("x" + secret)):
        response = own(harness, header(client.client_id, wrong))
        assert response.error == (401, "invalid_client")
        assert response.header("www-authenticate") is not None


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("client_id", ["a+b", "100%", "https://app.example.com/?x=%41", "%61"])
def test_TK_03_an_id_in_basic_may_be_raw_or_form_encoded(
    harness: Harness, client_id: str, written: Any
) -> None:
    secret = "a+secret%41" * 4
    harness.add("Robot", client_id=client_id, client_secret=secret)
    credentials = header(written(client_id), written(secret)) if ":" not in client_id else None
    if credentials is None:
        # A raw colon ends the id (RFC 7617 §2): it has to be encoded.
        credentials = header(quote_plus(client_id), written(secret))
    assert own(harness, credentials).status == 200
    assert own(harness, credentials, client_id=client_id).status == 200
    other = own(harness, credentials, client_id="another")
    assert other.error == (400, "invalid_request")


def test_TK_03_the_form_encoded_meaning_comes_first_and_client_id_decides(harness: Harness) -> None:
    first, second = "first" * 8, "second" * 8
    harness.add("Plain", client_id="a", client_secret=first, scopes=["read"])
    harness.add("Odd", client_id="%61", client_secret=second, scopes=["write"])
    assert own(harness, header("%61", first)).json["scope"] == "read"
    assert own(harness, header("%61", second)).error == (401, "invalid_client")
    assert own(harness, header("%61", second), client_id="%61").json["scope"] == "write"


@pytest.mark.parametrize(
    "credentials",
    [b"\xff:x", b"id:\xff\xff", b"id:%", b"%:x", b":", b"", b"id", b"\0:\0", b"id:" + b"%" * 9000],
)
def test_TK_03_credentials_that_cannot_be_anybodys_are_invalid_client(
    harness: Harness, credentials: bytes
) -> None:
    response = own(harness, "Basic " + base64.b64encode(credentials).decode())
    assert response.error == (401, "invalid_client")
    assert response.header("www-authenticate") is not None


def test_a_secret_in_basic_is_stored_under_the_newest_secret_whichever_way_it_is_written(
    make: Make,
) -> None:
    harness = make()
    client = harness.add("Robot", client_secret=SECRETS[0])
    newer, old = "a newer secret of the server for tests", "a secret of the server only for tests"
    harness.server = harness.another(secret=[newer, old])
    assert own(harness, header(client.client_id, SECRETS[0])).status == 200
    harness.server = harness.another(secret=newer)
    assert own(harness, header(client.client_id, SECRETS[0])).status == 200


@pytest.mark.parametrize("client_id", [True, False])
def test_a_public_client_may_name_itself_by_an_empty_basic_secret(
    harness: Harness, *, client_id: bool
) -> None:
    credentials = header(harness.phone.client_id, "")
    named = {"client_id": harness.phone.client_id} if client_id else {}

    def ask(path: str = "/oauth/token", **fields: Any) -> Reply:
        return harness.post(path, named | fields, authorization=credentials)

    code = harness.code(harness.phone)
    grant = {"grant_type": "authorization_code", "code": code}
    tokens = ask(**grant, code_verifier=VERIFIER).json
    refreshed = ask(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert refreshed.status == 200
    assert ask("/oauth/revoke", token=refreshed.json["refresh_token"]).status == 200
    # It still proves nothing.
    refused = ask("/oauth/introspect", token=refreshed.json["access_token"])
    assert refused.error == (401, "invalid_client")
    assert refused.header("www-authenticate") == 'Basic realm="oauth"'
    assert harness.named("client_authentication_failed")[-1].details["reason"] == "public_client"


def test_an_empty_secret_is_no_secret_of_a_confidential_client(harness: Harness) -> None:
    assert own(harness, header(harness.app.client_id, "")).error == (401, "invalid_client")
    credentials = header(harness.phone.client_id, "not empty")
    fields = {"grant_type": "refresh_token", "refresh_token": "x"}
    response = harness.post("/oauth/token", fields, authorization=credentials)
    assert response.error == (401, "invalid_client")


def test_an_empty_client_secret_in_the_form_is_none(harness: Harness) -> None:
    code = harness.code(harness.phone)
    assert harness.redeem(code, harness.phone, client_secret="").status == 200
    response = own(
        harness, header(harness.app.client_id, harness.app.client_secret or ""), client_secret=""
    )
    assert response.status == 200


def test_an_empty_authorization_field_counts_as_absent(harness: Harness) -> None:
    fields = {**harness.credentials(), "grant_type": "client_credentials"}
    assert harness.post("/oauth/token", fields, authorization="").status == 200
