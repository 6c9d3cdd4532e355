"""The examples behind real servers, with tokens of a certified issuer."""

from __future__ import annotations

import httpx2
import pytest

from tests.examples.servers import SERVERS, serving
from tests.peers.conftest import OidcProvider, bearer, oidc_provider

AUDIENCES = "urn:api:RS256,urn:api:ES256,urn:api:EdDSA"
PATH = "/api/v1/recordings"


@pytest.mark.parametrize("server", SERVERS)
def test_every_kind_of_token_gets_its_answer(server: str, issuer: OidcProvider) -> None:
    with (
        serving(server, issuer.url, AUDIENCES) as url,
        httpx2.Client(base_url=url) as client,
    ):
        for algorithm in ("RS256", "ES256", "EdDSA"):
            answer = client.get(PATH, headers=bearer(issuer.token(algorithm)))
            assert answer.status_code == 200, answer.text
            assert 3500 < int(answer.headers["access-token-expires-in"]) <= 3600
        reader = issuer.token(scope="read")
        refused = client.post(PATH, headers=bearer(reader))
        assert refused.status_code == 403
        assert 'scope="write"' in refused.headers["www-authenticate"]
        assert client.post(PATH, headers=bearer(issuer.token(scope="write"))).status_code == 201
        forged = client.get(PATH, headers=bearer(issuer.token()[:-9] + "AAAAAAAAA"))
        assert forged.status_code == 401
        anonymous = client.get(PATH)
        assert anonymous.status_code == 401
        assert anonymous.headers["www-authenticate"].startswith('Bearer realm="api"')
        assert client.get("/health").status_code == 200
        repeated = client.get(
            PATH, headers=[("Authorization", f"Bearer {reader}"), ("Authorization", "Bearer x")]
        )
        assert repeated.status_code == 400
        head = client.head(PATH)
        # FastAPI's routes for GET have no HEAD.
        assert head.status_code == (405 if server == "fastapi" else 401)
        assert head.content == b""


def test_a_token_for_another_api_is_refused(issuer: OidcProvider) -> None:
    with serving("uvicorn", issuer.url, "urn:api:ES256") as url:
        answer = httpx2.get(url + PATH, headers=bearer(issuer.token("RS256")))
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("server", ["uvicorn", "gunicorn"])
def test_a_token_of_the_past_is_refused_and_says_so(server: str) -> None:
    with (
        oidc_provider(CLOCK_OFFSET="-7200") as issuer,
        serving(server, issuer.url, AUDIENCES) as url,
    ):
        answer = httpx2.get(url + PATH, headers=bearer(issuer.token()))
        assert answer.status_code == 401
        assert "expired" in answer.headers["www-authenticate"]
        assert answer.headers["access-token-expires-in"] == "0"
